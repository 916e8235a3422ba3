package consumer

import (
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// patience bounds every wait for a condition. Only a test that fails takes so long.
const patience = 20 * time.Second

// subject is where the tests' queries go.
const subject = "discount.query.easypay.bulk.shop"

var done = decide.Settlement{Done: true}

// bundle is a server with one provider and lane, and the events of all consumers that a test starts.
type bundle struct {
	*brokertest.Server

	t       testing.TB
	binding broker.Binding

	mu     sync.Mutex
	events []Event
}

func setup(t testing.TB, options ...brokertest.Option) *bundle {
	t.Helper()
	options = append([]brokertest.Option{brokertest.WithTopology(func(topology *broker.Topology) {
		topology.Providers, topology.Lanes = []string{"easypay"}, []string{"bulk"}
	})}, options...)
	s := brokertest.New(t, options...)
	return &bundle{Server: s, t: t, binding: s.Topology.Consumers()[0]}
}

// ackWait makes the durable consumers wait so long for an ack.
func ackWait(wait time.Duration) brokertest.Option {
	return brokertest.WithTopology(func(topology *broker.Topology) { topology.AckWait = wait })
}

// handle makes a function a Handler.
type handle func(ctx context.Context, delivery query.Delivery) decide.Settlement

func (h handle) Handle(ctx context.Context, delivery query.Delivery) decide.Settlement {
	return h(ctx, delivery)
}

// options returns the options of a consumer with two slots.
func (b *bundle) options(handler handle) Options {
	return Options{
		JS: b.JS, Stream: b.binding.Stream, Name: b.binding.Config.Name, Slots: 2, PullExpiry: time.Second, AckTimeout: 5 * time.Second,
		Handler: handler, OnEvent: b.record, Capacity: func() int { return math.MaxInt },
	}
}

func (b *bundle) bind(options Options) *Consumer {
	b.t.Helper()
	c, err := Bind(context.Background(), options)
	require.NoError(b.t, err)
	return c
}

// running is a consumer that runs. Both of its contexts end with the test.
type running struct {
	*Consumer

	t          testing.TB
	take, work context.CancelFunc
	ended      chan struct{}
}

func (b *bundle) run(options Options) *running {
	b.t.Helper()
	return b.start(b.bind(options))
}

// start runs a consumer that was bound before.
func (b *bundle) start(c *Consumer) *running {
	b.t.Helper()
	take, stopTaking := context.WithCancel(context.Background())
	work, stopWorking := context.WithCancel(context.Background())
	r := &running{Consumer: c, t: b.t, take: stopTaking, work: stopWorking, ended: make(chan struct{})}
	go func() {
		defer close(r.ended)
		r.Run(take, work)
	}()
	b.t.Cleanup(func() { stopWorking(); r.stop() })
	return r
}

// take takes count messages off the durable consumer, as another worker would, and settles none.
func (b *bundle) take(t testing.TB, count int) []jetstream.Msg {
	t.Helper()
	durable, err := b.JS.Consumer(t.Context(), b.binding.Stream, b.binding.Config.Name)
	require.NoError(t, err)
	batch, err := durable.Fetch(count)
	require.NoError(t, err)
	var taken []jetstream.Msg
	for message := range batch.Messages() {
		taken = append(taken, message)
	}
	return taken
}

// stop ends the taking and waits until everything is settled.
func (r *running) stop() {
	r.t.Helper()
	r.take()
	receive(r.t, r.ended)
}

// publish stores count queries and returns their data.
func (b *bundle) publish(count int) []string {
	b.t.Helper()
	var all []string
	for i := range count {
		data := fmt.Sprintf("query %d", i)
		_, err := b.JS.PublishAsync(subject, []byte(data))
		require.NoError(b.t, err)
		all = append(all, data)
	}
	receive(b.t, b.JS.PublishAsyncComplete())
	return all
}

// info returns what the server knows of the durable consumer.
func (b *bundle) info() *jetstream.ConsumerInfo {
	b.t.Helper()
	c, err := b.JS.Consumer(context.Background(), b.binding.Stream, b.binding.Config.Name)
	require.NoError(b.t, err)
	return c.CachedInfo()
}

// stored returns how many queries are not acked yet.
func (b *bundle) stored() uint64 {
	b.t.Helper()
	s, err := b.JS.Stream(context.Background(), b.binding.Stream)
	require.NoError(b.t, err)
	return s.CachedInfo().State.Msgs
}

func (b *bundle) record(event Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event)
}

// count returns how many events of a kind there were.
func (b *bundle) count(what What) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	count := 0
	for _, event := range b.events {
		if event.What == what {
			count++
		}
	}
	return count
}

// last returns the last event of a kind.
func (b *bundle) last(what What) Event {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, event := range slices.Backward(b.events) {
		if event.What == what {
			return event
		}
	}
	require.Fail(b.t, "no such event", what)
	return Event{}
}

// until waits for a condition.
func (b *bundle) until(condition func() bool, what string) {
	b.t.Helper()
	require.Eventually(b.t, condition, patience, 2*time.Millisecond, what)
}

// receive waits for a value of a channel, or for its end.
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

// acks returns everything that is said about messages of the durable consumer, as the server hears it.
func (b *bundle) acks() *nats.Subscription {
	b.t.Helper()
	observer := b.Connect(b.t)
	sub, err := observer.SubscribeSync("$JS.ACK." + b.binding.Stream + "." + b.binding.Config.Name + ".>")
	require.NoError(b.t, err)
	require.NoError(b.t, observer.Flush())
	return sub
}

// line is the way to a server. It can be made to lose what is sent or what comes back, and to break.
type line struct {
	server nats.InProcessConnProvider
	// loseSent and loseAnswers make everything in that direction disappear, as on a network that is half dead.
	loseSent, loseAnswers atomic.Bool

	mu      sync.Mutex
	current net.Conn
}

// InProcessConn implements nats.InProcessConnProvider.
func (l *line) InProcessConn() (net.Conn, error) {
	conn, err := l.server.InProcessConn()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current = conn
	return &end{Conn: conn, line: l}, nil
}

// repair loses nothing any more, and breaks the connection so that a new one begins.
func (l *line) repair() {
	l.loseSent.Store(false)
	l.loseAnswers.Store(false)
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
		if err != nil || !e.line.loseAnswers.Load() {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (e *end) Write(b []byte) (int, error) {
	if e.line.loseSent.Load() {
		return len(b), nil
	}
	return e.Conn.Write(b)
}

// connect returns a line and JetStream on it.
func (b *bundle) connect() (*line, jetstream.JetStream) {
	b.t.Helper()
	l := &line{server: b.Server}
	nc := b.Connect(b.t, func(o *broker.Options) { o.InProcess = l })
	js, err := jetstream.New(nc)
	require.NoError(b.t, err)
	return l, js
}
