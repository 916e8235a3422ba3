package worker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// otherKeys returns a ring of keys that the bundle's worker does not have.
func otherKeys(t *testing.T) *card.Ring {
	t.Helper()
	dir := t.TempDir()
	_, err := card.NewKeys(dir, time.Now())
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	return ring
}

// TestAQueryIsFinishedWithTheKeysItBeganWith takes all keys away after the query was read and before it is unsealed.
func TestAQueryIsFinishedWithTheKeysItBeganWith(t *testing.T) {
	t.Parallel()
	b := setup(t)
	began := b.ring.Snapshot()
	other := otherKeys(t)
	b.store.refuse = func(what string) error {
		if what == "look" {
			b.ring.Replace(other)
		}
		return nil
	}
	require.True(t, b.Handle(t.Context(), b.unionPay(t, "1", bindingOf("1"))).Done)
	require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
	var data query.CompletedData
	decodeInto(t, b.store.results[keyOf("1")], &data)
	_, keyID := began.Fingerprint(card.Number{})
	require.Equal(t, keyID, data.Card.KeyID)

	late := b.unionPay(t, "2", bindingOf("2")) // It is sealed to the new keys.
	require.True(t, b.Handle(t.Context(), late).Done)
	require.Equal(t, query.Completed, b.store.statuses[keyOf("2")])
	b.ring.Replace(began)
	b.store.refuse = func(string) error { return nil }
	lost := b.delivery(query.UnionPay, "3", map[string]any{"pid": "1234567890", "data": sealedBy(t, other, "3")}, nil)
	require.True(t, b.Handle(t.Context(), lost).Done)
	require.Equal(t, query.ReasonMalformed, b.store.reasons[keyOf("3")])
	require.Equal(t, []any{decide.Bury, fault.UnknownKey}, []any{b.store.last(t).Verdict.Action, b.store.last(t).Verdict.Fault.Code})
	var letter query.DeadData
	decodeInto(t, b.store.dead[keyOf("3")], &letter)
	_, err := began.Open(letter.Payload, len(letter.Payload))
	require.NoError(t, err, "its letter is sealed to a key that the worker has")
}

func sealedBy(t *testing.T, ring *card.Ring, id string) string {
	t.Helper()
	number, err := card.ParseNumber(testCard)
	require.NoError(t, err)
	sealed, err := ring.Sealer().SealDetails(card.Details{UserToken: card.NewSecret(testToken), Number: number}, bindingOf(id))
	require.NoError(t, err)
	return sealed
}

// TestARetryWhoseKeyIsGone takes the key away while a query waits for its next round. Whoever asked is told, and the letter can be replayed as soon
// as the key is back.
func TestARetryWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	for name, delivery := range map[string]func(t *testing.T, b *bundle) query.Delivery{
		"easypay":  func(_ *testing.T, b *bundle) query.Delivery { return b.easyPay("1") },
		"unionpay": func(t *testing.T, b *bundle) query.Delivery { return b.unionPay(t, "1", bindingOf("1")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			answer := b.call
			b.fail(fault.Unavailable, fault.Timeout)
			asked := delivery(t, b)
			require.Equal(t, done, b.Handle(t.Context(), asked))
			var retry query.Retry
			require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))

			began := b.ring.Snapshot()
			b.ring.Replace(otherKeys(t))
			require.False(t, b.Overdue(b.due(0), time.Now().Add(time.Minute)))
			require.Equal(t, done, b.Handle(t.Context(), b.due(0)))
			var failed query.FailedData
			decodeInto(t, b.store.results[keyOf("1")], &failed)
			require.Equal(t, []any{query.ReasonMalformed, fault.UnknownKey, true}, []any{failed.Reason, failed.Code, failed.DeadLetter})
			require.Equal(t, *retry.Asked, failed.Query)
			require.Len(t, failed.Attempts, 1, "what was tried is not forgotten")
			var letter query.DeadData
			decodeInto(t, b.store.dead[keyOf("1")], &letter)
			require.Equal(t, retry.Payload, letter.Payload, "as it is: nobody could open it")
			require.Equal(t, asked.Sequence, letter.Origin.Sequence)
			require.True(t, asked.Stored.Equal(letter.FirstSeen))

			b.ring.Replace(began)
			b.call = answer
			delete(b.store.results, keyOf("1")) // The replay supersedes it.
			replay := query.Retry{
				Origin: letter.Origin, FirstSeen: time.Now(), Attempts: letter.Attempts, Payload: letter.Payload,
				Replay: &query.Replay{ReplayRef: query.ReplayRef{Revision: 1}, Result: 1, Letter: 1},
			}
			body, err := json.Marshal(replay)
			require.NoError(t, err)
			due := b.due(0)
			due.Data = body
			require.Equal(t, done, b.Handle(t.Context(), due))
			require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
			for _, secret := range []string{testCard, testToken, testMobile} {
				require.NotContains(t, b.store.everything(), secret)
			}
		})
	}
}

// TestAReplayWhoseKeyIsGone fails as a replay, so that its letter supersedes the one it came from.
func TestAReplayWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fail(fault.Unavailable, fault.Timeout)
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	var retry query.Retry
	require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
	retry.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 2, Batch: "b1", Actor: "kim"}, Result: 5, Letter: 6}
	body, err := json.Marshal(retry)
	require.NoError(t, err)
	due := b.due(0)
	due.Data = body
	b.ring.Replace(otherKeys(t))
	require.Equal(t, done, b.Handle(t.Context(), due))
	require.Equal(t, retry.Replay, b.store.last(t).Query.Replay, "the writers know what it supersedes")
	var letter query.DeadData
	decodeInto(t, b.store.dead[keyOf("1")], &letter)
	require.Equal(t, 2, letter.Revision)
}

// TestAnOldRetryWhoseKeyIsGone was written by a worker that did not put down whose query it is: only a letter can tell of it.
func TestAnOldRetryWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer := b.call
	b.fail(fault.Unavailable, fault.Timeout)
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	var retry query.Retry
	require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
	retry.Asked = nil
	body, err := json.Marshal(retry)
	require.NoError(t, err)
	due := b.due(0)
	due.Data = body
	began := b.ring.Snapshot()
	b.ring.Replace(otherKeys(t))
	require.Equal(t, done, b.Handle(t.Context(), due))
	require.Empty(t, b.store.results)
	require.Len(t, b.store.dead, 1)
	var letter query.DeadData
	decodeInto(t, b.store.dead[b.store.last(t).Query.Key()], &letter)
	require.Equal(t, "DISCOUNT_RETRIES", letter.Origin.Stream, "its place there is all that tells it from others")
	require.Equal(t, fault.UnknownKey, b.store.last(t).Verdict.Fault.Code)

	b.ring.Replace(began)
	b.call = answer
	require.Equal(t, done, b.Handle(t.Context(), due))
	require.Equal(t, query.Completed, b.store.statuses[keyOf("1")])
}
