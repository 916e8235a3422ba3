package consumer

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
)

// mute is JetStream whose consumers deliver nothing while it is silent: their pulls work and come back empty.
type mute struct {
	jetstream.JetStream

	silent  atomic.Bool
	binds   atomic.Int64
	looks   atomic.Int64
	lookErr atomic.Bool
}

// Consumer implements jetstream.JetStream.
func (m *mute) Consumer(ctx context.Context, stream, name string) (jetstream.Consumer, error) {
	m.binds.Add(1)
	bound, err := m.JetStream.Consumer(ctx, stream, name)
	return &muteConsumer{Consumer: bound, mute: m}, err
}

type muteConsumer struct {
	jetstream.Consumer

	mute *mute
}

// Info implements jetstream.Consumer.
func (c *muteConsumer) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	c.mute.looks.Add(1)
	if c.mute.lookErr.Load() {
		return nil, context.DeadlineExceeded
	}
	return c.Consumer.Info(ctx)
}

// Fetch implements jetstream.Consumer.
func (c *muteConsumer) Fetch(count int, options ...jetstream.FetchOpt) (jetstream.MessageBatch, error) {
	if !c.mute.silent.Load() {
		return c.Consumer.Fetch(count, options...)
	}
	time.Sleep(5 * time.Millisecond) // A pull that expires. Nothing is awaited by it.
	return nothing{}, nil
}

// nothing is what an empty pull brings.
type nothing struct{}

// Messages implements jetstream.MessageBatch.
func (nothing) Messages() <-chan jetstream.Msg {
	none := make(chan jetstream.Msg)
	close(none)
	return none
}

// Error implements jetstream.MessageBatch.
func (nothing) Error() error { return nil }

// quick returns a consumer on a connection of its own that is silent and looks often.
func (b *bundle) quick(silent bool) (*mute, *Consumer) {
	b.t.Helper()
	_, js := b.connect()
	m := &mute{JetStream: js}
	m.silent.Store(silent)
	options := b.options(ok)
	options.JS = m
	c := b.bind(options)
	c.watch.patience, c.watch.pause = 100*time.Millisecond, 50*time.Millisecond
	return m, c
}

func TestStalledConsumerIsRebuilt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, c := b.quick(true)
	nc := m.Conn()
	b.publish(5)
	b.start(c)
	b.until(func() bool { return b.count(Stalled) > 0 }, "told")
	require.False(t, c.Healthy())
	require.Equal(t, Event{Consumer: "DISCOUNT_QUERIES/easypay-bulk", What: Stalled}, b.last(Stalled))
	b.until(func() bool { return nc.Stats().Reconnects == 1 }, "on a new connection")
	b.until(func() bool { return b.count(Stalled) > 2 }, "told for as long as it lasts")
	require.EqualValues(t, 1, nc.Stats().Reconnects, "the connection is others' too")
	require.GreaterOrEqual(t, m.binds.Load(), int64(3), "bound at first and at each stall")
	require.False(t, c.Healthy(), "that pulls work again does not end a stall")
	told := b.count(Pulling)
	m.silent.Store(false)
	b.until(func() bool { return b.stored() == 0 }, "it delivers again")
	b.until(c.Healthy, "and then it is healthy")
	require.Equal(t, told+1, b.count(Pulling))
}

func TestStallEndsWithNothingLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, c := b.quick(true)
	b.publish(2)
	b.start(c)
	b.until(func() bool { return b.count(Stalled) > 0 }, "told")
	b.run(b.options(ok))
	b.until(c.Healthy, "another one has taken everything")
}

func TestConsumerThatCannotDeliverIsNotStalled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		silent bool
		reason func(t *testing.T, b *bundle)
	}{
		"nothing waits": {true, func(*testing.T, *bundle) {}},
		"others hold as many as may be held": {false, func(t *testing.T, b *bundle) {
			b.publish(5)
			require.Len(t, b.take(t, 2), 2)
		}},
		"paused": {false, func(t *testing.T, b *bundle) {
			_, err := b.JS.PauseConsumer(t.Context(), b.binding.Stream, b.binding.Config.Name, time.Now().Add(time.Hour))
			require.NoError(t, err)
			b.publish(5)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, ackWait(time.Minute), brokertest.WithTopology(func(topology *broker.Topology) { topology.MaxAckPending = 2 }))
			m, c := b.quick(test.silent)
			c.PullExpiry = 100 * time.Millisecond
			test.reason(t, b)
			r := b.start(c)
			b.until(func() bool { return m.looks.Load() >= 5 }, "looked at")
			require.Zero(t, b.count(Stalled))
			require.True(t, c.Healthy())
			if name == "paused" {
				require.Equal(t, 1, b.count(Paused), "told once")
				_, err := b.JS.ResumeConsumer(t.Context(), b.binding.Stream, b.binding.Config.Name)
				require.NoError(t, err)
				b.until(func() bool { return b.stored() == 0 }, "it goes on by itself")
				return
			}
			require.Zero(t, b.count(Paused))
			r.stop()
		})
	}
}

// TestLook looks without pulling, so that what happens between the looks is certain.
func TestLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, c := b.quick(true)
	c.Line.left = time.Now() // It stays on its connection.
	b.publish(4)
	for range 3 {
		c.look(t.Context())
		require.Len(t, b.take(t, 1), 1)
	}
	c.look(t.Context())
	require.Zero(t, b.count(Stalled), "others get messages")
	for name, interrupt := range map[string]func(){
		"a look that failed": func() {
			m.lookErr.Store(true)
			c.look(t.Context())
			m.lookErr.Store(false)
		},
		"a pull that failed": func() { c.pulled(t.Context(), time.Now(), 0, nats.ErrDisconnected) },
		"a message":          func() { c.pulled(t.Context(), time.Now(), 1, nil) },
	} {
		interrupt()
		c.look(t.Context())
		require.Zero(t, b.count(Stalled), "after %s, two looks are needed anew", name)
	}
	c.look(t.Context())
	require.Equal(t, 1, b.count(Stalled))
	c.look(t.Context())
	require.Equal(t, 1, b.count(Stalled), "and after a stall too")
	require.True(t, c.watch.stalled)
	require.Len(t, b.take(t, 1), 1)
	c.look(t.Context())
	require.False(t, c.watch.stalled, "nothing is left")
}

func TestClosedGateIsNoStall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	m, c := b.quick(true)
	var asked atomic.Int64
	c.Capacity = func() int { return int(asked.Add(1) % 2) } // Open every second time, so that no two pulls follow each other.
	c.watch.patience = 50 * time.Millisecond
	b.publish(1)
	b.start(c)
	b.until(func() bool { return asked.Load() >= 10 }, "asked")
	require.Zero(t, m.looks.Load())
}

func TestAckWaitIsReadAnew(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(t *testing.T, b *bundle){
		"changed, and seen by a look": func(t *testing.T, b *bundle) {
			b.Topology.AckWait = 12 * time.Second
			b.Apply(t)
		},
		"made again, and bound to anew": func(t *testing.T, b *bundle) {
			require.NoError(t, b.JS.DeleteConsumer(t.Context(), b.binding.Stream, b.binding.Config.Name))
			b.until(func() bool { return b.count(Gone) > 0 }, "told")
			b.Topology.AckWait = 12 * time.Second
			b.Apply(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			_, c := b.quick(false)
			if name != "changed, and seen by a look" {
				c.watch.patience = time.Hour
			}
			require.Equal(t, b.Topology.AckWait/6, c.held.tick())
			b.start(c)
			b.until(c.Healthy, "pulling works")
			change(t, b)
			b.until(func() bool { return c.held.tick() == 2*time.Second }, "the hold is extended by the new wait")
		})
	}
}
