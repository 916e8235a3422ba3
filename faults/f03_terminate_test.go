//go:build faults

package faults

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestF03Terminate ends workers with SIGTERM under load. What they held is finished or scheduled; nothing waits for its ack wait.
func TestF03Terminate(t *testing.T) {
	t.Parallel()
	for name, latency := range map[string]string{"quick": "10ms-300ms", "longer than the grace": "0s-3700ms"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := siteOptions{unionPay: true, settings: patient()}
			if name != "quick" {
				o.settings = patient("shutdown: {grace: 4s}", "http: {attempt_timeout: 3900ms, dial_timeout: 3s, tls_handshake_timeout: 3s}")
			}
			s, draw := newSite(t, o), chance(t)
			s.upstream.misbehave(t, "*:latency="+latency)
			l := newLoad(s)
			publishing := l.run(t, 25)
			slowest := time.Duration(0)
			stops := times(2, 10)
			for range stops {
				w := s.startWorker(t)
				pause(t.Context(), 300*time.Millisecond+time.Duration(draw.IntN(500))*time.Millisecond)
				began := time.Now()
				w.signal(t, syscall.SIGTERM)
				require.Zero(t, w.wait(t, soon).ExitStatus(), w.output)
				slowest = max(slowest, time.Since(began))
			}
			publishing.stop()
			s.upstream.misbehave(t, "")
			s.startWorker(t)
			found := s.finish(t, l, soon, 3)
			s.requireNoneAgain(t, found)
			t.Logf("F3 %s: %d stops, slowest exit %s (target 25 s), %d queries, %d delivered again (target 0)", name, stops, slowest, found.Queries, found.Redelivered)
		})
	}
}
