package worker

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Public test numbers and secrets that must never be seen in anything the worker writes.
const (
	testCard   = "6200000000000005"
	testToken  = "tokenOfTheCardholder"
	testMobile = "+8613800138000"
)

// bundle is a worker whose surroundings are closures, with everything it stored.
type bundle struct {
	*Worker

	ring     *card.Ring
	subjects query.Subjects
	store    *memory

	// What the surroundings do; each may be replaced by a test before it handles anything.
	call func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error)
	wait func(ctx context.Context, q *query.Query) error
}

// memory is a broker that keeps what it was given, with the guard of one result per key.
type memory struct {
	mu       sync.Mutex
	results  map[string][]byte
	statuses map[string]query.Status
	dead     map[string][]byte
	reasons  map[string]query.Reason
	retries  []scheduled
	outcomes []decide.Outcome
	order    []string
	refuse   func(what string) error
	// limits say how many bytes of what the broker takes; 0 is any number.
	limits map[string]int
}

type scheduled struct {
	query *query.Query
	at    time.Time
	body  []byte
}

func setup(t testing.TB) *bundle {
	t.Helper()
	dir := t.TempDir()
	_, err := card.NewKeys(dir, time.Now())
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	subjects := query.NewSubjects("discount")
	decoder, err := query.NewDecoder(subjects)
	require.NoError(t, err)
	b := &bundle{
		ring: ring, subjects: subjects,
		store: &memory{
			results: map[string][]byte{}, statuses: map[string]query.Status{}, dead: map[string][]byte{}, reasons: map[string]query.Reason{},
			refuse: func(string) error { return nil },
		},
		call: func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
			return testAnswer(), []query.Attempt{{At: time.Now(), Milliseconds: 7, Status: 200, Upstream: "0000"}}, nil
		},
		wait: func(context.Context, *query.Query) error { return nil },
	}
	policy := decide.Policy{Horizon: 10 * time.Minute, QuarantineAfter: 3, FirstRetry: 4 * time.Second, MaxRetry: time.Minute}
	b.Worker = New(Options{
		Decoder: decoder, Unsealer: &card.Unsealer{Ring: ring, MaxSealed: card.MaxSealed},
		Policies: map[query.Lane]decide.Policy{query.Interactive: policy, query.Bulk: policy},
		Caller:   b, Results: b.store, Aside: b.store, Observer: b.store, Build: "test",
	})
	return b
}

// Call keeps the pace, as an upstream's client does.
func (b *bundle) Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
	if err := b.wait(ctx, q); err != nil {
		return query.Answer{}, nil, err
	}
	return b.call(ctx, q, details)
}

// fail makes every call fail so.
func (b *bundle) fail(kind fault.Kind, code fault.Code) {
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		failure := fault.New("call", kind, code)
		failure.Status, failure.Upstream = 503, "9999"
		return query.Answer{}, []query.Attempt{{At: time.Now(), Milliseconds: 3, Kind: kind.String(), Code: code}}, failure
	}
}

func (m *memory) StoreResult(ctx context.Context, q *query.Query, status query.Status, event []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.refuse("result"), m.fits("result", event)); err != nil {
		return err
	}
	if m.results[q.Key()] != nil {
		return fault.New("store result", fault.Duplicate, fault.AlreadyAnswered)
	}
	m.results[q.Key()], m.statuses[q.Key()] = event, status
	m.order = append(m.order, "result")
	return nil
}

func (m *memory) Result(_ context.Context, q *query.Query) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.results[q.Key()], m.refuse("look")
}

func (m *memory) DeadLetter(_ context.Context, q *query.Query) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead[q.Key()], m.refuse("letter")
}

func (m *memory) StoreDead(ctx context.Context, q *query.Query, reason query.Reason, event []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.refuse("dead"), m.fits("dead", event)); err != nil {
		return err
	}
	m.dead[q.Key()], m.reasons[q.Key()] = event, reason
	m.order = append(m.order, "dead")
	return nil
}

func (m *memory) ScheduleRetry(ctx context.Context, q *query.Query, at time.Time, retry []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := errors.Join(ctx.Err(), m.refuse("retry"), m.fits("retry", retry)); err != nil {
		return err
	}
	m.retries = append(m.retries, scheduled{query: q, at: at, body: retry})
	m.order = append(m.order, "retry")
	return nil
}

func (m *memory) fits(what string, body []byte) error {
	if limit := m.limits[what]; limit > 0 && len(body) > limit {
		return fault.New("store", fault.Rejected, fault.TooLarge)
	}
	return nil
}

func (m *memory) Observe(outcome decide.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outcomes = append(m.outcomes, outcome)
}

// everything returns all that was stored, as text.
func (m *memory) everything() string {
	all := ""
	for _, stored := range []map[string][]byte{m.results, m.dead} {
		for _, event := range stored {
			all += string(event) + "\n"
		}
	}
	for _, retry := range m.retries {
		all += string(retry.body) + "\n"
	}
	return all
}

// last returns the outcome of the last delivery.
func (m *memory) last(t *testing.T) decide.Outcome {
	t.Helper()
	require.NotEmpty(t, m.outcomes)
	return m.outcomes[len(m.outcomes)-1]
}

func testAnswer() query.Answer {
	price := query.Won(1000)
	return query.Answer{
		Outcome: query.OutcomeOK, AsOf: time.Now(), Upstream: query.Response{Code: "0000", Status: 200, Dialect: "A"},
		Offers: []query.Offer{{ID: "CP12345678", Card: query.CardCompany{Code: "008"}, Type: query.Fixed, Verdict: query.Applicable, Discount: &price}},
	}
}

// easyPay returns the delivery of a query for EasyPay with the given id.
func (b *bundle) easyPay(id string) query.Delivery {
	return b.delivery(query.EasyPay, id, map[string]any{"mallId": "T5102001", "cardBin": "12345678", "amount": 51004}, nil)
}

// unionPay returns the delivery of a query for UnionPay whose card data is sealed for the query named by binding.
func (b *bundle) unionPay(t testing.TB, id string, binding card.Binding) query.Delivery {
	t.Helper()
	number, err := card.ParseNumber(testCard)
	require.NoError(t, err)
	sealed, err := b.ring.Sealer().SealDetails(
		card.Details{UserToken: card.NewSecret(testToken), Number: number, Mobile: card.NewSecret(testMobile)}, binding)
	require.NoError(t, err)
	return b.delivery(query.UnionPay, id, map[string]any{"pid": "1234567890", "data": sealed}, nil)
}

func bindingOf(id string) card.Binding {
	return card.Binding{ID: id, Source: "urn:test", Type: query.TypeRequested}
}

func (b *bundle) delivery(provider query.Provider, id string, data any, attributes map[string]any) query.Delivery {
	event := map[string]any{"specversion": "1.0", "id": id, "source": "urn:test", "type": query.TypeRequested, "data": data}
	maps.Copy(event, attributes)
	body, err := json.Marshal(event)
	if err != nil {
		panic(errors.New("a test's own event must encode"))
	}
	return query.Delivery{
		Subject: b.subjects.Query(provider, query.Interactive, "shop"), Data: body, Stream: "DISCOUNT_QUERIES", Sequence: 42,
		Header: map[string][]string{"Content-Type": {query.ContentTypeEvent}, "Nats-Rollup": {"all"}, "X-Own": {"kept"}},
		Number: 1, Stored: time.Now(),
	}
}

func keyOf(id string) string { return query.Key("shop", "urn:test", id) }

// decodeInto reads a stored event's data.
func decodeInto(t *testing.T, event []byte, data any) map[string]any {
	t.Helper()
	var envelope struct {
		Data json.RawMessage `json:"data"`
	}
	require.NoError(t, json.Unmarshal(event, &envelope))
	require.NoError(t, json.Unmarshal(envelope.Data, data))
	var whole map[string]any
	require.NoError(t, json.Unmarshal(event, &whole))
	return whole
}
