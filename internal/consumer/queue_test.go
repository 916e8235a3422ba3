package consumer

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
)

// queue is a work queue with two durable consumers, which give up on a message after its second delivery.
type queue struct {
	js jetstream.JetStream
}

func oneServer(t testing.TB) *queue {
	t.Helper()
	return newQueue(t, brokertest.Start(t).JS, 1)
}

// threeServers returns a queue that is kept three times.
func threeServers(t testing.TB) *queue {
	t.Helper()
	routes := ""
	var ports []int
	for range 3 {
		ports = append(ports, freePort(t))
		routes += fmt.Sprintf(",nats://127.0.0.1:%d", ports[len(ports)-1])
	}
	var url string
	for i, port := range ports {
		node, err := server.NewServer(&server.Options{
			ServerName: fmt.Sprintf("node%d", i+1), Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true,
			StoreDir: t.TempDir(), Routes: server.RoutesFromStr(routes[1:]),
			Cluster: server.ClusterOpts{Name: "three", Host: "127.0.0.1", Port: port},
		})
		require.NoError(t, err)
		node.Start()
		t.Cleanup(func() { node.Shutdown(); node.WaitForShutdown() })
		url = node.ClientURL()
	}
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	closed := nc.StatusChanged(nats.CLOSED)
	t.Cleanup(func() { nc.Close(); receive(t, closed) })
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return newQueue(t, js, 3)
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	return listener.Addr().(*net.TCPAddr).Port
}

// newQueue makes the queue, as soon as a cluster has found itself.
func newQueue(t testing.TB, js jetstream.JetStream, replicas int) *queue {
	t.Helper()
	soonDone := func(attempt func(ctx context.Context) error) {
		require.Eventually(t, func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			return attempt(ctx) == nil
		}, 3*patience, 50*time.Millisecond)
	}
	soonDone(func(ctx context.Context) error {
		_, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: "Q", Subjects: []string{"q.*"}, Retention: jetstream.WorkQueuePolicy, Replicas: replicas, DenyDelete: true, DenyPurge: true,
		})
		return err
	})
	for _, name := range []string{"mine", "others"} {
		soonDone(func(ctx context.Context) error {
			_, err := js.CreateOrUpdateConsumer(ctx, "Q", jetstream.ConsumerConfig{
				Durable: name, FilterSubject: "q." + name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: 2 * time.Second, MaxDeliver: 2,
			})
			return err
		})
	}
	return &queue{js: js}
}

// publish stores count messages for each consumer, in turn.
func (q *queue) publish(t testing.TB, count int) {
	t.Helper()
	for range count {
		for _, name := range []string{"mine", "others"} {
			_, err := q.js.Publish(t.Context(), "q."+name, nil)
			require.NoError(t, err)
		}
	}
}

func (q *queue) consumer(t testing.TB, name string) jetstream.Consumer {
	t.Helper()
	durable, err := q.js.Consumer(t.Context(), "Q", name)
	require.NoError(t, err)
	return durable
}

func (q *queue) info(t testing.TB, name string) *jetstream.ConsumerInfo {
	t.Helper()
	return q.consumer(t, name).CachedInfo()
}

func (q *queue) stream(t testing.TB) jetstream.Stream {
	t.Helper()
	stream, err := q.js.Stream(t.Context(), "Q")
	require.NoError(t, err)
	return stream
}

func (q *queue) messages(t testing.TB) uint64 {
	t.Helper()
	return q.stream(t).CachedInfo().State.Msgs
}

func (q *queue) fetch(t testing.TB, name string, count int) []jetstream.Msg {
	t.Helper()
	batch, err := q.consumer(t, name).Fetch(count, jetstream.FetchMaxWait(5*time.Second))
	require.NoError(t, err)
	var messages []jetstream.Msg
	for message := range batch.Messages() {
		messages = append(messages, message)
	}
	return messages
}

// giveUp takes count messages as often as the broker allows, without ever settling one. The broker gives up when somebody asks for more.
func (q *queue) giveUp(t testing.TB, name string, count int) {
	t.Helper()
	for range 2 {
		for _, message := range q.fetch(t, name, count) {
			require.NoError(t, message.Nak())
		}
	}
	require.Eventually(t, func() bool {
		_, err := q.consumer(t, name).FetchNoWait(1)
		return err == nil && q.info(t, name).NumAckPending == 0
	}, patience, 20*time.Millisecond)
}

func (q *queue) remove(t testing.TB, name string, sequence uint64, within time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	return Remove(ctx, q.js, "Q", name, sequence)
}
