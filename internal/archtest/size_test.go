package archtest

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The budgets of code that enters the binary. The tidy programs of the field agree on them, whatever their authors.
const (
	maxFileLines     = 400
	maxFunctionLines = 80
	p90FunctionLines = 45
)

// function is one function of the product and its length from its signature to its closing brace.
type function struct {
	name  string
	lines int
}

// functions returns all functions of the product, shortest first.
func functions(t *tree) []function {
	var all []function
	for _, f := range t.product() {
		for _, declaration := range f.syntax.Decls {
			d, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			lines := t.fset.Position(d.End()).Line - t.fset.Position(d.Pos()).Line + 1
			all = append(all, function{name: t.at(d) + " " + d.Name.Name, lines: lines})
		}
	}
	slices.SortFunc(all, func(a, b function) int { return cmp.Or(cmp.Compare(a.lines, b.lines), strings.Compare(a.name, b.name)) })
	return all
}

// p90 returns the length that nine of ten functions stay within.
func p90(sorted []function) int {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*9+9)/10-1].lines
}

// tooLong finds files and functions beyond the budgets.
func tooLong(t *tree) []string {
	var findings []string
	for _, f := range t.product() {
		if lines := bytes.Count(f.text, []byte("\n")); lines > maxFileLines {
			findings = append(findings, fmt.Sprintf("%s: %d lines, at most %d: split it", f.path, lines, maxFileLines))
		}
	}
	all := functions(t)
	for _, f := range all {
		if f.lines > maxFunctionLines {
			findings = append(findings, fmt.Sprintf("%s: %d lines, at most %d", f.name, f.lines, maxFunctionLines))
		}
	}
	if got := p90(all); got > p90FunctionLines {
		findings = append(findings, fmt.Sprintf("one function in ten has more than %d lines (p90 is %d)", p90FunctionLines, got))
	}
	return findings
}

// codeAndTests counts the lines of the product and of its tests, without blank ones.
func codeAndTests(t *tree) (code, tests int) {
	for _, f := range t.files {
		if f.test {
			tests += f.lines()
		} else {
			code += f.lines()
		}
	}
	return code, tests
}

// tooFewTests finds a tree whose tests are shorter than its code.
func tooFewTests(t *tree) []string {
	code, tests := codeAndTests(t)
	if tests >= code {
		return nil
	}
	return []string{fmt.Sprintf("%d lines of tests for %d lines of code", tests, code)}
}

func TestFilesAndFunctionsStayShort(t *testing.T) {
	t.Parallel()
	got := thisTree(t)
	all := functions(got)
	t.Logf("%d functions, p90 %d lines, longest %d lines", len(all), p90(all), all[len(all)-1].lines)
	none(t, tooLong(got))
}

func TestTestsAreAtLeastAsLongAsTheCode(t *testing.T) {
	t.Parallel()
	got := thisTree(t)
	code, tests := codeAndTests(got)
	t.Logf("%d lines of code, %d lines of tests: %.2f", code, tests, float64(tests)/float64(code))
	for room, files := range got.rooms() {
		roomCode, roomTests := codeAndTests(&tree{files: files})
		t.Logf("%-20s %5d %5d", room, roomCode, roomTests)
	}
	none(t, tooFewTests(got))
}

// functionOf returns the source of a function with so many lines.
func functionOf(name string, lines int) string {
	return "func " + name + "() {" + strings.Repeat("\n", lines-1) + "}\n"
}

func TestLongFilesAndFunctionsAreFound(t *testing.T) {
	t.Parallel()
	short := "package p\n" + strings.Repeat(functionOf("a", 10), 10)
	judge(t, tooLong, map[string]scenario{
		"nothing":             {},
		"a full file":         {files: map[string]string{"a.go": "package p\n" + strings.Repeat("\n", 399)}},
		"a file too long":     {files: map[string]string{"a.go": "package p\n" + strings.Repeat("\n", 400)}, want: []string{"a.go: 401 lines"}},
		"a long test":         {files: map[string]string{"a_test.go": "package p\n" + strings.Repeat("\n", 400) + functionOf("b", 90)}},
		"the longest allowed": {files: map[string]string{"a.go": short + functionOf("b", 80)}},
		"a function too long": {files: map[string]string{"a.go": short + functionOf("b", 81)}, want: []string{"a.go:102 b: 81 lines, at most 80"}},
		"many long functions": {
			files: map[string]string{"a.go": "package p\n" + functionOf("a", 46) + functionOf("b", 46)},
			want:  []string{"p90 is 46"},
		},
		"as long as nine of ten may be": {files: map[string]string{"a.go": "package p\n" + functionOf("a", 45)}},
	})
}

func TestP90(t *testing.T) {
	t.Parallel()
	lengths := func(n int) []function {
		sorted := make([]function, n)
		for i := range sorted {
			sorted[i].lines = i + 1
		}
		return sorted
	}
	for n, want := range map[int]int{0: 0, 1: 1, 2: 2, 9: 9, 10: 9, 11: 10, 20: 18, 100: 90} {
		require.Equal(t, want, p90(lengths(n)), "%d functions", n)
	}
}

func TestTooFewTestsAreFound(t *testing.T) {
	t.Parallel()
	judge(t, tooFewTests, map[string]scenario{
		"as many":              {files: map[string]string{"a.go": "package p\nvar a = 1\n", "a_test.go": "package p\nvar b = 1\n"}},
		"blank lines are none": {files: map[string]string{"a.go": "package p\nvar a = 1\n", "a_test.go": "package p\n\n\n\n"}, want: []string{"1 lines of tests for 2"}},
		"fixtures count":       {files: map[string]string{"a.go": "package p\n", "internal/broker/brokertest/a.go": "package p\n"}},
	})
}
