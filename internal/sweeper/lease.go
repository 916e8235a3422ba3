package sweeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Lease lets one of all workers do something. It needs no common clock: whoever sees the entry unchanged for a whole TTL, by its own
// clock, may take it over. It must be used by one goroutine.
type Lease struct {
	// KV holds the entry under Key.
	KV  jetstream.KeyValue
	Key string
	// Holder names this worker and must differ from all others'.
	Holder string
	// TTL is how long a holder may be silent before somebody else takes over.
	TTL time.Duration

	revision uint64
	seen     time.Time
}

// Hold renews the lease or tries to get it, and tells whether this worker has it now. It is to be called more often than every TTL.
func (l *Lease) Hold(ctx context.Context) (bool, error) {
	entry, err := l.KV.Get(ctx, l.Key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return l.won(l.KV.Create(ctx, l.Key, []byte(l.Holder)))
	case err != nil:
		return false, fmt.Errorf("read lease: %w", err)
	}
	if entry.Revision() != l.revision {
		l.revision, l.seen = entry.Revision(), time.Now()
	}
	if string(entry.Value()) != l.Holder && time.Since(l.seen) < l.TTL {
		return false, nil
	}
	return l.won(l.KV.Update(ctx, l.Key, []byte(l.Holder), entry.Revision()))
}

// won notes the outcome of a write. One that somebody else was faster with is no error.
func (l *Lease) won(revision uint64, err error) (bool, error) {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return false, nil
	}
	if errors.Is(err, jetstream.ErrKeyExists) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("write lease: %w", err)
	}
	l.revision, l.seen = revision, time.Now()
	return true, nil
}
