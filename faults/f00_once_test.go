//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestF00EverythingOnce breaks nothing but some calls to the upstream, so that some queries come back later. Then every step has its exact
// number: whoever does one of them more often than that has hidden a fault behind the guard.
func TestF00EverythingOnce(t *testing.T) {
	t.Parallel()
	// Nobody loses patience, however busy the machine is: a repeated write would look like the fault that is looked for.
	s := newSite(t, siteOptions{unionPay: true, settings: []string{"consumer: {ack_wait: 30s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}"}})
	s.upstream.misbehave(t, "easypay:429=1s%3")
	l := newLoad(s)
	s.startWorker(t, "DISCOUNT_NATS__REQUEST_TIMEOUT=30s")
	const queries = 20
	l.publish(t.Context(), queries)
	require.Eventually(t, func() bool { return s.wire.answeredQueries() >= queries }, soon, 10*time.Millisecond)
	found := s.finish(t, l, soon, 10)
	require.Equal(t, queries, found.Completed)
	require.Positive(t, found.Scheduled, "no query came back")
	require.Zero(t, found.Redelivered, "I7: nothing was broken, and yet a query was delivered again")
	require.Equal(t, queries+found.Scheduled, found.Deliveries, "I7: deliveries of queries and of scheduled retries")
	require.Equal(t, found.Deliveries, found.Acks, "I2: acks of what was delivered")
	require.Equal(t, queries, found.Results, "I1: results that were sent")
	require.Zero(t, found.Refused, "I1: results that the guard refused")
}

// answeredQueries returns how many queries are known to have their result.
func (w *wire) answeredQueries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.answered)
}
