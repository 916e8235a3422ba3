package deadletter

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// shelf is a stream that is one message, as often as it is asked for below a sequence, so that no time passes but what a replay waits.
type shelf struct {
	jetstream.Stream

	message *jetstream.RawStreamMsg
	last    uint64
}

// GetMsg implements jetstream.Stream.
func (s *shelf) GetMsg(_ context.Context, sequence uint64, _ ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	if sequence > s.last {
		return nil, jetstream.ErrMsgNotFound
	}
	copied := *s.message
	copied.Sequence = sequence
	return &copied, nil
}

// GetLastMsgForSubject implements jetstream.Stream.
func (s *shelf) GetLastMsgForSubject(context.Context, string) (*jetstream.RawStreamMsg, error) {
	return s.message, nil
}

// drawer is a bucket in memory.
type drawer struct {
	jetstream.KeyValue

	mu      sync.Mutex
	entries map[string]*entry
}

type entry struct {
	jetstream.KeyValueEntry

	value    []byte
	revision uint64
}

// Value implements jetstream.KeyValueEntry.
func (e *entry) Value() []byte { return e.value }

// Revision implements jetstream.KeyValueEntry.
func (e *entry) Revision() uint64 { return e.revision }

// Get implements jetstream.KeyValue.
func (d *drawer) Get(_ context.Context, key string) (jetstream.KeyValueEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if found := d.entries[key]; found != nil {
		return found, nil
	}
	return nil, jetstream.ErrKeyNotFound
}

// Create implements jetstream.KeyValue.
func (d *drawer) Create(ctx context.Context, key string, value []byte, _ ...jetstream.KVCreateOpt) (uint64, error) {
	return d.Update(ctx, key, value, 0)
}

// Update implements jetstream.KeyValue.
func (d *drawer) Update(_ context.Context, key string, value []byte, revision uint64) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if found := d.entries[key]; found != nil && found.revision != revision || found == nil && revision != 0 {
		return 0, jetstream.ErrKeyExists
	}
	d.entries[key] = &entry{value: value, revision: revision + 1}
	return revision + 1, nil
}

// clock notes when each letter was published.
type clock struct {
	began time.Time
	at    []time.Duration
}

// Replay implements Replayer.
func (c *clock) Replay(_ context.Context, replays []publish.Replay) error {
	for range replays {
		c.at = append(c.at, time.Since(c.began))
	}
	return nil
}

// TestRateIsKept replays 60 letters in virtual time. Each is published when its rate says: not before, and not after. What may go at once at the
// beginning is a fifth of a second's letters, and what goes together is a handful.
func TestRateIsKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	letter, err := b.dead.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	result, err := b.results.GetMsg(t.Context(), 1)
	require.NoError(t, err)
	const letters = 60
	for name, test := range map[string]struct {
		rate           float64
		burst, handful int
		takes          time.Duration
	}{
		"one in ten seconds": {rate: 0.1, burst: 1, handful: 1, takes: 590 * time.Second},
		"two a second":       {rate: 2, burst: 1, handful: 1, takes: 29500 * time.Millisecond},
		"the usual":          {rate: 10, burst: 2, handful: 1, takes: 5800 * time.Millisecond},
		"40 a second":        {rate: 40, burst: 8, handful: 1, takes: 1300 * time.Millisecond},
		"two at a time":      {rate: 100, burst: 20, handful: 2, takes: 400 * time.Millisecond},
		"five at a time":     {rate: 250, burst: 50, handful: 5, takes: 40 * time.Millisecond},
		"all at once":        {rate: 1000, burst: 200, handful: 20, takes: 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				published := &clock{began: time.Now()}
				l := &Letters{Options: Options{
					Subjects: b.subject, Providers: []query.Provider{query.EasyPay}, Replayer: published, Timeout: time.Second, Patience: time.Second,
				}}
				l.dead, l.results = &shelf{message: letter, last: letters}, &shelf{message: result, last: 1}
				l.ledger = &ledger{bucket: &drawer{entries: map[string]*entry{}}, steady: l.steady}
				r := &record{Batch: Batch{ID: "batch", Rate: test.rate, Upto: letters, Total: letters, State: Paused}}
				require.NoError(t, l.ledger.write(t.Context(), r))
				done, err := l.Run(t.Context(), "batch", nil)
				require.NoError(t, err)
				require.Equal(t, Done, done.State)
				require.Len(t, published.at, letters)
				each := float64(time.Second) / test.rate
				for i, at := range published.at {
					due := max(float64(i+1-test.burst), 0) * each
					require.GreaterOrEqual(t, float64(at), due-float64(time.Microsecond), "letter %d is too early", i)
					require.Less(t, float64(at), due+float64(test.handful-1)*each+float64(time.Microsecond), "letter %d is too late", i)
				}
				require.InDelta(t, test.takes, published.at[letters-1], float64(time.Microsecond))
			})
		})
	}
}

// TestHowLongItStillTakes has letters dealt with for a time, and compares what is told.
func TestHowLongItStillTakes(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rate                float64
		total, before, seen int
		since               time.Duration
		left                int
		eta                 time.Duration
	}{
		"nothing is done yet: by the rate":       {rate: 10, total: 60, left: 60, eta: 6 * time.Second},
		"nothing is done yet, though time went":  {rate: 10, total: 60, since: time.Hour, left: 60, eta: 6 * time.Second},
		"by the pace so far":                     {rate: 10, total: 60, seen: 10, since: 5 * time.Second, left: 50, eta: 25 * time.Second},
		"the broker is slower than the rate":     {rate: 5000, total: 60, seen: 20, since: time.Minute, left: 40, eta: 2 * time.Minute},
		"what an earlier run did does not count": {rate: 10, total: 60, before: 40, seen: 50, since: 20 * time.Second, left: 10, eta: 20 * time.Second},
		"taken up again, nothing is done yet":    {rate: 2, total: 60, before: 40, seen: 40, since: time.Second, left: 20, eta: 10 * time.Second},
		"too fast to be told":                    {rate: 5000, total: 10010, seen: 10, left: 10000, eta: time.Second},
		"all is done":                            {rate: 10, total: 60, seen: 60, since: 6 * time.Second},
		"more than were planned":                 {rate: 10, total: 60, seen: 61, since: 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var told []Progress
				r := &run{record: &record{Batch: Batch{Rate: test.rate, Total: test.total, Seen: test.seen}}, began: time.Now(), seen: test.before}
				r.report(true) // Nobody listens.
				r.tell = func(p Progress) { told = append(told, p) }
				time.Sleep(test.since)
				r.report(false)
				r.report(true)
				want := Progress{Batch: r.Batch, Left: test.left, ETA: test.eta}
				waiting := want
				waiting.Waiting = true
				require.Equal(t, []Progress{want, waiting}, told)
			})
		})
	}
}
