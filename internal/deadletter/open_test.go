package deadletter

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
)

// TestOpenNamesWhatIsMissing takes one thing away after the other.
func TestOpenNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	server := brokertest.New(t)
	names := server.Topology.Names()
	options := Options{JS: server.JS, Names: names, Timeout: 5 * time.Second, Patience: time.Second}
	_, err := Open(t.Context(), options)
	require.NoError(t, err)
	for _, missing := range []struct {
		what string
		take func() error
	}{
		{"bucket " + names.ReplaysBucket(), func() error { return server.JS.DeleteKeyValue(t.Context(), names.ReplaysBucket()) }},
		{"stream " + names.Results(), func() error { return server.JS.DeleteStream(t.Context(), names.Results()) }},
		{"stream " + names.Dead(), func() error { return server.JS.DeleteStream(t.Context(), names.Dead()) }},
	} {
		require.NoError(t, missing.take())
		_, err := Open(t.Context(), options)
		require.Equal(t, fault.BrokerRefused, fault.CodeOf(err), missing.what)
		require.ErrorContains(t, err, missing.what)
		require.ErrorContains(t, err, "`worker setup`")
	}
}

// TestOpenWithoutARight is told by the broker that a right is missing, so it does not wait until its patience is over.
func TestOpenWithoutARight(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, missing := range []string{"DISCOUNT_DEAD", "DISCOUNT_RESULTS", "KV_discount_replays"} {
		t.Run(missing, func(t *testing.T) {
			t.Parallel()
			js := b.copied(t, slices.DeleteFunc(mayLook(), func(right string) bool { return right == "$JS.API.STREAM.INFO."+missing }))
			_, err := Open(t.Context(), Options{JS: js, Names: b.Names, Timeout: time.Second, Patience: time.Hour})
			require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))
			require.ErrorIs(t, err, nats.ErrPermissionViolation)
			require.ErrorContains(t, err, "lacks a right")
		})
	}
}

func TestOpenWaitsForABrokerThatStarts(t *testing.T) {
	t.Parallel()
	server := brokertest.New(t)
	asked := &countedStreams{JetStream: server.JS}
	server.Stop()
	opened := make(chan error, 1)
	go func() {
		_, err := Open(context.Background(), Options{JS: asked, Names: server.Topology.Names(), Timeout: 500 * time.Millisecond, Patience: patience})
		opened <- err
	}()
	require.Eventually(t, func() bool { return asked.count.Load() > 1 || len(opened) > 0 }, patience, 5*time.Millisecond)
	require.Empty(t, opened, "it asks again")
	server.Resume(t)
	require.NoError(t, <-opened)
}

func TestOpenGivesABrokerUpThatStaysAway(t *testing.T) {
	t.Parallel()
	server := brokertest.New(t)
	server.Stop()
	options := Options{JS: server.JS, Names: server.Topology.Names(), Timeout: 100 * time.Millisecond, Patience: 300 * time.Millisecond}
	_, err := Open(t.Context(), options)
	require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))
	require.ErrorContains(t, err, "the broker is away")
	require.ErrorContains(t, err, "stream DISCOUNT_DEAD")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ended, options)
	require.Equal(t, fault.Interrupted, fault.KindOf(err), "whoever stops it knows why")
	server.Resume(t)
}

func TestOpenThatIsRefused(t *testing.T) {
	t.Parallel()
	server := brokertest.New(t)
	_, err := Open(t.Context(), Options{JS: refusing{server.JS}, Names: server.Topology.Names(), Timeout: time.Second, Patience: time.Hour})
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
	require.ErrorContains(t, err, "refused it (10025)")
	require.NotContains(t, err.Error(), "worker setup")
}

// refusing refuses everybody who asks for a stream.
type refusing struct{ jetstream.JetStream }

// Stream implements jetstream.JetStream.
func (refusing) Stream(context.Context, string) (jetstream.Stream, error) {
	return nil, &jetstream.APIError{Code: 400, ErrorCode: 10025, Description: "bad request"}
}

// countedStreams counts how often a stream was asked for.
type countedStreams struct {
	jetstream.JetStream

	count atomic.Int64
}

// Stream implements jetstream.JetStream.
func (c *countedStreams) Stream(ctx context.Context, name string) (jetstream.Stream, error) {
	c.count.Add(1)
	return c.JetStream.Stream(ctx, name)
}
