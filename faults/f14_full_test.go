//go:build faults

package faults

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestF14Full fills a stream that the worker writes to, and makes room later. Nothing may be acked meanwhile, and nothing lost.
func TestF14Full(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ stream, faults string }{
		"results": {resultsStream, ""},
		"dead":    {deadStream, "easypay:code=E999"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, siteOptions{settings: patient("consumer: {ack_wait: 8s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}")})
			s.upstream.misbehave(t, test.faults)
			s.limit(t, test.stream, 16<<10)
			l := newLoad(s)
			w := s.startWorker(t)
			l.publish(t.Context(), 40)
			require.Eventually(t, func() bool { return strings.Contains(w.output.String(), "write not confirmed") }, soon, 20*time.Millisecond)
			pause(t.Context(), 9*time.Second) // Long enough for a held query to be delivered again, if nobody extended it.
			stuck := s.underWay(t.Context())
			require.NotEmpty(t, stuck, "something was acked without its outcome")
			s.limit(t, test.stream, 64<<20)
			found := s.finish(t, l, soon, 1)
			s.requireNoneAgain(t, found)
			t.Logf("F14 %s: %s while it was full", name, stuck)
		})
	}
}

// limit changes how much a stream may hold.
func (s *site) limit(t *testing.T, name string, bytes int64) {
	t.Helper()
	stream, err := s.js.Stream(t.Context(), name)
	require.NoError(t, err)
	changed := stream.CachedInfo().Config
	changed.MaxBytes = bytes
	_, err = s.js.UpdateStream(t.Context(), changed)
	require.NoError(t, err)
}

// TestF14DiskLimit lets the whole server run out of the disk it was given, and gives it more.
func TestF14DiskLimit(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: []string{
		"streams: {replicas: 1, queries: {max_bytes: 1MiB}, results: {max_bytes: 0B}, dead: {max_bytes: 0B}}",
	}})
	// The buckets ask for room of their own, which would be most of what this server gets.
	for _, bucket := range []string{"KV_discount_pace", "KV_discount_replays", "KV_discount_answers"} {
		s.limit(t, bucket, 64<<10)
	}
	for _, name := range []string{queriesStream, resultsStream, deadStream, "DISCOUNT_ADVISORIES", "DISCOUNT_AUDIT"} {
		s.limit(t, name, -1)
	}
	only := s.brokers[0]
	only.kill()
	only.limitStore(t, "1MB")
	only.run(t)
	awaitPort(t, only.address)
	require.Eventually(t, func() bool { return s.underWay(t.Context()) == "" }, soon, 20*time.Millisecond)
	l := newLoad(s)
	l.publish(t.Context(), 20)
	s.fill(t)
	w := s.launch(t)
	pausing := l.run(t, 20)
	require.Eventually(t, func() bool {
		return strings.Contains(w.output.String(), "write not confirmed") || l.repeated() > 0
	}, soon, 20*time.Millisecond)
	pause(t.Context(), ackWait)
	only.kill()
	only.limitStore(t, "1GB")
	only.run(t)
	pausing.stop()
	w.awaitReady(t)
	found := s.finish(t, l, soon, 3)
	t.Logf("F14 disk: %d queries, %d publishes refused", found.Queries, l.repeated())
}

// fill takes up most of the server's store with something else.
func (s *site) fill(t *testing.T) {
	t.Helper()
	_, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FILLER", Subjects: []string{"filler"}, Storage: jetstream.FileStorage})
	require.NoError(t, err)
	for range 100 {
		if _, err = s.js.Publish(t.Context(), "filler", make([]byte, 50<<10)); err != nil {
			return
		}
	}
	require.Error(t, err, "the store takes everything")
}
