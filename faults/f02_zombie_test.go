//go:build faults

package faults

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/crashpoint"
)

// TestF02Zombie stops a worker in the middle of its queries for twice the ack wait, lets another one answer them, and wakes it again:
// what it then writes must be refused.
func TestF02Zombie(t *testing.T) {
	t.Parallel()
	for _, label := range []crashpoint.Label{crashpoint.AfterPermit, crashpoint.BeforeStore, crashpoint.BeforeAck} {
		t.Run(string(label), func(t *testing.T) {
			t.Parallel()
			s, draw := newSite(t, siteOptions{unionPay: true}), chance(t)
			s.upstream.misbehave(t, "*:latency=100ms-400ms")
			l := newLoad(s)
			rounds := times(1, 4)
			for range rounds {
				zombie := s.startWorker(t, fmt.Sprintf("CRASHPOINT_STOP=%s:%d", label, 1+draw.IntN(3)))
				l.publish(t.Context(), 8)
				require.Eventually(t, zombie.stopped, soon, time.Millisecond)
				healthy := s.startWorker(t)
				pause(t.Context(), 2*ackWait)
				zombie.signal(t, syscall.SIGCONT)
				l.publish(t.Context(), 8)
				require.Empty(t, s.quiesce(t, soon))
				zombie.awaitReady(t) // It goes on as if nothing had been.
				for _, w := range []*worker{zombie, healthy} {
					w.signal(t, syscall.SIGTERM)
					require.Zero(t, w.wait(t, soon).ExitStatus())
				}
			}
			// The zombie's call, the one of who took over, and those the zombie repeats because its attempt timed out meanwhile.
			found := s.finish(t, l, soon, 6)
			// One round can be too slow for it: the zombie's own attempt times out, and it schedules a retry instead.
			if label == crashpoint.BeforeStore && rounds > 1 {
				require.Positive(t, found.Refused, "a zombie wrote and was not refused")
			}
			t.Logf("F2 %s: %d stops, %d stale results refused", label, rounds, found.Refused)
		})
	}
}
