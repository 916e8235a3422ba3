package sweeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/consumer"
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
	removed []uint64
	refuse  error
}

func setup(t *testing.T) *bundle {
	t.Helper()
	return setupWith(t, time.Second)
}

func setupWith(t *testing.T, ackWait time.Duration) *bundle {
	t.Helper()
	b := &bundle{
		Server: brokertest.New(t, brokertest.WithTopology(func(topology *broker.Topology) {
			topology.AckWait, topology.MaxDeliver = ackWait, 2
		})),
		overdue: func(query.Delivery) bool { return false }, done: true, found: map[Why]int{},
	}
	names := b.Topology.Names()
	b.binding = Binding{
		Stream: names.Queries(), Consumer: names.Consumer("easypay", "bulk"), Filter: names.QueryFilter("easypay", "bulk"),
	}
	b.sweeper = New(Options{
		JS: b.JS, Bindings: []Binding{b.binding}, Lease: b.lease(t, "me"), Every: 10 * time.Millisecond, Batch: 10, Grace: time.Minute,
		Handler: b, Remove: b.remove, OnTrouble: func(err error) { t.Error(err) },
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

// remove removes as the worker does, unless it is told to refuse.
func (b *bundle) remove(ctx context.Context, binding Binding, sequence uint64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return b.refuse
	}
	b.removed = append(b.removed, sequence)
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	return consumer.Remove(ctx, b.JS, binding.Stream, binding.Consumer, sequence)
}

// stored returns how many messages the stream holds.
func (b *bundle) stored(t *testing.T) int {
	t.Helper()
	stream, err := b.JS.Stream(t.Context(), b.binding.Stream)
	require.NoError(t, err)
	return int(stream.CachedInfo().State.Msgs)
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
	durable, err := b.JS.Consumer(t.Context(), b.binding.Stream, b.binding.Consumer)
	require.NoError(t, err)
	taken := 0
	require.Eventually(t, func() bool {
		batch, err := durable.Fetch(n, jetstream.FetchMaxWait(50*time.Millisecond))
		if err != nil {
			return false
		}
		for range batch.Messages() {
			taken++
		}
		info, err := durable.Info(t.Context())
		return err == nil && taken >= 2*n && info.NumAckPending == 0
	}, 30*time.Second, time.Millisecond)
}

func TestFindsWhatTheBrokerGaveUpOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 30)
	b.giveUp(t, 30)
	b.publish(t, 5)
	b.pass(t, 1)
	require.Empty(t, b.handled, "a message that was acked just now may be there still")
	b.pass(t, 1)
	require.Len(t, b.handled, 30, "all that was given up on, and nothing that waits")
	for i, delivery := range b.handled {
		require.Equal(t, fmt.Sprintf("query %d", i), string(delivery.Data))
		require.Equal(t, b.binding.Stream, delivery.Stream)
		require.Greater(t, delivery.Number, 1000, "it counts as delivered too often")
		require.False(t, delivery.Stored.IsZero())
	}
	require.Equal(t, map[Why]int{GivenUp: 30}, b.found)
	require.Len(t, b.removed, 30)
	require.Equal(t, 5, b.stored(t), "what was given up on is gone, what waits is not")
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Len(t, b.handled, 30)
}

func TestTakesUpAgainWhatWasNotSettled(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 1)
	b.giveUp(t, 1)
	b.done = false
	b.pass(t, 2)
	require.Empty(t, b.removed, "no result, no removal")
	require.Equal(t, 1, b.stored(t))
	b.done = true
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Len(t, b.handled, 2)
	require.Zero(t, b.stored(t))
}

func TestTakesUpAgainWhatWasNotRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 3)
	b.giveUp(t, 3)
	b.refuse = errors.New("no")
	b.pass(t, 1)
	for pass := range 2 {
		require.ErrorIs(t, b.sweeper.Pass(t.Context()), b.refuse)
		require.Len(t, b.handled, 1+pass, "a broker that removes nothing now is not asked again in this pass")
	}
	b.refuse = nil
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Equal(t, []uint64{1, 2, 3}, b.removed)
	require.Zero(t, b.stored(t))
}

// TestGivenUpOnAfterItWasOverdue settles a query while its message waits, and removes the message once the broker has given up on it.
func TestGivenUpOnAfterItWasOverdue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 1)
	b.overdue = func(query.Delivery) bool { return true }
	require.NoError(t, b.sweeper.Pass(t.Context()))
	require.Equal(t, map[Why]int{Overdue: 1}, b.found)
	require.Empty(t, b.removed)
	b.giveUp(t, 1)
	b.pass(t, 2)
	require.Equal(t, map[Why]int{Overdue: 1, GivenUp: 1}, b.found)
	require.Zero(t, b.stored(t))
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
	require.Empty(t, b.removed, "they wait for the consumer")
	require.Equal(t, 25, b.stored(t))
}

func TestLeavesHeldMessagesAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 3)
	durable, err := b.JS.Consumer(t.Context(), b.binding.Stream, b.binding.Consumer)
	require.NoError(t, err)
	batch, err := durable.Fetch(3, jetstream.FetchMaxWait(5*time.Second))
	require.NoError(t, err)
	var held []jetstream.Msg
	for message := range batch.Messages() {
		held = append(held, message)
	}
	require.Len(t, held, 3)
	require.NoError(t, held[1].DoubleAck(t.Context()))
	b.pass(t, 2)
	require.Empty(t, b.handled)
	require.Empty(t, b.removed)
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

// slowHandler takes so long that another worker gets the lease.
type slowHandler struct {
	*bundle

	overtaken func()
}

func (h slowHandler) Handle(ctx context.Context, delivery query.Delivery) decide.Settlement {
	h.overtaken()
	return h.bundle.Handle(ctx, delivery)
}

func TestPassEndsWhenAnotherWorkerHasTheLease(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 5)
	b.overdue = func(query.Delivery) bool { return true }
	rival := b.lease(t, "rival")
	b.sweeper.Handler = slowHandler{b, func() {
		require.Eventually(t, func() bool {
			held, err := rival.Hold(t.Context())
			return err == nil && held
		}, 30*time.Second, 20*time.Millisecond)
	}}
	require.NoError(t, b.sweeper.passIfHeld(t.Context()))
	require.Len(t, b.handled, 1, "the rest is the rival's")
	require.NoError(t, b.sweeper.passIfHeld(t.Context()))
	require.Len(t, b.handled, 1)
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
