package deadletter

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// TestALetterOfWhichNothingWasKeptIsLeftOut has a publisher send a verification value. Its letter is empty: nothing is there to ask again,
// and a canary among such letters would be waited for in vain.
func TestALetterOfWhichNothingWasKeptIsLeftOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.bury("shop", map[string]any{
		"specversion": "1.0", "id": "0", "source": "urn:test", "type": query.TypeRequested, "data": map[string]any{"cardCd": "008", "cvv2": "123"},
	})
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, fault.ForbiddenCardData, letter.Code)

	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Zero(t, plan.Ready)
	require.Equal(t, map[Standing]int{Unserved: 1}, plan.LeftOut)
	shown, err := b.Show(t.Context(), letter)
	require.NoError(t, err)
	require.Equal(t, Unserved, shown.Standing)
	done := b.run(b.Letters, b.begin(b.Letters, Filter{}, func(r *Request) { r.Canary = 1 }).ID)
	require.Equal(t, Done, done.State)
	require.Zero(t, done.Published)
	require.Zero(t, b.published())
}

// TestLettersOfAProviderThatWasSwitchedOff has letters of a provider whose queries no stream takes any more. They hold up nobody else's, also
// where an earlier run has claimed one and could not publish it.
func TestLettersOfAProviderThatWasSwitchedOff(t *testing.T) {
	t.Parallel()
	b := setup(t, brokertest.WithTopology(func(topology *broker.Topology) { topology.Providers = []string{"easypay"} }))
	b.refuse(fault.UpstreamBroken)
	settlement := b.worker.Handle(t.Context(), query.Delivery{
		Subject: b.subject.Query(query.UnionPay, query.Bulk, "abroad"), Stream: "DISCOUNT_QUERIES", Sequence: 41, Number: 1, Stored: time.Now(),
		Data:   []byte(`{"specversion":"1.0","id":"other","source":"urn:test","type":"discount.query.requested.v1","data":{}}`),
		Header: map[string][]string{"Content-Type": {query.ContentTypeEvent}},
	})
	require.True(t, settlement.Done)
	keys := b.die("shop", 2)
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, query.UnionPay, letter.Query.Provider)

	unaware := b.open(func(o *Options) {
		o.Providers, o.Patience = []query.Provider{query.EasyPay, query.UnionPay}, time.Second
	})
	id := b.begin(unaware, Filter{}, func(r *Request) { r.Canary = 1 }).ID
	paused, err := unaware.Run(t.Context(), id, nil)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	require.Equal(t, Paused, paused.State)

	served := b.open(func(o *Options) { o.Providers = []query.Provider{query.EasyPay} })
	b.working()
	done := b.run(served, id)
	require.Equal(t, Done, done.State)
	require.Equal(t, 2, done.Published)
	require.Equal(t, map[Standing]int{Unserved: 1}, done.LeftOut)
	require.Eventually(t, func() bool { return len(b.statuses("shop")[keys[1]]) == 2 }, patience, 10*time.Millisecond)
	b.requireAnswered("shop", keys)
}

// TestShowSaysWhatAPlanDoes looks at the letters of a cancelled batch: the one that it may not have published is free, and shown as such.
func TestShowSaysWhatAPlanDoes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 49 })
	// It dies between the claim of its second letter and its publish: writes are the record, a claim, a publish, a claim.
	_, err := b.mortal(&life{left: 4, after: true}).Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	_, err = b.Cancel(t.Context(), batch.ID)
	require.NoError(t, err)
	for sequence, want := range map[uint64]Standing{1: Owned, 2: Ready} {
		letter, err := b.Find(t.Context(), sequence)
		require.NoError(t, err)
		shown, err := b.Show(t.Context(), letter)
		require.NoError(t, err)
		require.Equal(t, want, shown.Standing)
		require.Equal(t, batch.ID, shown.Batch)
		plan, err := b.PlanReplay(t.Context(), Filter{Sequence: sequence})
		require.NoError(t, err)
		require.Equal(t, want == Ready, plan.Ready == 1)
	}
}
