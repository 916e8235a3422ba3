package consumer

import (
	"context"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

func TestStopsInTheMiddleLoseNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const backlog = 500
	all := b.publish(backlog)
	handled := make(chan string, 2*backlog)
	stops := 0
	for b.stored() > 0 {
		enough := int64(1 + rand.IntN(80))
		reached, stopping := make(chan struct{}), make(chan struct{})
		var count atomic.Int64
		options := b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
			handled <- string(delivery.Data)
			switch n := count.Add(1); {
			case n == enough:
				close(reached)
			case n > enough:
				<-stopping // So that the stop comes in the middle, however slow it is.
			}
			return done
		})
		options.Slots = 1 + rand.IntN(16)
		c := b.run(options)
		select {
		case <-reached:
		case <-time.After(time.Second): // Fewer were left.
		}
		c.take()
		close(stopping)
		c.stop()
		require.Zero(t, b.info().NumAckPending, "nothing is in hand after a stop")
		stops++
	}
	close(handled)
	var got []string
	for data := range handled {
		got = append(got, data)
	}
	require.ElementsMatch(t, all, got)
	require.Zero(t, b.info().NumRedelivered)
	require.EqualValues(t, backlog, b.info().Delivered.Consumer, "each was delivered once")
	require.GreaterOrEqual(t, stops, backlog/(80+16), "each run handles what is enough, and its slots at most")
}

func TestRunReturnsAfterItsHandlers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(1)
	started, release := make(chan struct{}), make(chan struct{})
	var interrupted error
	options := b.options(func(ctx context.Context, _ query.Delivery) decide.Settlement {
		close(started)
		<-release
		interrupted = ctx.Err()
		return done
	})
	options.Slots = 1
	c := b.run(options)
	receive(t, started)
	c.take()
	select {
	case <-c.ended:
		require.FailNow(t, "Run returned before its handler")
	case <-time.After(300 * time.Millisecond):
	}
	close(release)
	receive(t, c.ended)
	require.NoError(t, interrupted, "the end of taking is not the end of work")
	require.Zero(t, b.stored(), "what was in hand is acked before Run returns")
	require.Empty(t, c.held.messages)
	require.Empty(t, c.slots)
}

func TestEndOfWorkReachesTheHandlers(t *testing.T) {
	t.Parallel()
	b := setup(t, ackWait(time.Minute))
	b.publish(2)
	started := make(chan struct{}, 2)
	c := b.run(b.options(func(ctx context.Context, _ query.Delivery) decide.Settlement {
		started <- struct{}{}
		<-ctx.Done()
		return decide.Settlement{After: 10 * time.Millisecond}
	}))
	receive(t, started)
	receive(t, started)
	c.take()
	c.work()
	receive(t, c.ended)

	numbers := make(chan int, 2)
	b.run(b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
		numbers <- delivery.Number
		return done
	}))
	require.Equal(t, 2, receive(t, numbers), "given back, and not left to the ack wait")
	require.Equal(t, 2, receive(t, numbers))
}

func TestStoppingConsumerHandlesWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	options := b.options(func(context.Context, query.Delivery) decide.Settlement { return done })
	options.PullExpiry = 2 * time.Second
	c := b.run(options)
	b.until(func() bool { return b.info().NumWaiting == 1 }, "a pull waits")
	c.take()
	b.publish(1)
	receive(t, c.ended)
	require.Zero(t, b.stored())
	require.Zero(t, b.info().NumRedelivered)
}

func TestNothingIsTakenAfterTheEnd(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(1)
	c := b.bind(b.options(func(context.Context, query.Delivery) decide.Settlement { return done }))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.Run(ended, t.Context())
	require.Zero(t, b.info().Delivered.Consumer)
	require.False(t, c.Healthy())
	require.Empty(t, b.events)
}

func TestLastPullOfAStoppingConsumerIsNotTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	options := b.options(func(context.Context, query.Delivery) decide.Settlement { return done })
	l, js := b.connect()
	options.JS = js
	c := b.bind(options)
	l.loseAnswers.Store(true)
	take, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(take, t.Context())
	}()
	b.until(func() bool { return b.info().NumWaiting == 1 }, "a pull waits")
	stop()
	receive(t, ended)
	require.False(t, c.Healthy(), "a stop is no reason to call a broken pull a working one")
	require.Empty(t, b.events)
	l.repair()
}

func TestStopWhileTheServerIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.run(b.options(func(context.Context, query.Delivery) decide.Settlement { return done }))
	b.until(c.Healthy, "pulling works")
	b.Stop()
	b.until(func() bool { return !c.Healthy() }, "noticed")
	c.stop()
	require.False(t, c.Healthy())
	require.Equal(t, 1, b.count(Pulling))
}
