package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// module is the import path of the worker's module.
const module = "discountquery.example/worker"

// file is one Go file of the tree.
type file struct {
	// path is its path from the root, with slashes.
	path string
	// room is its folder, without a leading "internal/".
	room string
	// test tells that it never enters the binary: a _test.go file, or a file of a room made for tests.
	test   bool
	text   []byte
	syntax *ast.File
}

// lines returns how many lines of the file are not blank.
func (f *file) lines() int {
	count := 0
	for line := range bytes.Lines(f.text) {
		if len(bytes.TrimSpace(line)) > 0 {
			count++
		}
	}
	return count
}

// imports returns the import paths of the file.
func (f *file) imports() []string {
	paths := make([]string, 0, len(f.syntax.Imports))
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// tree is the Go source of the worker's module. Modules inside it, like the load harness, are not part of it.
type tree struct {
	root  fs.FS
	fset  *token.FileSet
	files []*file
}

// at returns where a node stands, as path and line.
func (t *tree) at(node ast.Node) string {
	p := t.fset.Position(node.Pos())
	return p.Filename + ":" + strconv.Itoa(p.Line)
}

// rooms returns the files of each room.
func (t *tree) rooms() map[string][]*file {
	rooms := make(map[string][]*file)
	for _, f := range t.files {
		rooms[f.room] = append(rooms[f.room], f)
	}
	return rooms
}

// product returns the files that enter the binary.
func (t *tree) product() []*file {
	var product []*file
	for _, f := range t.files {
		if !f.test {
			product = append(product, f)
		}
	}
	return product
}

// roomOf returns the room of an import path or, for a package of others, an empty string and false.
func roomOf(importPath string) (string, bool) {
	inside, own := strings.CutPrefix(importPath, module+"/")
	return strings.TrimPrefix(inside, "internal/"), own
}

// readTree parses every Go file below root.
func readTree(root fs.FS) (*tree, error) {
	t := &tree{root: root, fset: token.NewFileSet()}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return t.enter(name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		return t.read(name)
	})
	return t, err
}

// enter decides whether a folder can hold packages of the module.
func (t *tree) enter(name string) error {
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if base == "testdata" || base[0] == '.' || base[0] == '_' {
		return fs.SkipDir
	}
	if _, err := fs.Stat(t.root, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// read adds one Go file.
func (t *tree) read(name string) error {
	text, err := fs.ReadFile(t.root, name)
	if err != nil {
		return err
	}
	syntax, err := parser.ParseFile(t.fset, name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	room := strings.TrimPrefix(path.Dir(name), "internal/")
	t.files = append(t.files, &file{
		path: name, room: room, text: text, syntax: syntax,
		test: strings.HasSuffix(name, "_test.go") || testRooms()[room],
	})
	return nil
}

// thisTree returns the tree that this test stands in.
func thisTree(t *testing.T) *tree {
	t.Helper()
	got, err := readTree(os.DirFS("../.."))
	require.NoError(t, err)
	require.NotEmpty(t, got.files)
	return got
}

// treeOf returns a tree of the given files, for the tests of the checks themselves.
func treeOf(t *testing.T, sources map[string]string) *tree {
	t.Helper()
	root := fstest.MapFS{}
	for name, source := range sources {
		root[name] = &fstest.MapFile{Data: []byte(source)}
	}
	got, err := readTree(root)
	require.NoError(t, err)
	return got
}

// none fails with one finding per line.
func none(t *testing.T, findings []string) {
	t.Helper()
	require.Empty(t, findings, strings.Join(findings, "\n"))
}

// scenario is a small tree and what a check must say about it.
type scenario struct {
	files map[string]string
	// want holds one part of each finding, in order; empty means that the tree is fine.
	want []string
}

// judge runs a check on each scenario.
func judge(t *testing.T, check func(*tree) []string, scenarios map[string]scenario) {
	t.Helper()
	for name, s := range scenarios {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := check(treeOf(t, s.files))
			require.Len(t, got, len(s.want), strings.Join(got, "\n"))
			for i, part := range s.want {
				require.Contains(t, got[i], part)
			}
		})
	}
}

func TestReadTreeLeavesOutWhatIsNoPackageOfTheModule(t *testing.T) {
	t.Parallel()
	got := treeOf(t, map[string]string{
		"internal/query/query.go":               "package query",
		"internal/query/query_test.go":          "package query",
		"internal/broker/brokertest/server.go":  "package brokertest",
		"internal/query/testdata/broken.go":     "not Go",
		"internal/query/_draft/draft.go":        "not Go",
		"bench/go.mod":                          "module x",
		"bench/main.go":                         "package main",
		".hidden/main.go":                       "package main",
		"README.md":                             "# Worker",
		"internal/upstream/easypay/provider.go": "package easypay",
	})
	kinds := make(map[string]bool)
	for _, f := range got.files {
		kinds[f.room+" "+path.Base(f.path)] = f.test
	}
	require.Equal(t, map[string]bool{
		"query query.go": false, "query query_test.go": true, "broker/brokertest server.go": true, "upstream/easypay provider.go": false,
	}, kinds)
}

func TestReadTreeRefusesBrokenSource(t *testing.T) {
	t.Parallel()
	_, err := readTree(fstest.MapFS{"internal/query/query.go": &fstest.MapFile{Data: []byte("package")}})
	require.ErrorContains(t, err, "internal/query/query.go")
}

func TestRoomOf(t *testing.T) {
	t.Parallel()
	for importPath, want := range map[string]string{
		module + "/internal/query":            "query",
		module + "/internal/upstream/easypay": "upstream/easypay",
		module + "/schemas":                   "schemas",
		module + "/cmd/worker":                "cmd/worker",
	} {
		got, own := roomOf(importPath)
		require.True(t, own, importPath)
		require.Equal(t, want, got)
	}
	_, own := roomOf("net/http")
	require.False(t, own)
	_, own = roomOf(module + "s/internal/query")
	require.False(t, own, "another module with a longer name")
}
