package worker

import (
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
