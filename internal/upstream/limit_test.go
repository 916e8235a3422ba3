package upstream

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// window lets a limit learn from one window: so many calls under way, each taking took, dropped of those that are known dropped.
func window(l *limit, now time.Time, underWay int, took time.Duration, dropped int) {
	rounds := make([]uint64, 0, windowSize)
	for range windowSize {
		rounds = append(rounds, l.send(underWay))
	}
	for i, round := range rounds[:known] {
		how := inTime
		if i < dropped {
			how = overload
		}
		l.learn(now, round, took, how)
	}
}

// settled returns a limit of 100 that knows that calls take 100 ms without company, a while before its next drill.
func settled(t *testing.T) (*limit, time.Time) {
	t.Helper()
	now := time.Unix(1000, 0)
	l := &limit{floor: 4, ceiling: 200, value: 100, round: 2}
	window(l, now, 4, 100*time.Millisecond, 0)
	require.Equal(t, 100*time.Millisecond, l.alone)
	require.InDelta(t, 100, l.value, 0, "it was hardly used")
	return l, now
}

func TestOneWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		underWay int
		took     time.Duration
		dropped  int
		want     float64
	}{
		"used":                           {100, 100 * time.Millisecond, 0, 105},
		"half used":                      {50, 100 * time.Millisecond, 0, 105},
		"hardly used":                    {49, 100 * time.Millisecond, 0, 100},
		"just tolerated":                 {100, 125 * time.Millisecond, 0, 105},
		"a fifth too slow":               {100, 156250 * time.Microsecond, 0, 85},
		"much too slow":                  {100, time.Hour, 0, 55},
		"a fifth too slow, not used":     {10, 156250 * time.Microsecond, 0, 80},
		"one dropped":                    {100, 100 * time.Millisecond, 1, 100 * (1 - 0.5/24)},
		"half dropped":                   {100, 100 * time.Millisecond, 12, 75},
		"all dropped":                    {100, 0, 24, 50},
		"half dropped, the others slow":  {100, time.Hour, 12, 37.5},
		"so fast that it is another one": {100, 49 * time.Millisecond, 0, 105},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, now := settled(t)
			window(l, now, test.underWay, test.took, test.dropped)
			require.InDelta(t, test.want, l.value, 1e-9)
		})
	}
}

func TestADrillLetsHalfThrough(t *testing.T) {
	t.Parallel()
	l, now := settled(t)
	window(l, now.Add(drillEvery-1), 80, 110*time.Millisecond, 0)
	require.Equal(t, 105, l.allowed(), "not yet")
	window(l, now.Add(drillEvery), 80, 110*time.Millisecond, 0)
	require.Equal(t, 40, l.allowed(), "half of what there was")
	value := l.value
	window(l, now.Add(drillEvery), 40, 120*time.Millisecond, 0)
	require.Equal(t, 120*time.Millisecond, l.alone, "what they take is the new measure")
	require.InDelta(t, value, l.value, 0)
	require.Equal(t, int(value), l.allowed())
	require.Equal(t, now.Add(2*drillEvery), l.drillAt)
}

func TestADrillThatShortenedTheQueueIsRepeated(t *testing.T) {
	t.Parallel()
	l, now := settled(t)
	now = now.Add(drillEvery)
	l.alone = time.Second
	window(l, now, 100, time.Second, 0)
	require.Equal(t, 50, l.allowed())
	window(l, now, 50, 500*time.Millisecond, 0)
	require.Equal(t, 500*time.Millisecond, l.alone)
	window(l, now, 100, time.Second, 0)
	require.Positive(t, l.drill, "it may still be a queue")
}

func TestASlowUpstreamHasFewerDrills(t *testing.T) {
	t.Parallel()
	l, now := settled(t)
	window(l, now, 4, 2*time.Second, 0)
	require.Equal(t, now.Add(200*time.Second), l.drillAt)
}

func TestOnlyTheFirstCallsOfTheWindowCount(t *testing.T) {
	t.Parallel()
	l, now := settled(t)
	earlier := l.round
	for range windowSize {
		require.Equal(t, earlier, l.send(100))
	}
	require.Zero(t, l.send(100), "enough of them are looked at")
	l.learn(now, earlier, 0, silent)
	require.Equal(t, earlier, l.send(100), "one more in the place of one that says nothing")
	for range known {
		l.learn(now, earlier, 100*time.Millisecond, inTime)
	}
	require.Equal(t, earlier+1, l.round)
	before := *l
	for range 10 * windowSize {
		l.learn(now, earlier, time.Hour, inTime)
		l.learn(now, earlier, 0, silent)
		l.learn(now, earlier-1, 0, overload)
		l.learn(now, 0, 0, overload)
	}
	require.Equal(t, before, *l, "those of other windows say nothing")
	l.learn(now, earlier, 0, overload)
	require.Equal(t, 1, l.dropped, "but for one that was dropped late")
}

func TestAFewSlowCallsSayNothing(t *testing.T) {
	t.Parallel()
	l, now := settled(t)
	for range windowSize {
		l.send(100)
	}
	for i := range known {
		took := 100 * time.Millisecond
		if i < known/3 {
			took = time.Nanosecond
		}
		l.learn(now, l.round, took, inTime)
	}
	require.InDelta(t, 105, l.value, 1e-9, "nor do a few fast ones")
	require.Equal(t, 100*time.Millisecond, l.crowd)
}

func TestALimitKeepsItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		floor := rapid.IntRange(1, 50).Draw(t, "floor")
		ceiling := rapid.IntRange(floor, 500).Draw(t, "ceiling")
		c := NewConcurrency(ConcurrencyPolicy{Floor: floor, Ceiling: ceiling}, nil)
		l, now := &c.limit, time.Unix(0, 0)
		for range rapid.IntRange(1, 50).Draw(t, "windows") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "later")))
			underWay := rapid.IntRange(1, l.allowed()).Draw(t, "under way")
			took := time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "took"))
			window(l, now, underWay, took, rapid.IntRange(0, known).Draw(t, "dropped"))
			require.GreaterOrEqual(t, l.allowed(), floor)
			require.LessOrEqual(t, l.allowed(), ceiling)
			require.LessOrEqual(t, l.allowed(), int(l.value), "a drill is never more")
			require.GreaterOrEqual(t, l.value, float64(floor))
			require.LessOrEqual(t, l.value, float64(ceiling))
		}
	})
}

func TestWhereALimitBegins(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ floor, ceiling, want int }{
		"by default":       {4, 256, 32},
		"a low ceiling":    {4, 8, 8},
		"a high floor":     {50, 256, 50},
		"no floor":         {0, 8, 8},
		"nothing":          {0, 0, 1},
		"ceiling too low":  {9, 3, 9},
		"less than a call": {-3, -2, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told [][2]int
			c := NewConcurrency(ConcurrencyPolicy{Floor: test.floor, Ceiling: test.ceiling}, func(from, to int) { told = append(told, [2]int{from, to}) })
			require.Equal(t, test.want, c.Limit())
			require.Equal(t, [][2]int{{0, test.want}}, told)
		})
	}
}

// queueing returns a query of each turn.
func queueing() map[turn]*query.Query {
	return map[turn]*query.Query{
		askers: {Direct: true, Lane: query.Bulk}, waited: {Lane: query.Interactive}, patient: {Lane: query.Bulk},
	}
}

func TestWhoseTurnItIs(t *testing.T) {
	t.Parallel()
	for want, q := range queueing() {
		require.Equal(t, want, turnOf(q))
	}
	require.Equal(t, patient, turnOf(&query.Query{Lane: query.Interactive, Replay: &query.Replay{}}), "what is replayed goes before nobody")
	l := line{share: patientShare}
	for range 20 {
		l.push(patient)
		l.push(waited)
	}
	l.push(askers)
	var order []turn
	for {
		w, ok := l.pop()
		if !ok {
			break
		}
		order = append(order, w.turn)
	}
	require.Equal(t, askers, order[0])
	var bulk []int
	for i, whose := range order[:22] {
		if whose == patient {
			bulk = append(bulk, i)
		}
	}
	require.Equal(t, []int{9, 19}, bulk, "every tenth place")
	require.Len(t, order, 41)
}

// errand is one call of a model: what it does with its place.
type errand struct {
	after, patience, pace, wire time.Duration
	end                         int
	q                           *query.Query
}

func drawErrand(t *rapid.T) errand {
	span := func(name string) time.Duration {
		return time.Duration(rapid.IntRange(0, 50).Draw(t, name)) * time.Millisecond
	}
	return errand{
		after: span("after"), patience: span("patience"), pace: span("pace"), wire: span("wire"), end: rapid.IntRange(0, 5).Draw(t, "end"),
		q: queueing()[turn(rapid.IntRange(0, turns-1).Draw(t, "turn"))],
	}
}

// run goes through one call, and tells whether it had a place.
func (e errand) run(ctx context.Context, c *Concurrency) bool {
	time.Sleep(e.after)
	ctx, cancel := context.WithTimeout(ctx, e.patience)
	defer cancel()
	var p place
	defer p.leave()
	if err := c.enter(ctx, e.q, &p); err != nil {
		return false
	}
	time.Sleep(e.pace)
	if e.end == 0 {
		return true // It was not sent after all.
	}
	p.call()
	time.Sleep(e.wire)
	switch e.end {
	case 1: // A panic.
	case 2:
		p.answered(fault.New("call", fault.Throttled, fault.RateLimited))
	case 3:
		p.answered(fault.New("call", fault.Interrupted, fault.Stopped))
	default:
		p.answered(nil)
	}
	p.leave()
	return true
}

// TestPlacesAreNeitherLostNorMade runs arbitrary calls through the places: answered, dropped, given up, never sent or ended by a panic, while
// the limit rises and falls.
func TestPlacesAreNeitherLostNorMade(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		errands := rapid.SliceOfN(rapid.Custom(drawErrand), 1, 150).Draw(r, "errands")
		most := rapid.IntRange(1, 12).Draw(r, "most")
		synctest.Test(t, func(t *testing.T) {
			c := NewConcurrency(ConcurrencyPolicy{Floor: 1, Ceiling: most}, nil)
			held := func() (taken, waiting, allowed int) {
				c.mu.Lock()
				defer c.mu.Unlock()
				return c.taken, c.line.length, c.most(c.line.patientOnly())
			}
			var running sync.WaitGroup
			for _, e := range errands {
				running.Go(func() { e.run(t.Context(), c) })
			}
			for range 200 {
				time.Sleep(time.Millisecond)
				synctest.Wait()
				taken, waiting, allowed := held()
				require.LessOrEqual(t, taken, most)
				require.True(t, waiting == 0 || taken >= allowed, "%d wait while %d of %d places are taken", waiting, taken, allowed)
			}
			running.Wait()
			taken, waiting, _ := held()
			require.Zero(t, taken)
			require.Zero(t, waiting)
			require.Zero(t, c.underWay)
			require.LessOrEqual(t, c.limit.sent, windowSize)
			for range c.limit.allowed() {
				require.True(t, errand{patience: time.Second, q: asked(query.Bulk)}.run(t.Context(), c), "all places are there")
			}
		})
	})
}

// Whoever takes longest is not kept for ever: bulk queries get their share behind any number of others.
func TestNobodyStarves(t *testing.T) {
	t.Parallel()
	for share, want := range map[float64]float64{0: 1000, 0.01: 100, 0.3: 3000, 0.5: 5000} {
		t.Run(fmt.Sprint(share), func(t *testing.T) {
			t.Parallel()
			requireShare(t, share, want)
		})
	}
}

// requireShare has more bulk queries and others than there are places for ten thousand times, and counts the bulk ones.
func requireShare(t *testing.T, share, want float64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := NewConcurrency(ConcurrencyPolicy{Floor: 1, Ceiling: 1, BulkShare: share}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		served := map[turn]int{}
		var running sync.WaitGroup
		for whose, q := range queueing() {
			for range 20 {
				running.Go(func() {
					for ctx.Err() == nil {
						if (errand{patience: time.Hour, wire: time.Millisecond, end: 5, q: q}).run(ctx, c) {
							mu.Lock()
							served[whose]++
							mu.Unlock()
						}
					}
				})
			}
		}
		time.Sleep(10 * time.Second)
		cancel()
		running.Wait()
		require.InDelta(t, 10_000-want, served[askers], 50, "who waits for the reply goes first")
		require.InDelta(t, want, served[patient], 50, "but for the share of the patient")
	})
}

// BenchmarkPlace is what the limit adds to a call.
func BenchmarkPlace(b *testing.B) {
	c, q := NewConcurrency(bounds(), nil), asked(query.Interactive)
	b.ReportAllocs()
	for b.Loop() {
		var p place
		if err := c.enter(b.Context(), q, &p); err != nil {
			b.Fatal(err)
		}
		p.call()
		p.answered(nil)
		p.leave()
	}
}
