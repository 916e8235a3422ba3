package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// inits finds init functions: what runs before main can't be tested, ordered or stopped.
func inits(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		for _, declaration := range f.syntax.Decls {
			if d, ok := declaration.(*ast.FuncDecl); ok && d.Recv == nil && d.Name.Name == "init" {
				findings = append(findings, t.at(d)+": init")
			}
		}
	}
	return findings
}

// skips finds tests that skip. A discarded draw of package rapid is none.
func skips(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, selector.Sel.Name) && ofTesting(selector.X) {
				findings = append(findings, fmt.Sprintf("%s: %s: a test that skips is a test that is not there", t.at(node), selector.Sel.Name))
			}
			return true
		})
	}
	return findings
}

// ofTesting tells whether an expression is a parameter whose type comes from package testing.
func ofTesting(x ast.Expr) bool {
	pkg, ok := parameterPackage(x)
	return ok && pkg == "testing"
}

// promise matches the marks of work left for later.
var promise = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME)\b`)

// promises finds marks of work left for later.
func promises(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		line := 0
		for text := range bytes.Lines(f.text) {
			line++
			if mark := promise.Find(text); mark != nil {
				findings = append(findings, fmt.Sprintf("%s:%d: %s: do it or open an issue", f.path, line, mark))
			}
		}
	}
	return findings
}

// undescribed finds packages without a package comment.
func undescribed(t *tree) []string {
	described := make(map[string]bool)
	for _, f := range t.files {
		if strings.HasSuffix(f.path, "_test.go") {
			continue
		}
		described[f.room] = described[f.room] || describes(f)
	}
	var findings []string
	for room, ok := range described {
		if !ok {
			findings = append(findings, room+": no package comment: say what the room is and what it must never do")
		}
	}
	sort.Strings(findings)
	return findings
}

// describes tells whether a file holds a package comment in the usual form.
func describes(f *file) bool {
	text := f.syntax.Doc.Text()
	name := f.syntax.Name.Name
	if name == "main" {
		return text != ""
	}
	return strings.HasPrefix(text, "Package "+name+" ")
}

// written finds assignments to variables of a package: errors and tables are set once, where they are declared.
func written(t *tree) []string {
	var findings []string
	for _, files := range t.rooms() {
		variables := packageVariables(files)
		for _, f := range files {
			if f.test {
				continue
			}
			ast.Inspect(f.syntax, func(node ast.Node) bool {
				for _, target := range targets(node) {
					if name := root(target); name != nil && variables.has(name) {
						findings = append(findings, fmt.Sprintf("%s: writes to the package's variable %s", t.at(node), name.Name))
					}
				}
				return true
			})
		}
	}
	sort.Strings(findings)
	return findings
}

// variables holds the variables at the top of a package's files by name, with the declarations they come from.
type variables map[string][]*ast.ValueSpec

// has tells whether a name stands for one of the variables. The parser resolves names within their file only:
// an unresolved one comes from another file, a resolved one must lead to a declaration at the top.
func (v variables) has(name *ast.Ident) bool {
	declarations, known := v[name.Name]
	if !known || name.Obj == nil {
		return known
	}
	spec, ok := name.Obj.Decl.(*ast.ValueSpec)
	return ok && slices.Contains(declarations, spec)
}

// packageVariables returns the variables declared at the top of a package's files, tests aside.
func packageVariables(files []*file) variables {
	found := make(variables)
	for _, f := range files {
		if f.test {
			continue
		}
		for _, declaration := range f.syntax.Decls {
			d, ok := declaration.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				values, _ := spec.(*ast.ValueSpec)
				for _, name := range values.Names {
					found[name.Name] = append(found[name.Name], values)
				}
			}
		}
	}
	return found
}

// targets returns what a statement writes to.
func targets(node ast.Node) []ast.Expr {
	switch s := node.(type) {
	case *ast.AssignStmt:
		if s.Tok != token.DEFINE {
			return s.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{s.X}
	}
	return nil
}

// root returns the variable at the left of a chain of fields, elements and pointers.
func root(x ast.Expr) *ast.Ident {
	switch e := x.(type) {
	case *ast.Ident:
		return e
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	default:
		return nil
	}
}

// seedless finds fuzz targets without a committed seed.
func seedless(t *tree) []string {
	var findings []string
	for _, f := range t.files {
		for _, declaration := range f.syntax.Decls {
			d, ok := declaration.(*ast.FuncDecl)
			if !ok || !f.test || d.Recv != nil || !strings.HasPrefix(d.Name.Name, "Fuzz") {
				continue
			}
			seeds, err := fs.Glob(t.root, path.Join(path.Dir(f.path), "testdata/fuzz", d.Name.Name, "*"))
			if (err != nil || len(seeds) == 0) && !adds(d) {
				findings = append(findings, fmt.Sprintf("%s: %s has no seed", t.at(d), d.Name.Name))
			}
		}
	}
	return findings
}

// adds tells whether a fuzz target hands in a seed of its own, or hands itself to a function that does.
func adds(d *ast.FuncDecl) bool {
	parameter := d.Type.Params.List[0].Names[0].Name
	found := false
	ast.Inspect(d.Body, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		if selector, isSelector := call.Fun.(*ast.SelectorExpr); isSelector && selector.Sel.Name == "Add" {
			found = true
		}
		for _, argument := range call.Args {
			if name, isName := argument.(*ast.Ident); isName && name.Name == parameter {
				found = true
			}
		}
		return true
	})
	return found
}

// machinePath matches folders of a developer's or a build machine, with at least one letter of what lies inside.
var machinePath = regexp.MustCompile(`(^|[^A-Za-z0-9_.\-/])(/(home|Users|root|workspaces?|work)/[A-Za-z0-9]|[A-Z]:\\Users\\)`)

// harmless matches folders inside containers that only look like that.
var harmless = regexp.MustCompile(`/home/nonroot|/root/go`)

// machinePaths finds paths of somebody's machine in any file that can be committed.
func machinePaths(root fs.FS) ([]string, error) {
	ignored, err := ignoredFolders(root)
	if err != nil {
		return nil, err
	}
	var findings []string
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name == ".git" || ignored.has(name) {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		findings = append(findings, pathsIn(name, text)...)
		return nil
	})
	return findings, err
}

// pathsIn finds paths of somebody's machine in one text. Bytes that are no text have none.
func pathsIn(name string, text []byte) []string {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil
	}
	var findings []string
	line := 0
	for content := range bytes.Lines(text) {
		line++
		if found := machinePath.Find(content); found != nil && !harmless.Match(content) {
			findings = append(findings, fmt.Sprintf("%s:%d: a path of somebody's machine: %s", name, line, bytes.TrimSpace(content)))
		}
	}
	return findings
}

// folders holds the patterns of folders that git leaves out.
type folders []string

// has tells whether git leaves out a folder: by its path from the root, or anywhere if the pattern starts with two stars.
func (f folders) has(name string) bool {
	return slices.ContainsFunc(f, func(pattern string) bool {
		anywhere, found := strings.CutPrefix(pattern, "**/")
		return pattern == name || found && (name == anywhere || strings.HasSuffix(name, "/"+anywhere))
	})
}

// ignoredFolders returns the folders that the .gitignore at the root leaves out.
func ignoredFolders(root fs.FS) (folders, error) {
	text, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		return nil, fmt.Errorf("read .gitignore: %w", err)
	}
	var found folders
	for line := range strings.Lines(string(text)) {
		if folder, ok := strings.CutSuffix(strings.TrimSpace(line), "/"); ok {
			found = append(found, strings.TrimPrefix(folder, "/"))
		}
	}
	return found, nil
}

func TestNoInitFunctions(t *testing.T) {
	t.Parallel()
	none(t, inits(thisTree(t)))
	judge(t, inits, map[string]scenario{
		"an init":          {files: map[string]string{"internal/query/a.go": "package p\nfunc init() {}"}, want: []string{"internal/query/a.go:2: init"}},
		"an init of tests": {files: map[string]string{"a_test.go": "package p\nfunc init() {}"}, want: []string{"a_test.go:2"}},
		"a method":         {files: map[string]string{"a.go": "package p\ntype t int\nfunc (t) init() {}"}},
	})
}

func TestNothingSkips(t *testing.T) {
	t.Parallel()
	none(t, skips(thisTree(t)))
	test := func(body string) map[string]string {
		return map[string]string{"a_test.go": "package p\nimport (\"testing\"; \"pgregory.net/rapid\")\nfunc TestA(t *testing.T) { " + body + " }"}
	}
	judge(t, skips, map[string]scenario{
		"a skip":              {files: test("t.Skip()"), want: []string{"a_test.go:3: Skip"}},
		"a skip in a subtest": {files: test("t.Run(`a`, func(tt *testing.T) { tt.SkipNow() })"), want: []string{"SkipNow"}},
		"a helper that skips": {files: map[string]string{"a_test.go": "package p\nfunc need(tb testing.TB) { tb.Skipf(`no`) }"}, want: []string{"Skipf"}},
		"a discarded draw":    {files: test("rapid.Check(t, func(t *rapid.T) { t.Skip() })")},
		"a decoder's skip":    {files: test("d := decoder{}; d.Skip()")},
	})
}

func TestNothingIsLeftForLater(t *testing.T) {
	t.Parallel()
	none(t, promises(thisTree(t)))
	judge(t, promises, map[string]scenario{
		"a mark":        {files: map[string]string{"a.go": "package p\n\n// TO" + "DO: later\n"}, want: []string{"a.go:3: TO" + "DO"}},
		"two marks":     {files: map[string]string{"a_test.go": "package p // FIX" + "ME\n// TO" + "DO\n"}, want: []string{":1:", ":2:"}},
		"part of words": {files: map[string]string{"a.go": "package p\nvar methoTO" + "DOs int\n"}},
	})
}

func TestEveryPackageIsDescribed(t *testing.T) {
	t.Parallel()
	none(t, undescribed(thisTree(t)))
	judge(t, undescribed, map[string]scenario{
		"described once":          {files: map[string]string{"p/a.go": "package p", "p/b.go": "// Package p is a room.\npackage p"}},
		"not at all":              {files: map[string]string{"internal/p/a.go": "package p"}, want: []string{"p: no package comment"}},
		"another name":            {files: map[string]string{"p/a.go": "// Package q is a room.\npackage p"}, want: []string{"no package comment"}},
		"a licence is no comment": {files: map[string]string{"p/a.go": "// Copyright.\n\npackage p"}, want: []string{"no package comment"}},
		"a command":               {files: map[string]string{"cmd/worker/a.go": "// Worker asks.\npackage main"}},
		"only in a test":          {files: map[string]string{"p/a.go": "package p", "p/a_test.go": "// Package p is.\npackage p"}, want: []string{"p: no"}},
	})
}

func TestVariablesOfPackagesAreNeverWritten(t *testing.T) {
	t.Parallel()
	none(t, written(thisTree(t)))
	top := "package p\nvar n int\nvar table = map[string]int{}\nvar s struct{ f []int }\n"
	judge(t, written, map[string]scenario{
		"read":        {files: map[string]string{"a.go": top + "func f() int { m := n; m++; return m }"}},
		"assigned":    {files: map[string]string{"a.go": top + "func f() { n = 1 }"}, want: []string{"a.go:5: writes to the package's variable n"}},
		"counted":     {files: map[string]string{"a.go": top + "func f() { n++ }"}, want: []string{"variable n"}},
		"an element":  {files: map[string]string{"a.go": top + "func f() { table[`a`] = 1 }"}, want: []string{"variable table"}},
		"deep inside": {files: map[string]string{"a.go": top + "func f() { (s.f)[0] += 1 }"}, want: []string{"variable s"}},
		"from another file": {
			files: map[string]string{"a.go": top, "b.go": "package p\nfunc f() { n = 2 }"},
			want:  []string{"b.go:2: writes"},
		},
		"a local of that name": {files: map[string]string{"a.go": top + "func f(s []int) { var n int; n = 1; table := 2; table++; s[0] = n }"}},
		"another package's":    {files: map[string]string{"p/a.go": top, "q/a.go": "package q\nfunc f() { n := 1; n++ }"}},
		"a test":               {files: map[string]string{"a.go": top, "a_test.go": "package p\nfunc f() { n = 2 }"}},
	})
}

func TestEveryFuzzTargetHasASeed(t *testing.T) {
	t.Parallel()
	none(t, seedless(thisTree(t)))
	target := func(body string) string { return "package p\nfunc FuzzA(f *testing.F) { " + body + " }" }
	judge(t, seedless, map[string]scenario{
		"added":     {files: map[string]string{"p/a_test.go": target("f.Add(``)")}},
		"a helper":  {files: map[string]string{"p/a_test.go": target("addSamples(f)")}},
		"committed": {files: map[string]string{"p/a_test.go": target("f.Fuzz(nil)"), "p/testdata/fuzz/FuzzA/1": "go test fuzz v1"}},
		"neither": {
			files: map[string]string{"p/a_test.go": target("f.Fuzz(nil)"), "p/testdata/fuzz/FuzzB/1": "go test fuzz v1"},
			want:  []string{"p/a_test.go:2: FuzzA has no seed"},
		},
	})
}

func TestNoFileNamesSomebodysMachine(t *testing.T) {
	t.Parallel()
	findings, err := machinePaths(thisTree(t).root)
	require.NoError(t, err)
	none(t, findings)
}

func TestPathsOfMachinesAreFound(t *testing.T) {
	t.Parallel()
	// The first slash is added below, so that this file passes its own check.
	for text, found := range map[string]bool{
		"see %home/ada/worker":            true,
		"dir: %Users/ada":                 true,
		"`%root/worker/x`":                true,
		"%workspace/worker":               true,
		"(%work/main)":                    true,
		`C:\Us` + `ers\ada`:               true,
		"https://example.org%home/page":   false,
		"%home/nonroot/worker.yaml":       false,
		"RUN --mount=target=%root/.cache": false,
		"target=%root/go/pkg/mod":         false,
		"cd ~%work/main":                  true,
		"a..%work/main":                   false,
		"the %home/ folder":               false,
		"\x00 %home/ada":                  false,
	} {
		content := strings.ReplaceAll(text, "%", "/")
		require.Equal(t, found, len(pathsIn("a", []byte(content))) == 1, content)
	}
}

func TestPathsAreSoughtInEveryFileThatCanBeCommitted(t *testing.T) {
	t.Parallel()
	bad := &fstest.MapFile{Data: []byte("line\n/ho" + "me/ada\n")}
	got, err := machinePaths(fstest.MapFS{
		".gitignore": {Data: []byte("/data/\n*.test\n/bench/results/\n**/testdata/rapid/\n")},
		".git/x":     bad, "data/x": bad, "bench/results/x": bad, "p/testdata/rapid/T/x": bad, "testdata/rapid/x": bad,
		".ci/run": bad, "docs/a.md": bad, "internal/data/x": bad, "bench/x.go": bad,
	})
	require.NoError(t, err)
	require.Len(t, got, 4)
	for i, name := range []string{".ci/run:2", "bench/x.go:2", "docs/a.md:2", "internal/data/x:2"} {
		require.Contains(t, got[i], name)
	}

	_, err = machinePaths(fstest.MapFS{"a": bad})
	require.ErrorContains(t, err, ".gitignore")
}
