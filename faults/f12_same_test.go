//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
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

// TestF13AckWaitTooShort holds queries for longer than the ack wait: the first call of each fails late and the second is answered late. No
// configuration allows a single call that long. They must not be delivered to anybody else.
func TestF13AckWaitTooShort(t *testing.T) {
	t.Parallel()
	const tooShort, latency, queries = 5 * time.Second, 3500 * time.Millisecond, 8
	s := newSite(t, siteOptions{settings: []string{
		fmt.Sprintf("consumer: {ack_wait: %s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}", tooShort),
		"http: {attempt_timeout: 4900ms, dial_timeout: 4s, tls_handshake_timeout: 4s}",
		"retry: {max_attempts: 2, initial_interval: 50ms, max_interval: 200ms, budget: 1m, schedule: {first: 1s, max: 2s}}",
	}})
	faults := []string{fmt.Sprintf("easypay:latency=%s", latency)}
	for i := range queries {
		faults = append(faults, fmt.Sprintf("easypay:status=503[amount=%d]#1", 100_001+i))
	}
	s.upstream.misbehave(t, strings.Join(faults, ","))
	l := newLoad(s)
	l.publish(t.Context(), queries)
	for range 2 {
		s.startWorker(t)
	}
	found := s.finish(t, l, soon, 2)
	require.Equal(t, queries, found.Completed)
	require.Equal(t, map[int]int{2: queries}, found.Calls)
	held := s.heldAtLeast(t)
	require.Greater(t, held, tooShort, "nobody had to wait")
	s.requireNoneAgain(t, found)
	t.Logf("F13: %d queries held for %s at least, with an ack wait of %s", queries, held, tooShort)
}

// heldAtLeast returns how long the query with the shortest calls was held, from the begin of its first call to the end of its last one.
func (s *site) heldAtLeast(t *testing.T) time.Duration {
	t.Helper()
	shortest := time.Duration(math.MaxInt64)
	s.each(t, resultsStream, func(message jetstream.Msg) {
		var event struct {
			Data struct {
				Attempts []query.Attempt `json:"attempts"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal(message.Data(), &event))
		require.NotEmpty(t, event.Data.Attempts)
		last := event.Data.Attempts[len(event.Data.Attempts)-1]
		ended := last.At.Add(time.Duration(last.Milliseconds) * time.Millisecond)
		shortest = min(shortest, ended.Sub(event.Data.Attempts[0].At))
	})
	return shortest
}
