//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestF29GivenUp lets the broker give up on messages while no worker lives: each of their deliveries gets lost. Nobody hears the broker's
// notes about it either (F30). The sweeper of the next worker finds all of them in the stream, and leaves none there.
func TestF29GivenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: []string{"consumer: {ack_wait: 3s, quarantine_after: 1, max_deliver: 2, pull_expiry: 2s}"}})
	stream, err := s.js.Stream(t.Context(), "DISCOUNT_ADVISORIES")
	require.NoError(t, err)
	l := newLoad(s)
	given := times(5, 200)
	l.publish(t.Context(), given)
	s.exhaust(t, given, 2)
	require.NoError(t, stream.Purge(t.Context()))
	l.publish(t.Context(), 5)
	s.startWorker(t)
	s.awaitResults(t, given+5, 2*soon)
	found := s.finish(t, l, 2*soon, 1)
	require.Equal(t, 5, found.Completed)
	require.Equal(t, given, found.Failed)
	require.Equal(t, given, found.Dead)
}

// awaitResults waits until so many results are stored.
func (s *site) awaitResults(t *testing.T, n int, within time.Duration) {
	t.Helper()
	var stored uint64
	require.Eventually(t, func() bool {
		info, err := s.streamInfo(t.Context(), resultsStream)
		if err == nil {
			stored = info.State.Msgs
		}
		return stored == uint64(n)
	}, within, 50*time.Millisecond, "%d results of %d", stored, n)
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
