package publish

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// patience bounds every wait for a condition. Only a test that fails takes so long.
const patience = 20 * time.Second

// event stands for a result or a dead letter: this room does not look inside.
var event = []byte(`{"specversion":"1.0"}`)

// bundle is a server and a publisher on it, with the troubles it told.
type bundle struct {
	*brokertest.Server
	*Publisher

	t testing.TB

	mu       sync.Mutex
	troubles []trouble
}

type trouble struct {
	what string
	err  error
}

func setup(t testing.TB, options ...brokertest.Option) *bundle {
	t.Helper()
	b := &bundle{Server: brokertest.New(t, options...), t: t}
	b.Publisher = b.publisher(b.Server.JS, b.Topology.Names().Results())
	return b
}

// publisher returns a publisher that tells its troubles to the bundle.
func (b *bundle) publisher(js jetstream.JetStream, resultStream string) *Publisher {
	b.t.Helper()
	names := b.Topology.Names()
	p, err := New(context.Background(), Options{
		JS: js, Subjects: query.NewSubjects("discount"), ResultStream: names.Results(), DeadStream: names.Dead(), RetryStream: names.Retries(),
		Timeout: time.Second, OnTrouble: func(what string, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.troubles = append(b.troubles, trouble{what, err})
		},
	})
	require.NoError(b.t, err)
	p.ResultStream = resultStream
	return p
}

// told returns the troubles so far.
func (b *bundle) told() []trouble {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]trouble(nil), b.troubles...)
}

// until waits for a condition.
func (b *bundle) until(condition func() bool, what string) {
	b.t.Helper()
	require.Eventually(b.t, condition, patience, 2*time.Millisecond, what)
}

// state returns what a stream holds.
func (b *bundle) state(stream string) jetstream.StreamState {
	b.t.Helper()
	s, err := b.Server.JS.Stream(context.Background(), stream)
	require.NoError(b.t, err)
	return s.CachedInfo().State
}

// last returns the last message on a subject.
func (b *bundle) last(stream, subject string) *jetstream.RawStreamMsg {
	b.t.Helper()
	s, err := b.Server.JS.Stream(context.Background(), stream)
	require.NoError(b.t, err)
	message, err := s.GetLastMsgForSubject(context.Background(), subject)
	require.NoError(b.t, err)
	return message
}

// ask returns a query with the id given.
func ask(id string) *query.Query {
	return &query.Query{Client: "shop", Source: "urn:shop", ID: id, Provider: query.EasyPay, Lane: query.Bulk}
}

// storing stores a completed result in the background.
func storing(ctx context.Context, p *Publisher, q *query.Query) <-chan error {
	ended := make(chan error, 1)
	go func() { ended <- p.StoreResult(ctx, q, query.Completed, event) }()
	return ended
}

// receive waits for a value of a channel.
func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	var got T
	select {
	case got = <-from:
	case <-time.After(patience):
		require.FailNow(t, "nothing came")
	}
	return got
}

func requireDuplicate(t testing.TB, err error) {
	t.Helper()
	require.Equal(t, fault.Duplicate, fault.KindOf(err))
	require.Equal(t, fault.AlreadyAnswered, fault.CodeOf(err))
}

func requireInterrupted(t testing.TB, err error) {
	t.Helper()
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	require.Equal(t, fault.NotStored, fault.CodeOf(err))
}

// line is the way to a server whose answers can be lost.
type line struct {
	server nats.InProcessConnProvider
	// swallow makes all answers disappear for as long as it is set.
	swallow atomic.Bool
	// breakNext makes the next answer disappear together with the connection.
	breakNext atomic.Bool
	// lost counts the answers that disappeared, connects the connections.
	lost, connects atomic.Int64

	mu      sync.Mutex
	current net.Conn
}

// InProcessConn implements nats.InProcessConnProvider.
func (l *line) InProcessConn() (net.Conn, error) {
	conn, err := l.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	l.connects.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = conn
	return &end{Conn: conn, line: l}, nil
}

// repair loses nothing any more, and breaks the connection so that a new one begins.
func (l *line) repair() {
	l.swallow.Store(false)
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.current.Close() // It may be broken already.
}

// end is the client's end of a line.
type end struct {
	net.Conn

	line *line
}

// Read implements net.Conn.
func (e *end) Read(b []byte) (int, error) {
	for {
		n, err := e.Conn.Read(b)
		switch {
		case err != nil:
			return n, err
		case e.line.breakNext.CompareAndSwap(true, false):
			e.line.lost.Add(1)
			return 0, e.Conn.Close()
		case !e.line.swallow.Load():
			return n, nil
		}
		e.line.lost.Add(1)
	}
}

// connect returns a line and a publisher on it.
func (b *bundle) connect() (*line, *Publisher) {
	b.t.Helper()
	l := &line{server: b.Server}
	nc := b.Connect(b.t, func(o *broker.Options) { o.InProcess = l })
	js, err := jetstream.New(nc)
	require.NoError(b.t, err)
	return l, b.publisher(js, b.Topology.Names().Results())
}

// within returns a context that ends when patience does, so that a write that is never confirmed fails its test.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}
