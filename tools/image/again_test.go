package main

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// copyOfTheTree copies what the worker is built of to another folder, which has no git and none of the rest.
func copyOfTheTree(t *testing.T) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "somewhere else")
	require.NoError(t, os.MkdirAll(to, 0o755))
	for _, name := range []string{"go.mod", "go.sum", "cmd", "internal", "schemas"} {
		from := filepath.Join(root, name)
		info, err := os.Stat(from)
		require.NoError(t, err)
		if info.IsDir() {
			require.NoError(t, os.CopyFS(filepath.Join(to, name), os.DirFS(from)))
			continue
		}
		content, err := os.ReadFile(from)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(to, name), content, 0o600))
	}
	return to
}

func TestAnotherFolderGivesTheSameImage(t *testing.T) {
	t.Parallel()
	first := theImage(t)
	second, err := buildInto(filepath.Join(t.TempDir(), "another", "place"), copyOfTheTree(t))
	require.NoError(t, err)
	require.Equal(t, first.report.Digest, second.report.Digest)
	require.Equal(t, contents(t, first.dir), contents(t, second.dir), "the layout has the same files with the same bytes and rights")
	for _, suffix := range kinds() {
		one, err := os.ReadFile(first.dir + suffix)
		require.NoError(t, err)
		other, err := os.ReadFile(second.dir + suffix)
		require.NoError(t, err)
		require.Equal(t, string(one), string(other), suffix)
	}
}

// contents returns the files of a folder, with their rights and their sums.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	require.NoError(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		files[relative] = info.Mode().String()
		if entry.Type().IsRegular() {
			content, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			files[relative] += fmt.Sprintf(" %x", sha256.Sum256(content))
		}
		return nil
	}))
	return files
}
