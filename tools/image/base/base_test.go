package base

import (
	"archive/zip"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// zoneFile returns a zip file with entries of these names.
func zoneFile(t *testing.T, names ...string) []byte {
	t.Helper()
	var packed bytes.Buffer
	archive := zip.NewWriter(&packed)
	for _, name := range names {
		entry, err := archive.Create(name)
		require.NoError(t, err)
		if !strings.HasSuffix(name, "/") {
			_, err = entry.Write([]byte("zone " + name))
			require.NoError(t, err)
		}
	}
	require.NoError(t, archive.Close())
	return packed.Bytes()
}

func TestFilesHaveTheirFoldersBeforeThem(t *testing.T) {
	t.Parallel()
	files, err := Files(zoneFile(t, "Asia/", "Asia/Seoul", "UTC"))
	require.NoError(t, err)
	var paths []string
	for _, file := range files {
		if file.Mode.IsDir() {
			require.Equal(t, DirMode, file.Mode.Perm(), file.Path)
			require.Empty(t, file.Body)
			paths = append(paths, file.Path+"/")
			continue
		}
		require.Equal(t, FileMode, file.Mode, file.Path)
		require.NotEmpty(t, file.Body, file.Path)
		paths = append(paths, file.Path)
	}
	require.Equal(t, []string{
		"etc/", "etc/discount/", "etc/group", "etc/passwd", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt",
		"usr/", "usr/share/", "usr/share/zoneinfo/", "usr/share/zoneinfo/Asia/", "usr/share/zoneinfo/Asia/Seoul", "usr/share/zoneinfo/UTC",
	}, paths)
	again, err := Files(zoneFile(t, "UTC", "Asia/Seoul"))
	require.NoError(t, err)
	require.Equal(t, files, again, "the order of the zip file does not matter")
}

func TestZonesThatAreNoneAreRefused(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		zones []byte
		want  string
	}{
		"nothing":          {nil, "read the time zones"},
		"no zip file":      {[]byte("zones"), "read the time zones"},
		"an empty one":     {zoneFile(t), "there is none"},
		"only folders":     {zoneFile(t, "Asia/"), "there is none"},
		"out of its place": {zoneFile(t, "../passwd"), "is no path"},
		"an absolute path": {zoneFile(t, "/etc/passwd"), "is no path"},
	} {
		_, err := Files(test.zones)
		require.ErrorContains(t, err, test.want, name)
	}
	_, err := ReadZones(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestCertificatesAreThoseOfTheBundle(t *testing.T) {
	t.Parallel()
	text, err := Certificates()
	require.NoError(t, err)
	again, err := Certificates()
	require.NoError(t, err)
	require.Equal(t, text, again)

	want, limited := 0, 0
	pool := x509.NewCertPool()
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			limited++
			require.NotContains(t, string(text), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})))
			continue
		}
		want++
		parsed, err := x509.ParseCertificate(root.Certificate)
		require.NoError(t, err)
		require.True(t, parsed.IsCA)
		pool.AddCert(parsed)
	}
	t.Logf("%d authorities, %d left out because they are trusted in part only", want, limited)
	require.Greater(t, want, 100)
	read := x509.NewCertPool()
	require.True(t, read.AppendCertsFromPEM(text))
	require.True(t, pool.Equal(read), "Go reads each of them back, and no other")
	require.Equal(t, want, bytes.Count(text, []byte("BEGIN CERTIFICATE")))

	var subjects []string
	for line := range strings.Lines(string(text)) {
		if subject, found := strings.CutPrefix(line, "# "); found && !strings.HasPrefix(subject, "SHA-256 ") {
			subjects = append(subjects, subject)
		}
	}
	require.Len(t, subjects, want)
	require.True(t, slices.IsSorted(subjects))
}

func TestWriteMakesWhatTheImageHas(t *testing.T) {
	t.Parallel()
	files, err := Files(zoneFile(t, "Asia/Seoul"))
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "image")
	require.NoError(t, Write(dir, files))
	for _, file := range files {
		info, err := os.Lstat(filepath.Join(dir, file.Path))
		require.NoError(t, err)
		require.Equal(t, file.Mode, info.Mode(), file.Path)
		if !file.Mode.IsDir() {
			body, err := os.ReadFile(filepath.Join(dir, file.Path))
			require.NoError(t, err)
			require.Equal(t, file.Body, body)
		}
	}
	require.ErrorIs(t, Write(dir, files), fs.ErrExist, "nothing is overwritten")
	require.ErrorIs(t, Write(dir, []File{{Path: "etc/passwd", Mode: FileMode}}), fs.ErrExist)
}
