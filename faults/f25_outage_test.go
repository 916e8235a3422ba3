//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestF25Outage lets every call fail under a backlog. The worker must find out within few calls, ask now and then whether the upstream is
// back, and leave the backlog alone.
func TestF25Outage(t *testing.T) {
	t.Parallel()
	const slots, untilOpen, openFor = 8, 20, 10 * time.Second
	s := newSite(t, siteOptions{settings: patient("breaker: {min_calls: 20, failure_ratio: 0.5, open_for: 10s}")})
	s.upstream.misbehave(t, "easypay:status=503")
	l := newLoad(s)
	l.publish(t.Context(), 200)
	w := s.startWorker(t)
	began := time.Now()
	calls := func() int { return int(s.upstream.arrivals(sandbox.EasyPay)) }
	require.Eventually(t, func() bool { return calls() >= untilOpen }, soon, time.Millisecond)
	pause(t.Context(), 3*time.Second)
	opened, first := calls(), s.upstream.asked()
	// Those that were under way when the breaker opened are counted too.
	require.LessOrEqual(t, opened, untilOpen+slots, "calls until the worker stopped asking")
	pause(t.Context(), time.Duration(times(12, 45))*time.Second)
	probes, most := calls()-opened, int(time.Since(began)/openFor)+1
	require.LessOrEqual(t, probes, most, "single probes")
	require.False(t, w.ended())
	s.upstream.misbehave(t, "")
	found := s.finish(t, l, soon, 1+opened)
	require.Equal(t, found.Queries, found.Completed)
	once := found.Calls[1]
	require.GreaterOrEqual(t, once, found.Queries-opened-probes, "the backlog was left alone")
	t.Logf("F25: %d calls until the breaker was open, %d of them repeated; %d probes in %s; %d of %d queries cost one call",
		opened, opened-first, probes, time.Since(began).Round(time.Second), once, found.Queries)
}

// TestF25Retries lets some of the calls fail, too few for the upstream to count as down. What is repeated at once must stay a small part.
func TestF25Retries(t *testing.T) {
	t.Parallel()
	const reserve, share = 10, 0.1
	s := newSite(t, siteOptions{settings: patient(
		"retry: {max_attempts: 3, initial_interval: 20ms, max_interval: 100ms, budget: 1s, share: 0.1, reserve: 10, schedule: {first: 1s, max: 2s}}",
		"breaker: {min_calls: 20, failure_ratio: 1}",
	)})
	s.upstream.misbehave(t, "easypay:status=503@0.4")
	l := newLoad(s)
	s.startWorker(t)
	queries := times(100, 400)
	l.publish(t.Context(), queries)
	require.Empty(t, s.quiesce(t, soon))
	found := s.finish(t, l, soon, 50)
	require.Equal(t, queries, found.Completed)
	s.requireNoneAgain(t, found)
	// Each delivery makes one first call; what is left was repeated at once.
	first := found.Deliveries
	repeated := int(s.upstream.arrivals(sandbox.EasyPay)) - first
	require.LessOrEqual(t, float64(repeated), reserve+share*float64(first), "calls that were repeated at once")
	t.Logf("F25: %d first calls, %d repeated at once, %d scheduled retries", first, repeated, found.Scheduled)
}
