package publish

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestStoreResultOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	require.NoError(t, b.StoreResult(within(t), q, query.Completed, event))
	message := b.last("DISCOUNT_RESULTS", "discount.result."+q.Key()+".>")
	require.Equal(t, "discount.result."+q.Key()+".easypay.shop.completed", message.Subject)
	require.Equal(t, event, message.Data)
	require.Equal(t, nats.Header{
		"Content-Type":                                {"application/cloudevents+json"},
		"Nats-Expected-Stream":                        {"DISCOUNT_RESULTS"},
		"Nats-Expected-Last-Subject-Sequence":         {"0"},
		"Nats-Expected-Last-Subject-Sequence-Subject": {"discount.result." + q.Key() + ".>"},
	}, message.Header)

	requireDuplicate(t, b.StoreResult(within(t), q, query.Completed, []byte("second")))
	require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
	require.Equal(t, event, b.last("DISCOUNT_RESULTS", message.Subject).Data)
	require.Empty(t, b.told(), "a duplicate is no trouble")
}

func TestGuardCoversEveryResultOfAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := ask("1")
	require.NoError(t, b.StoreResult(within(t), first, query.Failed, event))
	for name, tc := range map[string]struct {
		change func(q *query.Query)
		status query.Status
	}{
		"another status":            {func(*query.Query) {}, query.Completed},
		"another provider":          {func(q *query.Query) { q.Provider = query.UnionPay }, query.Failed},
		"another lane":              {func(q *query.Query) { q.Lane = query.Interactive }, query.Failed},
		"another provider + status": {func(q *query.Query) { q.Provider = query.UnionPay }, query.Completed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := ask("1")
			tc.change(q)
			requireDuplicate(t, b.StoreResult(within(t), q, tc.status, event))
		})
	}
	t.Run("another key is free", func(t *testing.T) {
		t.Parallel()
		q := ask("2")
		require.NoError(t, b.StoreResult(within(t), q, query.Completed, event))
		require.NoError(t, b.StoreDead(within(t), first, query.ReasonRejected, event), "a dead letter is no result")
	})
}

func TestGuardLooksPastTheClient(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	foreign := b.Subjects.Result(q.Key(), query.UnionPay, "other", "failed")
	_, err := b.Server.JS.Publish(t.Context(), foreign, event)
	require.NoError(t, err)
	requireDuplicate(t, b.StoreResult(within(t), q, query.Completed, event))
}

func TestStoreDeadTwiceIsNoError(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonMalformed, event))
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonMalformed, []byte("second")))
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonExhausted, []byte("third, for another reason")))
	require.EqualValues(t, 1, b.state("DISCOUNT_DEAD").Msgs)
	message := b.last("DISCOUNT_DEAD", "discount.dead."+q.Key()+".>")
	require.Equal(t, "discount.dead."+q.Key()+".easypay.shop.malformed", message.Subject)
	require.Equal(t, event, message.Data)
	require.Equal(t, nats.Header{
		"Content-Type":                                {"application/cloudevents+json"},
		"Nats-Expected-Stream":                        {"DISCOUNT_DEAD"},
		"Nats-Expected-Last-Subject-Sequence":         {"0"},
		"Nats-Expected-Last-Subject-Sequence-Subject": {"discount.dead." + q.Key() + ".>"},
	}, message.Header)
}

func TestRaceOfWriters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const writers, keys = 16, 200
	var stored, refused atomic.Int64
	var racing sync.WaitGroup
	for writer := range writers {
		racing.Go(func() {
			for i := range keys {
				q, status := ask(fmt.Sprint(i)), query.Completed
				if writer%2 == 1 {
					q.Provider, status = query.UnionPay, query.Failed
				}
				switch err := b.StoreResult(within(t), q, status, event); {
				case err == nil:
					stored.Add(1)
				case fault.KindOf(err) == fault.Duplicate:
					refused.Add(1)
				}
			}
		})
	}
	racing.Wait()
	require.EqualValues(t, keys, stored.Load(), "each key has one writer that was told it won")
	require.EqualValues(t, keys*(writers-1), refused.Load())
	require.EqualValues(t, keys, b.state("DISCOUNT_RESULTS").Msgs)
	for i := range keys {
		b.last("DISCOUNT_RESULTS", b.Subjects.ResultGuard(ask(fmt.Sprint(i)).Key()))
	}
	require.Empty(t, b.told())
}

func TestScheduledRetryComesDue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	at := time.Now().Add(1500 * time.Millisecond)
	require.NoError(t, b.ScheduleRetry(within(t), q, at, []byte("retry")))
	held := b.last("DISCOUNT_RETRIES", "discount.retry.at."+q.Key())
	require.Equal(t, "@at "+at.UTC().Format(time.RFC3339), held.Header.Get("Nats-Schedule"))
	require.Equal(t, "discount.retry.due.easypay.bulk.shop", held.Header.Get("Nats-Schedule-Target"))
	require.Equal(t, "DISCOUNT_RETRIES", held.Header.Get("Nats-Expected-Stream"))

	due, err := b.Server.JS.Consumer(t.Context(), "DISCOUNT_RETRIES", "easypay-bulk")
	require.NoError(t, err)
	message, err := due.Next(jetstream.FetchMaxWait(patience))
	require.NoError(t, err)
	require.Equal(t, "discount.retry.due.easypay.bulk.shop", message.Subject())
	require.Equal(t, []byte("retry"), message.Data())
	metadata, err := message.Metadata()
	require.NoError(t, err)
	require.EqualValues(t, 1, metadata.NumDelivered, "a retry's deliveries are counted anew")
	require.False(t, metadata.Timestamp.Before(at.Truncate(time.Second)), "not before the second it was asked for")
	require.Less(t, metadata.Timestamp.Sub(at), 10*time.Second)
	require.NoError(t, message.DoubleAck(t.Context()))
	b.until(func() bool { return b.state("DISCOUNT_RETRIES").Msgs == 0 }, "the schedule is gone once it came due")
}

func TestSecondScheduleReplacesTheFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	require.NoError(t, b.ScheduleRetry(within(t), q, time.Now().Add(time.Hour), []byte("first")))
	require.NoError(t, b.ScheduleRetry(within(t), ask("2"), time.Now().Add(time.Hour), []byte("of another query")))
	require.NoError(t, b.ScheduleRetry(within(t), q, time.Now().Add(-time.Minute), []byte("second")))
	due, err := b.Server.JS.Consumer(t.Context(), "DISCOUNT_RETRIES", "easypay-bulk")
	require.NoError(t, err)
	message, err := due.Next(jetstream.FetchMaxWait(patience))
	require.NoError(t, err)
	require.Equal(t, []byte("second"), message.Data(), "a time in the past is due at once")
	require.NoError(t, message.DoubleAck(t.Context()))
	b.until(func() bool { return b.state("DISCOUNT_RETRIES").Msgs == 1 }, "only the other query's retry is pending")
	require.Equal(t, []byte("of another query"), b.last("DISCOUNT_RETRIES", "discount.retry.at.>").Data)
}

func TestWhatIsStoredIsFound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	requireStored := func(id string, result, letter []byte) {
		t.Helper()
		got, err := b.Result(within(t), ask(id))
		require.NoError(t, err)
		require.Equal(t, result, got)
		got, err = b.DeadLetter(within(t), ask(id))
		require.NoError(t, err)
		require.Equal(t, letter, got)
	}
	requireStored("1", nil, nil)
	require.NoError(t, b.StoreResult(within(t), ask("1"), query.Failed, event))
	requireStored("1", event, nil)
	requireStored("2", nil, nil)
	require.NoError(t, b.StoreDead(within(t), ask("2"), query.ReasonRejected, event))
	requireStored("2", nil, event)
	b.Stop()
	b.Resume(t)
	requireStored("1", event, nil)
	requireStored("2", nil, event)
	requireDuplicate(t, b.StoreResult(within(t), ask("1"), query.Completed, event))
}

func TestLookupShowsAClientItsOwnResultsOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	require.NoError(t, b.StoreResult(within(t), q, query.Completed, event))
	for client, want := range map[string][]byte{q.Client: event, "another": nil, q.Client + "x": nil} {
		got, found, err := b.Lookup(within(t), q.Key(), client)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, want != nil, found)
	}
}

func TestNewNeedsTheResultStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	options := b.Options
	options.ResultStream = "OTHER_RESULTS"
	p, err := New(t.Context(), options)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	require.ErrorContains(t, err, "bind to stream OTHER_RESULTS: ")
	require.Nil(t, p)
}

func BenchmarkStoreResult(b *testing.B) {
	s := setup(b)
	id := 0
	for b.Loop() {
		id++
		require.NoError(b, s.StoreResult(b.Context(), ask(fmt.Sprint(id)), query.Completed, event))
	}
}

func TestReplaySupersedesWhatItNames(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonRejected, event))
	require.NoError(t, b.StoreResult(within(t), q, query.Failed, event))
	failed := b.last("DISCOUNT_RESULTS", "discount.result."+q.Key()+".>").Sequence
	letter := b.last("DISCOUNT_DEAD", "discount.dead."+q.Key()+".>").Sequence
	replayed := ask("1")
	replayed.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 1}, Result: failed, Letter: letter}

	found, err := b.Result(within(t), replayed)
	require.NoError(t, err)
	require.Nil(t, found, "the failed result does not end its own replay")
	found, err = b.DeadLetter(within(t), replayed)
	require.NoError(t, err)
	require.Nil(t, found)

	require.NoError(t, b.StoreDead(within(t), replayed, query.ReasonExhausted, []byte("second letter")))
	require.NoError(t, b.StoreResult(within(t), replayed, query.Completed, []byte("completed")))
	require.Equal(t, "second letter", string(b.last("DISCOUNT_DEAD", "discount.dead."+q.Key()+".>").Data))
	requireDuplicate(t, b.StoreResult(within(t), replayed, query.Completed, []byte("again")))
	requireDuplicate(t, b.StoreResult(within(t), q, query.Completed, []byte("by a late holder")))
	found, err = b.Result(within(t), replayed)
	require.NoError(t, err)
	require.Equal(t, "completed", string(found))
	require.EqualValues(t, 2, b.state("DISCOUNT_RESULTS").Msgs)
}

func TestRoundOfAReplayStaysInBulk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	q.Lane, q.Replay = query.Interactive, &query.Replay{}
	require.NoError(t, b.ScheduleRetry(within(t), q, time.Now().Add(-time.Second), event))
	stream, err := b.Server.JS.Stream(t.Context(), "DISCOUNT_RETRIES")
	require.NoError(t, err)
	b.until(func() bool {
		_, err := stream.GetLastMsgForSubject(t.Context(), "discount.retry.due.easypay.bulk.>")
		return err == nil
	}, "it comes due in bulk")
}

func TestReplayOfWhatIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	q.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 1}, Result: 7, Letter: 9}
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonExhausted, event))
	require.NoError(t, b.StoreResult(within(t), q, query.Failed, event), "a result that grew too old needs no superseding")
	requireDuplicate(t, b.StoreResult(within(t), q, query.Completed, event))
	require.EqualValues(t, 1, b.state("DISCOUNT_DEAD").Msgs)
	require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
}

// TestReplayOfALetterThatWasDropped has a query with two letters of which the one that is being replayed was dropped: the older one is the
// last again, and no letter of this end.
func TestReplayOfALetterThatWasDropped(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	guard := "discount.dead." + q.Key() + ".>"
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonRejected, []byte("first letter")))
	first := b.last("DISCOUNT_DEAD", guard).Sequence
	q.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 1}, Letter: first}
	require.NoError(t, b.StoreDead(within(t), q, query.ReasonRejected, []byte("second letter")))
	second := b.last("DISCOUNT_DEAD", guard).Sequence
	letters, err := b.Server.JS.Stream(t.Context(), "DISCOUNT_DEAD")
	require.NoError(t, err)
	require.NoError(t, letters.DeleteMsg(t.Context(), second))

	q.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 2}, Letter: second}
	found, err := b.DeadLetter(within(t), q)
	require.NoError(t, err)
	require.Nil(t, found, "an older letter is not that of this replay")
	for range 2 {
		require.NoError(t, b.StoreDead(within(t), q, query.ReasonExhausted, []byte("third letter")))
	}
	require.Equal(t, "third letter", string(b.last("DISCOUNT_DEAD", guard).Data))
	require.EqualValues(t, 2, b.state("DISCOUNT_DEAD").Msgs, "it is stored once")
	found, err = b.DeadLetter(within(t), q)
	require.NoError(t, err)
	require.Equal(t, "third letter", string(found))
}

// TestResultsOfAStreamThatBeganAnew has a replay name a failed result of a stream that was lost since: the results that are there have lower
// sequences, and stay the only ones.
func TestResultsOfAStreamThatBeganAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := ask("1")
	q.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 1}, Result: 70}
	require.NoError(t, b.StoreResult(within(t), q, query.Completed, event))
	requireDuplicate(t, b.StoreResult(within(t), q, query.Completed, []byte("again")))
	found, err := b.Result(within(t), q)
	require.NoError(t, err)
	require.Equal(t, event, found)
	require.EqualValues(t, 1, b.state("DISCOUNT_RESULTS").Msgs)
}
