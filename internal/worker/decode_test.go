package worker

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// TestReadingARetryLeavesTheMessageAsItIs reads a retry twice, as the sweeper does when it is overdue: the second time it must say the same.
func TestReadingARetryLeavesTheMessageAsItIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer := b.call
	b.fail(fault.Unavailable, fault.Timeout)
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	due := b.due(0)
	before := bytes.Clone(due.Data)
	require.True(t, b.Overdue(due, time.Now().Add(time.Hour)))
	require.Equal(t, before, due.Data)

	b.call = answer
	require.Equal(t, done, b.Handle(t.Context(), due))
	require.Equal(t, before, due.Data)
	require.Equal(t, map[string]query.Status{keyOf("1"): query.Completed}, b.store.statuses)
	require.Empty(t, b.store.dead)
}

// TestAQueryThatCannotEvenBeReadWithoutAPanic has nothing to read it with. It has no identity to put it off under, so it is set aside at once.
func TestAQueryThatCannotEvenBeReadWithoutAPanic(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Decoder = nil
	require.Equal(t, done, b.Handle(t.Context(), b.easyPay("1")))
	require.Equal(t, []string{"dead"}, b.store.order)
	outcome := b.store.last(t)
	require.NotEmpty(t, outcome.Stack)
	require.NotEmpty(t, outcome.Query.Provider, "it stands in the letter's subject")
	require.NotEmpty(t, outcome.Query.Client)
	var letter query.DeadData
	decodeInto(t, b.store.dead[outcome.Query.Key()], &letter)
	require.Equal(t, []any{query.ReasonMalformed, fault.Panicked}, []any{letter.Reason, letter.Code})
}
