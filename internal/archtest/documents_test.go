package archtest

import (
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// proofs are the documents that name the tests that show what they say.
func proofs() []string {
	return []string{"docs/security.md", "docs/reliability.md", "docs/deploy.md", "SECURITY.md"}
}

// unproved finds tests that a document names and that are in no test file, and links to files that are not there.
func unproved(root fs.FS, documents ...string) ([]string, error) {
	tests, err := allTests(root)
	if err != nil {
		return nil, err
	}
	named := regexp.MustCompile("`(Test[A-Za-z0-9]+)[^`]*`")
	linked := regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	var findings []string
	for _, document := range documents {
		text, err := fs.ReadFile(root, document)
		if err != nil {
			return nil, err
		}
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			if !tests[match[1]] {
				findings = append(findings, fmt.Sprintf("%s: there is no %s", document, match[1]))
			}
		}
		for _, match := range linked.FindAllStringSubmatch(string(text), -1) {
			if _, err := fs.Stat(root, path.Join(path.Dir(document), match[1])); err != nil {
				findings = append(findings, fmt.Sprintf("%s: there is no %s", document, match[1]))
			}
		}
	}
	slices.Sort(findings)
	return slices.Compact(findings), nil
}

// allTests returns the names of the tests of every module.
func allTests(root fs.FS) (map[string]bool, error) {
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	tests := make(map[string]bool)
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && strings.HasPrefix(path.Base(name), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		for _, match := range declared.FindAllStringSubmatch(string(text), -1) {
			tests[match[1]] = true
		}
		return err
	})
	return tests, err
}

func TestDocumentsNameTestsThatExist(t *testing.T) {
	t.Parallel()
	findings, err := unproved(thisTree(t).root, proofs()...)
	require.NoError(t, err)
	none(t, findings)
}

func TestNamesOfTestsThatAreGoneAreFound(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		"p/a_test.go":      {Data: []byte("package p\n\nfunc TestHere(t *testing.T) {}\n\nfunc Test1(t *testing.T) {}\n")},
		"p/a.go":           {Data: []byte("package p\n\nfunc TestNone() {}\n")},
		".git/a_test.go":   {Data: []byte("func TestGone(t *testing.T) {}\n")},
		"docs/keys.md":     {},
		"docs/a.md":        {Data: []byte("`TestHere`, `p` `Test1/case`, [keys](keys.md#old), [all](../docs/keys.md), [out](https://example.org/x)")},
		"docs/b.md":        {Data: []byte("`TestNone` `TestGone` `TestGone`, [no](none.md)")},
		"docs/decision.md": {Data: []byte("Tests, Testing")},
	}
	got, err := unproved(root, "docs/a.md", "docs/decision.md")
	require.NoError(t, err)
	require.Empty(t, got)
	got, err = unproved(root, "docs/b.md")
	require.NoError(t, err)
	require.Equal(t, []string{"docs/b.md: there is no TestGone", "docs/b.md: there is no TestNone", "docs/b.md: there is no none.md"}, got)
	_, err = unproved(root, "docs/c.md")
	require.ErrorIs(t, err, fs.ErrNotExist)
}
