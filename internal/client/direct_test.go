package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// answering plays the way of a query and the results: it remembers what it answered.
type answering struct {
	decoder *query.Decoder
	status  query.Status
	err     error

	mu     sync.Mutex
	asked  []*query.Query
	stored map[string][]byte
}

func (a *answering) Ask(_ context.Context, delivery query.Delivery, _ time.Time) ([]byte, error) {
	q, err := a.decoder.Decode(delivery)
	if err != nil || a.err != nil {
		return nil, errors.Join(err, a.err)
	}
	event, err := resultEvent(q, a.status)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, q)
	a.stored[q.Client+"/"+q.Key()] = event
	return event, err
}

func (a *answering) Lookup(_ context.Context, key, client string) ([]byte, bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	event, found := a.stored[client+"/"+key]
	return event, found, a.err
}

func (a *answering) only(t testing.TB) *query.Query {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	require.Len(t, a.asked, 1)
	return a.asked[0]
}

func resultEvent(q *query.Query, status query.Status) ([]byte, error) {
	eventType := query.TypeCompleted
	if status == query.Failed {
		eventType = query.TypeFailed
	}
	return query.NewEvent(q, eventType, "result.0", time.Now(), map[string]string{}).Encode()
}

// serve plays the worker beside the queue.
func (b *bundle) serve(changes ...func(*ask.Options, *answering)) *answering {
	b.t.Helper()
	a := &answering{decoder: b.decoder, status: query.Completed, stored: map[string][]byte{}}
	serving := make(chan struct{})
	options := ask.Options{
		Conn: b.Connect(b.t), Subjects: b.Subjects, Decoder: b.decoder, Asker: a, Results: a,
		Providers: []query.Provider{query.EasyPay, query.UnionPay}, OnServing: func() { close(serving) },
	}
	for _, change := range changes {
		change(&options, a)
	}
	take, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- ask.New(options).Serve(take, take) }()
	b.t.Cleanup(func() {
		stop()
		require.NoError(b.t, <-ended)
	})
	select {
	case <-serving:
	case <-time.After(patience):
		require.FailNow(b.t, "nobody serves")
	}
	return a
}

func TestDirect(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]query.Status{"completed": query.Completed, "failed": query.Failed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			a := b.serve(func(_ *ask.Options, a *answering) { a.status = status })
			ctx := within(t, patience)
			result, err := b.Direct(ctx, coupons("1"))
			require.NoError(t, err)
			key := query.Key("shop", "urn:shop", "1")
			require.Equal(t, key, result.Key)
			require.Equal(t, status, result.Status)
			require.Contains(t, string(result.Event), key)

			q := a.only(t)
			deadline, _ := ctx.Deadline()
			require.WithinDuration(t, deadline, q.Expires, 0, "the caller's deadline is the query's")
			require.Equal(t, query.Interactive, q.Lane)
			require.Equal(t, "order-1", q.Correlation)
			require.Equal(t, "41111111", q.EasyPay.CardBin)

			found, err := b.Client.Lookup(ctx, key)
			require.NoError(t, err)
			require.Equal(t, result, found)
			office := New(b.Client.Options)
			office.Name = "office"
			_, err = office.Lookup(ctx, key)
			require.ErrorIs(t, err, ErrNoResult, "another client's result is none")
			require.ErrorContains(t, err, key)
		})
	}
}

func TestDirectKeepsADeadlineAndSealsTheCard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a := b.serve()
	question := usage(t, "")
	question.Expires = time.Now().Add(7 * time.Second)
	result, err := b.Direct(within(t, patience), question)
	require.NoError(t, err)
	q := a.only(t)
	require.Equal(t, result.Key, q.Key())
	require.Regexp(t, "^[0-9a-f]{24}$", q.ID, "an empty id gets a random one")
	require.WithinDuration(t, question.Expires, q.Expires, 0)
	require.NotContains(t, string(q.UnionPay.Data.Reveal()), testCard)
	unsealer := card.Unsealer{Ring: b.ring, MaxSealed: card.MaxSealed}
	details, err := unsealer.Unseal(q.UnionPay.Data.Reveal(), card.Binding{ID: q.ID, Source: q.Source, Type: query.TypeRequested})
	require.NoError(t, err)
	require.Equal(t, testCard, details.Number.Reveal())
}

func TestDirectTellsARefusal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(o *ask.Options, a *answering)
		want   Refusal
		says   string
	}{
		"overloaded": {
			func(o *ask.Options, _ *answering) {
				o.Delay = func(*query.Query) time.Duration { return 90 * time.Second }
			},
			Refusal{Status: 503, Reason: "overloaded", RetryAfter: 90 * time.Second},
			"ask: the worker refused: overloaded (503), try again in 1m30s",
		},
		"not stored": {
			func(_ *ask.Options, a *answering) { a.err = fault.New("store", fault.Interrupted, fault.NotStored) },
			Refusal{Status: 503, Reason: "unavailable", RetryAfter: time.Second},
			"ask: the worker refused: unavailable (503), try again in 1s",
		},
		"too large": {
			func(o *ask.Options, _ *answering) { o.MaxBytes = 10 },
			Refusal{Status: 413, Reason: "too_large"}, "ask: the worker refused: too_large (413)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.serve(tc.change)
			result, err := b.Direct(within(t, patience), coupons("1"))
			refusal, ok := errors.AsType[*Refusal](err)
			require.True(t, ok, "%v", err)
			require.Equal(t, tc.want, *refusal)
			require.EqualError(t, err, tc.says)
			require.Equal(t, Result{Key: query.Key("shop", "urn:shop", "1")}, result)
		})
	}
}

func TestDirectWithoutAWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Direct(within(t, patience), coupons("1"))
	require.ErrorIs(t, err, nats.ErrNoResponders)
	require.ErrorContains(t, err, "ask: nobody serves discount.ask.easypay.shop on this broker")
	_, err = b.Client.Lookup(within(t, patience), query.Key("shop", "urn:shop", "1"))
	require.ErrorContains(t, err, "look up: nobody serves discount.lookup.shop on this broker")
	_, err = b.Client.Lookup(within(t, patience), "\xff")
	require.EqualError(t, err, "encode lookup: the key is not valid text")
	question := coupons("1")
	question.Source = ""
	_, err = b.Direct(within(t, patience), question)
	require.ErrorContains(t, err, "needs a source")
	stopped, stop := context.WithCancel(t.Context())
	stop()
	_, err = b.Direct(stopped, coupons("1"))
	require.ErrorIs(t, err, context.Canceled)
}

// reply plays a worker that replies one thing to everything. A reply of nil is none.
func (b *bundle) reply(reply *nats.Msg) {
	b.t.Helper()
	conn := b.Connect(b.t)
	_, err := conn.Subscribe("discount.*.>", func(message *nats.Msg) {
		if reply != nil {
			_ = message.RespondMsg(&nats.Msg{Header: reply.Header, Data: reply.Data}) // The test sees what came.
		}
	})
	require.NoError(b.t, err)
	require.NoError(b.t, conn.Flush())
}

func TestDirectWaitsNoLongerThanItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.reply(nil)
	key := query.Key("shop", "urn:shop", "1")
	result, err := b.Direct(within(t, 50*time.Millisecond), coupons("1"))
	require.ErrorIs(t, err, ErrNoResult)
	require.ErrorContains(t, err, "ask: no reply about query "+key+" in time")
	require.Equal(t, Result{Key: key}, result, "the key is how the result is found later")
	_, err = b.Client.Lookup(within(t, 50*time.Millisecond), key)
	require.ErrorIs(t, err, ErrNoResult)
}

func TestStrangeRepliesAreNoResults(t *testing.T) {
	t.Parallel()
	key := query.Key("shop", "urn:shop", "1")
	event := func(eventType, subject string) string {
		return fmt.Sprintf(`{"type":%q,"subject":%q,"note":%q}`, eventType, subject, testToken)
	}
	for name, data := range map[string]string{
		"nothing":             "",
		"no JSON":             testToken,
		"another query's":     event(query.TypeCompleted, query.Key("shop", "urn:shop", "2")),
		"a dead letter":       event(query.TypeDead, key),
		"a query":             event(query.TypeRequested, key),
		"a subject of a kind": `{"type":"` + query.TypeCompleted + `","subject":["` + key + `"]}`,
		"members twice":       `{"type":"x","type":"` + query.TypeCompleted + `","subject":"` + key + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.reply(&nats.Msg{Data: []byte(data)})
			result, err := b.Direct(within(t, patience), coupons("1"))
			require.ErrorIs(t, err, ErrBadReply)
			require.NotContains(t, err.Error(), testToken)
			require.Equal(t, Result{Key: key}, result)
		})
	}
}

func TestReadRefusal(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		code, reason, after string
		want                *Refusal
	}{
		"none":             {"", "overloaded", "1", nil},
		"a full one":       {"503", "overloaded", "7", &Refusal{Status: 503, Reason: "overloaded", RetryAfter: 7 * time.Second}},
		"no wait":          {"504", "deadline_passed", "", &Refusal{Status: 504, Reason: "deadline_passed"}},
		"an odd reason":    {"500", testToken + " 1", "", &Refusal{Status: 500, Reason: "unknown"}},
		"an odd status":    {testToken, "", "", &Refusal{Reason: "unknown"}},
		"an odd wait":      {"503", "stopping", "-1", &Refusal{Status: 503, Reason: "stopping"}},
		"an endless wait":  {"503", "stopping", "99999999999999999999", &Refusal{Status: 503, Reason: "stopping"}},
		"a wait in a text": {"503", "stopping", testToken, &Refusal{Status: 503, Reason: "stopping"}},
	} {
		header := nats.Header{}
		for key, value := range map[string]string{micro.ErrorCodeHeader: tc.code, micro.ErrorHeader: tc.reason, ask.HeaderRetryAfter: tc.after} {
			if value != "" {
				header.Set(key, value)
			}
		}
		require.Equal(t, tc.want, readRefusal(header), name)
	}
}

func FuzzReadStatus(f *testing.F) {
	key := query.Key("shop", "urn:shop", "1")
	for _, seed := range []string{
		`{"type":"discount.query.completed.v1","subject":"` + key + `"}`, `{"type":"discount.query.failed.v1","subject":"` + key + `","data":[{}]}`,
		`{"type":"discount.query.dead.v1","subject":"` + key + `"}`, `{"subject":"` + key + `","subject":""}`, `[`, ``, "{\"type\":\"\xff\"}",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, event []byte) {
		status, err := readStatus(event, key)
		if err != nil {
			require.ErrorIs(t, err, ErrBadReply)
			require.Empty(t, status)
			return
		}
		var head struct {
			Type    string `json:"type"`
			Subject string `json:"subject"`
		}
		require.NoError(t, json.Unmarshal(event, &head))
		require.Equal(t, key, head.Subject)
		require.Equal(t, status == query.Completed, head.Type == query.TypeCompleted)
	})
}
