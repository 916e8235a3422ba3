package worker

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// setApart delivers a query for the third time, which sets it apart.
func (b *bundle) setApart(t *testing.T, id string) {
	t.Helper()
	third := b.easyPay(id)
	third.Number = 3
	before := len(b.store.retries)
	require.Equal(t, done, b.Handle(t.Context(), third))
	require.Equal(t, fault.SetApart, b.store.last(t).Verdict.Fault.Code)
	require.Len(t, b.store.retries, before+1)
	require.WithinRange(t, b.store.retries[before].at, time.Now(), time.Now().Add(13*time.Second))
}

// TestLastChanceIsApart takes a query that was held by two who died through its last chance: it is answered, fails like any other, or kills again.
func TestLastChanceIsApart(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fails      bool
		deliveries int
		check      func(t *testing.T, b *bundle)
	}{
		"it is answered": {deliveries: 1, check: func(t *testing.T, b *bundle) {
			t.Helper()
			require.Equal(t, decide.Complete, b.store.last(t).Verdict.Action)
		}},
		"its call fails, which shows that it kills nobody": {fails: true, deliveries: 1, check: func(t *testing.T, b *bundle) {
			t.Helper()
			require.Len(t, b.store.retries, 2)
			require.NotContains(t, string(b.store.retries[1].body), `"crashes"`)
		}},
		"it kills again": {deliveries: 2, check: func(t *testing.T, b *bundle) {
			t.Helper()
			require.Equal(t, query.ReasonQuarantined, b.store.last(t).Verdict.Reason)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.setApart(t, "1")
			if test.fails {
				b.fail(fault.Unavailable, fault.Timeout)
			}
			due := b.due(0)
			due.Number = test.deliveries
			require.Equal(t, done, b.Handle(t.Context(), due))
			test.check(t, b)
		})
	}
}

// TestOneLastChanceAtATime asks a query on its last chance while another one is asked: only one of them can be to blame for the next crash.
func TestOneLastChanceAtATime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.setApart(t, "1")
	b.setApart(t, "2")
	calls := 0
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		if calls++; calls == 1 {
			require.Equal(t, done, b.Handle(t.Context(), b.due(1)))
			require.Equal(t, fault.SetApart, b.store.last(t).Verdict.Fault.Code, "it is put off")
			require.Equal(t, done, b.Handle(t.Context(), b.easyPay("3")))
		}
		return testAnswer(), nil, nil
	}
	require.Equal(t, done, b.Handle(t.Context(), b.due(0)))
	require.Equal(t, 2, calls, "others are asked all the time")
	require.Equal(t, done, b.Handle(t.Context(), b.due(2)))
	require.Equal(t, 3, calls, "now it is its turn")
	for _, id := range []string{"1", "2", "3"} {
		require.Contains(t, b.store.results, keyOf(id))
	}
	require.Empty(t, b.store.dead)
}
