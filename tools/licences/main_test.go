package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// isc is short, which is why it is the licence of the modules below.
const isc = `ISC License

Copyright (c) 2026 Nobody

Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby granted, provided that the above
copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL IMPLIED WARRANTIES OF
MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES
WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR
IN CONNECTION WITH THE USE OR PERFORMANCE OF THIS SOFTWARE.
`

// wtfpl is short too, and on no list of ours.
const wtfpl = `DO WHAT THE FUCK YOU WANT TO PUBLIC LICENSE
Version 2, December 2004

Copyright (C) 2004 Sam Hocevar <sam@hocevar.net>

Everyone is permitted to copy and distribute verbatim or modified copies of this license document, and changing it is allowed as long as the
name is changed.

DO WHAT THE FUCK YOU WANT TO PUBLIC LICENSE
TERMS AND CONDITIONS FOR COPYING, DISTRIBUTION AND MODIFICATION

0. You just DO WHAT THE FUCK YOU WANT TO.
`

// program writes a program that uses package deep/inner of the module example.org/dep, which holds the files given, and returns its folder.
func program(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	all := map[string]string{
		"go.mod":             "module example.org/program\n\ngo 1.26.0\n\nrequire example.org/dep v1.2.3\n\nreplace example.org/dep => ./dep\n",
		"cmd/worker/main.go": "package main\n\nimport _ \"example.org/dep/deep/inner\"\n\nfunc main() {}\n",
		"dep/go.mod":         "module example.org/dep\n\ngo 1.26.0\n", "dep/deep/inner/a.go": "package inner\n", "dep/unused/a.go": "package unused\n",
	}
	for name, text := range files {
		all["dep/"+name] = text
	}
	for name, text := range all {
		path := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o700))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	return root
}

func TestModulesAreJudgedByTheirLicences(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		files map[string]string
		want  string // empty means that the module may be shipped
	}{
		"an allowed licence":          {files: map[string]string{"LICENSE": isc}},
		"spelt otherwise":             {files: map[string]string{"Licence.md": isc}},
		"in capitals, with an ending": {files: map[string]string{"COPYING.TXT": isc}},
		"two allowed ones":            {files: map[string]string{"LICENSE": isc, "LICENSE-other": isc}},
		"no licence":                  {want: "example.org/dep@./dep  has no licence file"},
		"a licence that is a Go file": {files: map[string]string{"license.go": "package dep\n"}, want: "has no licence file"},
		"a licence that is not on the list": {
			files: map[string]string{"LICENSE": wtfpl}, want: "example.org/dep@./dep : LICENSE is under WTFPL, which is not on the list",
		},
		"a text that nobody knows": {
			files: map[string]string{"LICENSE": "All rights reserved. Ask us first."},
			want:  "LICENSE is no known licence (0 % of it is recognised: nothing more)",
		},
		"an allowed one with a clause of its own": {
			files: map[string]string{"LICENSE": isc + strings.Repeat("You must also wash our car, every other Sunday of the month. ", 12)},
			want:  "LICENSE is no known licence",
		},
		"beside an allowed one":         {files: map[string]string{"LICENSE": isc, "COPYING": wtfpl}, want: "COPYING is under WTFPL"},
		"in a package that is compiled": {files: map[string]string{"LICENSE": isc, "deep/inner/LICENSE": wtfpl}, want: "deep/inner/LICENSE is under WTFPL"},
		"in a folder above it":          {files: map[string]string{"LICENSE": isc, "deep/LICENSE": wtfpl}, want: "deep/LICENSE is under WTFPL"},
		"in a package that is not":      {files: map[string]string{"LICENSE": isc, "unused/LICENSE": wtfpl}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(t.Context(), []string{"-C", program(t, test.files)}, &out)
			if test.want == "" {
				require.NoError(t, err)
				require.Contains(t, out.String(), "1 modules are linked in")
				return
			}
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, "allowed are 0BSD, Apache-2.0")
			require.Empty(t, out.String())
		})
	}
}

func TestListShowsEveryModule(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-C", program(t, map[string]string{"LICENSE": isc}), "-list", "./..."}, &out))
	require.Contains(t, out.String(), "example.org/dep@./dep \tISC\n")
}

func TestWhatCannotBeListedIsAnError(t *testing.T) {
	t.Parallel()
	root := program(t, map[string]string{"LICENSE": isc})
	require.ErrorContains(t, run(t.Context(), []string{"-C", root, "./none"}, &bytes.Buffer{}), "go list")
	require.ErrorContains(t, run(t.Context(), []string{"-C", filepath.Join(root, "none")}, &bytes.Buffer{}), "go list")
	require.Error(t, run(t.Context(), []string{"-unknown"}, &bytes.Buffer{}))
	_, err := gather(strings.NewReader(`{"Dir": 1}`))
	require.ErrorContains(t, err, "read what go list printed")
	_, err = module{dir: filepath.Join(root, "none")}.licences()
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestGatherLeavesOutWhatIsNoDependency(t *testing.T) {
	t.Parallel()
	got, err := gather(strings.NewReader(`
		{"Dir": "/go/src/fmt"}
		{"Dir": "/w/internal", "Module": {"Path": "example.org/w", "Dir": "/w", "Main": true}}
		{"Dir": "/m/b/x", "Module": {"Path": "example.org/b", "Version": "v1.0.0", "Dir": "/m/b"}}
		{"Dir": "/m/a", "Module": {"Path": "example.org/a", "Version": "v0.1.0", "Dir": "/m/a"}}
		{"Dir": "/m/b/y", "Module": {"Path": "example.org/b", "Version": "v1.0.0", "Dir": "/m/b"}}`))
	require.NoError(t, err)
	require.Equal(t, []module{
		{path: "example.org/a", version: "v0.1.0", dir: "/m/a", packages: []string{"/m/a"}},
		{path: "example.org/b", version: "v1.0.0", dir: "/m/b", packages: []string{"/m/b/x", "/m/b/y"}},
	}, got)
	require.Equal(t, []string{"/m/b", "/m/b/x", "/m/b/y"}, got[1].folders())
}
