package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// overlays are the folders that somebody may apply.
func overlays() map[string]string {
	return map[string]string{
		"single": "deploy/k8s/overlays/single", "cluster": "deploy/k8s/overlays/cluster", "keda": "deploy/k8s/overlays/keda",
		"example": "deploy/k8s/example",
	}
}

// built renders an overlay from the disk.
func built(t *testing.T, overlay string) *rendered {
	t.Helper()
	r, err := render(filesys.MakeFsOnDisk(), filepath.Join(root, overlays()[overlay]))
	require.NoError(t, err)
	return r
}

// changed copies the manifests into memory, with one text of one file replaced.
func changed(t *testing.T, file, from, to string) filesys.FileSystem {
	t.Helper()
	files, done := filesys.MakeFsInMemory(), false
	for _, dir := range []string{"deploy/k8s", "deploy/nats"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			relative, err := filepath.Rel(root, path)
			if relative == filepath.Join("deploy", file) {
				done = bytes.Contains(text, []byte(from))
				text = bytes.Replace(text, []byte(from), []byte(to), 1)
			}
			if err != nil {
				return err
			}
			return files.WriteFile("/"+relative, text)
		}))
	}
	require.True(t, done, "%s does not hold %q", file, from)
	return files
}

// hashRe finds the end that kustomize gives to the name of a ConfigMap.
var hashRe = regexp.MustCompile(`(?m)^(\S+: ConfigMap/.*)-[a-z0-9]{10}$`)

// TestOverlays has nothing found in any overlay, and each hold what its file in testdata says.
func TestOverlays(t *testing.T) {
	t.Parallel()
	for overlay := range overlays() {
		t.Run(overlay, func(t *testing.T) {
			t.Parallel()
			r := built(t, overlay)
			require.Empty(t, check(r))
			var list bytes.Buffer
			require.NoError(t, printObjects(&list, overlay, r))
			t.Log("\n" + list.String())
			want, err := os.ReadFile(filepath.Join("testdata", overlay+".txt"))
			require.NoError(t, err)
			require.Equal(t, string(want), hashRe.ReplaceAllString(list.String(), "$1"))
		})
	}
}

// TestSourcesAreStrict reads every file as it stands: kustomize lets the last of two equal keys win.
func TestSourcesAreStrict(t *testing.T) {
	t.Parallel()
	count := 0
	require.NoError(t, filepath.WalkDir(filepath.Join(root, "deploy/k8s"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for document := range strings.SplitSeq(string(text), "\n---\n") {
			var read map[string]any
			require.NoError(t, yaml.UnmarshalStrict([]byte(document), &read), path)
			require.NotEmpty(t, read, path)
			count++
		}
		return nil
	}))
	require.Greater(t, count, 30)
	var read map[string]any
	require.Error(t, yaml.UnmarshalStrict([]byte("a: 1\na: 2\n"), &read))
}

func TestCommands(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		out  string
		err  string
	}{
		"nothing":      {nil, "", "usage"},
		"unknown":      {[]string{"apply", "."}, "", "usage"},
		"no folder":    {[]string{"check"}, "", "usage"},
		"rules of two": {[]string{"rules", "."}, "", "usage"},
		"check":        {[]string{"check", "../../deploy/k8s/overlays/single"}, "../../deploy/k8s/overlays/single: 23 objects, nothing found\n", ""},
		"list":         {[]string{"list", "../../deploy/k8s/overlays/keda"}, "../../deploy/k8s/overlays/keda: ScaledObject/worker\n", ""},
		"build":        {[]string{"build", "../../deploy/k8s/overlays/keda"}, "\nkind: ScaledObject\n", ""},
		"build of two": {[]string{"build", "a", "b"}, "", "usage"},
		"build gone":   {[]string{"build", "nowhere"}, "", "nowhere"},
		"not there":    {[]string{"check", "nowhere"}, "", "nowhere"},
		"base alone":   {[]string{"check", "../../deploy/k8s/base"}, "needs the ConfigMap worker-config, which nobody makes", "something is wrong"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			err := run(test.args, &out)
			require.Contains(t, out.String(), test.out)
			if test.err == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.err)
		})
	}
}
