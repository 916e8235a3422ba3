package sweeper

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// setupSchedule sweeps the retries whose time has not come, and nothing else.
func setupSchedule(t *testing.T) *bundle {
	t.Helper()
	b := setup(t)
	names := b.Topology.Names()
	b.binding = Binding{Stream: names.Retries(), Filter: names.ScheduleFilter()}
	b.sweeper.Bindings = []Binding{b.binding}
	return b
}

// schedule stores a retry as the worker does, and returns its sequence.
func (b *bundle) schedule(t *testing.T, key, body string, at time.Time) uint64 {
	t.Helper()
	message := nats.NewMsg("discount.retry.at." + key)
	message.Data = []byte(body)
	ack, err := b.JS.PublishMsg(t.Context(), message,
		jetstream.WithScheduleAt(at), jetstream.WithScheduleTarget("discount.retry.due.easypay.bulk.shop"))
	require.NoError(t, err)
	return ack.Sequence
}

// TestFindsOverdueSchedules finds a retry that should have come due long ago. Those beside it wait for their time.
func TestFindsOverdueSchedules(t *testing.T) {
	t.Parallel()
	b := setupSchedule(t)
	later := time.Now().Add(time.Hour)
	b.schedule(t, "one", "waits", later)
	late := b.schedule(t, "two", "late", later)
	b.schedule(t, "three", "waits", later)
	var looked []string
	b.overdue = func(delivery query.Delivery) bool {
		looked = append(looked, delivery.Subject)
		return string(delivery.Data) == "late"
	}
	b.pass(t, 3)
	require.Len(t, looked, 9)
	for _, subject := range looked {
		require.Equal(t, "discount.retry.due.easypay.bulk.shop", subject, "as if it had come to its target")
	}
	require.Len(t, b.handled, 1, "settled is settled")
	delivery := b.handled[0]
	require.Equal(t, "discount.retry.due.easypay.bulk.shop", delivery.Subject)
	require.Equal(t, "late", string(delivery.Data))
	require.Equal(t, late, delivery.Sequence)
	require.Equal(t, b.binding.Stream, delivery.Stream)
	require.Equal(t, 2, delivery.Number, "the handler looks for a result first")
	require.False(t, delivery.Stored.IsZero())
	require.Equal(t, map[Why]int{Overdue: 1}, b.found)
	require.Empty(t, b.removed)
	require.Equal(t, 3, b.stored(t), "a schedule stays: it may come due after all")
}

// TestScheduleThatIsReplacedIsLookedAtAnew settles a retry, and looks at the one that took its place.
func TestScheduleThatIsReplacedIsLookedAtAnew(t *testing.T) {
	t.Parallel()
	b := setupSchedule(t)
	b.overdue = func(query.Delivery) bool { return true }
	first := b.schedule(t, "one", "first", time.Now().Add(time.Hour))
	b.pass(t, 2)
	second := b.schedule(t, "one", "second", time.Now().Add(time.Hour))
	require.Equal(t, 1, b.stored(t))
	b.pass(t, 2)
	require.Len(t, b.handled, 2)
	require.Equal(t, []uint64{first, second}, []uint64{b.handled[0].Sequence, b.handled[1].Sequence})
}

// TestOverdueScheduleIsTakenUpAgainUntilItIsSettled lets the handler fail once.
func TestOverdueScheduleIsTakenUpAgainUntilItIsSettled(t *testing.T) {
	t.Parallel()
	b := setupSchedule(t)
	b.overdue, b.done = func(query.Delivery) bool { return true }, false
	b.schedule(t, "one", "late", time.Now().Add(time.Hour))
	b.pass(t, 2)
	require.Len(t, b.handled, 2)
	b.done = true
	b.pass(t, 2)
	require.Len(t, b.handled, 3)
}

// TestRetriesThatCameDueAreNotOfTheSchedule leaves them to the binding that has their consumer.
func TestRetriesThatCameDueAreNotOfTheSchedule(t *testing.T) {
	t.Parallel()
	b := setupSchedule(t)
	b.overdue = func(query.Delivery) bool { return true }
	b.schedule(t, "one", "due", time.Now())
	stream, err := b.JS.Stream(t.Context(), b.binding.Stream)
	require.NoError(t, err)
	b.eventually(t, func() bool {
		_, err := stream.GetLastMsgForSubject(t.Context(), "discount.retry.due.easypay.bulk.shop")
		return err == nil
	})
	b.pass(t, 2)
	require.Empty(t, b.handled)
	require.Equal(t, 1, b.stored(t))
}

func TestMissingStreamOfTheScheduleIsReported(t *testing.T) {
	t.Parallel()
	b := setupSchedule(t)
	require.NoError(t, b.JS.DeleteStream(t.Context(), b.binding.Stream))
	require.ErrorContains(t, b.sweeper.Pass(t.Context()), "sweep discount.retry.at.> of DISCOUNT_RETRIES")
}
