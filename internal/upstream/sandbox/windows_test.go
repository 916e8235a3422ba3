package sandbox

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

const ms = time.Millisecond

func TestMaxInWindow(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		arrivals []time.Duration
		window   time.Duration
		want     int
	}{
		"none":                     {nil, time.Second, 0},
		"one":                      {[]time.Duration{5}, time.Second, 1},
		"no window":                {[]time.Duration{5, 5}, 0, 0},
		"all at once":              {[]time.Duration{5, 5, 5}, 1, 3},
		"a window apart":           {[]time.Duration{0, 1000 * ms, 2000 * ms}, 1000 * ms, 1},
		"a little less":            {[]time.Duration{0, 999 * ms, 1999 * ms}, 1000 * ms, 2},
		"the fullest is not first": {[]time.Duration{0, 500 * ms, 3000 * ms, 3100 * ms, 3200 * ms}, 1000 * ms, 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, MaxInWindow(test.arrivals, test.window))
		})
	}
}

func TestViolations(t *testing.T) {
	t.Parallel()
	steady := func(n int, every time.Duration) []time.Duration {
		out := make([]time.Duration, n)
		for i := range out {
			out[i] = time.Duration(i) * every
		}
		return out
	}
	for name, test := range map[string]struct {
		arrivals []time.Duration
		rate     float64
		burst    int
		want     int
	}{
		"none":                      {nil, 10, 1, 0},
		"the burst":                 {[]time.Duration{0, 0, 0}, 10, 3, 0},
		"one more":                  {[]time.Duration{0, 0, 0, 0}, 10, 3, 1},
		"steady at the rate":        {steady(1000, 100*ms), 10, 1, 0},
		"a third of a second":       {steady(90_000, time.Second/3), 3, 1, 0},
		"steady, a little faster":   {steady(1000, 99*ms), 10, 1, 999},
		"faster, a burst allowed":   {steady(1000, 99*ms), 10, 11, 0},
		"faster, a smaller burst":   {steady(1000, 99*ms), 10, 6, 499},
		"early by a hair":           {[]time.Duration{0, 100*ms - 9*time.Microsecond}, 10, 1, 0},
		"early by more than a hair": {[]time.Duration{0, 100*ms - 11*time.Microsecond}, 10, 1, 1},
		"rest pays off":             {[]time.Duration{0, 0, 200 * ms, 200 * ms}, 10, 2, 0},
		"rest pays off in part":     {[]time.Duration{0, 0, 100 * ms, 100 * ms}, 10, 2, 1},
		"long rest saves no more":   {[]time.Duration{0, time.Hour, time.Hour, time.Hour}, 10, 2, 1},
		"no rate":                   {steady(5, time.Hour), 0, 2, 3},
		"no rate, no burst":         {steady(5, time.Hour), 0, -1, 5},
		"no burst":                  {[]time.Duration{0}, 10, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, Violations(test.arrivals, test.rate, test.burst))
		})
	}
}

// drawArrivals draws arrivals on a grid of milliseconds with bursts and gaps.
func drawArrivals(t *rapid.T) []time.Duration {
	gaps := rapid.SliceOfN(rapid.OneOf(rapid.Just(0), rapid.IntRange(0, 30), rapid.IntRange(0, 2000)), 0, 60).Draw(t, "gaps")
	at, out := time.Duration(0), make([]time.Duration, len(gaps))
	for i, gap := range gaps {
		at += time.Duration(gap) * ms
		out[i] = at
	}
	return out
}

// The one pass agrees with the definition: an arrival is a violation when some window that ends with it holds too many calls.
// Rates divide a second into whole milliseconds here, so that the definition can be computed exactly.
func TestViolationsAgreesWithItsDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		arrivals := drawArrivals(t)
		perCall := rapid.SampledFrom([]time.Duration{1, 10, 50, 100, 250, 1000, 5000}).Draw(t, "ms per call") * ms
		burst := rapid.IntRange(1, 8).Draw(t, "burst")
		want := 0
		for last := range arrivals {
			for first := range last + 1 {
				calls := time.Duration(last - first + 1)
				if calls*perCall > (arrivals[last]-arrivals[first])+time.Duration(burst)*perCall {
					want++
					break
				}
			}
		}
		require.Equal(t, want, Violations(arrivals, float64(time.Second)/float64(perCall), burst))
	})
}

func TestMaxInWindowAgreesWithItsDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		arrivals := drawArrivals(t)
		window := time.Duration(rapid.IntRange(1, 3000).Draw(t, "window")) * ms
		want := 0
		for first := range arrivals {
			n := 0
			for _, at := range arrivals[first:] {
				if at-arrivals[first] < window {
					n++
				}
			}
			want = max(want, n)
		}
		require.Equal(t, want, MaxInWindow(arrivals, window))
	})
}

// Whatever the limiter lets through breaks no rule, and a call that waits as long as it was told is let through.
func TestLimiterKeepsItsRule(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rate := float64(rapid.IntRange(1, 2000).Draw(t, "rate"))
		burst := rapid.IntRange(1, 10).Draw(t, "burst")
		l := newLimiter(rate, burst)
		var passed []time.Duration
		for _, now := range drawArrivals(t) {
			if len(passed) > 0 {
				now = max(now, passed[len(passed)-1])
			}
			wait := l.takeAt(now)
			if wait > 0 && rapid.Bool().Draw(t, "waits") {
				now += wait
				wait = l.takeAt(now)
				require.Zero(t, wait)
			}
			if wait == 0 {
				passed = append(passed, now)
			}
		}
		require.True(t, slices.IsSorted(passed))
		require.Zero(t, Violations(passed, rate, burst))
	})
}

func TestLimiterUsesItsWholeRate(t *testing.T) {
	t.Parallel()
	l := newLimiter(100, 5)
	passed := 0
	for now := time.Duration(0); now < 10*time.Second; now += ms {
		if l.takeAt(now) == 0 {
			passed++
		}
	}
	require.Equal(t, 5+999, passed)
}
