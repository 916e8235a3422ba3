package quota

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// What a Store answers besides entries.
var (
	// ErrMissing is a key without an entry.
	ErrMissing = errors.New("no such entry")
	// ErrConflict is a write that somebody else was faster with.
	ErrConflict = errors.New("entry was changed by somebody else")
)

// Entry is one value of a Store.
type Entry struct {
	// Key is empty for the mark that a watch has shown everything there is.
	Key string
	// Value is nil for an entry that was deleted.
	Value []byte
	// Revision grows with every write to the store.
	Revision uint64
	// Created is the server's time of the write.
	Created time.Time
}

// Store keeps entries that many replicas change.
type Store interface {
	// Get returns an entry, or ErrMissing. The entry may be older than the last one.
	Get(ctx context.Context, key string) (Entry, error)
	// Put writes an entry if the last one has the given revision, 0 for none, and returns its new revision, else ErrConflict.
	Put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error)
	// Watch calls f with all entries that match, then with an empty one, then with each that is written, until ctx or the watch ends.
	Watch(ctx context.Context, pattern string, f func(Entry)) error
}

// Account is what an upstream counts our calls by.
type Account struct {
	Provider query.Provider
	// Name is the account's name at the provider, such as a merchant id.
	Name string
}

// controlPattern matches the control entries of all accounts.
const controlPattern = "control.>"

func (a Account) stateKey() string { return "state." + token(string(a.Provider)) + "." + token(a.Name) }
func (a Account) controlKey() string {
	return "control." + token(string(a.Provider)) + "." + token(a.Name)
}

// token returns a name as one token of a key: letters, digits, '-' and '_' stay, any other byte becomes '=' and two hexadecimal digits,
// and no name at all a single '='.
func token(name string) string {
	if name == "" {
		return "="
	}
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "=%02X", c)
		}
	}
	return b.String()
}

// KV is a Store on a bucket of NATS.
type KV struct {
	bucket jetstream.KeyValue
}

// NewKV returns a store on the bucket given.
func NewKV(bucket jetstream.KeyValue) *KV { return &KV{bucket: bucket} }

// Get returns an entry. A replica of the bucket may answer, so that it can be an old one.
func (s *KV) Get(ctx context.Context, key string) (Entry, error) {
	found, err := s.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return Entry{}, ErrMissing
	}
	if err != nil {
		return Entry{}, fmt.Errorf("get pace: %w", err)
	}
	return entryOf(found), nil
}

// Put writes an entry if nobody else did since the given revision.
func (s *KV) Put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	var written uint64
	var err error
	if revision == 0 {
		written, err = s.bucket.Create(ctx, key, value)
	} else {
		written, err = s.bucket.Update(ctx, key, value, revision)
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, ErrConflict
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return 0, ErrConflict
	}
	if err != nil {
		return 0, fmt.Errorf("put pace: %w", err)
	}
	return written, nil
}

// Watch calls f with the entries that match, until ctx or the watch ends.
func (s *KV) Watch(ctx context.Context, pattern string, f func(Entry)) error {
	watcher, err := s.bucket.Watch(ctx, pattern)
	if err != nil {
		return fmt.Errorf("watch pace: %w", err)
	}
	defer func() { _ = watcher.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case update, open := <-watcher.Updates():
			if !open {
				return errors.New("watch pace: ended")
			}
			if update == nil {
				f(Entry{})
				continue
			}
			f(entryOf(update))
		}
	}
}

func entryOf(found jetstream.KeyValueEntry) Entry {
	e := Entry{Key: found.Key(), Revision: found.Revision(), Created: found.Created()}
	if found.Operation() == jetstream.KeyValuePut {
		e.Value = found.Value()
	}
	return e
}
