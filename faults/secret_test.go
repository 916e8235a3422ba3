//go:build faults

package faults

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// secret is a directory of files as Kubernetes mounts a Secret: each name is a link through ..data, which is a link to the directory of
// one version.
type secret struct {
	dir     string
	version int
}

// newSecret mounts the first version.
func newSecret(t *testing.T, files map[string]string) *secret {
	t.Helper()
	s := &secret{dir: t.TempDir()}
	s.swap(t, files)
	for name := range files {
		require.NoError(t, os.Symlink(filepath.Join("..data", name), s.file(name)))
	}
	return s
}

// swap mounts the next version in one step, and the one before goes.
func (s *secret) swap(t *testing.T, files map[string]string) {
	t.Helper()
	before, _ := os.Readlink(s.file("..data")) // There is none at first.
	s.version++
	next := "..version_" + strconv.Itoa(s.version)
	require.NoError(t, os.Mkdir(s.file(next), 0o700))
	for name, content := range files {
		require.NoError(t, os.WriteFile(s.file(filepath.Join(next, name)), []byte(content), 0o600))
	}
	require.NoError(t, os.Symlink(next, s.file("..data_tmp")))
	require.NoError(t, os.Rename(s.file("..data_tmp"), s.file("..data")))
	if before != "" {
		require.NoError(t, os.RemoveAll(s.file(before)))
	}
}

// file returns the path of a file in the directory.
func (s *secret) file(name string) string { return filepath.Join(s.dir, name) }

// reload gives a running server another configuration and waits until it has it.
func (n *natsServer) reload(t *testing.T, settings string) {
	t.Helper()
	n.configure(t, settings)
	mark := fmt.Sprintf("--- reload at %d\n", time.Now().UnixNano())
	_, err := n.output.Write([]byte(mark))
	require.NoError(t, err)
	n.signal(t, syscall.SIGHUP)
	await(t, "the broker has its new configuration", func() bool {
		_, since, _ := strings.Cut(n.output.String(), mark)
		require.NotContains(t, since, "Failed to reload", "the broker refuses its new configuration")
		return strings.Contains(since, "Reloaded server configuration")
	})
}

// await waits until something is so. It asks in the goroutine of the test, which may fail there.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(soon); !is(); pause(t.Context(), 25*time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "waited in vain: %s", what)
	}
}

// figure returns one of a worker's metrics, by its name with its labels. It is 0 if there is none.
func (w *worker) figure(t *testing.T, name string) float64 {
	t.Helper()
	return figureOn(t, w.figures(t), name)
}

// figures returns the page of a worker's metrics.
func (w *worker) figures(t *testing.T) string {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + w.admin + "/metrics")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	page, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(page)
}

// figureOn returns one of the metrics on a page.
func figureOn(t *testing.T, page, name string) float64 {
	t.Helper()
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(line, name+" "); ok {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			require.NoError(t, err)
			return value
		}
	}
	return 0
}
