package quota

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// percentile returns the value that a part of all values stays within.
func percentile(values []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

// shop lets interactive queries come to all replicas at random and returns how long they waited.
func (w *world) shop(perSecond float64, d time.Duration) []time.Duration {
	var mu sync.Mutex
	var waits []time.Duration
	var all sync.WaitGroup
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(time.Duration(w.random.ExpFloat64() / perSecond * float64(time.Second)))
		r := w.replicas[w.random.IntN(len(w.replicas))]
		all.Go(func() {
			began := time.Now()
			if r.Wait(r.ctx, &query.Query{Lane: query.Interactive, Client: "till"}) == nil {
				w.called()
				mu.Lock()
				defer mu.Unlock()
				waits = append(waits, time.Since(began))
			}
		})
	}
	all.Wait()
	return waits
}

// lanesCase is a fleet whose interactive queries are measured without and with a backlog of bulk queries.
type lanesCase struct {
	rate     float64
	burst    int
	replicas int
	// perSecond is how many interactive queries come.
	perSecond float64
	// slowest is the longest round trip to the store.
	slowest time.Duration
	// most is how many times longer the 99th percentile of the wait may be with the backlog.
	most float64
}

// lanes returns the 99th percentiles of the waits without and with a backlog, and the part of the rate that was used with it.
func (c lanesCase) lanes(t *testing.T, part float64) (waits [2]time.Duration, used float64) {
	t.Helper()
	const warm = 3 * time.Second
	lasts := 20 * time.Second
	if c.rate < 50 {
		lasts = 200 * time.Second
	}
	for i := range waits {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(Settings{Ceiling: c.rate, Burst: c.burst}, 5).settled()
			w.store.slowest = c.slowest
			for range c.replicas {
				r := w.add()
				if i == 1 {
					w.backlog(r, int(c.rate)/c.replicas+8)
				}
			}
			time.Sleep(warm)
			waits[i] = percentile(w.shop(c.perSecond, lasts), part)
			w.end()
			require.Zero(t, worstExcess(w.calls, c.rate, c.burst))
			used = w.used(warm, warm+lasts, c.rate)
		})
	}
	return waits, used
}

// TestInteractiveDoesNotFeelBulk compares how long interactive queries wait with and without a bulk backlog. The aim is 1.2 times; what is
// far beyond it here is what docs/pace.md says about it: fleets that get into each other's way, and bursts that are no longer than two calls.
func TestInteractiveDoesNotFeelBulk(t *testing.T) {
	t.Parallel()
	const near, far = 2 * time.Millisecond, 20 * time.Millisecond
	for _, c := range []lanesCase{
		{200, 20, 1, 30, far, 1.2},
		{200, 20, 4, 30, far, 1.5},
		{400, 40, 4, 60, far, 1.5},
		{400, 40, 4, 60, near, 1.2},
		{400, 40, 4, 250, far, 1.5},
		{400, 40, 8, 60, far, 1.5},
		{10, 10, 4, 1, far, 1.2},
		{10, 10, 16, 1, far, 1.2},
		{1000, 50, 16, 100, far, 1.7},
		{1000, 50, 64, 100, far, 2.5},
		{5, 5, 4, 1, far, 4},
	} {
		name := fmt.Sprintf("%v per second burst %d replicas %d trips up to %v, %v", c.rate, c.burst, c.replicas, c.slowest, c.perSecond)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p99, used := c.lanes(t, 0.99)
			times := float64(p99[1]) / float64(p99[0])
			t.Logf("| %v, %d | %d | %v | %v | %.1f ms | %.1f ms | %.2f | %.1f %% |", c.rate, c.burst, c.replicas, c.slowest, c.perSecond,
				p99[0].Seconds()*1000, p99[1].Seconds()*1000, times, 100*used)
			require.LessOrEqual(t, times, c.most)
			require.GreaterOrEqual(t, used, 0.97)
		})
	}
}

// TestReplicasShareFairly lets replicas of one backlog lease from each other for a while: all get the same, whoever came first.
func TestReplicasShareFairly(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{2, 4, 16} {
		for _, slowest := range []time.Duration{2 * time.Millisecond, 20 * time.Millisecond} {
			t.Run(fmt.Sprintf("%d replicas trips up to %v", replicas, slowest), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					const rate = 400
					w := newWorld(Settings{Ceiling: rate, Burst: 40}, 5).settled()
					w.store.slowest = slowest
					for range replicas {
						w.backlog(w.add(), 100)
						time.Sleep(300 * time.Millisecond)
					}
					time.Sleep(10 * time.Second)
					got := make([]float64, replicas)
					for range 100 {
						time.Sleep(200 * time.Millisecond)
						for i, r := range w.replicas {
							got[i] += r.uses(easy) / 100
						}
					}
					w.end()
					t.Logf("calls per second of each: %.0f", got)
					fair := float64(rate) / float64(replicas)
					require.InDelta(t, 1, slices.Min(got)/fair, 0.25)
					require.InDelta(t, 1, slices.Max(got)/fair, 0.25)
				})
			})
		}
	}
}

// TestBulkKeepsItsShare gives every replica more queries of both lanes than the rate lets through: bulk has its share of the calls, no more and
// no less.
func TestBulkKeepsItsShare(t *testing.T) {
	t.Parallel()
	for set, want := range map[float64]float64{0: 0.1, 0.1: 0.1, 0.3: 0.3, 0.5: 0.5} {
		for _, replicas := range []int{1, 4} {
			t.Run(fmt.Sprintf("%v over %d replicas", set, replicas), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(Settings{Ceiling: 200, Burst: 20}, 5).settled()
					var interactive atomic.Int64
					for range replicas {
						r := w.add(func(o *Options) { o.BulkShare = set })
						w.backlog(r, 50)
						for range 50 {
							w.running.Go(func() {
								for r.Wait(r.ctx, &query.Query{Lane: query.Interactive, Client: "till"}) == nil {
									w.called()
									interactive.Add(1)
								}
							})
						}
					}
					time.Sleep(20 * time.Second)
					w.end()
					got := 1 - float64(interactive.Load())/float64(len(w.calls))
					t.Logf("%.3f of %d calls were bulk", got, len(w.calls))
					require.InDelta(t, want, got, 0.02)
				})
			})
		}
	}
}
