package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// entry is an invented vulnerability of a function of the standard library, in the form of the Go database (OSV).
const entry = `{
	"schema_version": "1.3.1", "id": "GO-2099-0001", "modified": "2026-01-01T00:00:00Z", "published": "2026-01-01T00:00:00Z",
	"summary": "Invented for a test", "details": "ToTitle does nothing wrong.",
	"affected": [{
		"package": {"name": "stdlib", "ecosystem": "Go"},
		"ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}],
		"ecosystem_specific": {"imports": [{"path": "strings", "symbols": ["ToTitle"]}]}
	}],
	"database_specific": {"url": "https://pkg.go.dev/vuln/GO-2099-0001"}
}`

// program writes a program of one line and returns its folder.
func program(t *testing.T, line string) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, "go.mod", "module example.org/program\n\ngo 1.26.0\n")
	write(t, root, "main.go", "package main\n\nimport \"strings\"\n\nfunc main() { "+line+" }\n")
	return root
}

// files writes a database of one entry and returns its address.
func files(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	write(t, root, "GO-2099-0001.json", entry)
	return "file://" + filepath.ToSlash(root)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

func TestFindingsFail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		line string
		want string // empty means that nothing is found
	}{
		"a call of the function":             {"_ = strings.ToTitle(`a`)", "vulnerabilities found"},
		"a call of another in its package":   {"_ = strings.Repeat(`a`, 2)", ""},
		"a program that does not compile":    {"_ = strings.Nothing(`a`)", "vuln: "},
		"a program that does not even parse": {"} {", "vuln: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, told bytes.Buffer
			err := run(t.Context(), []string{"-C", program(t, test.line), "-db", files(t)}, &out, &told)
			if test.want == "" {
				require.NoError(t, err, told.String())
				require.Contains(t, out.String(), "No vulnerabilities found")
				return
			}
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, out.String(), "NOT CHECKED")
		})
	}
}

func TestAFindingIsNamed(t *testing.T) {
	t.Parallel()
	var out, told bytes.Buffer
	require.Error(t, run(t.Context(), []string{"-C", program(t, "_ = strings.ToTitle(`a`)"), "-db", files(t), "."}, &out, &told))
	require.Contains(t, out.String(), "GO-2099-0001")
	require.Contains(t, out.String(), "strings.ToTitle")
}

func TestADatabaseThatNobodyAnswersForIsSaid(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close() // from here on its port is closed
	args := []string{"-C", program(t, "_ = strings.ToTitle(`a`)"), "-db", server.URL}

	var out, told bytes.Buffer
	require.NoError(t, run(t.Context(), args, &out, &told))
	require.Equal(t, "vuln: NOT CHECKED for known vulnerabilities: "+server.URL+" can't be reached\n", out.String())
	require.Empty(t, told.String())

	require.ErrorContains(t, run(t.Context(), append([]string{"-required"}, args...), &out, &told), "NOT CHECKED")
}

func TestADatabaseThatAnswersWrongFails(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"forbidden": http.StatusForbidden, "broken": http.StatusInternalServerError, "empty": http.StatusOK} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
			t.Cleanup(server.Close)
			var out, told bytes.Buffer
			require.ErrorContains(t, run(t.Context(), []string{"-C", program(t, "_ = strings.Repeat(`a`, 2)"), "-db", server.URL}, &out, &told), "vuln: ")
			require.NotContains(t, out.String(), "NOT CHECKED")
		})
	}
}

func TestBadArgumentsFail(t *testing.T) {
	t.Parallel()
	root := program(t, "_ = strings.Repeat(`a`, 2)")
	for name, args := range map[string][]string{
		"an unknown flag":     {"-unknown"},
		"no folder":           {"-C", filepath.Join(root, "none"), "-db", files(t)},
		"no such database":    {"-C", root, "-db", "file://" + filepath.ToSlash(filepath.Join(root, "none"))},
		"no address":          {"-C", root, "-db", "::"},
		"no such scheme":      {"-C", root, "-db", "ftp://example.org"},
		"a package not there": {"-C", root, "-db", files(t), "./none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, told bytes.Buffer
			require.Error(t, run(t.Context(), args, &out, &told))
			require.NotContains(t, out.String(), "NOT CHECKED")
		})
	}
}
