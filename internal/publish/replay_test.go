package publish

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

func (b *bundle) replayer() *Replayer {
	return &Replayer{JS: b.Server.JS, Subjects: b.Subjects, Stream: b.Topology.Names().Retries(), Timeout: 5 * time.Second}
}

func replaysOf(ids ...string) []Replay {
	var all []Replay
	for _, id := range ids {
		all = append(all, Replay{ID: id, Provider: query.EasyPay, Client: "shop", Body: []byte(id)})
	}
	return all
}

func TestReplaysAreStoredInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.replayer().Replay(t.Context(), replaysOf("a", "b", "c", "d")))
	stream, err := b.Server.JS.Stream(t.Context(), "DISCOUNT_RETRIES")
	require.NoError(t, err)
	for i, id := range []string{"a", "b", "c", "d"} {
		message, err := stream.GetMsg(t.Context(), uint64(i+1))
		require.NoError(t, err)
		require.Equal(t, "discount.retry.due.easypay.bulk.shop", message.Subject, "behind everybody who waits")
		require.Equal(t, id, string(message.Data))
		require.Equal(t, nats.Header{"Nats-Expected-Stream": {"DISCOUNT_RETRIES"}, "Nats-Msg-Id": {id}}, message.Header)
	}
}

func TestReplaysWithTheSameIDAreStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.replayer()
	require.NoError(t, r.Replay(t.Context(), replaysOf("a", "b")))
	require.NoError(t, r.Replay(t.Context(), replaysOf("a", "b", "c")), "what is stored is no error")
	require.EqualValues(t, 3, b.state("DISCOUNT_RETRIES").Msgs)
	require.NoError(t, r.Replay(t.Context(), nil))
}

func TestReplaysThatAreNotStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	elsewhere := b.replayer()
	elsewhere.Stream = "DISCOUNT_DEAD"
	err := elsewhere.Replay(t.Context(), replaysOf("a"))
	var refused *jetstream.APIError
	require.ErrorAs(t, err, &refused, "the broker's own error")

	unserved := replaysOf("a")
	unserved[0].Provider = "none"
	require.ErrorIs(t, b.replayer().Replay(t.Context(), unserved), jetstream.ErrNoStreamResponse)
	require.Zero(t, b.state("DISCOUNT_RETRIES").Msgs)

	late := b.replayer()
	late.Timeout = time.Nanosecond
	require.ErrorIs(t, late.Replay(t.Context(), replaysOf("a")), context.DeadlineExceeded)
}
