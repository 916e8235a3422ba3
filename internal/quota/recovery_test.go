package quota

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// learned lets the account begin with a rate at which the upstream once refused.
func (w *world) learned(rate float64) *world {
	known := State{Rate: rate, Low: rate, Knee: rate}
	value, _ := known.bytes()
	w.store.put(easy.stateKey(), value, 0)
	return w
}

// rate returns the rate that is stored.
func (w *world) rate(t *testing.T) float64 {
	t.Helper()
	view, err := Show(t.Context(), w.store, easy)
	require.NoError(t, err)
	require.NotNil(t, view.State)
	return view.State.Rate
}

// ask lets each replica in turn ask once, each after a pause, n times in all, and returns how many had their turn. Nobody asks who would have
// to wait for longer than his patience.
func (w *world) ask(n int, pause, patience time.Duration) (served int) {
	for i := range n {
		time.Sleep(pause)
		r := w.replicas[i%len(w.replicas)]
		if r.Delay(easy, Ask) >= patience {
			continue
		}
		w.running.Go(func() {
			ctx, cancel := context.WithTimeout(r.ctx, patience)
			defer cancel()
			if r.Wait(ctx, &query.Query{Provider: query.EasyPay, Client: "shop", Lane: query.Interactive}) != nil {
				return
			}
			w.called()
			w.mu.Lock()
			defer w.mu.Unlock()
			served++
		})
	}
	time.Sleep(patience)
	w.mu.Lock()
	defer w.mu.Unlock()
	return served
}

// TestRateComesBackWithFewWaiting has a learned rate that is too low, and askers of little patience. Almost all of them are sent away, so that
// no worker ever has more than one of them waiting.
func TestRateComesBackWithFewWaiting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		replicas, burst int
		learned         float64
	}{{1, 10, 0.1}, {1, 1, 0.5}, {8, 1, 0.5}, {8, 10, 2}, {8, 1, 4}} {
		t.Run(fmt.Sprintf("replicas %d burst %d learned %v", c.replicas, c.burst, c.learned), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(Settings{Ceiling: 10, Burst: c.burst}, 3).learned(c.learned)
				for range c.replicas {
					w.add(func(o *Options) { o.ClassOf = func(*query.Query) Class { return Ask } })
				}
				first := w.ask(8*60*5, time.Second/5, 3*time.Second)
				then := w.ask(2*60*5, time.Second/5, 3*time.Second)
				w.end()
				t.Logf("served %d of 2400 in eight minutes, %d of 600 in two more; the rate is %.2f", first, then, w.rate(t))
				require.Greater(t, then, 570)
				require.Zero(t, worstExcess(w.calls, 10, c.burst))
			})
		})
	}
}

// TestWhoHasEnoughLearnsNothing has one asker at a time, at half of a learned rate: nobody ever has to wait.
func TestWhoHasEnoughLearnsNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		replicas, burst int
		learned         float64
	}{{1, 10, 0.5}, {1, 1, 0.5}, {8, 10, 2}, {8, 1, 4}} {
		t.Run(fmt.Sprintf("replicas %d burst %d learned %v", c.replicas, c.burst, c.learned), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(Settings{Ceiling: 10, Burst: c.burst}, 3).learned(c.learned)
				for range c.replicas {
					w.add()
				}
				pause := 2 * interval(c.learned)
				n := int(10 * time.Minute / pause)
				require.Equal(t, n, w.ask(n, pause, 3*time.Second))
				w.end()
				require.InDelta(t, c.learned, w.rate(t), 1e-9)
			})
		})
	}
}

// TestOutageIsOverSoon has an upstream that refuses every call for 90 s, which leaves the lowest rate there is: one call in ten seconds.
func TestOutageIsOverSoon(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int{1, 4} {
		t.Run(fmt.Sprint(replicas), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(Settings{Ceiling: 10, Burst: 10}, 3).settled()
				until := time.Now().Add(150 * time.Second)
				for range replicas {
					r := w.add()
					for range 32 {
						w.running.Go(func() {
							for ask(r.ctx, r) == nil {
								sent := r.Clock().Wall
								w.called()
								time.Sleep(40 * time.Millisecond)
								if up := time.Until(until); up > 0 && up < 90*time.Second {
									r.Throttled(easy, sent, 0)
								}
							}
						})
					}
				}
				time.Sleep(time.Until(until))
				lowest := w.rate(t)
				for w.rate(t) < 9 && time.Since(until) < time.Hour {
					time.Sleep(10 * time.Second)
				}
				back := time.Since(until)
				w.end()
				t.Logf("%.3f/s after 90 s of refusals, above 9/s after %s more", lowest, back)
				require.Less(t, lowest, 0.2)
				require.Less(t, back, 8*time.Minute)
				require.Zero(t, worstExcess(w.calls, 10, 10))
			})
		})
	}
}

// TestLowHiddenLimitIsUsed has an upstream that takes a few calls a second, or one in two seconds, behind a ceiling of 10/s. The rate is probed as
// often as with more calls, so that a larger part of them is refused.
func TestLowHiddenLimitIsUsed(t *testing.T) {
	t.Parallel()
	sizes := []int{1, 4}
	if raceDetector {
		sizes = sizes[:1]
	}
	for _, limit := range []float64{0.5, 2, 4} {
		for _, replicas := range sizes {
			t.Run(fmt.Sprintf("limit %v replicas %d", limit, replicas), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(Settings{Ceiling: 10, Burst: 2}, 3)
					u := &upstream{rate: limit, room: 2, level: 2, last: time.Now()}
					for range replicas {
						r := w.add()
						for range 8 {
							w.running.Go(func() { u.ask(w, r, 0) })
						}
					}
					time.Sleep(20 * time.Minute)
					w.end()
					w.calls = u.taken
					used := w.used(5*time.Minute, 20*time.Minute, limit)
					refused := float64(u.refused) / float64(len(u.taken)+u.refused)
					t.Logf("| %v/s | %d | used %.3f | refused %.1f %% |", limit, replicas, used, 100*refused)
					require.Greater(t, used, 0.93)
					require.Less(t, refused, 0.12)
				})
			})
		}
	}
}
