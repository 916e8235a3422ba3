package answers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Public test numbers and secrets that must never be seen in anything that is stored.
const (
	testCard   = "6200000000000005"
	otherCard  = "6205500000000000004"
	testToken  = "tokenOfTheCardholder"
	testMobile = "+8613800138000"
)

const (
	keep    = 10 * time.Minute
	timeout = 200 * time.Millisecond
	// callTime is how long the upstream of a bundle takes.
	callTime = 100 * time.Millisecond
)

// bundle is a cache before an upstream that is a closure, with all that it was asked and told.
type bundle struct {
	*Cache

	// call answers the n-th call, from 1. A test may replace it before it asks anything.
	call func(ctx context.Context, n int, q *query.Query) (query.Answer, error)

	mu       sync.Mutex
	calls    []string
	under    int
	most     int
	troubles []string
}

// setup returns a bundle whose upstream answers after callTime. It is meant for a bubble of package synctest.
func setup(t testing.TB, bucket Bucket) *bundle {
	t.Helper()
	b := &bundle{call: func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
		return pause(ctx, callTime, answer(n))
	}}
	b.Cache = New(Options{
		Caller: b, Bucket: bucket, Keep: keep, Size: 100, Timeout: timeout, Fingerprint: fingerprint,
		OnTrouble: func(what string, err error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.troubles = append(b.troubles, fmt.Sprint(what, ": ", err))
		},
		Accounts: map[query.Provider]Account{query.EasyPay: {ID: "ours", MallID: "T0001234"}, query.UnionPay: {ID: "ours", PID: "1", ScenID: "0001"}},
	})
	return b
}

// Call is the upstream. The cache's own method of that name is behind ask.
func (b *bundle) Call(ctx context.Context, q *query.Query, _ *card.Details) (query.Answer, []query.Attempt, error) {
	b.mu.Lock()
	b.calls = append(b.calls, q.ID)
	n := len(b.calls)
	b.under++
	b.most = max(b.most, b.under)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.under--
	}()
	began := time.Now()
	answer, err := b.call(ctx, n, q)
	return answer, []query.Attempt{{At: began, Milliseconds: time.Since(began).Milliseconds()}}, err
}

// asked returns the ids of the queries on whose behalf the upstream was asked.
func (b *bundle) asked() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// told returns the troubles so far and forgets them.
func (b *bundle) told() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	told := b.troubles
	b.troubles = nil
	return told
}

// reply is what a query got.
type reply struct {
	query.Answer

	attempts []query.Attempt
	err      error
	at       time.Time
}

// number tells which call's answer it is.
func (r reply) number(t testing.TB) int {
	t.Helper()
	require.NoError(t, r.err)
	require.Len(t, r.Offers, 1)
	return int(*r.Offers[0].Cap.Minor)
}

// ask asks through the cache.
func (b *bundle) ask(ctx context.Context, q *query.Query) reply {
	return b.askWith(ctx, q, nil)
}

func (b *bundle) askWith(ctx context.Context, q *query.Query, details *card.Details) reply {
	answer, attempts, err := b.Cache.Call(ctx, q, details)
	return reply{answer, attempts, err, time.Now()}
}

// fresh requires that the upstream was asked for a reply.
func (r reply) fresh(t testing.TB, number int) {
	t.Helper()
	require.Equal(t, number, r.number(t))
	require.False(t, r.Shared)
	require.Len(t, r.attempts, 1)
}

// shared requires that a reply was got for another query.
func (r reply) shared(t testing.TB, number int) {
	t.Helper()
	require.Equal(t, number, r.number(t))
	require.True(t, r.Shared)
	require.Empty(t, r.attempts)
}

// answer returns the answer of the n-th call, as of now.
func answer(n int) query.Answer {
	number := query.Won(int64(n))
	return query.Answer{
		Outcome: query.OutcomeOK, AsOf: time.Now().UTC(), Upstream: query.Response{Code: "0000", Message: "성공", Status: 200, Dialect: "a"},
		Offers: []query.Offer{{ID: "CP1", Card: query.CardCompany{Code: "008"}, Type: query.Fixed, Cap: &number, Verdict: query.Applicable}},
	}
}

// pause returns the answer as of when the time is over, or what an upstream's client returns when ctx ends before.
func pause(ctx context.Context, d time.Duration, answer query.Answer) (query.Answer, error) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		answer.AsOf = time.Now().UTC()
		return answer, nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return query.Answer{}, fault.New("call", fault.Unavailable, fault.Timeout)
	}
	return query.Answer{}, fault.New("call", fault.Interrupted, fault.Stopped)
}

// within returns a query for EasyPay that is content with an answer of the age given; less than zero is none.
func within(id string, age time.Duration) *query.Query {
	amount := int64(51004)
	q := &query.Query{
		Client: "shop", Source: "urn:test", ID: id, Provider: query.EasyPay, Lane: query.Interactive,
		EasyPay: &query.EasyPayQuestion{CardBin: "41111111", Amount: &amount},
	}
	if age >= 0 {
		q.MaxAge = &age
	}
	return q
}

const none = -time.Second

// usage returns a query for UnionPay like within, and its card data.
func usage(t testing.TB, id, number string, age time.Duration) (*query.Query, *card.Details) {
	t.Helper()
	q := within(id, age)
	q.Provider, q.EasyPay, q.UnionPay = query.UnionPay, nil, &query.UnionPayQuestion{Data: query.Conceal([]byte(number))}
	parsed, err := card.ParseNumber(number)
	require.NoError(t, err)
	return q, &card.Details{UserToken: card.NewSecret(testToken), Number: parsed, Mobile: card.NewSecret(testMobile)}
}

// fingerprint stands for the keyed hash of a ring.
func fingerprint(n card.Number) (hash, keyID string) {
	digits := []byte(n.Reveal())
	slices.Reverse(digits)
	return fmt.Sprintf("%x", digits), "fp-1"
}

// shelf is a bucket in memory that two bundles can have in common.
type shelf struct {
	mu     sync.Mutex
	values map[string][]byte
	// before runs before each exchange, outside the lock; what it returns is what the exchange returns.
	before func(ctx context.Context, what string) error
	gets   int
	puts   int
}

func newShelf() *shelf {
	return &shelf{values: map[string][]byte{}, before: func(context.Context, string) error { return nil }}
}

type entry struct {
	jetstream.KeyValueEntry

	value []byte
}

func (e entry) Value() []byte { return e.value }

func (s *shelf) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	err := s.before(ctx, "get")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if err != nil {
		return nil, err
	}
	value, ok := s.values[key]
	if !ok {
		return nil, jetstream.ErrKeyNotFound
	}
	return entry{value: value}, nil
}

func (s *shelf) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	err := s.before(ctx, "put")
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if err == nil {
		s.values[key] = value
	}
	return 1, err
}

// counts returns how often the shelf was read and written.
func (s *shelf) counts() (gets, puts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets, s.puts
}

// set replaces every value.
func (s *shelf) set(t testing.TB, value []byte) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NotEmpty(t, s.values)
	for key := range s.values {
		s.values[key] = value
	}
}

func requireFault(t testing.TB, err error, kind fault.Kind, code fault.Code) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err))
	require.Equal(t, code, fault.CodeOf(err))
}

// newRing returns a worker's keys, made for this test.
func newRing(t testing.TB) *card.Ring {
	t.Helper()
	dir := t.TempDir()
	_, err := card.NewKeys(dir, time.Now())
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	return ring
}
