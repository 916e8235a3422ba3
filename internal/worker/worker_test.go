package worker

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

var done = decide.Settlement{Done: true}

func TestCompleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
	var data query.CompletedData
	event := decodeInto(t, b.store.results[keyOf("1")], &data)
	require.Equal(t, keyOf("1")+".result.0", event["id"])
	require.Equal(t, query.TypeCompleted, event["type"])
	require.Equal(t, "CP12345678", data.Best.ID)
	require.Equal(t, "T5102001", data.Query.EasyPay.MallID)
	require.Len(t, data.Attempts, 1)
	require.EqualValues(t, 7, data.Timing.CallMS)
	require.Empty(t, b.store.dead)
	outcome := b.store.last(t)
	require.True(t, outcome.Settled)
	require.Equal(t, query.OutcomeOK, outcome.Answer.Outcome)
}

func TestUnionPayGetsItsCardAndNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var seen *card.Details
	answer := b.call
	b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
		seen = details
		return answer(ctx, q, details)
	}
	require.Equal(t, done, b.Handle(t.Context(), b.unionPay(t, "1", bindingOf("1"))))
	require.Equal(t, testCard, seen.Number.Reveal())
	require.Equal(t, testToken, seen.UserToken.Reveal())
	var data query.CompletedData
	decodeInto(t, b.store.results[keyOf("1")], &data)
	require.Equal(t, "0005", data.Card.LastFour)
	require.NotEmpty(t, data.Card.Fingerprint)
	for _, secret := range []string{testCard, testToken, testMobile} {
		require.NotContains(t, b.store.everything(), secret)
	}
}

func TestQueriesThatDieAtOnce(t *testing.T) {
	t.Parallel()
	easyPay := func(data, attributes map[string]any) func(t *testing.T, b *bundle) query.Delivery {
		return func(_ *testing.T, b *bundle) query.Delivery { return b.delivery(query.EasyPay, "1", data, attributes) }
	}
	for name, test := range map[string]struct {
		delivery func(t *testing.T, b *bundle) query.Delivery
		reason   query.Reason
		code     fault.Code
	}{
		"breaks the schema":       {easyPay(map[string]any{"cardBin": "1234"}, nil), query.ReasonMalformed, fault.BadSchema},
		"wrong type":              {easyPay(map[string]any{"cardCd": "008"}, map[string]any{"type": "discount.query.requested.v9"}), query.ReasonMalformed, fault.UnsupportedType},
		"card verification value": {easyPay(map[string]any{"cardCd": "008", "cvv2": "123"}, nil), query.ReasonMalformed, fault.ForbiddenCardData},
		"plain card data": {func(_ *testing.T, b *bundle) query.Delivery {
			return b.delivery(query.UnionPay, "1", map[string]any{"data": map[string]any{"userToken": testToken, "cardNo": testCard}}, nil)
		}, query.ReasonMalformed, fault.PlainCard},
		"sealed for another query": {func(t *testing.T, b *bundle) query.Delivery {
			return b.unionPay(t, "1", bindingOf("other"))
		}, query.ReasonMalformed, fault.SealMismatch},
		"its holders crashed often": {func(_ *testing.T, b *bundle) query.Delivery {
			crashed := b.easyPay("1")
			crashed.Number = 4
			return crashed
		}, query.ReasonQuarantined, fault.CrashLoop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			require.Equal(t, done, b.Handle(t.Context(), test.delivery(t, b)))
			outcome := b.store.last(t)
			key := outcome.Query.Key()
			require.Equal(t, test.code, outcome.Verdict.Fault.Code)
			require.Equal(t, test.reason, b.store.reasons[key])
			require.Equal(t, query.Failed, b.store.statuses[key])
			var failed query.FailedData
			decodeInto(t, b.store.results[key], &failed)
			require.True(t, failed.DeadLetter)
			require.Empty(t, outcome.Attempts, "no call was spent")
			require.Equal(t, []string{"result", "dead"}, b.store.order, "the result decides, and the letter follows")
			for _, secret := range []string{testCard, testToken} {
				require.NotContains(t, b.store.everything(), secret)
			}
		})
	}
}

func TestDeadLetterHoldsTheOriginal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Rejected, fault.UpstreamBroken)
	delivery := b.easyPay("1")
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	var dead query.DeadData
	decodeInto(t, b.store.dead[keyOf("1")], &dead)
	require.Equal(t, query.Origin{Stream: "DISCOUNT_QUERIES", Sequence: 42, Subject: delivery.Subject, Stored: dead.Origin.Stored, Deliveries: 1}, dead.Origin)
	require.Equal(t, "9999", dead.Upstream.Code)
	require.Len(t, dead.Cause, 12)
	require.Equal(t, "test", dead.Worker)
	plaintext, err := b.ring.Open(dead.Payload, 1<<20)
	require.NoError(t, err)
	var original query.Original
	require.NoError(t, query.ReadStrict(plaintext, &original))
	require.Equal(t, delivery.Data, original.Data)
	require.Equal(t, delivery.Subject, original.Subject)
	require.Equal(t, map[string][]string{"Content-Type": {query.ContentTypeEvent}, "X-Own": {"kept"}}, original.Header,
		"headers that steer the broker are left behind")
}

// TestForbiddenDataIsNotKept sends a verification value: the letter tells that it was there, and holds nothing of the message, sealed or not.
func TestForbiddenDataIsNotKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	delivery := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008", "cvv2": "123"}, nil)
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	var dead query.DeadData
	decodeInto(t, b.store.dead[keyOf("1")], &dead)
	require.Equal(t, fault.ForbiddenCardData, dead.Code)
	plaintext, err := b.ring.Open(dead.Payload, 1<<20)
	require.NoError(t, err)
	var original query.Original
	require.NoError(t, query.ReadStrict(plaintext, &original))
	require.Equal(t, query.Original{Subject: delivery.Subject, Data: []byte{}}, original)
}

func TestNamelessQueryGetsALetterButNoResult(t *testing.T) {
	t.Parallel()
	for name, delivery := range map[string]query.Delivery{
		"not JSON":        {Subject: "discount.query.easypay.interactive.shop", Data: []byte("\xff\xfe{"), Number: 1},
		"no id":           {Subject: "discount.query.easypay.interactive.shop", Data: []byte(`{"mallId":"T5102001","cardCd":"008"}`), Number: 1},
		"unknown subject": {Subject: "discount.query.visa.interactive.shop", Data: []byte(`{}`), Number: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			delivery.Stream, delivery.Sequence, delivery.Stored = "DISCOUNT_QUERIES", 7, time.Now()
			require.Equal(t, done, b.Handle(t.Context(), delivery))
			require.Empty(t, b.store.results)
			require.Len(t, b.store.dead, 1)
			require.Equal(t, query.ReasonMalformed, b.store.last(t).Verdict.Reason)
		})
	}
}

// TestBareDataThatIsNoJSONIsAnswered sends a name twice: the message's id names the query, so that whoever waits for its result is told.
func TestBareDataThatIsNoJSONIsAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	delivery := query.Delivery{
		Subject: "discount.query.easypay.interactive.shop", Header: map[string][]string{"Nats-Msg-Id": {"order-42"}},
		Data: []byte(`{"cardCd":"008","cardCd":"026"}`), Number: 1, Stream: "DISCOUNT_QUERIES", Sequence: 7, Stored: time.Now(),
	}
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	key := query.Key("shop", "shop", "order-42")
	var failed query.FailedData
	decodeInto(t, b.store.results[key], &failed)
	require.Equal(t, fault.BadJSON, failed.Code)
	require.Contains(t, b.store.dead, key)
}

func TestExpiredIsAnsweredWithoutACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		t.Error("an expired query was asked")
		return query.Answer{}, nil, nil
	}
	past := time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)
	delivery := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, map[string]any{"expirytime": past})
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	var failed query.FailedData
	decodeInto(t, b.store.results[keyOf("1")], &failed)
	require.Equal(t, query.ReasonExpired, failed.Reason)
	require.False(t, failed.DeadLetter)
	require.Empty(t, b.store.dead)
}

func TestExpiresWhileWaitingForPace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	synctest.Test(t, func(t *testing.T) {
		b.wait = func(ctx context.Context, _ *query.Query) error {
			<-ctx.Done()
			return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, ctx.Err())
		}
		soon := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
		delivery := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, map[string]any{"expirytime": soon})
		require.Equal(t, done, b.Handle(t.Context(), delivery))
		require.Equal(t, query.ReasonExpired, b.store.last(t).Verdict.Reason)
		require.Equal(t, 2*time.Second, b.store.last(t).Finished.Sub(b.store.last(t).Started))
		require.Empty(t, b.store.dead)
	})
}

func TestWaitsBeyondItsHorizon(t *testing.T) {
	t.Parallel()
	b := setup(t)
	synctest.Test(t, func(t *testing.T) {
		b.call = func(ctx context.Context, _ *query.Query, _ *card.Details) (query.Answer, []query.Attempt, error) {
			<-ctx.Done() // An upstream that is down keeps its queries waiting.
			return query.Answer{}, nil, fault.Because("wait for upstream", fault.Expired, fault.BreakerOpen, ctx.Err())
		}
		began := time.Now()
		require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
		require.Equal(t, 10*time.Minute, time.Since(began))
		require.Equal(t, query.ReasonExhausted, b.store.reasons[keyOf("1")])
		require.Equal(t, fault.Horizon, b.store.last(t).Verdict.Fault.Code)

		soon := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
		delivery := b.delivery(query.EasyPay, "2", map[string]any{"cardCd": "008"}, map[string]any{"expirytime": soon})
		require.Equal(t, done, b.Handle(t.Context(), delivery))
		require.Equal(t, query.ReasonExpired, b.store.last(t).Verdict.Reason)
		require.Len(t, b.store.dead, 1, "an expired query makes no dead letter")
	})
}

func TestUpstreamFaultSchedulesARetryWithItsHistory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Unavailable, fault.Timeout)
	first := b.unionPay(t, "1", bindingOf("1"))
	require.Equal(t, done, b.Handle(t.Context(), first))
	require.Empty(t, b.store.results)
	require.Len(t, b.store.retries, 1)
	retry := b.store.retries[0]
	require.WithinDuration(t, time.Now().Add(3*time.Second), retry.at, 2*time.Second)

	// The second round finds the first one's history, and its result tells both attempts.
	again := query.Delivery{
		Subject: b.subjects.RetryDue(query.UnionPay, query.Interactive, "shop"), Data: retry.body,
		Stream: "DISCOUNT_RETRIES", Sequence: 1, Number: 1, Stored: time.Now(),
	}
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		return testAnswer(), []query.Attempt{{At: time.Now(), Status: 200}}, nil
	}
	require.Equal(t, done, b.Handle(t.Context(), again))
	var data query.CompletedData
	decodeInto(t, b.store.results[keyOf("1")], &data)
	require.Len(t, data.Attempts, 2)
	require.Equal(t, fault.Timeout, data.Attempts[0].Code)
	require.Equal(t, first.Stored.UTC(), data.Timing.Received, "the age counts from the first delivery")
	require.NotContains(t, b.store.everything(), testCard)
}

func TestExhaustedAfterItsHorizon(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Unavailable, fault.Timeout)
	delivery := b.easyPay("1")
	delivery.Stored = time.Now().Add(time.Second - 10*time.Minute)
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	require.Equal(t, query.ReasonExhausted, b.store.reasons[keyOf("1")])
	require.Equal(t, query.Failed, b.store.statuses[keyOf("1")])
}

func TestLongHistoriesAreCut(t *testing.T) {
	t.Parallel()
	var attempts []query.Attempt
	for i := range 200 {
		attempts = keepAttempts(append(attempts, query.Attempt{Milliseconds: int64(i)}))
	}
	require.Len(t, attempts, firstAttempts+lastAttempts)
	require.EqualValues(t, 9, attempts[9].Milliseconds)
	require.EqualValues(t, 160, attempts[10].Milliseconds)
	require.EqualValues(t, 199, attempts[49].Milliseconds)
}

func TestOverdue(t *testing.T) {
	t.Parallel()
	b := setup(t)
	now := time.Now()
	deadline := now.Add(time.Minute).UTC().Format(time.RFC3339Nano)
	withDeadline := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, map[string]any{"expirytime": deadline})
	require.False(t, b.Overdue(withDeadline, now))
	require.True(t, b.Overdue(withDeadline, now.Add(time.Minute)))
	require.False(t, b.Overdue(b.easyPay("2"), now.Add(9*time.Minute)))
	require.True(t, b.Overdue(b.easyPay("2"), now.Add(11*time.Minute)), "without a deadline the lane's horizon counts")
	broken := b.easyPay("3")
	broken.Data = []byte("{")
	require.False(t, b.Overdue(broken, now))
	require.True(t, b.Overdue(broken, now.Add(11*time.Minute)))
}

func TestWaitedBeyondTheHorizonIsExhaustedWithoutACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	delivery := b.easyPay("1")
	delivery.Stored = time.Now().Add(-time.Hour)
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	require.Equal(t, query.ReasonExhausted, b.store.reasons[keyOf("1")])
	require.Equal(t, fault.Horizon, b.store.last(t).Verdict.Fault.Code)
	require.Empty(t, b.store.last(t).Attempts)
}

func TestRedeliveryFindsItsResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	calls := 0
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		calls++
		return testAnswer(), nil, nil
	}
	again := b.easyPay("1")
	again.Number = 2
	require.Equal(t, done, b.Handle(t.Context(), again))
	require.Zero(t, calls, "a redelivery spends no call if the result is there")
	require.Equal(t, decide.Skip, b.store.last(t).Verdict.Action)

	twice := b.easyPay("1")
	require.Equal(t, done, b.Handle(t.Context(), twice))
	require.Zero(t, calls, "nor does a copy that the broker did not know for one")
	require.Len(t, b.store.results, 1)
}

func TestLetterThatACrashedHolderOwes(t *testing.T) {
	t.Parallel()
	refuse := func(b *bundle, refused string) {
		b.store.refuse = func(what string) error {
			if what == refused || refused != "" && what == "retry" {
				return fault.New("store", fault.Interrupted, fault.NotStored)
			}
			return nil
		}
	}
	for name, delivery := range map[string]func(b *bundle) query.Delivery{
		"a rejected query": func(b *bundle) query.Delivery { return b.easyPay("1") },
		"a malformed query": func(b *bundle) query.Delivery {
			return b.delivery(query.EasyPay, "1", map[string]any{"cardBin": "1"}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			answer := b.call
			b.fail(fault.Rejected, fault.UpstreamBroken)
			refuse(b, "dead")
			require.False(t, b.Handle(t.Context(), delivery(b)).Done, "it died between the result and the letter")
			require.Len(t, b.store.results, 1)
			require.Empty(t, b.store.dead)

			refuse(b, "")
			b.call = answer // The upstream would answer now.
			again := delivery(b)
			again.Number = 9
			require.Equal(t, done, b.Handle(t.Context(), again))
			require.Equal(t, query.Failed, b.store.statuses[keyOf("1")])
			require.Len(t, b.store.results, 1)
			var failed query.FailedData
			decodeInto(t, b.store.results[keyOf("1")], &failed)
			var dead query.DeadData
			decodeInto(t, b.store.dead[keyOf("1")], &dead)
			require.Equal(t, failed.Reason, dead.Reason)
			require.Equal(t, failed.Code, dead.Code)
			require.Equal(t, failed.Kind, dead.Kind)
			require.Equal(t, failed.Upstream, dead.Upstream)
			require.Len(t, dead.Attempts, len(failed.Attempts))
			require.NotEmpty(t, dead.Payload)
			require.Len(t, dead.Cause, 12)

			refuse(b, "dead")
			require.Equal(t, done, b.Handle(t.Context(), again), "a letter that is there is not written again")
		})
	}
}

func TestRepairGoesOnUntilItIsDone(t *testing.T) {
	t.Parallel()
	for _, refused := range []string{"letter", "dead"} {
		t.Run(refused, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fail(fault.Rejected, fault.UpstreamBroken)
			b.store.refuse = func(what string) error {
				if what == "dead" || what == "retry" || what == refused {
					return fault.New("store", fault.Interrupted, fault.NotStored)
				}
				return nil
			}
			require.False(t, b.Handle(t.Context(), b.easyPay("1")).Done)
			require.False(t, b.Handle(t.Context(), b.easyPay("1")).Done, "acked now, its letter would never be written")
		})
	}
}

func TestOfTwoHoldersOneDecides(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Rejected, fault.UpstreamBroken)
	reject := b.call
	b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
		require.NoError(t, b.store.StoreResult(ctx, q, query.Completed, []byte(`{"type":"discount.query.completed.v1"}`)))
		return reject(ctx, q, details)
	}
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
	require.Empty(t, b.store.dead, "ops hold no letter of a query that was answered")
}

func TestCopiesGoOneAfterTheOther(t *testing.T) {
	t.Parallel()
	b := setup(t)
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		answer := b.call
		b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
			calls.Add(1)
			time.Sleep(time.Second)
			return answer(ctx, q, details)
		}
		began := time.Now()
		var copies sync.WaitGroup
		for range 10 {
			copies.Go(func() { require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1"))) })
		}
		copies.Go(func() { require.Equal(t, done, b.Handle(t.Context(), b.easyPay("2"))) })
		copies.Wait()
		require.EqualValues(t, 2, calls.Load(), "one for each query")
		require.Equal(t, time.Second, time.Since(began), "and different queries do not wait for each other")

		stopped, stop := context.WithCancel(t.Context())
		copies.Go(func() { require.Equal(t, done, b.Handle(t.Context(), b.easyPay("3"))) })
		synctest.Wait()
		copies.Go(func() { require.Equal(t, done, b.Handle(stopped, b.easyPay("3"))) })
		synctest.Wait()
		stop()
		copies.Wait()
		require.Len(t, b.store.retries, 1, "the copy of a stopping worker is scheduled")
	})
}

func TestOddHeadersAreNoPoison(t *testing.T) {
	t.Parallel()
	b := setup(t)
	delivery := b.delivery(query.EasyPay, "1", map[string]any{"cardBin": "1"}, nil)
	delivery.Header["X-\xff"], delivery.Header["X-\xfe"] = []string{"\xff"}, []string{"b"}
	require.Equal(t, done, b.Handle(t.Context(), delivery))
	require.Len(t, b.store.dead, 1)
}

func TestEventWithANumberForAnAttributeGetsItsResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Equal(t, done, b.Handle(t.Context(), b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, map[string]any{"correlationid": 42})))
	require.Equal(t, query.Failed, b.store.statuses[keyOf("1")])
	require.Equal(t, fault.BadEnvelope, b.store.last(t).Verdict.Fault.Code)
}

func TestRetryFindsItsResult(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer := b.call
	b.fail(fault.Unavailable, fault.Timeout)
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	b.call = answer
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")), "the ack was lost, and the next one got an answer")
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		t.Error("the retry spent a call although the result is there")
		return testAnswer(), nil, nil
	}
	due := query.Delivery{
		Subject: b.subjects.RetryDue(query.EasyPay, query.Interactive, "shop"), Data: b.store.retries[0].body, Number: 1, Stored: time.Now(),
	}
	require.Equal(t, done, b.Handle(t.Context(), due))
	require.Equal(t, decide.Skip, b.store.last(t).Verdict.Action)
}

func TestReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Unavailable, fault.Timeout)
	past := time.Now().Add(20 * time.Second).UTC().Format(time.RFC3339Nano)
	first := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, map[string]any{"expirytime": past})
	first.Stored = time.Now().Add(-time.Hour)
	require.Equal(t, done, b.Handle(t.Context(), first))
	require.Len(t, b.store.retries, 1)
	var retry query.Retry
	require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
	retry.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 2, Batch: "b1", Actor: "kim"}, Result: 5, Letter: 6}
	retry.FirstSeen = time.Now()
	body, err := json.Marshal(retry)
	require.NoError(t, err)
	var asked *query.Query
	b.call = func(_ context.Context, q *query.Query, _ *card.Details) (query.Answer, []query.Attempt, error) {
		asked = q
		return query.Answer{}, nil, fault.New("call", fault.Unavailable, fault.Timeout)
	}
	due := query.Delivery{Subject: b.subjects.RetryDue(query.EasyPay, query.Bulk, "shop"), Data: body, Number: 1, Stored: time.Now()}
	require.Equal(t, done, b.Handle(t.Context(), due))
	require.Equal(t, *retry.Replay, *asked.Replay, "the writers know what it supersedes")
	require.Zero(t, asked.Expires, "the deadline of its client has passed")
	require.NoError(t, query.ReadStrict(b.store.retries[1].body, &retry))
	require.Equal(t, asked.Replay, retry.Replay, "a further round is a round of the replay")
	require.Equal(t, query.Bulk, asked.Way(), "it holds up nobody who waits")
	require.Equal(t, query.Interactive, asked.Lane, "and its events tell the lane it came by")

	b.fail(fault.Rejected, fault.UpstreamBroken)
	due.Data = b.store.retries[1].body
	require.Equal(t, done, b.Handle(t.Context(), due))
	var dead query.DeadData
	event := decodeInto(t, b.store.dead[keyOf("1")], &dead)
	require.Equal(t, keyOf("1")+".dead.2", event["id"])
	require.Equal(t, 2, dead.Revision)
	require.Equal(t, asked.ReplayRef(), dead.Replay)
	var failed query.FailedData
	decodeInto(t, b.store.results[keyOf("1")], &failed)
	require.Equal(t, asked.ReplayRef(), failed.Replay)
}

func TestPanicIsSetAsideAfterAFewRounds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		panic("card " + testCard)
	}
	delivery := b.easyPay("1")
	for round := range 3 {
		require.Equal(t, done, b.Handle(t.Context(), delivery))
		outcome := b.store.last(t)
		require.Contains(t, outcome.Stack, "TestPanicIsSetAside")
		require.NotContains(t, outcome.Stack, testCard)
		if round < 2 {
			require.Equal(t, decide.Retry, outcome.Verdict.Action)
			delivery = query.Delivery{
				Subject: b.subjects.RetryDue(query.EasyPay, query.Interactive, "shop"), Data: b.store.retries[round].body,
				Stream: "DISCOUNT_RETRIES", Sequence: uint64(round + 1), Number: 1, Stored: time.Now(),
			}
		}
	}
	require.Equal(t, query.ReasonQuarantined, b.store.reasons[keyOf("1")])
	require.NotContains(t, b.store.everything(), testCard)
}

func TestInterruptedIsScheduledForAnotherWorker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	b.wait = func(ctx context.Context, _ *query.Query) error {
		stop()
		return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, ctx.Err())
	}
	require.Equal(t, done, b.Handle(ctx, b.easyPay("1")))
	require.Len(t, b.store.retries, 1)
	require.Equal(t, decide.Release, b.store.last(t).Verdict.Action)
	var retry query.Retry
	require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
	require.Zero(t, retry.Rounds, "a stop costs no round")
	require.Empty(t, retry.Attempts, "and no attempt")
}

// TestAnswerAtTheLastMomentIsStored stops the worker while an answer arrives: it must not be asked for again.
func TestAnswerAtTheLastMomentIsStored(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx, stop := context.WithCancel(t.Context())
	call := b.call
	b.call = func(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
		defer stop()
		return call(ctx, q, details)
	}
	require.Equal(t, done, b.Handle(ctx, b.easyPay("1")))
	require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
	require.Empty(t, b.store.retries)
}

// TestAStopWhileOneStreamRefuses has the worker stop while results, or letters, are not taken. The query is scheduled for another worker, which
// costs it no delivery and no round, and ends as if nothing had happened.
func TestAStopWhileOneStreamRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refuse string
		kind   fault.Kind
		status query.Status
	}{
		"answer":           {refuse: "result", status: query.Completed},
		"result of a dead": {refuse: "result", kind: fault.Rejected, status: query.Failed},
		"dead letter":      {refuse: "dead", kind: fault.Rejected, status: query.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if test.kind != fault.Unknown {
				b.fail(test.kind, fault.UpstreamBroken)
			}
			b.store.refuse = func(what string) error {
				if what == test.refuse {
					return fault.New("store", fault.Interrupted, fault.NotStored)
				}
				return nil
			}
			require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
			require.Equal(t, decide.Release, b.store.last(t).Verdict.Action)
			var retry query.Retry
			require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
			require.Zero(t, retry.Rounds)

			b.store.refuse = func(string) error { return nil }
			require.Equal(t, done, b.Handle(t.Context(), b.due(0)))
			require.Equal(t, test.status, b.store.statuses[keyOf("1")])
			require.Equal(t, test.status == query.Failed, b.store.dead[keyOf("1")] != nil)
		})
	}
}

// TestWhatCannotBeReadIsGivenBack has no name to which a retry could be scheduled, or holds what must not be kept.
func TestWhatCannotBeReadIsGivenBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.store.refuse = func(what string) error {
		if what != "retry" {
			return fault.New("store", fault.Interrupted, fault.NotStored)
		}
		return nil
	}
	nameless := b.easyPay("1")
	nameless.Data = []byte("{")
	forbidden := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008", "cvv2": "123"}, nil)
	for _, delivery := range []query.Delivery{nameless, forbidden} {
		require.Equal(t, decide.Settlement{After: releaseDelay}, b.Handle(t.Context(), delivery))
		require.Empty(t, b.store.retries)
	}
}

func TestNothingIsDoneThatWasNotStored(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		refuse string
		kind   fault.Kind
		number int
	}{
		"result":           {refuse: "result,retry", number: 1},
		"dead letter":      {refuse: "dead,retry", kind: fault.Rejected, number: 1},
		"result of a dead": {refuse: "result,retry", kind: fault.Rejected, number: 1},
		"retry":            {refuse: "retry", kind: fault.Unavailable, number: 1},
		"look for result":  {refuse: "look,retry", number: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if test.kind != fault.Unknown {
				b.fail(test.kind, fault.Timeout)
			}
			b.store.refuse = func(what string) error {
				if strings.Contains(test.refuse, what) {
					return fault.New("store", fault.Interrupted, fault.NotStored)
				}
				return nil
			}
			delivery := b.easyPay("1")
			delivery.Number = test.number
			require.Equal(t, decide.Settlement{After: releaseDelay}, b.Handle(t.Context(), delivery))
			require.False(t, b.store.last(t).Settled)
		})
	}
}
