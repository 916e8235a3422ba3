package sweeper

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

func TestSettledTo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pending          int
		floor, delivered uint64
		want             uint64
	}{
		"a new queue":        {},
		"nothing is pending": {floor: 3, delivered: 9, want: 9},
		"some are pending":   {pending: 1, floor: 3, delivered: 9, want: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, settledTo(&jetstream.ConsumerInfo{
				NumAckPending: c.pending, AckFloor: jetstream.SequenceInfo{Stream: c.floor}, Delivered: jetstream.SequenceInfo{Stream: c.delivered},
			}))
		})
	}
}

// TestConsumerMadeAnew gives the queue a consumer that delivers everything again: what an earlier one was done with is held now.
func TestConsumerMadeAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 3)
	b.giveUp(t, 3)
	b.pass(t, 1)
	config := b.info(t).Config
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), b.binding.Stream, b.binding.Consumer))
	_, err := b.JS.CreateConsumer(t.Context(), b.binding.Stream, config)
	require.NoError(t, err)
	for _, message := range b.fetch(t, 3) {
		require.NoError(t, message.Nak())
	}
	b.fetch(t, 3)
	require.Equal(t, []int{3, 3}, []int{b.info(t).NumAckPending, b.info(t).NumRedelivered})
	b.pass(t, 2)
	require.Empty(t, b.handled)
	require.Equal(t, 3, b.stored(t))
}

// TestFindsWhatWasGivenUpOnWhileOthersAreHeld never looks when nothing is pending. Between two looks, there was such a moment.
func TestFindsWhatWasGivenUpOnWhileOthersAreHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 30)
	b.giveUp(t, 30)
	b.publish(t, 3)
	held := b.fetch(t, 1)
	b.pass(t, 2)
	require.Empty(t, b.handled, "nothing tells them from the one that is held")
	require.NoError(t, held[0].DoubleAck(t.Context())) // Nothing is pending now.
	held = b.fetch(t, 2)
	b.pass(t, 2)
	require.Len(t, b.handled, 30, "all of them, by the second look after the moment")
	require.Len(t, b.removed, 30)
	require.Equal(t, 2, b.stored(t), "those that are held")
	for _, message := range held {
		require.NoError(t, message.DoubleAck(t.Context()))
	}
	require.Zero(t, b.stored(t))
}

// TestGivenUpOnBehindOneThatIsHeld keeps a message that is older than all others for long.
func TestGivenUpOnBehindOneThatIsHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, 1)
	held := b.fetch(t, 1)[0]
	b.publish(t, 4)
	for range 2 {
		for _, message := range b.fetch(t, 4) {
			require.NoError(t, message.Nak())
			require.NoError(t, held.InProgress())
		}
	}
	b.eventually(t, func() bool {
		require.NoError(t, held.InProgress())
		durable := b.durable(t)
		_, err := durable.FetchNoWait(1) // The broker gives up when somebody asks for more.
		return err == nil && b.info(t).NumAckPending == 1
	})
	b.pass(t, 3)
	require.Empty(t, b.handled)
	require.NoError(t, held.DoubleAck(t.Context()))
	b.pass(t, 1)
	require.Empty(t, b.handled, "an acked message might still be there too")
	b.pass(t, 1)
	require.Len(t, b.handled, 4)
	require.Zero(t, b.stored(t))
}

// TestUnderLoad sweeps without a pause while holders take messages, hold them for a while, settle most, and lose those that are marked until
// the broker gives up on them. All of these are found, and none that somebody holds or will get is touched.
func TestUnderLoad(t *testing.T) {
	t.Parallel()
	l := &load{bundle: setupWith(t, time.Minute), held: map[uint64]bool{}, deliveries: map[uint64]int{}, found: map[uint64]int{}}
	l.sweeper.Handler = l
	ctx, stop := context.WithCancel(t.Context())
	var publishing, running sync.WaitGroup
	publishing.Go(func() { l.publishFor(t, 300) })
	for _, patience := range []time.Duration{0, 5 * time.Millisecond, 50 * time.Millisecond} {
		running.Go(func() { l.hold(ctx, t, patience) })
	}
	running.Go(func() { l.sweeper.Run(ctx) })
	publishing.Wait()
	l.eventually(t, func() bool { return l.stored(t) == 0 })
	stop()
	running.Wait()
	t.Logf("%d passes found something while others were pending", l.busy)
	require.Empty(t, l.wrong, "messages that were swept up and that nobody had given up on")
	require.Len(t, l.found, 300/5)
}

// load holds messages and knows which of them were lost too often.
type load struct {
	*bundle

	mu   sync.Mutex
	held map[uint64]bool
	// deliveries counts how often each message was delivered, found how often each was swept up.
	deliveries map[uint64]int
	found      map[uint64]int
	wrong      []string
	busy       int
}

func (l *load) Handle(_ context.Context, delivery query.Delivery) decide.Settlement {
	l.mu.Lock()
	defer l.mu.Unlock()
	if delivered := l.deliveries[delivery.Sequence]; l.held[delivery.Sequence] || delivered < l.Topology.MaxDeliver {
		l.wrong = append(l.wrong, fmt.Sprintf("%d: %s, delivered %d times", delivery.Sequence, delivery.Data, delivered))
	}
	l.found[delivery.Sequence]++
	if len(l.held) > 0 {
		l.busy++
	}
	return decide.Settlement{Done: true}
}

// publishFor publishes n messages in waves. Each fifth is to be lost.
func (l *load) publishFor(t *testing.T, n int) {
	for i := range n {
		body := "good"
		if i%5 == 0 {
			body = "lost"
		}
		if _, err := l.JS.Publish(t.Context(), "discount.query.easypay.bulk.shop", []byte(body)); err != nil {
			t.Error(err)
		}
		if i%30 == 0 {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// hold takes one message after the other until ctx ends.
func (l *load) hold(ctx context.Context, t *testing.T, patience time.Duration) {
	durable, err := l.JS.Consumer(t.Context(), l.binding.Stream, l.binding.Consumer)
	for err == nil && ctx.Err() == nil {
		var batch jetstream.MessageBatch
		if batch, err = durable.Fetch(1, jetstream.FetchMaxWait(time.Second)); err == nil {
			for message := range batch.Messages() {
				l.one(t, message, patience)
			}
		}
	}
	if err != nil {
		t.Error(err)
	}
}

func (l *load) one(t *testing.T, message jetstream.Msg, patience time.Duration) {
	metadata, err := message.Metadata()
	if err != nil {
		t.Error(err)
		return
	}
	sequence := metadata.Sequence.Stream
	l.mu.Lock()
	l.deliveries[sequence]++
	l.held[sequence] = true
	l.mu.Unlock()
	time.Sleep(patience)
	lost := string(message.Data()) == "lost"
	if !lost {
		err = message.DoubleAck(t.Context())
	}
	l.mu.Lock()
	delete(l.held, sequence)
	l.mu.Unlock()
	if lost {
		err = message.Nak()
	}
	if err != nil {
		t.Error(err)
	}
}

// pass makes a few passes.
func (b *bundle) pass(t *testing.T, passes int) {
	t.Helper()
	for range passes {
		require.NoError(t, b.sweeper.Pass(t.Context()))
	}
}

func (b *bundle) durable(t *testing.T) jetstream.Consumer {
	t.Helper()
	durable, err := b.JS.Consumer(t.Context(), b.binding.Stream, b.binding.Consumer)
	require.NoError(t, err)
	return durable
}

func (b *bundle) info(t *testing.T) *jetstream.ConsumerInfo {
	t.Helper()
	return b.durable(t).CachedInfo()
}

// fetch takes n messages and settles none.
func (b *bundle) fetch(t *testing.T, n int) []jetstream.Msg {
	t.Helper()
	batch, err := b.durable(t).Fetch(n, jetstream.FetchMaxWait(5*time.Second))
	require.NoError(t, err)
	var held []jetstream.Msg
	for message := range batch.Messages() {
		held = append(held, message)
	}
	require.Len(t, held, n)
	return held
}

func (b *bundle) eventually(t *testing.T, met func() bool) {
	t.Helper()
	require.Eventually(t, met, 60*time.Second, 20*time.Millisecond)
}
