package quota

import (
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// way is what lies between the start of a call and the upstream. It is as long as it was measured once with eight real workers on a machine
// that was busy: 0.3 ms in the middle, 34 ms for one call in a hundred, 184 ms at worst.
type way struct {
	mu     sync.Mutex
	random *rand.Rand
	// standstill is how long a whole process stands still once a second, so that its calls arrive together.
	standstill time.Duration
	arrived    []time.Duration
}

const (
	usualWay, longWay, longestWay = 300 * time.Microsecond, 34 * time.Millisecond, 184 * time.Millisecond
)

// delay draws how long a call is on its way.
func (y *way) delay() time.Duration {
	between := func(from, to time.Duration, part float64) time.Duration {
		return time.Duration(float64(from) * math.Pow(float64(to)/float64(from), part))
	}
	switch x := y.random.Float64(); {
	case x < 0.5:
		return time.Duration(2 * x * float64(usualWay))
	case x < 0.99:
		return between(usualWay, longWay, (x-0.5)/0.49)
	default:
		return between(longWay, longestWay, (x-0.99)/0.01)
	}
}

// send notes when a call arrives that starts at a time; the process of the given number stands still in a part of the second of its own.
func (y *way) send(at time.Duration, process, processes int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	arrives := at + y.delay()
	began := at.Truncate(time.Second) + time.Duration(process)*time.Second/time.Duration(processes)
	if ends := began + y.standstill; at >= began && at < ends {
		arrives = max(arrives, ends)
	}
	y.arrived = append(y.arrived, arrives)
}

// TestArrivalsKeepToTheBurst lets calls arrive late. Half of the burst is kept for that: where calls are late by less than the half of its time,
// or single ones by more, the upstream sees no more than rate x window + burst in any window.
func TestArrivalsKeepToTheBurst(t *testing.T) {
	t.Parallel()
	const rate, burst, replicas = 500, 50, 8
	for name, c := range map[string]struct {
		callers          int
		standstill, idle time.Duration
		lane             query.Lane
		// over is how many calls more than the burst may arrive, because a whole process was late by more than there is room for.
		over int
	}{
		"single calls are late":                 {callers: 100, lane: query.Bulk},
		"processes stand still":                 {callers: 100, lane: query.Bulk, standstill: 40 * time.Millisecond},
		"processes stand still for a long time": {callers: 100, lane: query.Bulk, standstill: longestWay, over: burst / 2},
		"calls come in waves":                   {callers: 12, lane: query.Interactive, idle: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(Settings{Ceiling: rate, Burst: burst}, 3).settled()
				y := &way{random: rand.New(rand.NewPCG(3, 3)), standstill: c.standstill}
				for i := range replicas {
					r := w.add()
					for range c.callers {
						w.running.Go(func() {
							for r.Wait(r.ctx, &query.Query{Lane: c.lane, Client: "shop"}) == nil {
								w.called()
								y.send(time.Since(w.start), i, replicas)
								if passed := time.Since(w.start) % time.Second; passed < c.idle {
									time.Sleep(c.idle - passed)
								}
							}
						})
					}
				}
				time.Sleep(30 * time.Second)
				w.end()
				used := w.used(2*time.Second, 30*time.Second, rate)
				started, arrived := worstExcess(w.calls, rate, 0), worstExcess(y.arrived, rate, 0)
				t.Logf("| %s | %d calls | used %.1f %% | fullest window of starts %.1f | of arrivals %.1f |", name, len(y.arrived), 100*used, started, arrived)
				require.Zero(t, worstExcess(w.calls, rate, burst/2+1), "starts leave half of the burst")
				require.Zero(t, worstExcess(y.arrived, rate, burst+c.over))
				if c.idle == 0 {
					require.GreaterOrEqual(t, used, 0.98)
				}
			})
		})
	}
}
