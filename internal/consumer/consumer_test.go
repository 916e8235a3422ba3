package consumer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

func TestDeliveryInTheWordsOfTheDomain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	message := nats.NewMsg(subject)
	message.Data = []byte("body")
	message.Header["X-Own"] = []string{"one", "two"}
	ack, err := b.JS.PublishMsg(t.Context(), message)
	require.NoError(t, err)
	deliveries := make(chan query.Delivery, 1)
	b.run(b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
		deliveries <- delivery
		return done
	}))
	got := receive(t, deliveries)
	require.WithinDuration(t, time.Now(), got.Stored, patience)
	require.False(t, got.Stored.IsZero())
	got.Stored = time.Time{}
	require.Equal(t, query.Delivery{
		Subject: subject, Header: map[string][]string{"X-Own": {"one", "two"}}, Data: []byte("body"),
		Stream: b.binding.Stream, Sequence: ack.Sequence, Number: 1,
	}, got)
}

func TestNeverHoldsMoreThanItsSlots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const slots, backlog = 4, 60
	b.publish(backlog)
	release := make(chan struct{})
	var inHand, handled, tooMany atomic.Int64
	options := b.options(func(context.Context, query.Delivery) decide.Settlement {
		defer inHand.Add(-1)
		if inHand.Add(1) > slots {
			tooMany.Add(1)
		}
		<-release
		if handled.Add(1)%7 == 0 && b.info().NumAckPending > slots {
			tooMany.Add(1)
		}
		return done
	})
	options.Slots = slots
	c := b.run(options)
	b.until(func() bool { return inHand.Load() == slots }, "each slot handles one")
	info := b.info()
	require.Equal(t, slots, info.NumAckPending)
	require.EqualValues(t, backlog-slots, info.NumPending)
	require.Zero(t, info.NumWaiting, "a consumer without a free slot must not pull")
	require.Len(t, c.slots, slots)
	close(release)
	b.until(func() bool { return b.stored() == 0 }, "all are acked")
	require.Zero(t, tooMany.Load())
	require.EqualValues(t, backlog, handled.Load())
}

func TestDoneIsAcked(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acks := b.acks()
	b.publish(20)
	var confirmed atomic.Int64
	c := b.run(b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
		if delivery.Sequence > 4 && b.info().AckFloor.Stream > 0 {
			confirmed.Add(1)
		}
		return done
	}))
	b.until(func() bool { return b.stored() == 0 }, "the stream is empty")
	c.stop()
	require.EqualValues(t, 16, confirmed.Load(), "a slot takes its next message only when the server has confirmed the last one's ack")
	info := b.info()
	require.EqualValues(t, 20, info.AckFloor.Stream)
	require.Zero(t, info.NumAckPending)
	require.Zero(t, info.NumRedelivered)
	require.Zero(t, b.count(AckFailed))
	for range 20 {
		ack, err := acks.NextMsg(patience)
		require.NoError(t, err)
		require.Equal(t, "+ACK", string(ack.Data))
		require.NotEmpty(t, ack.Reply, "the server is asked to confirm")
	}
}

func TestNotDoneIsGivenBack(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		after time.Duration
		nak   string
	}{
		"at once, which must not be a bare nak": {after: 0, nak: `-NAK {"delay": 1000000}`},
		"a negative delay is none":              {after: -time.Second, nak: `-NAK {"delay": 1000000}`},
		"later":                                 {after: 700 * time.Millisecond, nak: `-NAK {"delay": 700000000}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			acks := b.acks()
			b.publish(1)
			var times []time.Time
			var numbers []int
			ended := make(chan struct{})
			b.run(b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
				times, numbers = append(times, time.Now()), append(numbers, delivery.Number)
				if len(numbers) == 2 {
					close(ended)
					return done
				}
				return decide.Settlement{After: tc.after}
			}))
			receive(t, ended)
			require.Equal(t, []int{1, 2}, numbers)
			require.GreaterOrEqual(t, times[1].Sub(times[0]), tc.after)
			require.Less(t, times[1].Sub(times[0]), 20*time.Second, "not by the end of the ack wait")
			nak, err := acks.NextMsg(patience)
			require.NoError(t, err)
			require.Equal(t, tc.nak, string(nak.Data))
			b.until(func() bool { return b.stored() == 0 }, "acked at last")
		})
	}
}

func TestConsumersShareTheWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const backlog = 40
	b.publish(backlog)
	var met sync.WaitGroup
	met.Add(2)
	var mu sync.Mutex
	var numbers []int
	for range 2 {
		var once sync.Once
		options := b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
			once.Do(met.Done)
			met.Wait() // Both have some, or nobody goes on.
			mu.Lock()
			defer mu.Unlock()
			numbers = append(numbers, delivery.Number)
			return done
		})
		_, options.JS = b.connect()
		b.run(options)
	}
	b.until(func() bool { return b.stored() == 0 }, "all are acked")
	require.Equal(t, slices.Repeat([]int{1}, backlog), numbers)
}

func TestIdleConsumerIsKnownToBeHealthySoon(t *testing.T) {
	t.Parallel()
	b := setup(t)
	options := b.options(func(context.Context, query.Delivery) decide.Settlement { return done })
	options.PullExpiry = time.Minute
	c := b.run(options)
	require.False(t, c.Healthy(), "nothing is known before the first pull has ended")
	b.until(c.Healthy, "the first pull is a short one")
	require.Equal(t, Event{Consumer: "DISCOUNT_QUERIES/easypay-bulk", What: Pulling}, b.last(Pulling))
	b.until(func() bool { return b.info().NumWaiting == 1 }, "the second pull waits")
	c.take()
	b.publish(c.Slots) // They end the pull, which would wait for a minute.
	b.until(func() bool { return b.stored() == 0 }, "what comes to the last pull is handled too")
	receive(t, c.ended)
	require.Equal(t, 1, b.count(Pulling), "pulling is told when it begins to work, not at each pull")
}

func TestBindRefuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.JS.CreateOrUpdateConsumer(t.Context(), "DISCOUNT_RESULTS", jetstream.ConsumerConfig{Durable: "push", DeliverSubject: "to.me"})
	require.NoError(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tc := range map[string]struct {
		ctx          context.Context
		stream, name string
		is           error
	}{
		"no consumer":     {t.Context(), "DISCOUNT_QUERIES", "easypay-slow", jetstream.ErrConsumerNotFound},
		"no stream":       {t.Context(), "OTHER_QUERIES", "easypay-bulk", jetstream.ErrStreamNotFound},
		"a push consumer": {t.Context(), "DISCOUNT_RESULTS", "push", jetstream.ErrNotPullConsumer},
		"a context ended": {ended, "DISCOUNT_QUERIES", "easypay-bulk", context.Canceled},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			options := b.options(nil)
			options.Stream, options.Name = tc.stream, tc.name
			c, err := Bind(tc.ctx, options)
			require.ErrorIs(t, err, tc.is)
			require.ErrorContains(t, err, fmt.Sprintf("bind to consumer %s of stream %s: ", tc.name, tc.stream))
			require.Nil(t, c)
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	for _, slots := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("slots=%d", slots), func(b *testing.B) {
			s := setup(b)
			var handled atomic.Int64
			options := s.options(func(context.Context, query.Delivery) decide.Settlement {
				handled.Add(1)
				return done
			})
			options.Slots = slots
			s.publish(b.N)
			b.ResetTimer()
			s.run(options)
			s.until(func() bool { return handled.Load() == int64(b.N) }, "all are handled")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
		})
	}
}
