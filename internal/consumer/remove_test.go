package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// TestRemove takes messages that the broker gave up on out of a work queue, on one server and on three that keep everything three times.
func TestRemove(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *queue{"one server": oneServer, "a cluster": threeServers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := start(t)
			const given = 6
			q.publish(t, given)
			q.giveUp(t, "mine", given) // The others' messages have the even sequences.
			require.EqualValues(t, 2*given, q.messages(t), "the broker keeps what it gave up on")
			q.publish(t, 1)
			held := q.fetch(t, "mine", 1)[0]
			q.publish(t, 1)

			for _, sequence := range []uint64{1, 5, 9, 5} {
				require.NoError(t, q.remove(t, "mine", sequence, patience), "a second time does nothing")
			}
			left := uint64(2*given + 4 - 3)
			require.Eventually(t, func() bool { return q.messages(t) == left }, patience, 10*time.Millisecond)
			for _, sequence := range []uint64{1, 5, 9} {
				_, err := q.stream(t).GetMsg(t.Context(), sequence)
				require.ErrorIs(t, err, jetstream.ErrMsgNotFound)
			}
			info := q.info(t, "mine")
			require.Equal(t, []int{1, given - 3}, []int{info.NumAckPending, info.NumRedelivered}, "the others are as they were")

			require.ErrorIs(t, q.remove(t, "mine", 2*given+3, time.Second), context.DeadlineExceeded, "not delivered yet: left alone")
			require.ErrorIs(t, q.remove(t, "nobody", 3, patience), nats.ErrNoResponders)
			q.giveUp(t, "others", given+2)
			require.NoError(t, q.remove(t, "others", 3, patience))
			require.NoError(t, held.DoubleAck(t.Context()), "after the last removal, so that all of them are done with")
			require.Eventually(t, func() bool { return q.messages(t) == left-1 }, patience, 10*time.Millisecond)
			_, err := q.stream(t).GetMsg(t.Context(), 3)
			require.NoError(t, err, "one consumer can't remove what another has not acked")
			require.Len(t, q.fetch(t, "mine", 1), 1, "what waits is delivered")
		})
	}
}

// TestAckFloor shows what the sweeper relies on: no message that is pending ever lies below the ack floor; a message that was given up on
// stops the floor; and an ack that leaves nothing pending lets it pass, for good.
func TestAckFloor(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *queue{"one server": oneServer, "a cluster": threeServers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := start(t)
			floor := func(floor, pending, again int) {
				t.Helper()
				info := q.info(t, "mine")
				require.Equal(t, []int{floor, pending, again}, []int{int(info.AckFloor.Stream), info.NumAckPending, info.NumRedelivered})
			}
			q.publish(t, 3) // The others' messages have the even sequences.
			q.giveUp(t, "mine", 3)
			floor(0, 0, 3)
			q.publish(t, 3)
			held := q.fetch(t, "mine", 2)
			require.NoError(t, held[0].DoubleAck(t.Context()))
			floor(0, 1, 3)
			require.NoError(t, held[1].DoubleAck(t.Context()))
			floor(9, 0, 3)
			held = q.fetch(t, "mine", 1)
			floor(9, 1, 3)
			require.NoError(t, q.remove(t, "mine", 3, patience))
			require.NoError(t, held[0].DoubleAck(t.Context()))
			floor(11, 0, 2)
		})
	}
}

// TestRemovedWhileHeld removes a message that somebody holds. The holder's ack is confirmed all the same.
func TestRemovedWhileHeld(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(1)
	c := b.run(b.options(handle(ok)))
	b.until(func() bool { return b.stored() == 0 }, "acked")
	c.stop()
	b.publish(2)
	taken := b.take(t, 2)
	require.NoError(t, Remove(t.Context(), b.JS, b.binding.Stream, b.binding.Config.Name, 2))
	require.EqualValues(t, 1, b.stored())
	require.NoError(t, taken[0].DoubleAck(t.Context()))
	require.NoError(t, taken[1].DoubleAck(t.Context()))
	require.Zero(t, b.stored())
	info := b.info()
	require.Zero(t, info.NumAckPending)
	require.EqualValues(t, 3, info.AckFloor.Stream)
}
