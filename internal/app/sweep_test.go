package app

import (
	"context"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/sweeper"
)

// TestGivenUpQueriesAreAnsweredAndRemoved lets the broker give up on a query before any worker has lived. A sweep gives it its result and
// takes it out of the queue; a query that waits beside it stays.
func TestGivenUpQueriesAreAnsweredAndRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Consumer.QuarantineAfter, s.Consumer.MaxDeliver = 1, 2
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, built.Close(context.Background())) })
	r := &running{App: built}
	r.connect(t, s)
	_, err = r.Publish(t.Context(), easyPay("lost", "008", query.Bulk))
	require.NoError(t, err)
	queries := built.topology.Names().Queries()
	durable, err := r.broker.JS.Consumer(t.Context(), queries, "easypay-bulk")
	require.NoError(t, err)
	for range s.Consumer.MaxDeliver {
		batch, err := durable.Fetch(1, jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
		require.NoError(t, (<-batch.Messages()).Nak())
	}
	require.Eventually(t, func() bool {
		_, err := durable.FetchNoWait(1) // The broker gives up when somebody asks for more.
		info, infoErr := durable.Info(t.Context())
		return err == nil && infoErr == nil && info.NumAckPending == 0
	}, patience, 10*time.Millisecond)
	_, err = r.Publish(t.Context(), easyPay("waits", "008", query.Bulk))
	require.NoError(t, err)
	require.Equal(t, 2, r.count(t, queries))

	for range 2 { // The second pass finds what was there at the first.
		require.NoError(t, built.sweeper.Pass(t.Context()))
	}
	require.Equal(t, "quarantined", r.resultOf(t, query.Key("shop", "urn:shop", "lost")).Data.Reason)
	require.Equal(t, 1, r.count(t, queries))
	require.Len(t, s.lines(`"msg":"query swept up"`, `"why":"given_up"`, `"settled":true`), 1)
	require.NoError(t, built.sweeper.Pass(t.Context()))
	require.Len(t, s.lines(`"msg":"query swept up"`), 1, "it is gone")
}

// TestRetriesThatNeverComeDueAreAnswered has three retries whose schedule lies far ahead, as if the broker had lost count of the time. The two
// whose time is over get their failed result, once, and the third is left alone. A schedule that comes due after all finds the result.
func TestRetriesThatNeverComeDueAreAnswered(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, built.Close(context.Background())) })
	r := &running{App: built}
	r.connect(t, s)
	names, now := built.topology.Names(), time.Now()
	hasDeadline := easyPay("deadline", "008", query.Bulk)
	hasDeadline.Expires = now.Add(-time.Minute)
	r.putOff(t, s, hasDeadline, now.Add(-time.Hour))
	r.putOff(t, s, easyPay("horizon", "008", query.Bulk), now.Add(-s.Lanes.Bulk.Horizon-time.Minute))
	r.putOff(t, s, easyPay("waits", "008", query.Bulk), now)

	for range 2 {
		for range 2 {
			require.NoError(t, built.sweeper.Pass(t.Context()))
		}
		require.Equal(t, []int{2, 1, 3}, []int{r.count(t, names.Results()), r.count(t, names.Dead()), r.count(t, names.Retries())})
		built.sweeper = sweeper.New(built.sweeper.Options) // One that remembers nothing, as another worker's.
	}
	require.Equal(t, "expired", r.resultOf(t, query.Key("shop", "urn:shop", "deadline")).Data.Reason)
	require.Equal(t, "exhausted", r.resultOf(t, query.Key("shop", "urn:shop", "horizon")).Data.Reason)
	letter, _ := r.deadOf(t, r.Subjects.DeadGuard(query.Key("shop", "urn:shop", "horizon")))
	require.Equal(t, "exhausted", letter.Data.Reason)
	require.Eventually(t, func() bool { // Two by each of the sweepers.
		return len(s.lines(`"msg":"query swept up"`, `"why":"overdue"`, `"settled":true`)) == 4
	}, patience, 10*time.Millisecond)

	for _, id := range []string{"deadline", "horizon"} {
		r.reschedule(t, query.Key("shop", "urn:shop", id), time.Now())
	}
	s.start(t, built)
	require.Eventually(t, func() bool { return r.count(t, names.Retries()) == 1 }, patience, 20*time.Millisecond)
	require.Equal(t, []int{2, 1}, []int{r.count(t, names.Results()), r.count(t, names.Dead())})
	require.Zero(t, built.Calls())
}

// putOff publishes a query and puts it off until tomorrow, as a worker does that has first seen it at the time given.
func (r *running) putOff(t *testing.T, s *site, question client.Question, firstSeen time.Time) {
	t.Helper()
	key, err := r.Publish(t.Context(), question)
	require.NoError(t, err)
	names := r.topology.Names()
	durable, err := r.broker.JS.Consumer(t.Context(), names.Queries(), names.Consumer(string(question.Provider), string(question.Lane)))
	require.NoError(t, err)
	message, err := durable.Next(jetstream.FetchMaxWait(patience))
	require.NoError(t, err)
	original, err := json.Marshal(query.Original{Subject: message.Subject(), Header: message.Headers(), Data: message.Data()})
	require.NoError(t, err)
	payload, err := s.ring.Seal(original)
	require.NoError(t, err)
	retry, err := json.Marshal(query.Retry{
		Origin:    query.Origin{Stream: names.Queries(), Sequence: 1, Subject: message.Subject(), Stored: firstSeen, Deliveries: 1},
		FirstSeen: firstSeen, Rounds: 1, Payload: payload,
	})
	require.NoError(t, err)
	r.schedule(t, key, retry, time.Now().Add(24*time.Hour))
	require.NoError(t, message.DoubleAck(t.Context()))
}

// reschedule gives a scheduled retry another time.
func (r *running) reschedule(t *testing.T, key string, at time.Time) {
	t.Helper()
	retries, err := r.broker.JS.Stream(t.Context(), r.topology.Names().Retries())
	require.NoError(t, err)
	stored, err := retries.GetLastMsgForSubject(t.Context(), r.Subjects.RetryAt(key))
	require.NoError(t, err)
	r.schedule(t, key, stored.Data, at)
}

func (r *running) schedule(t *testing.T, key string, retry []byte, at time.Time) {
	t.Helper()
	_, err := r.broker.JS.PublishMsg(t.Context(), &nats.Msg{Subject: r.Subjects.RetryAt(key), Data: retry},
		jetstream.WithScheduleAt(at), jetstream.WithScheduleTarget(r.Subjects.RetryDue(query.EasyPay, query.Bulk, "shop")))
	require.NoError(t, err)
}

// TestRemovalThatIsNotConfirmed asks for the removal of a message that was not delivered yet, which the broker never confirms.
func TestRemovalThatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.NATS.RequestTimeout = time.Second
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, built.Close(context.Background())) })
	r := &running{App: built}
	r.connect(t, s)
	_, err = r.Publish(t.Context(), easyPay("waits", "008", query.Bulk))
	require.NoError(t, err)
	queries := built.topology.Names().Queries()
	err = built.remove(t.Context(), sweeper.Binding{Stream: queries, Consumer: "easypay-bulk"}, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, r.count(t, queries))
}
