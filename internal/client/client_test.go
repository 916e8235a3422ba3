package client

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestPublishedQueryIsWhatTheWorkerReads(t *testing.T) {
	t.Parallel()
	b := setup(t)
	question := coupons("1")
	question.Expires = time.Now().Add(time.Minute).In(time.FixedZone("Seoul", 9*60*60))
	before := time.Now()
	question.TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	key, err := b.Publish(t.Context(), question)
	require.NoError(t, err)
	require.Equal(t, query.Key("shop", "urn:shop", "1"), key)

	message := b.only()
	require.Equal(t, "discount.query.easypay.interactive.shop", message.Subject)
	require.Equal(t, "application/cloudevents+json", message.Header.Get("Content-Type"))
	requireValid(t, message.Data, "query.requested.easypay.v1.json")

	q := b.decoded()
	require.WithinRange(t, q.Time, before.Add(-time.Millisecond), time.Now())
	require.Equal(t, &query.Query{
		Client: "shop", Source: "urn:shop", ID: "1", Provider: query.EasyPay, Lane: query.Interactive,
		Time: q.Time, Expires: question.Expires.UTC(), Correlation: "order-1", TraceParent: question.TraceParent, EasyPay: question.EasyPay,
	}, q)
	require.Equal(t, key, q.Key())
}

func TestQueryWithoutADeadlineHasNone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	question := coupons("")
	question.Correlation = ""
	key, err := b.Publish(t.Context(), question)
	require.NoError(t, err)
	require.NotContains(t, string(b.only().Data), "expirytime")
	require.NotContains(t, string(b.only().Data), "correlationid")
	require.NotContains(t, string(b.only().Data), "traceparent")
	q := b.decoded()
	require.True(t, q.Expires.IsZero())
	require.Regexp(t, "^[0-9a-f]{24}$", q.ID, "an empty id gets a random one")
	require.Equal(t, key, q.Key())
}

func TestCardDataIsSealedToTheWorkerAndBound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	question := usage(t, "1")
	_, err := b.Publish(t.Context(), question)
	require.NoError(t, err)
	message := b.only()
	for _, secret := range []string{testCard, testToken, testMobile} {
		require.NotContains(t, string(message.Data), secret)
		require.NotContains(t, fmt.Sprint(message.Header, message.Subject), secret)
	}
	requireValid(t, message.Data, "query.requested.unionpay.v1.json")
	q := b.decoded()
	require.Equal(t, "1234567890", q.UnionPay.PID)
	require.Equal(t, "0001", q.UnionPay.ScenID)

	unsealer := card.Unsealer{Ring: b.ring, MaxSealed: card.MaxSealed}
	bound := card.Binding{ID: "1", Source: "urn:shop", Type: query.TypeRequested}
	details, err := unsealer.Unseal(q.UnionPay.Data.Reveal(), bound)
	require.NoError(t, err)
	require.Equal(t, testCard, details.Number.Reveal())
	require.Equal(t, testToken, details.UserToken.Reveal())
	require.Equal(t, testMobile, details.Mobile.Reveal())
	bound.ID = "2"
	_, err = unsealer.Unseal(q.UnionPay.Data.Reveal(), bound)
	require.Equal(t, fault.SealMismatch, fault.CodeOf(err), "it can't be moved to another query")
}

func TestSameIDIsStoredOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, err := b.Publish(t.Context(), coupons("1"))
	require.NoError(t, err)
	second, err := b.Publish(t.Context(), coupons("1"))
	require.NoError(t, err, "publishing again is how a client makes sure")
	require.Equal(t, first, second)
	b.only()
	require.Equal(t, "shop/urn:shop/1", b.only().Header.Get("Nats-Msg-Id"))

	other := New(b.Options)
	other.Name = "office"
	key, err := other.Publish(t.Context(), coupons("1"))
	require.NoError(t, err)
	require.NotEqual(t, first, key, "another client's query is another query")
	stream, err := b.Server.JS.Stream(t.Context(), "DISCOUNT_QUERIES")
	require.NoError(t, err)
	require.EqualValues(t, 2, stream.CachedInfo().State.Msgs)
}

func TestQueriesThatAreNotPublished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, tc := range map[string]struct {
		change func(c *Client, q *Question)
		says   string
	}{
		"a provider nobody serves": {func(_ *Client, q *Question) { q.Provider = "naver" }, "nobody serves naver in lane interactive on this broker"},
		"a lane nobody serves":     {func(_ *Client, q *Question) { q.Lane = "slow" }, "nobody serves easypay in lane slow on this broker"},
		"no source":                {func(_ *Client, q *Question) { q.Source = "" }, "needs a source"},
		"no question":              {func(_ *Client, q *Question) { q.EasyPay = nil }, "needs the question"},
		"text that is not UTF-8":   {func(_ *Client, q *Question) { q.Correlation = "\xff" + testToken }, "not valid text"},
		"no card": {func(_ *Client, q *Question) {
			*q = usage(t, "1")
			q.Card = nil
		}, "needs card data and the worker's public key"},
		"no key to seal to": {func(c *Client, q *Question) {
			*q = usage(t, "1")
			c.Sealer = nil
		}, "needs card data and the worker's public key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, question := New(b.Options), coupons("1")
			tc.change(c, &question)
			key, err := c.Publish(t.Context(), question)
			require.ErrorContains(t, err, tc.says)
			require.NotContains(t, err.Error(), testToken)
			require.Empty(t, key)
			_, err = c.Ask(within(t, patience), question)
			require.ErrorContains(t, err, tc.says, "asking fails like publishing, and at once")
			require.NotErrorIs(t, err, ErrNoResult)
		})
	}
}

func TestPublishSaysWhyTheBrokerDidNotTakeIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Stop()
	_, err := b.Publish(within(t, patience), coupons("1"))
	require.ErrorContains(t, err, "publish query: ")
	_, err = b.Client.Result(within(t, 100*time.Millisecond), "k")
	require.ErrorContains(t, err, "open results: ")
	b.Resume(t)
}

func TestAsk(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]query.Status{"completed": query.Completed, "failed": query.Failed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.respond(query.EasyPay, status)
			const askers = 8
			var results [askers]Result
			var errs [askers]error
			var asking sync.WaitGroup
			ctx := within(t, patience)
			for i := range askers {
				asking.Go(func() { results[i], errs[i] = b.Ask(ctx, coupons(fmt.Sprint(i))) })
			}
			asking.Wait()
			for i := range askers {
				require.NoError(t, errs[i])
				require.Equal(t, Result{
					Key: query.Key("shop", "urn:shop", fmt.Sprint(i)), Status: status, Event: fmt.Appendf(nil, `{"correlationid":"order-%d"}`, i),
				}, results[i], "each gets its own")
			}
			key := query.Key("shop", "urn:shop", "3")
			result, err := b.Client.Result(t.Context(), key)
			require.NoError(t, err)
			require.Equal(t, Result{Key: key, Status: status, Event: []byte(`{"correlationid":"order-3"}`)}, result)
		})
	}
}

func TestAskGivesUpButTheQueryStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := b.Client.Conn.NumSubscriptions()
	key := query.Key("shop", "urn:shop", "1")
	result, err := b.Ask(within(t, time.Second), coupons("1"))
	require.ErrorIs(t, err, ErrNoResult)
	require.ErrorContains(t, err, key, "the key is how the result is found later")
	require.Equal(t, Result{Key: key}, result)
	require.Equal(t, before, b.Client.Conn.NumSubscriptions(), "nothing listens any more")
	_, err = b.Client.Result(t.Context(), key)
	require.ErrorIs(t, err, ErrNoResult)
	require.ErrorContains(t, err, key)

	b.respond(query.EasyPay, query.Completed)
	require.Eventually(t, func() bool {
		result, err = b.Client.Result(context.Background(), key)
		return err == nil
	}, patience, 5*time.Millisecond, "it is still answered")
	require.Equal(t, query.Completed, result.Status)
}

func TestAskSeesOnlyItsOwnResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := query.Key("shop", "urn:shop", "1")
	worker := b.Connect(t)
	_, err := worker.Subscribe(b.Subjects.Query(query.EasyPay, query.Interactive, "shop"), func(*nats.Msg) {
		for _, subject := range []string{
			b.Subjects.Result(key, query.EasyPay, "office", "failed"),
			b.Subjects.Result(query.Key("shop", "urn:shop", "2"), query.EasyPay, "shop", "failed"),
			b.Subjects.Dead(key, query.EasyPay, "shop", "rejected"),
			b.Subjects.Result(key, query.EasyPay, "shop", "completed"),
		} {
			_ = worker.Publish(subject, []byte(subject)) // The test sees what came.
		}
	})
	require.NoError(t, err)
	require.NoError(t, worker.Flush())
	result, err := b.Ask(within(t, patience), coupons("1"))
	require.NoError(t, err)
	require.Equal(t, query.Completed, result.Status)
	require.Equal(t, b.Subjects.Result(key, query.EasyPay, "shop", "completed"), string(result.Event))
}

func TestResultNeedsItsStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := New(b.Options)
	c.ResultStream = "OTHER_RESULTS"
	_, err := c.Result(t.Context(), "k")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	require.NotErrorIs(t, err, ErrNoResult, "no stream is not the same as no result")
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
	require.ErrorContains(t, err, "stream OTHER_RESULTS")
	require.ErrorContains(t, err, "`worker setup`")
}

func TestResultThatIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := New(b.Options)
	c.JS = refusing{c.JS}
	_, err := c.Result(t.Context(), "k")
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
	require.ErrorContains(t, err, "refused it (10025)")
}

// refusing refuses everybody who asks for a stream.
type refusing struct{ jetstream.JetStream }

// Stream implements jetstream.JetStream.
func (refusing) Stream(context.Context, string) (jetstream.Stream, error) {
	return nil, &jetstream.APIError{Code: 400, ErrorCode: 10025, Description: "bad request"}
}

// TestResultNeedsItsRights reads as users that lack one right each.
func TestResultNeedsItsRights(t *testing.T) {
	t.Parallel()
	rights := []string{"$JS.API.STREAM.INFO.DISCOUNT_RESULTS", "$JS.API.STREAM.MSG.GET.DISCOUNT_RESULTS"}
	for i, operation := range []string{"open results", "read result"} {
		t.Run(operation, func(t *testing.T) {
			t.Parallel()
			c := restricted(t, rights[1-i])
			_, err := c.Result(t.Context(), "k")
			require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))
			require.ErrorContains(t, err, operation)
			require.ErrorContains(t, err, "lacks a right")
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			_, err = c.Result(ended, "k")
			require.Equal(t, fault.Interrupted, fault.KindOf(err), "whoever stops it knows why")
		})
	}
}

func TestReadResultSubject(t *testing.T) {
	t.Parallel()
	built := query.NewSubjects("discount").Result("key", query.UnionPay, "shop", "failed")
	for subject, want := range map[string]struct {
		key    string
		status query.Status
	}{
		"discount.result.key.easypay.shop.completed": {"key", query.Completed},
		"other.result.key.easypay.shop.failed":       {"key", query.Failed},
		built:                                        {"key", query.Failed},
		"key.easypay.shop":                           {},
		"discount.result.key":                        {},
		"":                                           {},
		"discount":                                   {},
		"k.p.c.completed":                            {"k", query.Completed},
		"a.b.result.k.p.c.other":                     {"k", "other"},
	} {
		t.Run(subject, func(t *testing.T) {
			t.Parallel()
			key, status := ReadResultSubject(subject)
			require.Equal(t, want.key, key)
			require.Equal(t, want.status, status)
		})
	}
}

func TestRandomIDsDiffer(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile("^[0-9a-f]{24}$")
	seen := map[string]bool{}
	for range 10_000 {
		id := NewID()
		require.True(t, form.MatchString(id))
		require.False(t, seen[id])
		seen[id] = true
	}
}

func BenchmarkPublish(b *testing.B) {
	s := setup(b)
	for b.Loop() {
		_, err := s.Publish(b.Context(), coupons(""))
		require.NoError(b, err)
	}
}

func TestAnEventIsPublishedAsItIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 2 { // The broker knows the second one by its id.
		require.NoError(t, b.PublishEvent(within(t, patience), coupons("1"), []byte("no event at all")))
	}
	message := b.only()
	require.Equal(t, "no event at all", string(message.Data))
	require.Equal(t, "discount.query.easypay.interactive.shop", message.Subject)
	require.Equal(t, query.ContentTypeEvent, message.Header.Get("Content-Type"))
	require.ErrorContains(t, b.PublishEvent(within(t, patience), Question{Provider: "nobody", Lane: query.Bulk}, nil), "nobody serves")
}
