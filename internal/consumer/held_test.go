package consumer

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// extended is a message that knows when it was extended.
type extended struct {
	jetstream.Msg

	began time.Time
	at    []time.Duration
	fail  error
}

// InProgress implements jetstream.Msg.
func (m *extended) InProgress() error {
	m.at = append(m.at, time.Since(m.began))
	return m.fail
}

// holding runs a loop for an ack wait of 30 seconds, in which a tick comes every 5.
func holding(t *testing.T, onError func(error)) *held {
	t.Helper()
	h := newHeld(30*time.Second, onError)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

func TestHeldIsExtendedEveryThird(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := holding(t, func(err error) { require.NoError(t, err) })
		first := &extended{began: time.Now()}
		h.add(first)
		time.Sleep(6 * time.Second)
		second := &extended{began: time.Now()}
		h.add(second)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		h.remove(first)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, []time.Duration{10 * time.Second, 20 * time.Second, 30 * time.Second}, first.at, "and never after it was removed")
		require.Equal(t, []time.Duration{14 * time.Second, 24 * time.Second, 34 * time.Second}, second.at, "at the tick after its third")
		h.remove(second)
	})
}

func TestFailedExtensionIsTriedAgainAtTheNextTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("down")
		var told []error
		h := holding(t, func(err error) { told = append(told, err) })
		m := &extended{began: time.Now(), fail: down}
		h.add(m)
		time.Sleep(16 * time.Second)
		synctest.Wait()
		h.mu.Lock()
		m.fail = nil
		h.mu.Unlock()
		time.Sleep(15 * time.Second)
		synctest.Wait()
		require.Equal(t, []error{down, down}, told)
		require.Equal(t, []time.Duration{10 * time.Second, 15 * time.Second, 20 * time.Second, 30 * time.Second}, m.at)
		h.remove(m)
	})
}

func TestAnotherAckWaitIsFollowedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := holding(t, func(err error) { require.NoError(t, err) })
		m := &extended{began: time.Now()}
		h.add(m)
		time.Sleep(time.Second)
		h.setAckWait(30 * time.Second) // The same: the ticks go on as they are.
		time.Sleep(3 * time.Second)
		h.setAckWait(time.Minute)
		h.setAckWait(6 * time.Second)
		time.Sleep(5500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, []time.Duration{5 * time.Second, 7 * time.Second, 9 * time.Second}, m.at)
		h.setAckWait(time.Minute)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		require.Equal(t, []time.Duration{29500 * time.Millisecond}, m.at[3:])
		h.remove(m)
	})
}

func TestSlowHandlerGetsItsMessageOnce(t *testing.T) {
	t.Parallel()
	const wait = time.Second
	b := setup(t, ackWait(wait))
	b.publish(1)
	var deliveries atomic.Int64
	c := b.run(b.options(func(context.Context, query.Delivery) decide.Settlement {
		deliveries.Add(1)
		<-time.After(3 * wait) // Three times the wait after which the server gives it to somebody else.
		return done
	}))
	b.until(func() bool { return b.stored() == 0 }, "acked")
	c.stop()
	require.EqualValues(t, 1, deliveries.Load())
	require.Zero(t, b.info().NumRedelivered)
	require.Zero(t, b.count(HeartbeatFailed))
}

func TestMessageThatWaitsForItsSlotIsHeldToo(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(time.Second))
	acks := b.acks()
	b.publish(2)
	c := b.bind(b.options(nil))
	ctx, cancel := context.WithCancel(t.Context())
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		c.held.run(ctx)
	}()
	messages := make(chan jetstream.Msg, 2)
	used, err := c.pull(2, messages)
	require.NoError(t, err)
	require.Equal(t, 2, used)
	extensions := map[string]int{}
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		extension, err := acks.NextMsg(patience)
		require.NoError(t, err)
		require.Equal(t, "+WPI", string(extension.Data))
		extensions[extension.Subject]++
	}
	require.Len(t, extensions, 2)
	require.Zero(t, b.info().NumRedelivered)
	for range 2 {
		message := <-messages
		c.held.remove(message)
		c.settle(message, done)
	}
	cancel()
	receive(t, beating)
	require.Zero(t, b.stored())
	require.Empty(t, c.held.messages)
}

func TestHeartbeatThatCannotBeSentIsTold(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(time.Second))
	b.publish(1)
	started, release := make(chan struct{}), make(chan struct{})
	c := b.run(b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
		if delivery.Number == 1 {
			close(started)
			<-release
		}
		return decide.Settlement{Done: true}
	}))
	receive(t, started)
	b.Stop()
	b.until(func() bool { return b.count(HeartbeatFailed) > 0 }, "told")
	require.Error(t, b.last(HeartbeatFailed).Err)
	b.Resume(t)
	b.Reconnected(t)
	close(release)
	b.until(func() bool { return b.stored() == 0 }, "acked")
	c.stop()
}
