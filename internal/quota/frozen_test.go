package quota

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// frozenStore is a store as a process sees it that is stopped in the middle of a call: the answer is there, and is noticed late.
type frozenStore struct {
	Store

	// in counts down to the read or write in the middle of which the process is stopped for so long.
	in   atomic.Int64
	long time.Duration
}

func (s *frozenStore) freeze() {
	if s.in.Add(-1) == 0 {
		time.Sleep(s.long)
	}
}

func (s *frozenStore) Get(ctx context.Context, key string) (Entry, error) {
	found, err := s.Store.Get(ctx, key)
	s.freeze()
	return found, err
}

func (s *frozenStore) Put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	written, err := s.Store.Put(ctx, key, value, revision)
	s.freeze()
	return written, err
}

// TestStoppedReplicaGoesOn stops one of two replicas in the middle of one of its first calls of the store, and of one much later. Once it goes
// on, it must not take that for the time that a call of the store needs: it would ask for slots so far ahead that it gets none.
func TestStoppedReplicaGoesOn(t *testing.T) {
	t.Parallel()
	for name, call := range map[string]int64{"first read": 1, "first write": 2, "second read": 3, "much later": 200} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const rate, burst, stopped = 400, 40, 6 * time.Second
				w := newWorld(Settings{Ceiling: rate, Burst: burst}, 5).settled()
				w.backlog(w.add(), 50)
				frozen := &frozenStore{Store: w.store, long: stopped}
				frozen.in.Store(call)
				r := w.add(func(o *Options) { o.Store = frozen })
				w.backlog(r, 50)
				time.Sleep(stopped + 10*time.Second)
				own := r.uses(easy)
				time.Sleep(time.Second)
				w.end()
				t.Logf("the stopped one makes %.0f of %d calls a second", own, rate)
				require.Negative(t, frozen.in.Load(), "it was never stopped")
				require.Zero(t, worstExcess(w.calls, rate, burst))
				require.GreaterOrEqual(t, own, rate/4.0)
			})
		})
	}
}

// uses returns how many calls a second of an account a replica makes.
func (r *replica) uses(account Account) float64 {
	a, tick := r.accounts[account], r.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.use.rate(tick)
}

// TestStoreThatCameBackIsNoticedByNobodyWaiting takes the store away until the only one who waits has given up. Nothing is pulled meanwhile, and
// nobody comes to wait: the replica has to find out by itself that the store is back.
func TestStoreThatCameBackIsNoticedByNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Settings{Ceiling: 10, Burst: 1}, 5).settled()
		r := w.add()
		time.Sleep(time.Second)
		require.False(t, r.Away())
		w.store.setAway(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.Error(t, r.Wait(ctx, &query.Query{Provider: query.EasyPay, Lane: query.Bulk}))
		require.Zero(t, r.Capacity(query.EasyPay, query.Bulk))
		require.Equal(t, forever, r.Delay(easy, Ask))
		time.Sleep(10 * time.Second)
		require.Zero(t, r.Capacity(query.EasyPay, query.Bulk))
		require.True(t, r.Away())
		w.store.setAway(false)
		time.Sleep(2 * time.Second)
		require.False(t, r.Away())
		require.Positive(t, r.Capacity(query.EasyPay, query.Bulk))
		require.Less(t, r.Delay(easy, Ask), time.Second)
		w.end()
	})
}
