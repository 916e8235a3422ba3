package keywatch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// bundle is a watcher over one directory, and what was loaded from it.
type bundle struct {
	dir string

	mu     sync.Mutex
	loaded []string
	told   []error
	stop   func()
}

var errBroken = errors.New("broken")

// setup starts a watcher over dir that looks by itself only after the given time.
func setup(t *testing.T, dir string, poll time.Duration) *bundle {
	t.Helper()
	b := &bundle{dir: dir}
	w := New(Options{Debounce: 20 * time.Millisecond, Poll: poll, OnChange: func(source string, err error) {
		require.Equal(t, "keys", source)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.told = append(b.told, err)
	}})
	require.NoError(t, w.Add(Source{Name: "keys", Files: []string{filepath.Join(dir, "*.jwk")}, Load: b.load}))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	b.stop = func() {
		cancel()
		running.Wait()
	}
	t.Cleanup(b.stop)
	return b
}

// load reads one file. Text that begins with an exclamation mark is broken.
func (b *bundle) load() error {
	content, err := os.ReadFile(filepath.Join(b.dir, "key.jwk"))
	if err != nil {
		return err
	}
	if len(content) == 0 || content[0] == '!' {
		return errBroken
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.loaded = append(b.loaded, string(content))
	return nil
}

// now returns what was loaded last.
func (b *bundle) now() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loaded[len(b.loaded)-1]
}

// errors counts what OnChange was told.
func (b *bundle) errors() (taken, refused int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, err := range b.told {
		if err == nil {
			taken++
		} else {
			refused++
		}
	}
	return taken, refused
}

func (b *bundle) becomes(t *testing.T, want string) {
	t.Helper()
	require.Eventually(t, func() bool { return b.now() == want }, time.Minute, 5*time.Millisecond)
}

func put(t *testing.T, name, content string) {
	t.Helper()
	require.NoError(t, os.WriteFile(name, []byte(content), 0o600))
}

// mount makes a directory as Kubernetes mounts a secret: the files are links through ..data, which is a link to a directory of one version.
func mount(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	swap(t, dir, "1")
	require.NoError(t, os.Symlink(filepath.Join("..data", "key.jwk"), filepath.Join(dir, "key.jwk")))
	return dir
}

// swap mounts the next version, as Kubernetes does it: a new directory, a new link, one rename, and the old directory goes.
func swap(t *testing.T, dir, version string) {
	t.Helper()
	before, _ := os.Readlink(filepath.Join(dir, "..data"))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "..version_"+version), 0o700))
	put(t, filepath.Join(dir, "..version_"+version, "key.jwk"), version)
	require.NoError(t, os.Symlink("..version_"+version, filepath.Join(dir, "..data_tmp")))
	require.NoError(t, os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	if before != "" {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, before)))
	}
}

func TestChangesAreNoticed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, file, content string){
		"written over": func(t *testing.T, file, content string) { put(t, file, content) },
		"renamed to": func(t *testing.T, file, content string) {
			put(t, file+".tmp", content)
			require.NoError(t, os.Rename(file+".tmp", file))
		},
		"removed and made": func(t *testing.T, file, content string) {
			require.NoError(t, os.Remove(file))
			put(t, file, content)
		},
		"moved in from elsewhere": func(t *testing.T, file, content string) {
			other := filepath.Join(t.TempDir(), "x")
			put(t, other, content)
			require.NoError(t, os.Rename(other, file))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			put(t, filepath.Join(dir, "key.jwk"), "1")
			b := setup(t, dir, time.Hour)
			require.Equal(t, "1", b.now())
			for _, content := range []string{"2", "3", "4"} { // The first one may come before it watches.
				change(t, filepath.Join(dir, "key.jwk"), content)
				b.becomes(t, content)
			}
		})
	}
}

func TestSwappedMounts(t *testing.T) {
	t.Parallel()
	dir := mount(t)
	b := setup(t, dir, time.Hour)
	for version := range 5 {
		swap(t, dir, strconv.Itoa(version+2))
		b.becomes(t, strconv.Itoa(version+2))
	}
	_, refused := b.errors()
	require.Zero(t, refused, "a swap is never seen half done")
}

func TestBrokenFilesAreToldOnceAndRepaired(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "key.jwk")
	put(t, file, "1")
	b := setup(t, dir, 10*time.Millisecond)
	put(t, filepath.Join(dir, "broken"), "!")
	require.NoError(t, os.Rename(filepath.Join(dir, "broken"), file))
	refusedOnce := func() bool { _, refused := b.errors(); return refused == 1 }
	require.Eventually(t, refusedOnce, time.Minute, 5*time.Millisecond)
	put(t, filepath.Join(dir, "other.txt"), "events that change nothing")
	require.Never(t, func() bool { return !refusedOnce() }, 200*time.Millisecond, 10*time.Millisecond, "one broken state, one word")
	require.Equal(t, "1", b.now())
	put(t, filepath.Join(dir, "good"), "2")
	require.NoError(t, os.Rename(filepath.Join(dir, "good"), file))
	b.becomes(t, "2")
}

// TestLookingNowAndThen replaces the whole directory, which events of the old one do not tell.
func TestLookingNowAndThen(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.Mkdir(dir, 0o700))
	put(t, filepath.Join(dir, "key.jwk"), "1")
	b := setup(t, dir, 20*time.Millisecond)
	for version := range 3 {
		next := filepath.Join(t.TempDir(), "keys")
		require.NoError(t, os.Mkdir(next, 0o700))
		put(t, filepath.Join(next, "key.jwk"), strconv.Itoa(version+2))
		require.NoError(t, os.RemoveAll(dir))
		require.NoError(t, os.Rename(next, dir))
		b.becomes(t, strconv.Itoa(version+2))
	}
}

// TestBlindWatcher has nothing to listen to: the directory is not there at first.
func TestBlindWatcher(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	blind := make(chan error, 10)
	loads := make(chan string, 100)
	w := New(Options{Poll: 10 * time.Millisecond, OnBlind: func(err error) { blind <- err }})
	require.NoError(t, w.Add(Source{Name: "keys", Files: []string{filepath.Join(dir, "one.pem")}, Load: func() error {
		content, _ := os.ReadFile(filepath.Join(dir, "one.pem"))
		loads <- string(content)
		return nil
	}}))
	require.Empty(t, <-loads)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	running.Go(func() { w.Run(ctx) })
	require.Error(t, <-blind)
	require.NoError(t, os.Mkdir(dir, 0o700))
	put(t, filepath.Join(dir, "one.pem.tmp"), "1")
	require.NoError(t, os.Rename(filepath.Join(dir, "one.pem.tmp"), filepath.Join(dir, "one.pem")))
	require.Equal(t, "1", <-loads)
	cancel()
	running.Wait()
	require.Empty(t, blind, "it is told once")
}

func TestASourceThatCannotBeLoadedIsNotWatched(t *testing.T) {
	t.Parallel()
	w := New(Options{})
	require.ErrorIs(t, w.Add(Source{Load: func() error { return errBroken }}), errBroken)
	require.Empty(t, w.sources)
	require.Equal(t, time.Minute, w.Poll)
	w.OnChange("x", nil)
	w.OnBlind(nil)
}

// TestChangeBeforeTheStart changes a file between the first load and Run.
func TestChangeBeforeTheStart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "key.pem")
	put(t, file, "1")
	loaded := make(chan string, 10)
	w := New(Options{})
	require.NoError(t, w.Add(Source{Files: []string{file}, Load: func() error {
		content, err := os.ReadFile(file)
		loaded <- string(content)
		return err
	}}))
	require.Equal(t, "1", <-loaded)
	put(t, file, "2")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	require.Equal(t, "2", <-loaded)
	cancel()
	running.Wait()
}

func TestDigest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pattern := []string{filepath.Join(dir, "*.jwk")}
	empty := digest(pattern)
	put(t, filepath.Join(dir, "a.jwk"), "xy")
	one := digest(pattern)
	require.NotEqual(t, empty, one)
	require.Equal(t, one, digest(pattern))
	require.NoError(t, os.Rename(filepath.Join(dir, "a.jwk"), filepath.Join(dir, "b.jwk")))
	renamed := digest(pattern)
	require.NotEqual(t, one, renamed, "a name counts")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "c.jwk"), 0o700))
	require.NotEqual(t, renamed, digest(pattern), "what can't be read counts")
	require.Equal(t, []string{"["}, matches([]string{"["}), "a name that is no pattern is a name")
}
