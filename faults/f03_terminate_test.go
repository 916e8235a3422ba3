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
	for name, latency := range map[string]string{"quick": "10ms-300ms", "longer than the grace": "0s-1400ms"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := siteOptions{}
			if name != "quick" {
				o.settings = []string{"shutdown: {grace: 1600ms}"}
			}
			s, draw := newSite(t, o), chance(t)
			s.upstream.misbehave(t, "easypay:latency="+latency)
			l := newLoad(s)
			publishing := l.run(t, 25)
			slowest := time.Duration(0)
			stops := times(2, 25)
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
			require.Zero(t, found.Redelivered, "I7: a query waited for its ack wait")
			require.Less(t, slowest, grace, "I7")
			t.Logf("F3 %s: %d stops, slowest exit %s", name, stops, slowest)
		})
	}
}
