package broker_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
)

// These tests hold the broker to what the design takes from it.

func errorCode(t *testing.T, err error) int {
	t.Helper()
	apiErr := (*jetstream.APIError)(nil)
	require.ErrorAs(t, err, &apiErr)
	return int(apiErr.ErrorCode)
}

func stored(t *testing.T, s *brokertest.Server, stream string) uint64 {
	t.Helper()
	handle, err := s.JS.Stream(t.Context(), stream)
	require.NoError(t, err)
	return handle.CachedInfo().State.Msgs
}

func TestQueryThatNobodyServesIsRefused(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	publish(t, s, "discount.query.easypay.interactive.shop", "served")
	for _, subject := range []string{
		"discount.query.easypay.weekly.shop", "discount.query.alipay.bulk.shop", "discount.query.easypay.bulk", "discount.query.easypay.bulk.shop.extra",
	} {
		_, err := s.JS.Publish(t.Context(), subject, nil, jetstream.WithRetryAttempts(0))
		require.ErrorIs(t, err, jetstream.ErrNoStreamResponse, subject)
	}
	require.EqualValues(t, 1, stored(t, s, s.Topology.Names().Queries()))
}

func TestPublishersCannotRemoveQueries(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	queries := s.Topology.Names().Queries()
	ack := publish(t, s, "discount.query.easypay.bulk.shop", "kept")

	for _, scope := range []string{"all", "sub"} {
		msg := nats.NewMsg("discount.query.easypay.bulk.shop")
		msg.Header.Set("Nats-Rollup", scope)
		_, err := s.JS.PublishMsg(t.Context(), msg)
		require.Equal(t, 10111, errorCode(t, err), "roll-up of %s", scope)
	}
	_, err := s.JS.Publish(t.Context(), "discount.query.easypay.bulk.shop", nil,
		jetstream.WithScheduleAt(time.Now()), jetstream.WithScheduleTarget("discount.query.easypay.interactive.forged"))
	require.ErrorIs(t, err, jetstream.ErrMessageSchedulesDisabled)
	_, err = s.JS.Publish(t.Context(), "discount.query.easypay.bulk.shop", nil, jetstream.WithMsgTTL(time.Second))
	require.Equal(t, 10166, errorCode(t, err), "a publisher's own time to live")

	stream, err := s.JS.Stream(t.Context(), queries)
	require.NoError(t, err)
	require.Error(t, stream.Purge(t.Context()))
	require.Error(t, stream.DeleteMsg(t.Context(), ack.Sequence))
	require.EqualValues(t, 1, stored(t, s, queries))
}

func TestFullStreamsRefuse(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t, brokertest.WithTopology(func(o *broker.Topology) {
		o.Queries.MaxBytes, o.Results.MaxBytes, o.Dead.MaxBytes = 400, 400, 400
	}))
	names := s.Topology.Names()
	for stream, subject := range map[string]string{
		names.Queries(): "discount.query.easypay.bulk.shop", names.Results(): "discount.result.k%d.easypay.shop.completed", names.Dead(): "discount.dead.k%d.easypay.shop.horizon",
	} {
		var refused error
		accepted := uint64(0)
		for i := 0; i < 20 && refused == nil; i++ {
			if stream != names.Queries() {
				_, refused = s.JS.Publish(t.Context(), fmt.Sprintf(subject, i), make([]byte, 50))
			} else {
				_, refused = s.JS.Publish(t.Context(), subject, make([]byte, 50))
			}
			if refused == nil {
				accepted++
			}
		}
		require.Equal(t, 10077, errorCode(t, refused), stream)
		require.Positive(t, accepted)
		require.Equal(t, accepted, stored(t, s, stream), "%s lost one it had accepted", stream)
	}
}

func TestLargeQueryIsRefused(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	_, err := s.JS.Publish(t.Context(), "discount.query.easypay.bulk.shop", make([]byte, 64<<10+1))
	require.Equal(t, 10054, errorCode(t, err))
}

func TestScheduledRetryComesDue(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	const due = "discount.retry.due.easypay.bulk.shop"
	asked := time.Now().Add(1200 * time.Millisecond)
	msg := nats.NewMsg("discount.retry.at.key1")
	msg.Data = []byte("again")
	msg.Header.Set("ce-id", "q1")
	_, err := s.JS.PublishMsg(t.Context(), msg, jetstream.WithScheduleAt(asked), jetstream.WithScheduleTarget(due))
	require.NoError(t, err)
	require.EqualValues(t, 1, stored(t, s, names.Retries()))

	consumer, err := s.JS.Consumer(t.Context(), names.Retries(), names.Consumer("easypay", "bulk"))
	require.NoError(t, err)
	got, err := consumer.Next(jetstream.FetchMaxWait(20 * time.Second))
	require.NoError(t, err)
	require.False(t, time.Now().Before(asked.Truncate(time.Second)), "not before the second it was asked for")
	require.Equal(t, due, got.Subject())
	require.Equal(t, "again", string(got.Data()))
	require.Equal(t, "q1", got.Headers().Get("ce-id"))
	meta, err := got.Metadata()
	require.NoError(t, err)
	require.EqualValues(t, 1, meta.NumDelivered)
	require.NoError(t, got.DoubleAck(t.Context()))
	require.Zero(t, stored(t, s, names.Retries()), "the schedule went when it came due")
}

// TestSchedulesExcludeRefusals is why the retries discard the old and may have no MaxBytes. If it fails the server has
// learnt to refuse new messages on a stream with schedules, and the retries should.
func TestSchedulesExcludeRefusals(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	config := desiredStream(t, s.Topology, s.Topology.Names().Retries())
	config.Discard = jetstream.DiscardNew
	_, err := s.JS.CreateStream(t.Context(), config)
	require.ErrorContains(t, err, "message scheduling cannot use discard new")
}

func TestOneResultPerKey(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	guard := func(seq uint64, key string) jetstream.PublishOpt {
		return jetstream.WithExpectLastSequenceForSubject(seq, "discount.result."+key+".>")
	}
	first := publish(t, s, "discount.result.k1.easypay.shop.failed", "failed", guard(0, "k1"))
	publish(t, s, "discount.result.k2.easypay.shop.completed", "another key", guard(0, "k2"))
	for _, subject := range []string{"discount.result.k1.easypay.shop.failed", "discount.result.k1.easypay.shop.completed", "discount.result.k1.unionpay.other.completed"} {
		_, err := s.JS.Publish(t.Context(), subject, nil, guard(0, "k1"))
		require.Equal(t, 10071, errorCode(t, err), subject)
	}
	publish(t, s, "discount.result.k1.easypay.shop.completed", "replayed", guard(first.Sequence, "k1"))
	_, err := s.JS.Publish(t.Context(), "discount.result.k1.easypay.shop.completed", nil, guard(first.Sequence, "k1"))
	require.Equal(t, 10071, errorCode(t, err), "completed after failed once, not twice")

	stream, err := s.JS.Stream(t.Context(), s.Topology.Names().Results())
	require.NoError(t, err)
	last, err := stream.GetLastMsgForSubject(t.Context(), "discount.result.k1.>")
	require.NoError(t, err)
	require.Equal(t, "replayed", string(last.Data))
}

func TestGuardOutlivesARestart(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	guard := jetstream.WithExpectLastSequenceForSubject(0, "discount.result.k1.>")
	publish(t, s, "discount.result.k1.easypay.shop.completed", "one", guard)
	s.Stop()
	s.Resume(t)
	s.Reconnected(t)
	_, err := s.JS.Publish(t.Context(), "discount.result.k1.easypay.shop.failed", nil, guard)
	require.Equal(t, 10071, errorCode(t, err))
}

func TestTerminatedMessagesAreNoted(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	names := s.Topology.Names()
	publish(t, s, "discount.query.easypay.bulk.shop", "x")
	consumer, err := s.JS.Consumer(t.Context(), names.Queries(), names.Consumer("easypay", "bulk"))
	require.NoError(t, err)
	msg, err := consumer.Next()
	require.NoError(t, err)
	require.NoError(t, msg.Term())
	require.Eventually(t, func() bool { return stored(t, s, names.Advisories()) == 1 }, 20*time.Second, 5*time.Millisecond)
}

func TestExhaustedMessagesAreNoted(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t, brokertest.WithTopology(func(o *broker.Topology) { o.MaxDeliver = 2 }))
	names := s.Topology.Names()
	publish(t, s, "discount.query.easypay.bulk.shop", "x")
	consumer, err := s.JS.Consumer(t.Context(), names.Queries(), names.Consumer("easypay", "bulk"))
	require.NoError(t, err)
	for range 2 {
		msg, err := consumer.Next()
		require.NoError(t, err)
		require.NoError(t, msg.Nak())
	}
	_, err = consumer.Next(jetstream.FetchMaxWait(time.Second))
	require.True(t, errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrNoMessages), err)
	require.Eventually(t, func() bool { return stored(t, s, names.Advisories()) == 1 }, 20*time.Second, 5*time.Millisecond)
	require.EqualValues(t, 1, stored(t, s, names.Queries()), "the broker keeps what it gave up: the net has something to catch")
}
