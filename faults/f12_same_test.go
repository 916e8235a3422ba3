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
)

// TestF12SameQuery publishes each query ten times at once, past the broker's window for repeats, on four workers.
func TestF12SameQuery(t *testing.T) {
	t.Parallel()
	const copies = 10
	s := newSite(t, siteOptions{})
	s.upstream.misbehave(t, "easypay:latency=20ms-200ms")
	l := newLoad(s)
	for range 4 {
		s.startWorker(t)
	}
	queries := times(5, 100)
	for i := range queries {
		amount := int64(500_000 + i)
		var publishing sync.WaitGroup
		for range copies {
			publishing.Go(func() {
				message := nats.NewMsg(query.NewSubjects("discount").Query(query.EasyPay, query.Interactive, shop))
				message.Header.Set("Content-Type", query.ContentTypeEvent)
				message.Data = fmt.Appendf(nil, `{"specversion":"1.0","id":"order-%d","source":"%s","type":"%s","data":{"cardBin":"12345678","amount":%d}}`,
					amount, source, query.TypeRequested, amount)
				_, err := s.js.PublishMsg(t.Context(), message)
				if err == nil {
					l.note(query.Key(shop, source, fmt.Sprintf("order-%d", amount)), amount, 0)
				}
			})
		}
		publishing.Wait()
	}
	// Copies that are under way at once can't know of each other: each may cost a call, but never more than that.
	found := s.finish(t, l, soon, copies)
	require.Equal(t, queries, found.Queries)
	require.Equal(t, queries, found.Completed)
	t.Logf("F12: %d queries, %d copies of each, calls %v", queries, copies, found.Calls)
}

// TestF13AckWaitTooShort holds queries for longer than the ack wait: they wait for the pace. They must not be delivered to anybody else.
func TestF13AckWaitTooShort(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{})
	s.slowPace(t, "1/s", 1)
	l := newLoad(s)
	for range 2 {
		s.startWorker(t)
	}
	l.publish(t.Context(), times(14, 40)) // Two workers ask once a second each.
	began := time.Now()
	found := s.finish(t, l, 2*time.Minute, 1)
	require.Greater(t, time.Since(began), ackWait, "nobody had to wait")
	require.Zero(t, found.Redelivered)
}
