package mutant_test

import (
	"bytes"
	"go/ast"
	"go/build"
	"go/build/constraint"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/mutant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// No build without a tag has a mutation, or this does not compile: a map can't have the key true twice.
var (
	_ = map[bool]string{true: "wanted", mutant.AckFirst: "not wanted"}
	_ = map[bool]string{true: "wanted", mutant.NoGuard: "not wanted"}
	_ = map[bool]string{true: "wanted", mutant.LogBody: "not wanted"}
	_ = map[bool]string{true: "wanted", mutant.PublishTwice: "not wanted"}
	_ = map[bool]string{true: "wanted", mutant.NoAck: "not wanted"}
	_ = [1]string{len(mutant.Suffix): "beyond the end, unless the suffix is empty"}
)

// tags holds the mutation that each tag switches on.
func tags() map[string]string {
	return map[string]string{
		"mutant_ack_first": "AckFirst", "mutant_no_guard": "NoGuard", "mutant_log_body": "LogBody",
		"mutant_publish_twice": "PublishTwice", "mutant_no_ack": "NoAck",
	}
}

// compile returns the exported constants of this package as a build with the tags given has them.
func compile(t *testing.T, tags ...string) (map[string]constant.Value, error) {
	t.Helper()
	with := build.Default
	with.BuildTags = tags
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range files {
		matches, err := with.MatchFile(".", name)
		require.NoError(t, err)
		if matches && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(fset, name, nil, 0)
			require.NoError(t, err)
			parsed = append(parsed, file)
		}
	}
	pkg, err := new(types.Config).Check("mutant", fset, parsed, nil)
	if err != nil {
		return nil, err
	}
	values := map[string]constant.Value{}
	for _, name := range pkg.Scope().Names() {
		if named, ok := pkg.Scope().Lookup(name).(*types.Const); ok && named.Exported() {
			values[name] = named.Val()
		}
	}
	return values, nil
}

// on returns the mutations that are on.
func on(values map[string]constant.Value) []string {
	var names []string
	for name, value := range values {
		if value.Kind() == constant.Bool && constant.BoolVal(value) {
			names = append(names, name)
		}
	}
	return names
}

func TestABuildWithoutATagHasNoMutation(t *testing.T) {
	t.Parallel()
	for _, given := range [][]string{nil, {"faults"}, {"crashpoints", "faults"}, {"mutant"}} {
		values, err := compile(t, given...)
		require.NoError(t, err)
		require.Len(t, values, len(tags())+1, "the mutations and the suffix")
		require.Empty(t, on(values))
		require.Empty(t, constant.StringVal(values["Suffix"]))
	}
}

func TestEachTagSwitchesOneMutationOn(t *testing.T) {
	t.Parallel()
	suffixes := map[string]bool{}
	for tag, mutation := range tags() {
		values, err := compile(t, "crashpoints", tag)
		require.NoError(t, err)
		require.Equal(t, []string{mutation}, on(values))
		suffix := constant.StringVal(values["Suffix"])
		require.Equal(t, "+"+strings.ReplaceAll(tag, "_", "-"), suffix)
		suffixes[suffix] = true
	}
	require.Len(t, suffixes, len(tags()))
}

func TestTwoMutationsDoNotCompile(t *testing.T) {
	t.Parallel()
	all := slices.Sorted(maps.Keys(tags()))
	for i, first := range all {
		for _, second := range all[i+1:] {
			_, err := compile(t, first, second)
			require.ErrorContains(t, err, "active redeclared")
		}
	}
}

// TestTheNormalBuildRulesOutEveryTag reads the constraint of the file that all normal builds have.
func TestTheNormalBuildRulesOutEveryTag(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("none.go")
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	rule, err := constraint.Parse(first)
	require.NoError(t, err)
	require.True(t, rule.Eval(func(string) bool { return false }))
	for tag := range tags() {
		require.False(t, rule.Eval(func(given string) bool { return given == tag }), tag)
	}
}

// TestEveryMutationIsMadeInOnePlace keeps the mutations and the product together: one that is nowhere would be found by no test.
func TestEveryMutationIsMadeInOnePlace(t *testing.T) {
	t.Parallel()
	use := regexp.MustCompile(`\bmutant\.([A-Z]\w+)`)
	used := map[string]int{}
	each(t, func(path string, text []byte) {
		if filepath.Ext(path) == ".go" && !strings.HasSuffix(path, "_test.go") {
			for _, mutation := range use.FindAllSubmatch(text, -1) {
				used[string(mutation[1])]++
			}
		}
	})
	require.Equal(t, map[string]int{"AckFirst": 1, "NoGuard": 1, "LogBody": 1, "PublishTwice": 1, "NoAck": 1, "Suffix": 1}, used)
}

// TestNobodyBuildsAMutation looks for the tags in everything that builds: make, CI, images, the code itself.
func TestNobodyBuildsAMutation(t *testing.T) {
	t.Parallel()
	read := 0
	each(t, func(path string, text []byte) {
		read++
		if filepath.Ext(path) != ".md" {
			require.False(t, bytes.Contains(text, []byte("mutant_")), path)
		}
	})
	require.Greater(t, read, 100, "this is not the whole tree")
}

// each calls use with every file of the repository but those of this room, of the fault tests, and what was built.
func each(t *testing.T, use func(path string, text []byte)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && slices.Contains([]string{".git", "bin", "faults", filepath.Join("internal", "mutant")}, inside) {
			return filepath.SkipDir
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() || info.Size() > 1<<20 {
			return err
		}
		text, err := os.ReadFile(path)
		use(inside, text)
		return err
	})
	require.NoError(t, err)
}
