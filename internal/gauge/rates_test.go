package gauge

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var began = time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)

// reading returns figures of one queue, so many seconds after the beginning.
func reading(seconds int, delivered, backlog uint64) Figures {
	return Figures{
		At: began.Add(time.Duration(seconds) * time.Second),
		Queues: []Queue{
			{Provider: "unionpay", Lane: "bulk", Kind: QueueQuery, Delivered: 1 << 40},
			{Provider: "easypay", Lane: "bulk", Kind: QueueRetry, Delivered: delivered, Backlog: backlog},
		},
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	ours := Queue{Provider: "easypay", Lane: "bulk", Kind: QueueRetry}
	for name, test := range map[string]struct {
		readings []Figures
		want     Rate
	}{
		"none":              {nil, Rate{}},
		"one":               {[]Figures{reading(0, 10, 5)}, Rate{}},
		"nothing new":       {[]Figures{reading(0, 10, 5), reading(15, 10, 5)}, Rate{}},
		"what comes stays":  {[]Figures{reading(0, 10, 5), reading(10, 10, 25)}, Rate{Arrivals: 2}},
		"what comes goes":   {[]Figures{reading(0, 10, 5), reading(10, 30, 5)}, Rate{Arrivals: 2, Handled: 2}},
		"the backlog goes":  {[]Figures{reading(0, 10, 30), reading(10, 40, 0)}, Rate{Handled: 3}},
		"made anew":         {[]Figures{reading(0, 1000, 30), reading(10, 4, 0)}, Rate{}},
		"over all readings": {[]Figures{reading(0, 0, 0), reading(15, 90, 0), reading(30, 90, 0)}, Rate{Arrivals: 3, Handled: 3}},
		"only the last minute": {
			[]Figures{reading(0, 0, 0), reading(15, 9000, 0), reading(30, 9000, 0), reading(45, 9000, 0), reading(60, 9000, 0), reading(75, 9060, 0)},
			Rate{Arrivals: 1, Handled: 1},
		},
		"one that failed":      {[]Figures{reading(0, 10, 5), {At: began.Add(time.Second)}, reading(10, 30, 5)}, Rate{Arrivals: 2, Handled: 2}},
		"no time":              {[]Figures{reading(0, 10, 5), reading(0, 30, 5)}, Rate{}},
		"queue that is new":    {[]Figures{{At: began, Queues: []Queue{}}, reading(10, 30, 5)}, Rate{}},
		"queue that is gone":   {[]Figures{reading(10, 30, 5), {At: began.Add(time.Hour), Queues: []Queue{}}}, Rate{}},
		"a clock that goes on": {[]Figures{reading(10, 30, 5), reading(0, 60, 5)}, Rate{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rates Rates
			for _, f := range test.readings {
				rates.Add(f)
			}
			require.Equal(t, test.want, rates.Of(ours))
			require.LessOrEqual(t, len(rates.figures), kept)
		})
	}
}

func TestHolding(t *testing.T) {
	t.Parallel()
	h := NewHolding()
	requireMean := func(provider, lane string, wantHold, wantWaited time.Duration) {
		t.Helper()
		hold, waited := h.Mean(provider, lane)
		require.InDelta(t, wantHold, hold, float64(time.Microsecond))
		require.InDelta(t, wantWaited, waited, float64(time.Microsecond))
	}
	requireMean("easypay", "bulk", unknownHold, 0)
	h.Observe("easypay", "bulk", 3*time.Second, 2*time.Second)
	requireMean("easypay", "bulk", time.Second, 2*time.Second)
	requireMean("easypay", "interactive", unknownHold, 0)
	requireMean("unionpay", "bulk", unknownHold, 0)
	h.Observe("easypay", "bulk", 3*time.Second, 0)
	requireMean("easypay", "bulk", 2*time.Second, time.Second)
	h.Fade()
	requireMean("easypay", "bulk", 2*time.Second, time.Second)
	for range 1000 {
		h.Observe("easypay", "bulk", time.Millisecond, time.Second) // A clock that was set while it waited.
	}
	hold, waited := h.Mean("easypay", "bulk")
	require.Less(t, hold, 10*time.Millisecond, "the newest count most")
	require.Greater(t, waited, 900*time.Millisecond)
	for range 100 {
		h.Fade()
	}
	requireMean("easypay", "bulk", unknownHold, 0)
}

func TestHoldingForgetsInTime(t *testing.T) {
	t.Parallel()
	h := NewHolding()
	h.Observe("easypay", "bulk", time.Minute, 0)
	for range 4 {
		h.Fade()
	}
	h.Observe("easypay", "bulk", 0, 0)
	hold, _ := h.Mean("easypay", "bulk")
	require.Less(t, hold, 20*time.Second, "after a minute less than a third is left")
	require.Greater(t, hold, 10*time.Second)
}
