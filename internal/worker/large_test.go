package worker

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// largest is more than a failed result and an empty letter take, and less than what is large here.
const largest = 8 << 10

// large returns a query whose message is larger than that.
func (b *bundle) large() query.Delivery {
	delivery := b.easyPay("1")
	delivery.Header["X-Large"] = []string{strings.Repeat("\x01", largest)}
	return delivery
}

// TestWhatIsTooLargeToBeStoredFails has an answer, a next round and a letter that the broker never takes: each query gets a failed result and a
// letter at once, and nobody waits for ever.
func TestWhatIsTooLargeToBeStoredFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		call    func(b *bundle)
		limited []string
		code    fault.Code
		emptied bool
	}{
		"answer": {call: func(b *bundle) {
			b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
				answer := testAnswer()
				answer.Upstream.Message = strings.Repeat("a", largest)
				return answer, nil, nil
			}
		}, limited: []string{"result"}, code: fault.TooLarge},
		"next round":            {call: func(b *bundle) { b.fail(fault.Unavailable, fault.Timeout) }, limited: []string{"retry"}, code: fault.TooLarge},
		"next round and letter": {call: func(b *bundle) { b.fail(fault.Unavailable, fault.Timeout) }, limited: []string{"retry", "dead"}, code: fault.TooLarge, emptied: true},
		"letter":                {call: func(b *bundle) { b.fail(fault.Rejected, fault.UpstreamBroken) }, limited: []string{"dead"}, code: fault.UpstreamBroken, emptied: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			test.call(b)
			b.store.limits = map[string]int{}
			for _, what := range test.limited {
				b.store.limits[what] = largest
			}
			require.Equal(t, done, b.Handle(t.Context(), b.large()))
			require.Equal(t, []string{"result", "dead"}, b.store.order)
			require.Equal(t, decide.Bury, b.store.last(t).Verdict.Action, "it is told as what it was")
			require.Nil(t, b.store.last(t).Answer)
			var failed query.FailedData
			decodeInto(t, b.store.results[keyOf("1")], &failed)
			require.Equal(t, []any{query.ReasonRejected, test.code, true}, []any{failed.Reason, failed.Code, failed.DeadLetter})
			var dead query.DeadData
			decodeInto(t, b.store.dead[keyOf("1")], &dead)
			require.Equal(t, []any{query.ReasonRejected, test.code, test.emptied}, []any{dead.Reason, dead.Code, dead.Emptied})
			plaintext, err := b.ring.Open(dead.Payload, 1<<20)
			require.NoError(t, err)
			var original query.Original
			require.NoError(t, query.ReadStrict(plaintext, &original))
			require.Equal(t, b.large().Subject, original.Subject)
			require.Equal(t, test.emptied, len(original.Data) == 0)
		})
	}
}

func TestAskOfWhatIsTooLargeRepliesWithItsFailure(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		answer := testAnswer()
		answer.Upstream.Message = strings.Repeat("a", largest)
		return answer, nil, nil
	}
	b.store.limits = map[string]int{"result": largest}
	event, err := b.Ask(t.Context(), b.easyPay("1"), inTime())
	require.NoError(t, err)
	var failed query.FailedData
	decodeInto(t, event, &failed)
	require.Equal(t, fault.TooLarge, failed.Code)
	require.Equal(t, decide.Bury, b.store.last(t).Verdict.Action)
}

// TestAStopKeepsWhatIsTooLargeForARound stops the worker: the message keeps its place in the queue, and its query is not failed for it.
func TestAStopKeepsWhatIsTooLargeForARound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.store.limits = map[string]int{"retry": largest}
	ctx, stop := context.WithCancel(t.Context())
	b.wait = func(ctx context.Context, _ *query.Query) error {
		stop()
		return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, ctx.Err())
	}
	require.Equal(t, decide.Settlement{After: releaseDelay}, b.Handle(ctx, b.large()))
	require.Empty(t, b.store.order)
}
