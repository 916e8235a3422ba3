package top

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/query"
)

// noon is some second.
func noon() time.Time { return time.Unix(1_800_000_000, 0) }

func TestRatesCountTheLastTenSeconds(t *testing.T) {
	t.Parallel()
	w := &window{}
	for second := range 20 { // From 20 seconds ago to one second ago, 5 completed and 1 failed each.
		at := noon().Add(time.Duration(second-20) * time.Second)
		for range 5 {
			w.add(at, query.Completed, time.Millisecond)
		}
		w.add(at, query.Failed, time.Millisecond)
	}
	w.add(noon().Add(300*time.Millisecond), query.Completed, time.Millisecond)
	rates := w.sum(noon().Add(500 * time.Millisecond)).rates()
	require.InDelta(t, 5, rates.Completed, 1e-9, "the present second is not over")
	require.InDelta(t, 1, rates.Failed, 1e-9)
	require.EqualValues(t, 121, rates.Count)
}

func TestResultsAreForgottenAfterAMinute(t *testing.T) {
	t.Parallel()
	w := &window{}
	w.add(noon(), query.Completed, time.Second)
	require.EqualValues(t, 1, w.sum(noon().Add(59*time.Second)).rates().Count)
	require.Zero(t, w.sum(noon().Add(60*time.Second)).rates().Count)
	require.Zero(t, w.sum(noon().Add(-time.Second)).rates().Count, "a clock that was set back")
	w.add(noon().Add(span*time.Second), query.Failed, time.Second)
	w.add(noon(), query.Completed, time.Second)
	require.EqualValues(t, 1, w.sum(noon().Add(span*time.Second)).rates().Count, "what comes a minute late does not take the place of what is new")
	w.add(time.Time{}, query.Completed, time.Second)
	require.EqualValues(t, 1, w.sum(noon().Add(span*time.Second)).rates().Count)
}

func TestNoResultsHaveNoLatency(t *testing.T) {
	t.Parallel()
	rates := (&window{}).sum(noon()).rates()
	require.Nil(t, rates.P50)
	require.Nil(t, rates.P99)
}

func TestQuantiles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &window{}
		millis := rapid.SliceOfN(rapid.Int64Range(1, 900_000_000), 1, 300).Draw(t, "ms")
		for _, ms := range millis {
			w.add(noon(), query.Completed, time.Duration(ms)*time.Millisecond)
		}
		slices.Sort(millis)
		rates := w.sum(noon()).rates()
		for share, got := range map[float64]*float64{0.5: rates.P50, 0.99: rates.P99} {
			want := float64(millis[int(math.Ceil(share*float64(len(millis))))-1])
			require.InEpsilon(t, want, *got, 0.05, "the %v quantile", share)
		}
	})
}

func TestEveryDurationHasItsBin(t *testing.T) {
	t.Parallel()
	for d, bin := range map[time.Duration]int{-time.Second: 0, 0: 0, 999 * time.Microsecond: 0, time.Millisecond: 1, math.MaxInt64: bins - 1} {
		require.Equal(t, bin, binOf(d), d)
	}
	last := 0
	for ms := int64(1); ms < 1<<40; ms += 1 + ms/50 {
		bin := binOf(time.Duration(ms) * time.Millisecond)
		require.GreaterOrEqual(t, bin, last)
		last = bin
	}
}
