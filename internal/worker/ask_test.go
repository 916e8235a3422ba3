package worker

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func inTime() time.Time { return time.Now().Add(3 * time.Second) }

func TestAskRepliesWithTheStoredResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var asked *query.Query
	answer := b.call
	b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
		asked = q
		return answer(ctx, q, details)
	}
	event, err := b.Ask(t.Context(), b.easyPay("1"), inTime())
	require.NoError(t, err)
	require.Equal(t, b.store.results[keyOf("1")], event)
	require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
	require.True(t, asked.Direct, "it goes before the queued ones")

	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		t.Error("a query that has its result was asked again")
		return query.Answer{}, nil, nil
	}
	again, err := b.Ask(t.Context(), b.easyPay("1"), inTime())
	require.NoError(t, err)
	require.Equal(t, event, again)
	require.Equal(t, decide.Skip, b.store.last(t).Verdict.Action)
}

func TestAskOfABadQueryRepliesWithItsFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	event, err := b.Ask(t.Context(), b.delivery(query.EasyPay, "1", map[string]any{"cardBin": "1234"}, nil), inTime())
	require.NoError(t, err)
	var failed query.FailedData
	decodeInto(t, event, &failed)
	require.Equal(t, query.ReasonMalformed, failed.Reason)
	require.Len(t, b.store.dead, 1)

	nameless := b.easyPay("2")
	nameless.Data = []byte("{")
	event, err = b.Ask(t.Context(), nameless, inTime())
	require.Nil(t, event)
	require.Equal(t, fault.Malformed, fault.KindOf(err))
	require.Len(t, b.store.dead, 1, "whoever sent it hears of it and can mend it")
}

func TestAskTakesOneRound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Unavailable, fault.Timeout)
	event, err := b.Ask(t.Context(), b.easyPay("1"), time.Now().Add(time.Hour))
	require.NoError(t, err)
	var failed query.FailedData
	decodeInto(t, event, &failed)
	require.Equal(t, query.ReasonExhausted, failed.Reason)
	require.Empty(t, b.store.retries, "nobody would read a later answer")
}

func TestAskEndsInTime(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		expires time.Duration
		want    time.Duration
	}{
		"without a deadline":      {0, 3 * time.Second},
		"with a near deadline":    {time.Second, time.Second},
		"with a passed deadline":  {-time.Second, 0},
		"with a distant deadline": {24 * time.Hour, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			synctest.Test(t, func(t *testing.T) {
				b.wait = func(ctx context.Context, _ *query.Query) error {
					<-ctx.Done()
					return fault.Because("wait for pace", fault.Expired, fault.DeadlinePassed, ctx.Err())
				}
				time.Sleep(time.Hour) // A bubble begins with the year 2000, and deadlines before it are refused.
				attributes := map[string]any{}
				if test.expires != 0 {
					attributes["expirytime"] = time.Now().Add(test.expires).UTC().Format(time.RFC3339Nano)
				}
				began := time.Now()
				event, err := b.Ask(t.Context(), b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, attributes), inTime())
				require.NoError(t, err)
				require.Equal(t, test.want, time.Since(began))
				var failed query.FailedData
				decodeInto(t, event, &failed)
				require.Equal(t, query.ReasonExpired, failed.Reason)
			})
		})
	}
}

func TestAskOfAStoppingWorkerIsForgotten(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	b.wait = func(ctx context.Context, _ *query.Query) error {
		stop()
		return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, ctx.Err())
	}
	event, err := b.Ask(ctx, b.easyPay("1"), inTime())
	require.Nil(t, event)
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	require.Empty(t, b.store.order, "nothing is stored of it")
}

func TestAskDoesNotWaitForACopyForEver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	synctest.Test(t, func(t *testing.T) {
		answer := b.call
		b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
			time.Sleep(time.Minute)
			return answer(ctx, q, details)
		}
		var queued sync.WaitGroup
		queued.Go(func() { require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1"))) })
		synctest.Wait()
		began := time.Now()
		event, err := b.Ask(t.Context(), b.easyPay("1"), inTime())
		require.Nil(t, event)
		require.Equal(t, fault.Interrupted, fault.KindOf(err))
		require.Equal(t, 3*time.Second, time.Since(began))
		queued.Wait()
		require.Equal(t, query.Completed, b.store.statuses[keyOf("1")], "the copy in the queue gets its answer")
	})
}

func TestAskThatLosesTheRaceRepliesWithTheWinner(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer := b.call
	b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
		require.NoError(t, b.store.StoreResult(ctx, q, query.Completed, []byte("winner")))
		return answer(ctx, q, details)
	}
	event, err := b.Ask(t.Context(), b.easyPay("1"), inTime())
	require.NoError(t, err)
	require.Equal(t, "winner", string(event))
}

func TestAskWhoseResultIsNotStoredSaysSo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.store.refuse = func(what string) error {
		if what == "result" {
			return fault.New("store", fault.Interrupted, fault.NotStored)
		}
		return nil
	}
	event, err := b.Ask(t.Context(), b.easyPay("1"), inTime())
	require.Nil(t, event)
	require.Equal(t, fault.NotStored, fault.CodeOf(err))
	require.Empty(t, b.store.retries, "it is in no stream, and whoever asked may ask again")
	require.False(t, b.store.last(t).Settled)
}
