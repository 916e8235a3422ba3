package consumer

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// soon bounds how long a loss may stay unnoticed, and how long the way back may take: two heartbeats and some room.
const soon = 8 * time.Second

// ok is a handler that finishes everything.
func ok(context.Context, query.Delivery) decide.Settlement { return done }

func TestConsumerDeletedWhileItPulls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	options := b.options(ok)
	options.PullExpiry = 10 * time.Second
	c := b.run(options)
	b.until(func() bool { return c.Healthy() && b.info().NumWaiting == 1 }, "a pull waits")
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), b.binding.Stream, b.binding.Config.Name))
	b.until(func() bool { return b.count(Gone) >= 3 }, "it goes on trying and telling")
	require.Equal(t, "DISCOUNT_QUERIES/easypay-bulk", b.last(Gone).Consumer)
	require.Error(t, b.last(Gone).Err)
	require.False(t, c.Healthy())
	require.Zero(t, b.count(PullFailed), "that it is gone is never told as something else")

	b.publish(3)
	b.Apply(t)
	b.until(func() bool { return b.stored() == 0 }, "the same consumer pulls again")
	b.until(c.Healthy, "healthy again")
	require.Equal(t, 2, b.count(Pulling))
	b.publish(options.Slots) // They end the pull that waits.
}

func TestConsumerDeletedWhileItsSlotsAreTaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(1)
	started, release := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	options := b.options(func(context.Context, query.Delivery) decide.Settlement {
		if first.CompareAndSwap(false, true) {
			close(started)
			<-release
		}
		return done
	})
	options.Slots, options.AckTimeout = 1, 500*time.Millisecond
	c := b.run(options)
	receive(t, started)
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), b.binding.Stream, b.binding.Config.Name))
	close(release)
	b.until(func() bool { return b.count(AckFailed) == 1 }, "there is nobody to ack to")
	b.until(func() bool { return b.count(Gone) > 0 }, "a pull that found nobody asks why")
	require.Zero(t, b.count(PullFailed))
	require.False(t, c.Healthy())
	b.Apply(t)
	b.until(func() bool { return b.stored() == 0 }, "the message is delivered again")
}

func TestServerRestarts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	options := b.options(ok)
	_, options.JS = b.connect() // Its connection has no other user.
	c := b.run(options)
	b.until(c.Healthy, "pulling works")
	nc := options.JS.Conn()
	before := nc.NumSubscriptions()
	b.publish(5)
	b.until(func() bool { return b.stored() == 0 }, "acked")

	b.Stop()
	began := time.Now()
	b.until(func() bool { return b.count(PullFailed) >= 8 }, "it goes on trying and telling")
	require.Less(t, time.Since(began), soon)
	require.False(t, c.Healthy())
	require.LessOrEqual(t, nc.NumSubscriptions(), before+1, "a pull that can't be sent must leave no subscription behind")

	b.Resume(t)
	began = time.Now()
	b.until(c.Healthy, "pulling works again by itself")
	require.Less(t, time.Since(began), soon)
	require.Equal(t, 2, b.count(Pulling))
	b.Reconnected(t)
	b.publish(5 * options.Slots)
	b.until(func() bool { return b.stored() == 0 }, "acked")
	require.Zero(t, b.info().NumRedelivered)
}

func TestConnectionHalfDead(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(2*time.Second))
	options := b.options(ok)
	l, js := b.connect()
	options.JS = js
	c := b.run(options)
	b.until(c.Healthy, "pulling works")
	l.loseAnswers.Store(true)
	began := time.Now()
	b.until(func() bool { return b.count(PullFailed) > 0 }, "missing heartbeats are noticed")
	require.Less(t, time.Since(began), soon)
	require.ErrorIs(t, b.last(PullFailed).Err, jetstream.ErrNoHeartbeat)
	require.False(t, c.Healthy())
	b.publish(3 * options.Slots) // Some of them go to a pull nobody hears of, and come again after the ack wait.
	l.repair()
	b.until(c.Healthy, "pulling works again")
	b.until(func() bool { return b.stored() == 0 }, "acked")
}

func TestConnectionBreaks(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(2*time.Second)) // What was on its way when the line broke comes again after that.
	options := b.options(ok)
	l, js := b.connect()
	options.JS = js
	c := b.run(options)
	b.until(c.Healthy, "pulling works")
	for range 2 {
		l.repair()
		b.publish(2 * options.Slots)
		b.until(func() bool { return b.stored() == 0 && c.Healthy() }, "pulling goes on")
	}
}

func TestAckWhoseConfirmationIsLost(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(time.Second))
	b.publish(1)
	l, js := b.connect()
	var deliveries atomic.Int64
	options := b.options(func(context.Context, query.Delivery) decide.Settlement {
		deliveries.Add(1)
		l.loseAnswers.Store(true)
		return done
	})
	options.JS, options.AckTimeout, options.Slots = js, 300*time.Millisecond, 1
	c := b.run(options)
	b.until(func() bool { return b.count(AckFailed) == 1 }, "told")
	require.ErrorIs(t, b.last(AckFailed).Err, context.DeadlineExceeded)
	l.repair()
	b.until(c.Healthy, "pulling works again")
	require.Zero(t, b.stored(), "the ack itself did arrive")
	require.EqualValues(t, 1, deliveries.Load())
}

func TestAckThatIsLost(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(time.Second))
	b.publish(1)
	l, js := b.connect()
	numbers := make(chan int, 10)
	options := b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
		numbers <- delivery.Number
		l.loseSent.Store(delivery.Number == 1)
		return done
	})
	options.JS, options.AckTimeout, options.Slots = js, 300*time.Millisecond, 1
	b.run(options)
	b.until(func() bool { return b.count(AckFailed) == 1 }, "told")
	require.EqualValues(t, 1, b.stored())
	l.repair()
	require.Equal(t, 1, receive(t, numbers))
	require.Equal(t, 2, receive(t, numbers), "delivered again")
	b.until(func() bool { return b.stored() == 0 }, "acked")
}

func TestPermissionLost(t *testing.T) {
	t.Parallel()
	allowed := []string{"$JS.API.CONSUMER.INFO.Q.w", "$JS.API.CONSUMER.MSG.NEXT.Q.w", "$JS.ACK.Q.w.>", "$JS.ACK.*.*.Q.w.>"}
	store := t.TempDir()
	options := func(publish ...string) *server.Options {
		return &server.Options{
			NoSigs: true, DontListen: true, JetStream: true, StoreDir: store,
			Users: []*server.User{{Username: "admin", Password: "a"}, {Username: "worker", Password: "w", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}}},
		}
	}
	srv, err := server.NewServer(options(allowed...))
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(patience))
	connect := func(user, password string) jetstream.JetStream {
		nc, err := nats.Connect("", nats.InProcessServer(srv), nats.UserInfo(user, password), nats.MaxReconnects(-1),
			nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
		require.NoError(t, err)
		closed := nc.StatusChanged(nats.CLOSED)
		t.Cleanup(func() { nc.Close(); receive(t, closed) })
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		return js
	}
	admin := connect("admin", "a")
	_, err = admin.CreateStream(t.Context(), jetstream.StreamConfig{Name: "Q", Subjects: []string{"q"}, Retention: jetstream.WorkQueuePolicy})
	require.NoError(t, err)
	durable, err := admin.CreateConsumer(t.Context(), "Q", jetstream.ConsumerConfig{Durable: "w", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)

	b := &bundle{t: t, Server: &brokertest.Server{JS: connect("worker", "w")}}
	b.binding.Stream, b.binding.Config.Name = "Q", "w"
	handled := make(chan struct{}, 10)
	c := b.run(b.options(func(context.Context, query.Delivery) decide.Settlement {
		handled <- struct{}{}
		return done
	}))
	b.until(c.Healthy, "these permissions are enough to pull")
	_, err = admin.Publish(t.Context(), "q", nil)
	require.NoError(t, err)
	receive(t, handled)

	require.NoError(t, srv.ReloadOptions(options(allowed[0], allowed[2], allowed[3])))
	began := time.Now()
	b.until(func() bool { return b.count(PullFailed) > 0 && !c.Healthy() }, "a refused pull is silence, which is noticed")
	require.Less(t, time.Since(began), soon)
	require.ErrorIs(t, b.last(PullFailed).Err, nats.ErrPermissionViolation, "so that nobody blames the server")
	require.NoError(t, srv.ReloadOptions(options(allowed...)))
	b.until(c.Healthy, "pulling works again")
	_, err = admin.Publish(t.Context(), "q", nil)
	require.NoError(t, err)
	receive(t, handled)
	c.stop()
	require.NoError(t, Remove(t.Context(), b.JS, "Q", "w", 1), "these permissions are enough to remove")
	info, err := durable.Info(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.NumAckPending, "these permissions are enough to ack")
	require.Zero(t, b.count(AckFailed))
}
