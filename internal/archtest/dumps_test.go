package archtest

import (
	"fmt"
	"go/ast"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// dumps says what of a package of the standard library writes out the memory of the process, or can be made to serve what does: nats-server
// brings net/http/pprof into every worker, which hangs its pages into http.DefaultServeMux. An empty list means all of the package.
func dumps() map[string][]string {
	return map[string][]string{
		"net/http/pprof": nil,
		"runtime/pprof":  nil,
		"runtime/trace":  nil,
		"expvar":         nil,
		"runtime/debug":  {"WriteHeapDump", "SetTraceback", "SetCrashOutput"},
		"net/http":       {"DefaultServeMux", "Handle", "HandleFunc", "ListenAndServe", "ListenAndServeTLS", "Serve", "ServeTLS"},
	}
}

// dumpers finds product code that could write out the memory of the process.
func dumpers(t *tree) []string {
	var findings []string
	for _, f := range t.product() {
		for _, imported := range f.imports() {
			if names, listed := dumps()[imported]; listed && names == nil {
				findings = append(findings, fmt.Sprintf("%s: imports %s: a profile or dump of a worker holds card numbers", f.path, imported))
			}
		}
		packages := importNames(f)
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			if what := dumper(node, packages); what != "" {
				findings = append(findings, t.at(node)+": "+what)
			}
			return true
		})
	}
	return findings
}

// dumper says what is wrong with a node, or nothing.
func dumper(node ast.Node, packages map[string]string) string {
	if literal, ok := node.(*ast.CompositeLit); ok {
		if imported, name := member(literal.Type, packages); imported == "net/http" && name == "Server" && !sets(literal, "Handler") {
			return "http.Server without a Handler serves http.DefaultServeMux, in which pages with profiles are"
		}
		return ""
	}
	x, ok := node.(ast.Expr)
	if !ok {
		return ""
	}
	if imported, name := member(x, packages); slices.Contains(dumps()[imported], name) {
		return fmt.Sprintf("uses %s.%s, which can write out or serve what is in memory", imported, name)
	}
	return ""
}

// member returns the package and the name that an expression such as debug.Stack stands for, if it is one.
func member(x ast.Expr, packages map[string]string) (imported, name string) {
	selector, ok := x.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	pkg, ok := selector.X.(*ast.Ident)
	if !ok || pkg.Obj != nil {
		return "", ""
	}
	return packages[pkg.Name], selector.Sel.Name
}

// sets tells whether a literal of a struct has a field.
func sets(literal *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(literal.Elts, func(element ast.Expr) bool {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		key, ok := pair.Key.(*ast.Ident)
		return ok && key.Name == field
	})
}

// profiling matches the settings by which nats-server serves profiles of itself.
var profiling = regexp.MustCompile(`(?m)^[^#\n]*(prof_port|prof_block_rate|--?profile\b)`)

// profiled finds deployed files that switch the profiles of a broker on.
func profiled(root fs.FS) ([]string, error) {
	var findings []string
	err := fs.WalkDir(root, "deploy", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".md") {
			return err
		}
		text, err := fs.ReadFile(root, name)
		if found := profiling.FindSubmatch(text); found != nil {
			findings = append(findings, fmt.Sprintf("%s: %s: the broker must not serve profiles", name, found[1]))
		}
		return err
	})
	return findings, err
}

func TestNothingWritesOutMemory(t *testing.T) {
	t.Parallel()
	none(t, dumpers(thisTree(t)))
	findings, err := profiled(thisTree(t).root)
	require.NoError(t, err)
	none(t, findings)
}

func TestWhatWritesOutMemoryIsFound(t *testing.T) {
	t.Parallel()
	of := func(imports, body string) map[string]string {
		return map[string]string{"internal/app/a.go": "package p\nimport (" + imports + ")\n" + body}
	}
	judge(t, dumpers, map[string]scenario{
		"profiles over HTTP":   {files: of(`_ "net/http/pprof"`, ""), want: []string{"a.go: imports net/http/pprof"}},
		"profiles":             {files: of(`"runtime/pprof"`, "var _ = pprof.Lookup"), want: []string{"imports runtime/pprof"}},
		"a heap dump":          {files: of(`"runtime/debug"`, "func f() { debug.WriteHeapDump(3) }"), want: []string{"a.go:3: uses runtime/debug.WriteHeapDump"}},
		"a renamed package":    {files: of(`d "runtime/debug"`, "var f = d.WriteHeapDump"), want: []string{"a.go:3: uses"}},
		"crashes":              {files: of(`"runtime/debug"`, "func f() { debug.SetTraceback(`crash`) }"), want: []string{"SetTraceback"}},
		"the pages of all":     {files: of(`"net/http"`, "func f() { http.ListenAndServe(`:80`, nil) }"), want: []string{"ListenAndServe"}},
		"the pages, by name":   {files: of(`"net/http"`, "var mux = http.DefaultServeMux"), want: []string{"DefaultServeMux"}},
		"no pages of its own":  {files: of(`"net/http"`, "var s = &http.Server{Addr: `:80`}"), want: []string{"without a Handler"}},
		"pages of its own":     {files: of(`"net/http"`, "var s = http.Server{Handler: http.NewServeMux()}")},
		"a stack":              {files: of(`"runtime/debug"`, "var s = debug.Stack()")},
		"a method of the name": {files: of(`"net/http"`, "func f(s *http.Server) { s.ListenAndServe() }")},
		"a test":               {files: map[string]string{"a_test.go": "package p\nimport _ \"runtime/pprof\""}},
	})
}

func TestProfilesOfBrokersAreFound(t *testing.T) {
	t.Parallel()
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
	got, err := profiled(fstest.MapFS{
		"deploy/nats/a.conf":  file("port: 4222\nprof_port: 6060\n"),
		"deploy/nats/b.conf":  file("# prof_port stays off\nport: 4222\n"),
		"deploy/nats/c.go":    file("prof_port"),
		"deploy/nats/d.md":    file("prof_port"),
		"deploy/k8s/set.yaml": file("args: [--profile, \"6060\"]\n"),
		"bench/e.conf":        file("prof_port: 6060\n"),
	})
	require.NoError(t, err)
	require.Len(t, got, 2)
	require.Contains(t, got[0], "deploy/k8s/set.yaml: -profile")
	require.Contains(t, got[1], "deploy/nats/a.conf: prof_port")
}
