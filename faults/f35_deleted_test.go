//go:build faults

package faults

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
)

// TestF35Deleted deletes under a running worker what it needs of the broker, one after the other, and makes it again later. The worker says
// so, makes nothing itself, and goes on when it is there again. What waits in a stream that was not deleted is not lost.
func TestF35Deleted(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: scheduling()})
	w := s.startWorker(t)
	for i, test := range []struct {
		// stream is what is deleted, or the consumer of it.
		stream, consumer string
		// faults make queries need it.
		faults string
		// says is what the worker says then, "" if it does without.
		says string
		// short tells that it is also deleted in the short form.
		short bool
	}{
		{stream: queriesStream, consumer: "easypay-interactive", says: `"DISCOUNT_QUERIES/easypay-interactive":"gone"`, short: true},
		{stream: queriesStream, says: `"DISCOUNT_QUERIES/easypay-bulk":"gone"`},
		{stream: retriesStream, faults: "easypay:status=503#3", says: `"storage":"schedule retry: no such stream"`},
		{stream: resultsStream, says: `"storage":"look for result: no such stream"`, short: true},
		{stream: deadStream, faults: "easypay:code=E999", says: `"storage":"store dead letter: no such stream"`},
		{stream: "KV_discount_pace", says: `"pace":"not known, so nothing is asked"`, short: true},
		{stream: "KV_discount_answers"},
		{stream: "KV_discount_replays"},
	} {
		if !test.short && !full() {
			continue
		}
		l := newLoad(s)
		l.last = int64(1000 * (i + 1))
		s.upstream.misbehave(t, test.faults)
		s.remove(t, test.stream, test.consumer)
		began := time.Now()
		publishing := l.run(t, 10) // While there is no stream of queries, nothing is confirmed.
		if test.says == "" {
			require.Eventually(t, func() bool { return l.count() >= 10 }, soon, 10*time.Millisecond)
			publishing.stop()
			require.Empty(t, s.quiesce(t, soon), "it does without")
		} else {
			require.Eventually(t, func() bool { return strings.Contains(w.problems(), test.says) }, soon, 20*time.Millisecond, "it has to say %s", test.says)
		}
		told := time.Since(began)
		pause(t.Context(), time.Second)
		require.False(t, s.exists(t, test.stream, test.consumer), "the worker has made %s again", test.stream)
		require.False(t, w.ended())
		s.setup(t)
		publishing.stop()
		found := s.finish(t, l, soon, 10)
		require.Positive(t, found.Queries)
		t.Logf("F35 %s %s: told after %s, %q; %d queries meanwhile, none lost", test.stream, test.consumer, told.Round(time.Millisecond), test.says, found.Queries)
	}
	w.awaitReady(t)
	s.requireObeys(t)
}

// remove deletes a stream, or a consumer of it.
func (s *site) remove(t *testing.T, stream, consumer string) {
	t.Helper()
	if consumer == "" {
		require.NoError(t, s.js.DeleteStream(t.Context(), stream))
		return
	}
	require.NoError(t, s.js.DeleteConsumer(t.Context(), stream, consumer))
}

// exists tells whether a stream, or a consumer of it, is there.
func (s *site) exists(t *testing.T, stream, consumer string) bool {
	t.Helper()
	_, err := s.js.Stream(t.Context(), stream)
	if err == nil && consumer != "" {
		_, err = s.js.Consumer(t.Context(), stream, consumer)
	}
	if err != nil {
		require.True(t, errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrConsumerNotFound), "%v", err)
	}
	return err == nil
}

// requireObeys requires that the worker hears of a pause of its account, which lies in the bucket that was made anew.
func (s *site) requireObeys(t *testing.T) {
	t.Helper()
	bucket, err := s.js.KeyValue(t.Context(), "discount_pace")
	require.NoError(t, err)
	account := quota.Account{Provider: query.EasyPay, Name: "default"}
	require.NoError(t, quota.Pause(t.Context(), quota.NewKV(bucket), account, quota.Author{By: "ops", Why: "test"}))
	require.Eventually(t, func() bool {
		return strings.Contains(s.outputs[len(s.outputs)-1].String(), `"paused":true`)
	}, soon, 50*time.Millisecond, "the worker does not hear of changes of its pace any more")
}
