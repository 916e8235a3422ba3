package upstream

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// canary stands in the address, the headers and the body of every request and response of these tests. It must never be seen in an error.
const canary = "canary7391"

// bundle is a client of a provider that is made of closures, with the order in which its parts were used.
type bundle struct {
	*Client

	// prepare and read are the provider's two halves.
	prepare func(now time.Time, question Question) error
	read    func(Response) (query.Answer, error)
	// wait is the pacer.
	wait func(context.Context, *query.Query) error
	// throttled is told of refusals.
	throttled func(sentAt time.Time, retryAfter time.Duration)

	address string
	method  string
	body    []byte

	mu     sync.Mutex
	events []string
	told   []telling
}

// telling is what OnAttempt heard.
type telling struct {
	provider query.Provider
	took     time.Duration
	err      error
}

// roundTripper is a transport that is a function.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// setup returns a client that sends through transport and makes one attempt, unless a test changes that.
func setup(transport http.RoundTripper) *bundle {
	b := &bundle{
		prepare: func(time.Time, Question) error { return nil },
		read: func(r Response) (query.Answer, error) {
			if err := StatusFault("read "+string(query.EasyPay), r); err != nil {
				return query.Answer{}, err
			}
			return query.Answer{Outcome: query.OutcomeOK, Upstream: query.Response{Code: "0000", Status: r.Status, Message: string(r.Body)}}, nil
		},
		wait: func(context.Context, *query.Query) error { return nil }, throttled: func(time.Time, time.Duration) {},
		address: "http://127.0.0.1:1", method: http.MethodPost, body: []byte(`{"cardBin":"` + canary + `"}`),
	}
	b.Client = New(Options{
		Name: query.EasyPay, Provider: b, Transport: transport, AttemptTimeout: 30 * time.Second, MaxResponse: 64 << 10, UserAgent: "worker/test",
		Retry: RetryPolicy{MaxAttempts: 1, Initial: time.Millisecond, MaxInterval: time.Millisecond, Multiplier: 1, Budget: time.Minute},
		Pacer: b, OnAttempt: b.tell, Budget: NewBudget(0.1, 1000),
		Breaker: NewBreaker(BreakerPolicy{MinCalls: 1000, FailureRatio: 1, Window: time.Minute, OpenFor: time.Minute}, nil),
	})
	return b
}

// setupServed returns a client of the server at address, over a transport with the given changes.
func setupServed(t testing.TB, address string, changes ...func(*TransportOptions)) *bundle {
	t.Helper()
	options := TransportOptions{DialTimeout: 10 * time.Second, HandshakeTimeout: 10 * time.Second, Recycle: time.Hour}
	for _, change := range changes {
		change(&options)
	}
	transport, err := NewTransport(options)
	require.NoError(t, err)
	t.Cleanup(transport.Close)
	b := setup(transport)
	b.address = address
	return b
}

// Prepare implements Provider.
func (b *bundle) Prepare(now time.Time, question Question) (Exchange, error) {
	b.note("prepare")
	if err := b.prepare(now, question); err != nil {
		return Exchange{}, err
	}
	request, err := http.NewRequestWithContext(context.Background(), b.method, b.address+"/"+canary+"?q="+canary, bytes.NewReader(b.body))
	if err != nil {
		return Exchange{}, fault.New("prepare", fault.Rejected, fault.BadField)
	}
	request.Header.Set("X-Own", canary)
	return Exchange{Request: request, Read: b.read}, nil
}

// Wait implements Pacer.
func (b *bundle) Wait(ctx context.Context, q *query.Query) error {
	b.note("wait " + q.ID)
	return b.wait(ctx, q)
}

// Throttled implements Pacer.
func (b *bundle) Throttled(q *query.Query, sentAt time.Time, retryAfter time.Duration) {
	b.note("throttled " + q.ID)
	b.throttled(sentAt, retryAfter)
}

func (b *bundle) tell(_ context.Context, provider query.Provider, took time.Duration, err error) {
	b.note("attempt")
	b.mu.Lock()
	defer b.mu.Unlock()
	b.told = append(b.told, telling{provider: provider, took: took, err: err})
}

func (b *bundle) note(event string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = append(b.events, event)
}

// ask makes one call.
func (b *bundle) ask(ctx context.Context) (query.Answer, []query.Attempt, error) {
	return b.Call(ctx, &query.Query{Client: "shop", Source: "urn:test", ID: "1", Provider: query.EasyPay}, &card.Details{})
}

// requireFault checks an error's kind, code and silence.
func requireFault(t testing.TB, err error, kind fault.Kind, code fault.Code) *fault.Error {
	t.Helper()
	failure, ok := err.(*fault.Error) //nolint:errorlint // Callers get this very type.
	require.True(t, ok, "%T", err)
	require.Equal(t, kind, failure.Kind, "%v: %v", err, failure.Cause)
	require.Equal(t, code, failure.Code, "%v: %v", err, failure.Cause)
	text, marshalErr := failure.MarshalText()
	require.NoError(t, marshalErr)
	for _, shown := range []string{err.Error(), fmt.Sprintf("%v %+v %#v %q %d", err, err, err, err, err), string(text)} {
		require.NotContains(t, shown, canary)
		require.NotContains(t, shown, "127.0.0.1")
	}
	return failure
}
