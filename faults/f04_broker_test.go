//go:build faults

package faults

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestF04BrokerKill kills the only broker under load and starts it again on its store.
func TestF04BrokerKill(t *testing.T) {
	t.Parallel()
	s, draw := newSite(t, siteOptions{unionPay: true}), chance(t)
	l := newLoad(s)
	w := s.startWorker(t)
	publishing := l.run(t, 25)
	var worst time.Duration
	kills := times(2, 20)
	for range kills {
		pause(t.Context(), 200*time.Millisecond+time.Duration(draw.IntN(400))*time.Millisecond)
		s.brokers[0].kill()
		next := s.wire.nextDelivery()
		pause(t.Context(), time.Duration(draw.IntN(1000))*time.Millisecond)
		s.brokers[0].run(t)
		opened := awaitPort(t, s.brokers[0].address)
		select {
		case <-next:
		case <-time.After(soon):
			require.FailNow(t, "nothing was delivered after the broker came back")
		}
		worst = max(worst, time.Since(opened))
	}
	publishing.stop()
	found := s.finish(t, l, soon, 1+kills)
	require.False(t, w.ended(), "the worker has to live through it")
	t.Logf("F4: %d kills, worst first delivery %s after the port was open (target 3 s), %d queries", kills, worst, found.Queries)
}

// awaitPort waits until somebody listens at address and returns when that was.
func awaitPort(t *testing.T, address string) time.Time {
	t.Helper()
	require.Eventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, soon, 5*time.Millisecond)
	return time.Now()
}
