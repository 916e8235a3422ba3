//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/query"
)

// TestF09HalfOpen makes what the worker sends, or hears, or both, vanish without a word. The worker has to find out by itself.
func TestF09HalfOpen(t *testing.T) {
	t.Parallel()
	for name, directions := range map[string][]proxy.Direction{
		"the worker is not heard":  {proxy.ToServer},
		"the worker hears nothing": {proxy.ToClient},
		"both":                     {proxy.ToServer, proxy.ToClient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, siteOptions{})
			s.upstream.misbehave(t, "easypay:latency=50ms-500ms")
			l := newLoad(s)
			w := s.startWorker(t)
			proxied := s.brokers[0].proxy
			l.publish(t.Context(), 5)
			opened := proxied.Opened()
			proxied.Swallow(directions...)
			began := time.Now()
			l.publish(t.Context(), 20)
			require.Eventually(t, func() bool { return proxied.Opened() > opened }, soon, 10*time.Millisecond)
			detected := time.Since(began)
			found := s.finish(t, l, soon, 5)
			w.awaitReady(t)
			// A ping every 5 seconds, and two of them unanswered, is what the worker waits for; then it tries again within a second.
			t.Logf("F9 %s: noticed after %s (target 17 s), redelivered %d", name, detected, found.Redelivered)
		})
	}
}

// TestF10SlowBroker makes the way to the broker slow. Queries that are held must not run out of their ack wait.
func TestF10SlowBroker(t *testing.T) {
	t.Parallel()
	t.Run("latency", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, siteOptions{settings: []string{
			"consumer: {ack_wait: 8s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}",
			"http: {attempt_timeout: 7s, dial_timeout: 5s, tls_handshake_timeout: 5s}",
		}})
		l := newLoad(s)
		s.startWorker(t)
		proxied := s.brokers[0].proxy
		for _, latency := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 200 * time.Millisecond} {
			proxied.Delay(latency, latency/2)
			l.publish(t.Context(), times(12, 30))
			require.Empty(t, s.quiesce(t, 2*soon))
		}
		found := s.finish(t, l, soon, 1)
		s.requireNoneAgain(t, found)
		t.Logf("F10 latency: redelivered %d of %d", found.Redelivered, found.Queries)
	})
	// The longer the way, the less is known of the broker's time, and with it of when a slot of the pace is due. A bulk query leaves the first part
	// of its slot to others.
	t.Run("bulk that waits alone", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, siteOptions{settings: patient()})
		s.slowPace(t, "1000/s", 10)
		l := newLoad(s)
		l.lane = query.Bulk
		s.startWorker(t)
		began := time.Now()
		for _, latency := range []time.Duration{2 * time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond} {
			s.brokers[0].proxy.Delay(latency, latency)
			for range times(2, 5) {
				s.awaitResult(t, l.one(t.Context()))
			}
		}
		found := s.finish(t, l, soon, 1)
		s.requireNoneAgain(t, found)
		t.Logf("F10 bulk alone: %d queries in %s", found.Queries, time.Since(began).Round(10*time.Millisecond))
	})
	t.Run("slower than any request may take", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, siteOptions{})
		l := newLoad(s)
		s.startWorker(t)
		proxied := s.brokers[0].proxy
		proxied.Delay(1800*time.Millisecond, 1200*time.Millisecond)
		l.publish(t.Context(), times(12, 30))
		pause(t.Context(), time.Duration(times(8, 30))*time.Second)
		proxied.Delay(0, 0)
		found := s.finish(t, l, soon, times(6, 20))
		t.Logf("F10 slow: redelivered %d of %d", found.Redelivered, found.Deliveries)
	})
	t.Run("one byte at a time", func(t *testing.T) {
		t.Parallel()
		s := newSite(t, siteOptions{})
		l := newLoad(s)
		s.startWorker(t)
		proxied := s.brokers[0].proxy
		proxied.Trickle(1)
		l.publish(t.Context(), 12)
		pause(t.Context(), time.Duration(times(6, 30))*time.Second)
		proxied.Trickle(0)
		s.finish(t, l, soon, 6)
	})
}
