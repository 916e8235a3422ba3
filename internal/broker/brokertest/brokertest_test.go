package brokertest_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
)

// TestMain also shows that a server and its connections leave no goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStartHoldsNothing(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	info, err := s.JS.AccountInfo(t.Context())
	require.NoError(t, err)
	require.Zero(t, info.Streams)
	require.Empty(t, s.Embedded().ClientURL())
	require.Equal(t, t.Name(), s.Conn.Opts.Name)
}

func TestNewHoldsTheTopology(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t, brokertest.WithTopology(func(o *broker.Topology) { o.Prefix = "other" }))
	left, err := broker.Verify(t.Context(), s.JS, s.Topology)
	require.NoError(t, err)
	require.Empty(t, left)
	_, err = s.JS.Stream(t.Context(), "OTHER_QUERIES")
	require.NoError(t, err)
}

func TestServersShareNothing(t *testing.T) {
	t.Parallel()
	one, two := brokertest.New(t), brokertest.New(t)
	_, err := one.JS.Publish(t.Context(), "discount.query.easypay.bulk.shop", nil)
	require.NoError(t, err)
	stream, err := two.JS.Stream(t.Context(), two.Topology.Names().Queries())
	require.NoError(t, err)
	require.Zero(t, stream.CachedInfo().State.Msgs)
}

func TestListeningServerTakesConnections(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.Listening())
	nc := s.Connect(t, func(o *broker.Options) { o.InProcess, o.URL = nil, s.Embedded().ClientURL() })
	require.NoError(t, nc.Flush())
	url := s.Embedded().ClientURL()
	s.Stop()
	s.Resume(t)
	require.Equal(t, url, s.Embedded().ClientURL())
	require.Eventually(t, func() bool { return nc.FlushTimeout(time.Second) == nil }, 20*time.Second, 5*time.Millisecond)
}

func TestConnectionsOutliveAStop(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t, brokertest.SyncAlways())
	other := s.Connect(t)
	js, err := jetstream.New(other)
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "discount.query.easypay.bulk.shop", []byte("kept"))
	require.NoError(t, err)
	s.Stop()
	require.Eventually(t, other.IsReconnecting, 20*time.Second, 5*time.Millisecond)
	s.Resume(t)
	require.Eventually(t, func() bool { return other.FlushTimeout(time.Second) == nil && s.Conn.FlushTimeout(time.Second) == nil }, 20*time.Second, 5*time.Millisecond)
	stream, err := s.JS.Stream(t.Context(), s.Topology.Names().Queries())
	require.NoError(t, err)
	require.EqualValues(t, 1, stream.CachedInfo().State.Msgs)
}
