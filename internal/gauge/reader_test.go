package gauge

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
)

func TestNothingHeldIsZeroAndNotAbsent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.read(t)
	require.WithinDuration(t, time.Now(), f.At, time.Hour)
	var queues []Queue
	for _, kind := range []string{"query", "retry"} {
		for _, provider := range []string{"easypay", "unionpay"} {
			for _, lane := range []string{"interactive", "bulk"} {
				queues = append(queues, Queue{Provider: provider, Lane: lane, Kind: kind})
			}
		}
	}
	require.Equal(t, queues, f.Queues)
	require.Equal(t, []Stream{{Name: "QUERIES"}, {Name: "RETRIES"}, {Name: "RESULTS"}, {Name: "DEAD"}, {Name: "ADVISORIES"}, {Name: "AUDIT"}}, f.Streams)
	require.Equal(t, []Letters{
		{"easypay", "malformed", 0}, {"easypay", "rejected", 0}, {"unionpay", "malformed", 0}, {"unionpay", "rejected", 0},
		{"none", "malformed", 0}, {"none", "rejected", 0}, {"other", "other", 0},
	}, f.Dead)
	require.Equal(t, map[string]uint64{"running": 0, "done": 0}, f.Replays)
	require.Zero(t, f.Scheduled)
	require.Zero(t, f.Advisories)
}

func TestQueues(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const subject, name = "discount.query.easypay.bulk.shop", "easypay/bulk/query"
	for range 5 {
		b.publish(t, subject)
	}
	b.publish(t, "discount.query.unionpay.interactive.shop")
	f := b.backlog(t, name, 5)
	require.Zero(t, f.of(t, name).AckPending)
	require.Positive(t, f.of(t, name).OldestAge)
	b.backlog(t, "unionpay/interactive/query", 1)
	require.Equal(t, Queue{Provider: "easypay", Lane: "interactive", Kind: "query"}, f.of(t, "easypay/interactive/query"))
	require.Equal(t, Queue{Provider: "easypay", Lane: "bulk", Kind: "retry"}, f.of(t, "easypay/bulk/retry"))

	messages := b.take(t, "DISCOUNT_QUERIES", "easypay-bulk", 3)
	b.ack(t, messages[1], messages[2])
	f = b.read(t)
	q := f.of(t, name)
	oldest := f.At.Sub(metadata(t, messages[0]).Timestamp)
	require.Equal(t, Queue{
		Provider: "easypay", Lane: "bulk", Kind: "query", Backlog: 2, AckPending: 1, AckFloorLag: 3, OldestAge: oldest, Delivered: 3,
	}, q, "the first is not acked, and two behind it are")

	b.ack(t, messages[0])
	q = b.read(t).of(t, name)
	require.Equal(t, []uint64{2, 0, 0, 3}, []uint64{q.Backlog, q.AckPending, q.AckFloorLag, q.Delivered})
	require.Less(t, q.OldestAge, b.read(t).At.Sub(metadata(t, messages[2]).Timestamp), "what was acked is nobody's oldest")
	b.ack(t, b.take(t, "DISCOUNT_QUERIES", "easypay-bulk", 2)...)
	require.Equal(t, Queue{Provider: "easypay", Lane: "bulk", Kind: "query", Delivered: 5}, b.read(t).of(t, name))
}

func metadata(t *testing.T, message jetstream.Msg) *jetstream.MsgMetadata {
	t.Helper()
	found, err := message.Metadata()
	require.NoError(t, err)
	return found
}

func TestRetriesAreDueOrScheduled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, key := range []string{"a", "b", "c"} {
		b.publish(t, "discount.retry.at."+key, jetstream.WithScheduleAt(time.Now().Add(time.Hour)),
			jetstream.WithScheduleTarget("discount.retry.due.easypay.bulk.shop"))
	}
	b.publish(t, "discount.retry.due.unionpay.bulk.shop")
	b.publish(t, "discount.retry.due.unionpay.bulk.shop")
	b.take(t, "DISCOUNT_RETRIES", "unionpay-bulk", 1)
	f := b.backlog(t, "unionpay/bulk/retry", 1)
	require.EqualValues(t, 3, f.Scheduled)
	require.EqualValues(t, 5, f.stream(t, "RETRIES").Messages)
	q := f.of(t, "unionpay/bulk/retry")
	require.Positive(t, q.OldestAge)
	require.Equal(t, []uint64{1, 1, 1}, []uint64{q.Backlog, q.AckPending, q.AckFloorLag - 3}, "the schedules lie before it in the stream")
	require.Equal(t, Queue{Provider: "easypay", Lane: "bulk", Kind: "retry"}, f.of(t, "easypay/bulk/retry"), "what is scheduled is not due")
}

func TestConsumersOfManyClientsAreOneQueue(t *testing.T) {
	t.Parallel()
	b := setup(t, brokertest.WithTopology(func(t *broker.Topology) { t.Clients = []string{"shop", "till"} }))
	b.publish(t, "discount.query.easypay.bulk.shop")
	b.publish(t, "discount.query.easypay.bulk.till")
	b.publish(t, "discount.query.easypay.bulk.till")
	b.take(t, "DISCOUNT_QUERIES", "easypay-bulk-till", 1)
	f := b.backlog(t, "easypay/bulk/query", 2)
	require.Len(t, f.Queues, 8)
	q := f.of(t, "easypay/bulk/query")
	require.Positive(t, q.OldestAge)
	q.OldestAge = 0
	require.Equal(t, Queue{Provider: "easypay", Lane: "bulk", Kind: "query", Backlog: 2, AckPending: 1, AckFloorLag: 2, Delivered: 1}, q)
}

func TestStreamsAndTheirLimits(t *testing.T) {
	t.Parallel()
	b := setup(t, brokertest.WithTopology(func(t *broker.Topology) { t.Prefix, t.Results.MaxBytes = "other", 1000 }))
	b.publish(t, "other.result.k.easypay.shop.completed")
	b.publish(t, "other.retry.due.easypay.bulk.shop")
	b.publish(t, "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.OTHER_QUERIES.easypay-bulk")
	f := b.read(t)
	results := f.stream(t, "RESULTS")
	require.EqualValues(t, 1, results.Messages)
	require.InDelta(t, float64(results.Bytes)/1000, results.Full, 1e-9)
	require.Positive(t, results.Full)
	require.Positive(t, f.stream(t, "RETRIES").Bytes)
	require.Zero(t, f.stream(t, "RETRIES").Full, "it has no limit")
	require.EqualValues(t, 1, f.Advisories)
}

func TestBrokerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Timeout = time.Nanosecond
	f, err := b.Read(t.Context())
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Zero(t, f, "what was not read is not there")

	b.Timeout = 0
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Read(ended)
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, b.server.JS.DeleteConsumer(t.Context(), "DISCOUNT_QUERIES", "easypay-bulk"))
	_, err = b.Read(t.Context())
	require.ErrorIs(t, err, jetstream.ErrConsumerNotFound)
	require.NoError(t, b.server.JS.DeleteStream(t.Context(), "DISCOUNT_AUDIT"))
	_, err = b.Read(t.Context())
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	b.server.Apply(t)
	b.read(t)
}

// TestReadingChangesNothing compares what the broker knows of its consumers before and after.
func TestReadingChangesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "discount.query.easypay.bulk.shop")
	b.publish(t, "discount.dead.k.easypay.shop.rejected")
	b.batch(t, "1", `{"state":"done"}`)
	before := b.state(t)
	b.read(t)
	require.Equal(t, before, b.state(t))
}

// state returns all that the broker knows of its streams and consumers.
func (b *bundle) state(t *testing.T) map[string]any {
	t.Helper()
	all := map[string]any{}
	streams := b.server.JS.ListStreams(t.Context())
	for info := range streams.Info() {
		info.TimeStamp = time.Time{}
		all[info.Config.Name] = *info
		stream, err := b.server.JS.Stream(t.Context(), info.Config.Name)
		require.NoError(t, err)
		consumers := stream.ListConsumers(t.Context())
		for consumer := range consumers.Info() {
			consumer.TimeStamp = time.Time{}
			all[info.Config.Name+"/"+consumer.Name] = *consumer
		}
		require.NoError(t, consumers.Err())
	}
	require.NoError(t, streams.Err())
	return all
}
