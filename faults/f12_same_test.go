//go:build faults

package faults

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestF12SameQuery publishes each query ten times at once, past the broker's window for repeats, on four workers, and as often again when
// it has been answered.
func TestF12SameQuery(t *testing.T) {
	t.Parallel()
	const copies, workers = 10, 4
	s := newSite(t, siteOptions{settings: patient()})
	s.upstream.misbehave(t, "easypay:latency=20ms-200ms")
	l := newLoad(s)
	for range workers {
		s.startWorker(t)
	}
	queries := times(5, 100)
	publish := func() {
		for i := range queries {
			var publishing sync.WaitGroup
			for range copies {
				publishing.Go(func() { l.repeat(t, s, int64(500_000+i)) })
			}
			publishing.Wait()
		}
		require.Empty(t, s.quiesce(t, soon))
	}
	publish()
	calls := s.upstream.arrivals(sandbox.EasyPay)
	publish()
	require.Equal(t, calls, s.upstream.arrivals(sandbox.EasyPay), "I5: calls for queries that have their result")
	// Copies at different workers can't know of each other: each worker may spend a call. Those at one worker go one after the other.
	found := s.finish(t, l, soon, workers)
	require.Equal(t, queries, found.Queries)
	require.Equal(t, queries, found.Completed)
	require.Equal(t, 2*copies*queries, found.Deliveries-found.Redelivered)
	s.requireNoneAgain(t, found)
	t.Logf("F12: %d queries, %d copies of each at once and %d later, calls %v", queries, copies, copies, found.Calls)
}

// repeat publishes a query past the broker's window for repeats.
func (l *load) repeat(t *testing.T, s *site, amount int64) {
	t.Helper()
	message := nats.NewMsg(query.NewSubjects("discount").Query(query.EasyPay, query.Interactive, shop))
	message.Header.Set("Content-Type", query.ContentTypeEvent)
	message.Data = []byte(event(amount, fmt.Sprintf(`{"cardBin":"12345678","amount":%d}`, amount)))
	if _, err := s.js.PublishMsg(t.Context(), message); err == nil {
		l.note(query.Key(shop, source, fmt.Sprintf("order-%d", amount)), amount, 0)
	}
}

// TestF13AckWaitTooShort holds queries for longer than the ack wait: they wait for the pace. They must not be delivered to anybody else.
func TestF13AckWaitTooShort(t *testing.T) {
	t.Parallel()
	const shortWait = 6 * time.Second
	s := newSite(t, siteOptions{settings: []string{"consumer: {ack_wait: 6s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}"}})
	s.slowPace(t, "1/s", 1)
	l := newLoad(s)
	for range 2 {
		s.startWorker(t)
	}
	l.publish(t.Context(), times(24, 40)) // Two workers ask once a second each.
	began := time.Now()
	found := s.finish(t, l, 2*time.Minute, 1)
	require.Greater(t, time.Since(began), shortWait, "nobody had to wait")
	s.requireNoneAgain(t, found)
}
