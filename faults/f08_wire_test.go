//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestF08AnswerLost cuts the connection, or loses the answer alone, between a result and its confirmation: the worker can't know
// whether the result is stored.
func TestF08AnswerLost(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]proxy.Rule{
		"result, connection reset":   {Kind: proxy.Replied, Prefix: "discount.result.", Every: 3},
		"result, answer lost":        {Kind: proxy.Replied, Prefix: "discount.result.", Every: 3, Drop: true},
		"dead letter and retry":      {Kind: proxy.Replied, Prefix: "discount.", Every: 3},
		"ack, connection reset":      {Kind: proxy.Settled, Every: 3, Offset: 1 << 20},
		"ack, before it left":        {Kind: proxy.Settled, Every: 3},
		"confirmation of the ack":    {Kind: proxy.Replied, Prefix: "$JS.ACK.", Every: 3},
		"delivery, connection reset": {Kind: proxy.Delivered, Every: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, siteOptions{unionPay: true, settings: scheduling()})
			s.upstream.misbehave(t, "easypay:code=E999@0.15,unionpay:code=96@0.15,*:status=503@0.15")
			l := newLoad(s)
			for range times(1, 4) {
				s.startWorker(t)
			}
			proxied := s.brokers[0].proxy
			proxied.SetRules(rule)
			want := times(4, 100)
			publishing := l.run(t, times(25, 60))
			require.Eventually(t, func() bool { return proxied.Struck() >= want }, 4*time.Minute, 10*time.Millisecond)
			publishing.stop()
			struck := proxied.Struck()
			proxied.SetRules()
			found := s.finish(t, l, soon, 12)
			t.Logf("F8 %s: %d cuts, %d connections, %d results refused as second", name, struck, proxied.Opened(), found.Refused)
		})
	}
}

// TestF08GhostPublish takes the broker away while results are due. What is published meanwhile must fail at once: kept by the client and
// sent when the broker is back, it would be there a second time by then.
func TestF08GhostPublish(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: []string{
		"consumer: {ack_wait: 30s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}",
		"http: {attempt_timeout: 7s, dial_timeout: 5s, tls_handshake_timeout: 5s}",
	}})
	s.upstream.misbehave(t, "easypay:latency=3s") // Long enough for all of them to be asked before the first is answered.
	l := newLoad(s)
	s.startWorker(t)
	l.publish(t.Context(), 8)
	require.Eventually(t, func() bool { return s.upstream.Stats().Providers[sandbox.EasyPay].Arrivals == 8 }, soon, time.Millisecond)
	proxied := s.brokers[0].proxy
	proxied.Refuse(true)
	proxied.Reset()
	pause(t.Context(), 7*time.Second)
	require.Zero(t, s.wire.mostPublished(), "the broker was taken away too late")
	proxied.Refuse(false)
	s.finish(t, l, soon, 1)
	require.Equal(t, 1, s.wire.mostPublished(), "a ghost")
}
