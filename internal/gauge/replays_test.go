package gauge

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
)

func TestReplaysByState(t *testing.T) {
	t.Parallel()
	b := setup(t)
	counts := func() []uint64 {
		replays := b.read(t).Replays
		require.Len(t, replays, 2, "only states that are known")
		return []uint64{replays["running"], replays["done"]}
	}
	b.batch(t, "1", `{"id":"1","state":"running","payload":"sealed"}`)
	require.Equal(t, []uint64{1, 0}, counts())
	b.batch(t, "2", `{"state":"running"}`)
	b.batch(t, "3", `{"state":"done"}`)
	_, err := b.bucket(t).Put(t.Context(), "letter.7", []byte(`{"state":"running"}`))
	require.NoError(t, err)
	require.Equal(t, []uint64{2, 1}, counts(), "a claim is no batch")
	require.Equal(t, []uint64{2, 1}, counts())
	b.batch(t, "1", `{"state":"done"}`)
	require.Equal(t, []uint64{1, 2}, counts())
	b.batch(t, "1", `{"state":"6200000000000005"}`)
	require.Equal(t, []uint64{1, 1}, counts(), "a state that is not known is not counted")
	b.batch(t, "2", `no JSON`)
	require.Equal(t, []uint64{0, 1}, counts(), "nor is what can't be read")
	b.batch(t, "1", `{"state":"running"}`)
	require.NoError(t, b.bucket(t).Delete(t.Context(), "batch.3"))
	require.Equal(t, []uint64{1, 0}, counts())
}

func TestBucketThatWasMadeAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.batch(t, "1", `{"state":"running"}`)
	b.batch(t, "2", `{"state":"running"}`)
	require.EqualValues(t, 2, b.read(t).Replays["running"])
	require.NoError(t, b.server.JS.DeleteKeyValue(t.Context(), b.server.Topology.Names().ReplaysBucket()))
	f, err := b.Read(t.Context())
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	require.Nil(t, f.Replays)
	require.Len(t, f.Queues, 8, "all else is there")
	b.server.Apply(t)
	b.batch(t, "1", `{"state":"done"}`)
	require.Equal(t, map[string]uint64{"running": 0, "done": 1}, b.read(t).Replays)
}

// mayRead are the rights that a reading needs. All but the last are those that a worker needs to start and to find results.
func mayRead() []string {
	return []string{"$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.*.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.KV_discount_replays"}
}

// as returns a reader on a server of its own, as a user with the rights given.
func as(t *testing.T, rights []string) *bundle {
	t.Helper()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "worker", Password: "worker", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: rights}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	require.NoError(t, err)
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	require.True(t, running.ReadyForConnections(patience))
	connect := func(user string) jetstream.JetStream {
		conn, err := nats.Connect(running.ClientURL(), nats.UserInfo(user, user), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		require.NoError(t, err)
		t.Cleanup(conn.Close)
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		return js
	}
	admin := connect("admin")
	b := &bundle{server: &brokertest.Server{JS: admin, Topology: broker.DefaultTopology()}}
	b.server.Apply(t)
	b.publish(t, "discount.query.easypay.bulk.shop")
	b.publish(t, "discount.dead.k1.easypay.shop.rejected")
	b.batch(t, "1", `{"state":"done"}`)
	b.Reader = b.reader(connect("worker"))
	return b
}

func TestRightsOfAReading(t *testing.T) {
	t.Parallel()
	f := as(t, mayRead()).backlog(t, "easypay/bulk/query", 1)
	require.Equal(t, map[string]uint64{"easypay/rejected": 1}, f.died())
	require.EqualValues(t, 1, f.Replays["done"])
}

// TestWithoutTheRightToReplays reads as a worker whose rights are from before its replays were counted.
func TestWithoutTheRightToReplays(t *testing.T) {
	t.Parallel()
	b := as(t, mayRead()[:3])
	b.Timeout = 2 * time.Second
	f, err := b.Read(t.Context())
	require.ErrorContains(t, err, "count replays")
	require.Nil(t, f.Replays, "absent is not zero")
	require.Positive(t, f.of(t, "easypay/bulk/query").OldestAge)
	require.Equal(t, map[string]uint64{"easypay/rejected": 1}, f.died())
}
