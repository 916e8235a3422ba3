//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestF17ClockJump makes the clocks of a worker and of UnionPay differ, back and forth, by less and by more than UnionPay accepts. Beyond
// that it refuses us as it refuses wrong credentials: no query may die of it, EasyPay goes on, and when the clocks agree again each query
// is answered by a call that was signed anew.
func TestF17ClockJump(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{unionPay: true, settings: patient("breaker: {open_for: 1s}")})
	l := newLoad(s)
	s.startWorker(t)
	refused := func() uint64 {
		return s.upstream.Stats().Providers[sandbox.UnionPay].Reasons["UPI-TIMESTAMP outside the window"]
	}
	for _, ahead := range []time.Duration{280 * time.Second, -280 * time.Second} {
		s.upstream.ahead.Store(int64(ahead))
		s.awaitResult(t, l.of(t.Context(), query.UnionPay))
	}
	require.Zero(t, refused(), "UnionPay accepts 300 seconds")
	for range times(1, 3) {
		for _, ahead := range []time.Duration{320 * time.Second, -320 * time.Second, 10 * time.Minute, -10 * time.Minute} {
			before := refused()
			s.upstream.ahead.Store(int64(ahead))
			for range 5 {
				l.of(t.Context(), query.UnionPay)
			}
			require.Eventually(t, func() bool { return refused() > before }, soon, 10*time.Millisecond)
			s.awaitResult(t, l.of(t.Context(), query.EasyPay))
			s.upstream.ahead.Store(0)
			require.Empty(t, s.quiesce(t, soon))
		}
	}
	found := s.finish(t, l, soon, 10)
	require.Equal(t, found.Queries, found.Completed)
	require.Zero(t, found.Dead)
	s.requireNoneAgain(t, found)
	t.Logf("F17: %d jumps, %d calls refused because of the clock, %d queries, all completed", 2+4*times(1, 3), refused(), found.Queries)
}
