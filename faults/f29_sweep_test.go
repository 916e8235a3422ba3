//go:build faults

package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestF29GivenUp lets the broker give up on messages while no worker lives: each of their deliveries gets lost. Nobody hears the broker's
// notes about it either (F30). The sweeper of the next worker finds all of them in the stream while the load goes on, and leaves none there.
// One delivery of the load may get lost as well, on a machine that stands still for so long that a pull is given up.
func TestF29GivenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: []string{"consumer: {ack_wait: 3s, quarantine_after: 2, max_deliver: 3, pull_expiry: 2s}"}})
	stream, err := s.js.Stream(t.Context(), "DISCOUNT_ADVISORIES")
	require.NoError(t, err)
	l := newLoad(s)
	given := times(5, 200)
	l.publish(t.Context(), given)
	s.exhaust(t, given, 3)
	require.NoError(t, stream.Purge(t.Context()))
	s.upstream.misbehave(t, "*:latency=0s-150ms")
	publishing := l.run(t, 10)
	s.startWorker(t)
	pending := s.awaitDead(t, given, 2*soon)
	publishing.stop()
	found := s.finish(t, l, 2*soon, 1)
	t.Logf("F29: %d given up on, found among %d others; looks while some were pending: %s", given, found.Completed, pending)
	require.Equal(t, l.count()-given, found.Completed)
	require.Equal(t, given, found.Failed)
	require.Equal(t, given, found.Dead)
}

// awaitDead waits until so many dead letters are stored, and says at how many of its looks messages were pending.
func (s *site) awaitDead(t *testing.T, n int, within time.Duration) string {
	t.Helper()
	var stored uint64
	looks, busy := 0, 0
	require.Eventually(t, func() bool {
		if info, err := s.streamInfo(t.Context(), deadStream); err == nil {
			stored = info.State.Msgs
		}
		consumer, err := s.js.Consumer(t.Context(), queriesStream, "easypay-interactive")
		looks++
		if err == nil && consumer.CachedInfo().NumAckPending > 0 {
			busy++
		}
		return stored == uint64(n)
	}, within, 50*time.Millisecond, "%d dead letters of %d", stored, n)
	return fmt.Sprintf("%d of %d", busy, looks)
}

// exhaust takes n messages so many times and never acks one.
func (s *site) exhaust(t *testing.T, n, deliveries int) {
	t.Helper()
	consumer, err := s.js.Consumer(t.Context(), queriesStream, "easypay-interactive")
	require.NoError(t, err)
	for taken := 0; taken < n*deliveries; {
		batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(3*time.Second))
		require.NoError(t, err)
		for range batch.Messages() {
			taken++
		}
		require.NoError(t, t.Context().Err())
	}
	_, err = consumer.Fetch(1, jetstream.FetchMaxWait(3*time.Second)) // The broker gives up when somebody asks for more.
	require.NoError(t, err)
	pause(t.Context(), 3*time.Second)
}
