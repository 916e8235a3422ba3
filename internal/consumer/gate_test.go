package consumer

import (
	"context"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// TestGate leaves the backlog where it is while nothing can be done with it and takes all of it when the gate opens, at no delivery's cost.
func TestGate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const backlog = 40
	b.publish(backlog)
	var capacity, asked, handled, again atomic.Int64
	options := b.options(func(_ context.Context, delivery query.Delivery) decide.Settlement {
		if delivery.Number > 1 {
			again.Add(1)
		}
		handled.Add(1)
		return done
	})
	options.Capacity = func() int {
		asked.Add(1)
		return int(capacity.Load())
	}
	b.run(options)
	require.Eventually(t, func() bool { return asked.Load() >= 3 }, patience, time.Millisecond)
	require.Zero(t, handled.Load())
	require.EqualValues(t, backlog, b.info().NumPending, "a closed gate leaves every query in the stream")

	capacity.Store(math.MaxInt)
	require.Eventually(t, func() bool { return handled.Load() == backlog }, patience, time.Millisecond)
	require.Zero(t, again.Load())
}

func TestGateGivesBackTheSlotsItHasNoUseFor(t *testing.T) {
	t.Parallel()
	for capacity, want := range map[int]int{0: 0, 1: 1, 3: 3, 8: 8, math.MaxInt: 8} {
		c := &Consumer{Options: Options{Capacity: func() int { return capacity }}, slots: make(chan struct{}, 8)}
		require.Equal(t, 8, c.acquire(t.Context()))
		require.Equal(t, want, c.worthTaking(8))
		require.Len(t, c.slots, want)
	}
}

func TestClosedGateDoesNotHoldAStop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(1)
	var asked atomic.Int64
	options := b.options(func(context.Context, query.Delivery) decide.Settlement { return done })
	options.Capacity = func() int { asked.Add(1); return 0 }
	r := b.run(options)
	require.Eventually(t, func() bool { return asked.Load() > 0 }, patience, time.Millisecond)
	r.stop()
}

// TestConsumerThatMayNotPullIsReadyAfterAWhile keeps the gate closed from the start, as a pause of an account does.
func TestConsumerThatMayNotPullIsReadyAfterAWhile(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(*Consumer)
		want    int
	}{
		"nothing was pulled": {prepare: func(*Consumer) {}, want: 1},
		"pulls worked":       {prepare: func(c *Consumer) { c.healthy.set(true) }},
		"a pull failed":      {prepare: func(c *Consumer) { c.failed = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := 0
			c := &Consumer{Options: Options{Stream: "S", Name: "c", OnEvent: func(e Event) {
				require.Equal(t, Event{Consumer: "S/c", What: Resting}, e)
				told++
			}}, watch: newWatch(time.Second)}
			test.prepare(c)
			began := time.Now()
			c.rests(began)
			c.rests(began.Add(restPatience - 1))
			require.Zero(t, told, "it may be about to pull")
			c.rests(began.Add(restPatience))
			c.rests(began.Add(2 * restPatience))
			require.Equal(t, test.want, told)
		})
	}
}
