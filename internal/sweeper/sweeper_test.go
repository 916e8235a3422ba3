package sweeper

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bundle is a broker and a sweeper whose handler remembers what it was given.
type bundle struct {
	*brokertest.Server

	sweeper *Sweeper
	binding Binding

	mu      sync.Mutex
	handled []query.Delivery
	overdue func(query.Delivery) bool
	done    bool
	found   map[Why]int
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{
		Server: brokertest.New(t, brokertest.WithTopology(func(topology *broker.Topology) {
			topology.AckWait, topology.MaxDeliver = time.Second, 2
		})),
		overdue: func(query.Delivery) bool { return false }, done: true, found: map[Why]int{},
	}
	names := b.Topology.Names()
	b.binding = Binding{
		Stream: names.Queries(), Consumer: names.Consumer("easypay", "bulk"), Filter: names.QueryFilter("easypay", "bulk"),
	}
	b.sweeper = New(Options{
		JS: b.JS, Bindings: []Binding{b.binding}, Lease: b.lease(t, "me"), Every: 10 * time.Millisecond, Batch: 10, Grace: time.Minute,
		Handler: b, OnTrouble: func(err error) { t.Error(err) },
		OnFound: func(why Why, _ bool) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.found[why]++
		},
	})
	return b
}

func (b *bundle) lease(t *testing.T, holder string) *Lease {
	t.Helper()
	kv, err := b.JS.KeyValue(t.Context(), b.Topology.Names().PaceBucket())
	require.NoError(t, err)
	return &Lease{KV: kv, Key: "sweeper", Holder: holder, TTL: 300 * time.Millisecond}
}

func (b *bundle) Handle(_ context.Context, delivery query.Delivery) decide.Settlement {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handled = append(b.handled, delivery)
	return decide.Settlement{Done: b.done}
}

func (b *bundle) Overdue(delivery query.Delivery, _ time.Time) bool { return b.overdue(delivery) }

// publish stores n queries in the lane.
func (b *bundle) publish(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		_, err := b.JS.Publish(t.Context(), "discount.query.easypay.bulk.shop", fmt.Appendf(nil, "query %d", i))
		require.NoError(t, err)
	}
}

// giveUp takes n messages as often as the broker allows, without ever settling one.
func (b *bundle) giveUp(t *testing.T, n int) {
	t.Helper()
	consumer, err := b.JS.Consumer(t.Context(), b.binding.Stream, b.binding.Consumer)
	require.NoError(t, err)
	taken := 0
	require.Eventually(t, func() bool {
		batch, err := consumer.Fetch(n, jetstream.FetchMaxWait(50*time.Millisecond))
		if err != nil {
			return false
		}
		for range batch.Messages() {
			taken++
		}
		info, err := consumer.Info(t.Context())
		return err == nil && taken >= 2*n && info.NumAckPending == 0
	}, 30*time.Second, time.Millisecond)
}

func TestFindsWhatTheBrokerGaveUpOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 30)
	b.giveUp(t, 30)
	b.publish(t, 5)
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Len(t, b.handled, 30, "all that was given up on, and nothing that waits")
	for i, delivery := range b.handled {
		require.Equal(t, fmt.Sprintf("query %d", i), string(delivery.Data))
		require.Equal(t, b.binding.Stream, delivery.Stream)
		require.Greater(t, delivery.Number, 1000, "it counts as delivered too often")
		require.False(t, delivery.Stored.IsZero())
	}
	require.Equal(t, map[Why]int{GivenUp: 30}, b.found)
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Len(t, b.handled, 30, "what was settled is not taken up again")
}

func TestTakesUpAgainWhatWasNotSettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 1)
	b.giveUp(t, 1)
	b.done = false
	require.NoError(t, b.sweeper.Pass(t.Context()))
	b.done = true
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Len(t, b.handled, 2)
}

func TestFindsOverdueQueriesInABacklogBatchByBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 25)
	b.overdue = func(delivery query.Delivery) bool { return delivery.Sequence%5 == 0 }
	for _, want := range []int{2, 4, 5} {
		require.NoError(t, b.sweeper.Pass(t.Context()))
		require.Len(t, b.handled, want)
	}
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Len(t, b.handled, 5, "it begins again, and remembers")
	for _, delivery := range b.handled {
		require.Equal(t, 2, delivery.Number, "the handler looks for a result first")
	}
	require.Equal(t, map[Why]int{Overdue: 5}, b.found)
}

func TestLeavesHeldMessagesAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 3)
	consumer, err := b.JS.Consumer(t.Context(), b.binding.Stream, b.binding.Consumer)
	require.NoError(t, err)
	batch, err := consumer.Fetch(3, jetstream.FetchMaxWait(5*time.Second))
	require.NoError(t, err)
	var held []jetstream.Msg
	for message := range batch.Messages() {
		held = append(held, message)
	}
	require.Len(t, held, 3)
	require.NoError(t, held[1].DoubleAck(t.Context()))
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Empty(t, b.handled)
}

func TestMissingConsumerIsReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), b.binding.Stream, b.binding.Consumer))
	require.ErrorContains(t, b.sweeper.Pass(t.Context()), "sweep easypay-bulk of DISCOUNT_QUERIES")
}

func TestOneSweeperAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.lease(t, "first"), b.lease(t, "second")
	hold := func(lease *Lease) bool {
		held, err := lease.Hold(t.Context())
		require.NoError(t, err)
		return held
	}
	require.True(t, hold(first))
	require.False(t, hold(second))
	require.True(t, hold(first), "the holder renews")
	require.False(t, hold(second))
	require.Eventually(t, func() bool { return hold(second) }, 10*time.Second, 10*time.Millisecond, "a silent holder loses it")
	require.False(t, hold(first), "and does not take it back at once")
}

func TestRacersGetOneLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for round := range 20 {
		var racers sync.WaitGroup
		winners := make(chan string, 8)
		for i := range 8 {
			lease := b.lease(t, fmt.Sprintf("racer %d", i))
			lease.Key = fmt.Sprintf("round.%d", round)
			racers.Go(func() {
				held, err := lease.Hold(context.Background())
				if err != nil {
					t.Error(err)
				}
				if held {
					winners <- lease.Holder
				}
			})
		}
		racers.Wait()
		require.Len(t, winners, 1)
	}
}

func TestRunSweepsWhileItHoldsTheLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 1)
	b.giveUp(t, 1)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { b.sweeper.Run(ctx) })
	require.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.found[GivenUp] == 1
	}, 30*time.Second, 5*time.Millisecond)
	stop()
	running.Wait()
}
