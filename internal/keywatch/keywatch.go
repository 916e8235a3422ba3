// Package keywatch tells when files with keys have changed, so that they can be read again. It looks at their content only to compare it, and
// must never keep, log or pass on any of it.
package keywatch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// How changes are noticed unless Options say otherwise.
const (
	// defaultDebounce is how long a first event is waited with: a new set of files is seldom written by one call.
	defaultDebounce = 300 * time.Millisecond
	// defaultPoll is the net below the events, which some file systems and containers do not have.
	defaultPoll = time.Minute
)

// maxFile is how much of a file is compared, in bytes. Keys are far smaller.
const maxFile = 1 << 20

// Source is a set of files that belong together and are read by one function.
type Source struct {
	// Name names the source to OnChange.
	Name string
	// Files are its files. A name may be a pattern of path/filepath.Match; what it matches is looked up each time.
	Files []string
	// Load reads the files. It must leave everything as it was if it returns an error.
	Load func() error
}

// Options are the parts of a Watcher. All of them may be left out.
type Options struct {
	// Debounce is how long after a first event the files are looked at, Poll how often they are looked at without any.
	Debounce time.Duration
	Poll     time.Duration
	// OnChange is told of each source whose files have changed, with the error of its Load. A broken state is told once, not at each look.
	OnChange func(source string, err error)
	// OnBlind is told once if the operating system gives no events, so that changes are noticed by looking now and then only.
	OnBlind func(err error)
}

// Watcher watches sources. Sources are added before Run; then it is used by one goroutine.
type Watcher struct {
	Options

	sources []*watched
	blind   sync.Once
}

// watched is a source with what its files held when they were last looked at.
type watched struct {
	Source

	seen [sha256.Size]byte
}

// New returns a watcher without sources.
func New(options Options) *Watcher {
	w := &Watcher{Options: options}
	if w.Debounce <= 0 {
		w.Debounce = defaultDebounce
	}
	if w.Poll <= 0 {
		w.Poll = defaultPoll
	}
	if w.OnChange == nil {
		w.OnChange = func(string, error) {}
	}
	if w.OnBlind == nil {
		w.OnBlind = func(error) {}
	}
	return w
}

// Add loads a source for the first time and returns the error of that. Its files are looked at before, so that no change between that and
// Run goes unnoticed.
func (w *Watcher) Add(source Source) error {
	one := &watched{Source: source, seen: digest(source.Files)}
	if err := source.Load(); err != nil {
		return err
	}
	w.sources = append(w.sources, one)
	return nil
}

// Run watches until ctx ends. It watches the directories and not the files: editors and tools replace a file by renaming another one, and
// Kubernetes changes a mounted secret by swapping one symbolic link in its directory.
func (w *Watcher) Run(ctx context.Context) {
	events, stop := w.listen()
	defer stop()
	poll := time.NewTicker(w.Poll)
	defer poll.Stop()
	var soon <-chan time.Time
	w.look()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events.happened:
			if soon == nil {
				soon = time.After(w.Debounce)
			}
		case <-soon:
			soon = nil
			events.watch(w.directories())
			w.look()
		case <-poll.C:
			events.watch(w.directories())
			w.look()
		}
	}
}

// look loads the sources whose files hold something else than before.
func (w *Watcher) look() {
	for _, one := range w.sources {
		now := digest(one.Files)
		if now == one.seen {
			continue
		}
		one.seen = now
		w.OnChange(one.Name, one.Load())
	}
}

// directories returns the directories that hold the sources' files.
func (w *Watcher) directories() []string {
	var all []string
	for _, one := range w.sources {
		for _, name := range one.Files {
			all = append(all, filepath.Dir(name))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// digest returns a digest of the names and contents of files. A file that can't be read counts with the fact.
func digest(patterns []string) [sha256.Size]byte {
	sum := sha256.New()
	for _, name := range matches(patterns) {
		content, err := read(name)
		sum.Write([]byte(strconv.Quote(name) + " " + strconv.Itoa(len(content)) + " " + strconv.FormatBool(err == nil) + "\n"))
		sum.Write(content)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// matches returns the files that patterns name. A name that is no pattern is that file, there or not.
func matches(patterns []string) []string {
	var names []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			found = []string{pattern}
		}
		names = append(names, found...)
	}
	return names
}

func read(name string) (content []byte, err error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // It was only read.
	var buffer bytes.Buffer
	_, err = io.Copy(&buffer, io.LimitReader(file, maxFile))
	return buffer.Bytes(), err
}

// events are what the operating system tells of directories. Without a source of them nothing ever happens.
type events struct {
	notify   *fsnotify.Watcher
	happened chan struct{}
	trouble  func(error)
}

// listen begins to listen for events in the directories.
func (w *Watcher) listen() (*events, func()) {
	trouble := func(err error) { w.blind.Do(func() { w.OnBlind(err) }) }
	e := &events{happened: make(chan struct{}, 1), trouble: trouble}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		trouble(err)
		return e, func() {}
	}
	e.notify = notify
	e.watch(w.directories())
	var forwarding sync.WaitGroup
	forwarding.Go(e.forward)
	return e, func() {
		_ = notify.Close() // It only lets go of what the system holds for us.
		forwarding.Wait()
	}
}

// watch watches directories. One that was watched before and is still the same stays so; one that was replaced is watched anew.
func (e *events) watch(directories []string) {
	if e.notify == nil {
		return
	}
	for _, directory := range directories {
		if err := e.notify.Add(directory); err != nil {
			e.trouble(err)
		}
	}
}

// forward turns all events into one sign that there are some. Events that were lost are a sign as well.
func (e *events) forward() {
	for {
		select {
		case _, open := <-e.notify.Events:
			if !open {
				return
			}
		case _, open := <-e.notify.Errors:
			if !open {
				return
			}
		}
		select {
		case e.happened <- struct{}{}:
		default:
		}
	}
}
