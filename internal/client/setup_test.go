package client

import (
	"context"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/schemas"
)

// patience bounds every wait. Only a test that fails takes so long.
const patience = 20 * time.Second

// Public test data that must never travel in the clear.
const (
	testCard   = "6200000000000005"
	testToken  = "tokenOfTheCardholder"
	testMobile = "+8613800138000"
)

// bundle is a server, a client on it and the worker's side of the agreement: the decoder and the keys.
type bundle struct {
	*brokertest.Server
	*Client

	t       testing.TB
	decoder *query.Decoder
	ring    *card.Ring
}

func setup(t testing.TB) *bundle {
	t.Helper()
	s := brokertest.New(t)
	dir := t.TempDir()
	_, err := card.NewKeys(dir, time.Now())
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	subjects := query.NewSubjects("discount")
	decoder, err := query.NewDecoder(subjects)
	require.NoError(t, err)
	return &bundle{
		Server: s, t: t, decoder: decoder, ring: ring,
		Client: New(Options{
			Conn: s.Conn, JS: s.JS, Subjects: subjects, Name: "shop", ResultStream: s.Topology.Names().Results(), Sealer: ring.Sealer(),
		}),
	}
}

// restricted returns a client whose user may publish to the subjects given only.
func restricted(t *testing.T, rights ...string) *Client {
	t.Helper()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "reader", Password: "reader", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: rights}}},
		},
	})
	require.NoError(t, err)
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	require.True(t, running.ReadyForConnections(patience))
	connect := func(user string) jetstream.JetStream {
		conn, err := nats.Connect(running.ClientURL(), nats.UserInfo(user, user))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, broker.Drain(context.Background(), conn)) })
		js, err := jetstream.New(conn, jetstream.WithDefaultTimeout(time.Second))
		require.NoError(t, err)
		return js
	}
	admin, topology := connect("admin"), broker.DefaultTopology()
	plan, err := broker.MakePlan(t.Context(), admin, topology)
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), admin, plan, nil))
	js := connect("reader")
	return New(Options{Conn: js.Conn(), JS: js, Subjects: query.NewSubjects("discount"), Name: "shop", ResultStream: topology.Names().Results()})
}

// respond plays the worker for one provider's interactive lane: it stores a guarded result for each query and acks it.
func (b *bundle) respond(provider query.Provider, status query.Status) {
	b.t.Helper()
	ctx := context.Background()
	nc := b.Connect(b.t)
	js, err := jetstream.New(nc)
	require.NoError(b.t, err)
	names := b.Topology.Names()
	publisher, err := publish.New(ctx, publish.Options{
		JS: js, Subjects: b.Subjects, ResultStream: names.Results(), DeadStream: names.Dead(), RetryStream: names.Retries(), Timeout: time.Second,
	})
	require.NoError(b.t, err)
	durable, err := js.Consumer(ctx, names.Queries(), names.Consumer(string(provider), "interactive"))
	require.NoError(b.t, err)
	consuming, err := durable.Consume(func(message jetstream.Msg) {
		q, err := b.decoder.Decode(deliveryOf(message))
		if err == nil && publisher.StoreResult(ctx, q, status, []byte(`{"correlationid":"`+q.Correlation+`"}`)) == nil {
			_ = message.Ack() // A lost ack makes the query be delivered again, and its result be refused.
		}
	})
	require.NoError(b.t, err)
	b.t.Cleanup(func() {
		consuming.Stop()
		<-consuming.Closed()
	})
}

func deliveryOf(message jetstream.Msg) query.Delivery {
	return query.Delivery{Subject: message.Subject(), Header: message.Headers(), Data: message.Data(), Number: 1, Stored: time.Now()}
}

// only returns the one query that is stored, as it lies in the stream.
func (b *bundle) only() *jetstream.RawStreamMsg {
	b.t.Helper()
	stream, err := b.Server.JS.Stream(context.Background(), b.Topology.Names().Queries())
	require.NoError(b.t, err)
	require.EqualValues(b.t, 1, stream.CachedInfo().State.Msgs)
	message, err := stream.GetMsg(context.Background(), stream.CachedInfo().State.FirstSeq)
	require.NoError(b.t, err)
	return message
}

// decoded returns the one query that is stored, as the worker reads it.
func (b *bundle) decoded() *query.Query {
	b.t.Helper()
	message := b.only()
	q, err := b.decoder.Decode(query.Delivery{Subject: message.Subject, Header: message.Header, Data: message.Data, Number: 1})
	require.NoError(b.t, err)
	return q
}

// coupons returns a question for EasyPay.
func coupons(id string) Question {
	amount := int64(51004)
	return Question{
		Provider: query.EasyPay, Lane: query.Interactive, Source: "urn:shop", ID: id, Correlation: "order-" + id,
		EasyPay: &query.EasyPayQuestion{MallID: "T0001234", CardBin: "41111111", Amount: &amount},
	}
}

// usage returns a question for UnionPay with its card data.
func usage(t testing.TB, id string) Question {
	t.Helper()
	number, err := card.ParseNumber(testCard)
	require.NoError(t, err)
	return Question{
		Provider: query.UnionPay, Lane: query.Interactive, Source: "urn:shop", ID: id,
		UnionPay: &query.UnionPayQuestion{PID: "1234567890", ScenID: "0001"},
		Card:     &card.Details{UserToken: card.NewSecret(testToken), Number: number, Mobile: card.NewSecret(testMobile)},
	}
}

// within returns a context that ends after a time.
func within(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// requireValid checks a query in structured mode against the published schemas of its envelope and its data.
func requireValid(t testing.TB, message []byte, dataSchema string) {
	t.Helper()
	set, err := schemas.Compile()
	require.NoError(t, err)
	require.NoError(t, set.Validate("cloudevent.v1.json", message))
	var envelope struct {
		Data jsontext.Value `json:"data"`
	}
	require.NoError(t, json.Unmarshal(message, &envelope))
	require.NoError(t, set.Validate(dataSchema, envelope.Data))
}
