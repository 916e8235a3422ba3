//go:build faults

package faults

import (
	"fmt"
	"maps"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// TestF38Memory gives a worker as little memory as a small container has, and a backlog of sealed and plain queries of both lanes behind
// upstreams that are slow, so that it holds as many as it may. Nothing of the backlog may be kept in memory beyond that.
func TestF38Memory(t *testing.T) {
	t.Parallel()
	const limit, slots = 128 << 20, 64
	backlog := times(3_200, 10_000)
	s := newSite(t, siteOptions{unionPay: true, settings: patient(
		fmt.Sprintf("lanes: {interactive: {slots: %d, horizon: 1h}, bulk: {slots: %d, horizon: 1h}}", slots, slots),
	)})
	s.upstream.misbehave(t, "*:latency=200ms-600ms")
	interactive, bulk := newLoad(s), newLoad(s)
	bulk.lane, bulk.last = query.Bulk, 10_000_000
	var publishing sync.WaitGroup
	for _, l := range []*load{interactive, bulk} {
		for range 4 {
			publishing.Go(func() { l.publish(t.Context(), backlog/8) })
		}
	}
	publishing.Wait()
	maps.Copy(interactive.journal, bulk.confirmed())
	require.Len(t, interactive.journal, backlog)
	w := s.startWorker(t, fmt.Sprintf("GOMEMLIMIT=%d", limit/10*9))
	began, most := time.Now(), 0.0
	await(t, "all queries are answered", func() bool {
		pause(t.Context(), 200*time.Millisecond)
		page, held := w.figures(t), 0.0
		for _, consumer := range []string{"easypay-interactive", "easypay-bulk", "unionpay-interactive", "unionpay-bulk"} {
			held += figureOn(t, page, fmt.Sprintf("discount_worker_slots_held{consumer=%q}", queriesStream+"/"+consumer))
		}
		most = max(most, held)
		return s.underWay(t.Context()) == ""
	})
	took, peak := time.Since(began), w.mostResident(t)
	t.Logf("F38: at most %.1f MiB of %d MiB for a backlog of %d queries, answered in %s with up to %.0f of %d slots in use",
		float64(peak)/(1<<20), limit>>20, backlog, took.Round(100*time.Millisecond), most, 4*slots)
	found := s.finish(t, interactive, soon, 1)
	require.Equal(t, backlog, found.Completed)
	s.requireNoneAgain(t, found)
	require.Greater(t, most, float64(2*slots), "the worker was to hold many queries at once")
	if !raceDetector { // It needs several times as much.
		require.Less(t, peak, int64(limit), "the worker needs more memory than it may have")
	}
	w.signal(t, syscall.SIGTERM)
	require.Zero(t, w.wait(t, soon).ExitStatus())
}
