package gauge

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
)

// patience bounds waits for what happens soon unless something is stuck.
const patience = 40 * time.Second

// bundle is a broker with the topology and a reader of it.
type bundle struct {
	*Reader

	server *brokertest.Server
}

func setup(t testing.TB, options ...brokertest.Option) *bundle {
	t.Helper()
	b := &bundle{server: brokertest.New(t, options...)}
	b.Reader = b.reader(b.server.JS)
	return b
}

// reader returns a reader over a connection.
func (b *bundle) reader(js jetstream.JetStream) *Reader {
	return New(Options{
		JS: js, Topology: b.server.Topology, Reasons: []string{"malformed", "rejected"}, ReplayStates: []string{"running", "done"}, Timeout: patience,
	})
}

// read reads the figures, all of them.
func (b *bundle) read(t testing.TB) Figures {
	t.Helper()
	figures, err := b.Read(t.Context())
	require.NoError(t, err)
	return figures
}

// backlog reads the figures once a queue has a backlog: the server counts what was just stored a moment later.
func (b *bundle) backlog(t testing.TB, name string, count uint64) Figures {
	t.Helper()
	var f Figures
	require.Eventually(t, func() bool {
		f = b.read(t)
		return f.of(t, name).Backlog == count
	}, patience, 10*time.Millisecond)
	return f
}

// publish stores a message and returns its sequence.
func (b *bundle) publish(t testing.TB, subject string, options ...jetstream.PublishOpt) uint64 {
	t.Helper()
	ack, err := b.server.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte("a message")}, options...)
	require.NoError(t, err)
	return ack.Sequence
}

// take fetches as many messages as a consumer gives, and acks none.
func (b *bundle) take(t testing.TB, stream, name string, count int) []jetstream.Msg {
	t.Helper()
	consumer, err := b.server.JS.Consumer(t.Context(), stream, name)
	require.NoError(t, err)
	batch, err := consumer.Fetch(count, jetstream.FetchMaxWait(patience))
	require.NoError(t, err)
	var messages []jetstream.Msg
	for message := range batch.Messages() {
		messages = append(messages, message)
	}
	require.NoError(t, batch.Error())
	require.Len(t, messages, count)
	return messages
}

func (b *bundle) ack(t testing.TB, messages ...jetstream.Msg) {
	t.Helper()
	for _, message := range messages {
		require.NoError(t, message.DoubleAck(t.Context()))
	}
}

// batch stores the record of a replay.
func (b *bundle) batch(t testing.TB, id, record string) {
	t.Helper()
	_, err := b.bucket(t).Put(t.Context(), "batch."+id, []byte(record))
	require.NoError(t, err)
}

func (b *bundle) bucket(t testing.TB) jetstream.KeyValue {
	t.Helper()
	bucket, err := b.server.JS.KeyValue(t.Context(), b.server.Topology.Names().ReplaysBucket())
	require.NoError(t, err)
	return bucket
}

// of returns the figures of one queue, written as in easypay/bulk/query.
func (f Figures) of(t testing.TB, name string) Queue {
	t.Helper()
	for _, q := range f.Queues {
		if fmt.Sprintf("%s/%s/%s", q.Provider, q.Lane, q.Kind) == name {
			return q
		}
	}
	require.Fail(t, "no such queue", name)
	return Queue{}
}

// died returns the counts of dead letters that are not zero, by provider and reason.
func (f Figures) died() map[string]uint64 {
	counts := map[string]uint64{}
	for _, letters := range f.Dead {
		if letters.Count > 0 {
			counts[letters.Provider+"/"+letters.Reason] = letters.Count
		}
	}
	return counts
}

func (f Figures) stream(t testing.TB, name string) Stream {
	t.Helper()
	for _, s := range f.Streams {
		if s.Name == name {
			return s
		}
	}
	require.Fail(t, "no such stream", name)
	return Stream{}
}
