package app

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/sweeper"
)

// TestGivenUpQueriesAreAnsweredAndRemoved lets the broker give up on a query before any worker has lived. A sweep gives it its result and
// takes it out of the queue; a query that waits beside it stays.
func TestGivenUpQueriesAreAnsweredAndRemoved(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Consumer.QuarantineAfter, s.Consumer.MaxDeliver = 1, 2
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, built.Close(context.Background())) })
	r := &running{App: built}
	r.connect(t, s)
	_, err = r.Publish(t.Context(), easyPay("lost", "008", query.Bulk))
	require.NoError(t, err)
	queries := built.topology.Names().Queries()
	durable, err := r.broker.JS.Consumer(t.Context(), queries, "easypay-bulk")
	require.NoError(t, err)
	for range s.Consumer.MaxDeliver {
		batch, err := durable.Fetch(1, jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
		require.NoError(t, (<-batch.Messages()).Nak())
	}
	require.Eventually(t, func() bool {
		_, err := durable.FetchNoWait(1) // The broker gives up when somebody asks for more.
		info, infoErr := durable.Info(t.Context())
		return err == nil && infoErr == nil && info.NumAckPending == 0
	}, patience, 10*time.Millisecond)
	_, err = r.Publish(t.Context(), easyPay("waits", "008", query.Bulk))
	require.NoError(t, err)
	require.Equal(t, 2, r.count(t, queries))

	for range 2 { // The second pass finds what was there at the first.
		require.NoError(t, built.sweeper.Pass(t.Context()))
	}
	require.Equal(t, "quarantined", r.resultOf(t, query.Key("shop", "urn:shop", "lost")).Data.Reason)
	require.Equal(t, 1, r.count(t, queries))
	require.Len(t, s.lines(`"msg":"query swept up"`, `"why":"given_up"`, `"settled":true`), 1)
	require.NoError(t, built.sweeper.Pass(t.Context()))
	require.Len(t, s.lines(`"msg":"query swept up"`), 1, "it is gone")
}

// TestRemovalThatIsNotConfirmed asks for the removal of a message that was not delivered yet, which the broker never confirms.
func TestRemovalThatIsNotConfirmed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.NATS.RequestTimeout = time.Second
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, built.Close(context.Background())) })
	r := &running{App: built}
	r.connect(t, s)
	_, err = r.Publish(t.Context(), easyPay("waits", "008", query.Bulk))
	require.NoError(t, err)
	queries := built.topology.Names().Queries()
	err = built.remove(t.Context(), sweeper.Binding{Stream: queries, Consumer: "easypay-bulk"}, 1)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, 1, r.count(t, queries))
}
