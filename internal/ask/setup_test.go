package ask

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/query"
)

// patience bounds every wait for a condition. Only a test that fails takes so long.
const patience = 20 * time.Second

// asking stands in for the way of a query.
type asking func(ctx context.Context, delivery query.Delivery, until time.Time) ([]byte, error)

func (a asking) Ask(ctx context.Context, delivery query.Delivery, until time.Time) ([]byte, error) {
	return a(ctx, delivery, until)
}

// finding stands in for the results.
type finding func(ctx context.Context, key, client string) ([]byte, bool, error)

func (f finding) Lookup(ctx context.Context, key, client string) ([]byte, bool, error) {
	return f(ctx, key, client)
}

// nothing finds no result.
func nothing(context.Context, string, string) ([]byte, bool, error) { return nil, false, nil }

// echo answers each query with what it asks.
func echo(_ context.Context, delivery query.Delivery, _ time.Time) ([]byte, error) {
	return fmt.Appendf(nil, `{"asked":%q}`, delivery.Data), nil
}

// bundle is a server with one serving service, and a client's connection to it.
type bundle struct {
	*brokertest.Server

	t      testing.TB
	client *nats.Conn
	served *served
}

// served is a service that runs.
type served struct {
	*Service

	t testing.TB
	// stop ends the taking of requests, giveUp the handling of them. ended is closed when Serve has returned.
	stop   func()
	giveUp func()
	ended  chan struct{}

	mu      sync.Mutex
	replies []Reply
}

func setup(t testing.TB, asker asking, changes ...func(*Options)) *bundle {
	t.Helper()
	b := &bundle{Server: brokertest.Start(t), t: t}
	b.client = b.Connect(t)
	b.served = b.serve(b.Conn, asker, changes...)
	return b
}

// serve starts a service on a connection and waits until it takes requests.
func (b *bundle) serve(conn *nats.Conn, asker asking, changes ...func(*Options)) *served {
	b.t.Helper()
	subjects := query.NewSubjects("discount")
	decoder, err := query.NewDecoder(subjects)
	require.NoError(b.t, err)
	taking := make(chan struct{})
	s := &served{t: b.t, ended: make(chan struct{})}
	options := Options{
		Conn: conn, Subjects: subjects, Decoder: decoder, Asker: asker, Results: finding(nothing),
		Providers: []query.Provider{query.EasyPay, query.UnionPay}, Build: "v1.2.3", OnServing: func() { close(taking) }, OnReply: s.told,
		Patience: time.Hour, MaxPatience: time.Hour, LookupTimeout: time.Hour, // However slow the machine is, no test fails by the clock.
	}
	for _, change := range changes {
		change(&options)
	}
	s.Service = New(options)
	take, stop := context.WithCancel(context.Background())
	work, giveUp := context.WithCancel(context.Background())
	s.stop, s.giveUp = stop, giveUp
	served := make(chan error, 1)
	go func() {
		served <- s.Serve(take, work)
		close(s.ended)
	}()
	b.t.Cleanup(func() {
		stop()
		giveUp()
		s.hasEnded()
		require.NoError(b.t, <-served)
	})
	wait(b.t, taking, "the service takes requests")
	return s
}

func (s *served) told(reply Reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replies = append(s.replies, reply)
}

// codes returns how often each code of an endpoint was told.
func (s *served) codes(endpoint string) map[Code]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	codes := map[Code]int{}
	for _, reply := range s.replies {
		if reply.Endpoint == endpoint {
			codes[reply.Code]++
		}
	}
	return codes
}

// requireCodes waits until the codes told are these. A reply is told after it was sent.
func (s *served) requireCodes(endpoint string, want map[Code]int) {
	s.t.Helper()
	total := func(codes map[Code]int) int {
		sum := 0
		for _, count := range codes {
			sum += count
		}
		return sum
	}
	require.Eventually(s.t, func() bool { return total(s.codes(endpoint)) >= total(want) }, patience, time.Millisecond)
	require.Equal(s.t, want, s.codes(endpoint))
}

func (s *served) hasEnded() {
	s.t.Helper()
	wait(s.t, s.ended, "the service has ended")
}

// wait waits for a channel to give something or to be closed.
func wait[T any](t testing.TB, c <-chan T, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		require.FailNow(t, "waited too long", what)
	}
}

// request sends a message from the client and returns the reply.
func (b *bundle) request(subject string, header nats.Header, data string) *nats.Msg {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	reply, err := b.client.RequestMsgWithContext(ctx, &nats.Msg{Subject: subject, Header: header, Data: []byte(data)})
	require.NoError(b.t, err)
	return reply
}

// later sends a message and returns where its reply will be. It is closed without one if there is none.
func (b *bundle) later(subject, data string) <-chan *nats.Msg {
	replies := make(chan *nats.Msg, 1)
	go func() {
		defer close(replies)
		replies <- b.request(subject, nil, data)
	}()
	return replies
}

// ask asks EasyPay with bare data.
func (b *bundle) ask(id string) *nats.Msg {
	b.t.Helper()
	return b.request("discount.ask.easypay.shop", nats.Header{"Nats-Msg-Id": {id}}, coupons)
}

// coupons is the data of a query for EasyPay.
const coupons = `{"cardCd":"026"}`

// event returns a query for EasyPay in structured mode with the deadline given.
func event(t testing.TB, id string, expires time.Time) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": id, "source": "urn:shop", "type": query.TypeRequested, "expirytime": expires, "data": json.RawMessage(coupons),
	})
	require.NoError(t, err)
	return string(text)
}

// requireRefused checks that a reply is a refusal with nothing in it but closed words.
func requireRefused(t testing.TB, reply *nats.Msg, status string, code Code, after string) {
	t.Helper()
	header := nats.Header{micro.ErrorCodeHeader: {status}, micro.ErrorHeader: {string(code)}}
	if after != "" {
		header[HeaderRetryAfter] = []string{after}
	}
	require.Equal(t, header, reply.Header)
	require.Empty(t, reply.Data)
}

// requireEvent checks that a reply is an event.
func requireEvent(t testing.TB, reply *nats.Msg, event string) {
	t.Helper()
	require.Equal(t, nats.Header{"Content-Type": {"application/cloudevents+json"}}, reply.Header)
	require.Equal(t, event, string(reply.Data))
}

// gate is an asker that holds every query until it is opened.
type gate struct {
	entered chan query.Delivery
	open    chan struct{}
}

func newGate() *gate {
	return &gate{entered: make(chan query.Delivery, 1000), open: make(chan struct{})}
}

func (g *gate) ask(ctx context.Context, delivery query.Delivery, until time.Time) ([]byte, error) {
	g.entered <- delivery
	<-g.open
	return echo(ctx, delivery, until)
}
