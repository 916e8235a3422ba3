package app

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestOutageLeavesTheBacklogAlone takes one upstream down under a backlog: it is asked a few times and no more, the other provider goes
// on, and when it is back every query gets its answer, most of them by their first call.
func TestOutageLeavesTheBacklogAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Breaker = config.Breaker{MinCalls: 5, FailureRatio: 0.5, Window: 10 * time.Second, OpenFor: 500 * time.Millisecond}
	s.Lanes.Bulk.Slots = 4
	s.fail(t, sandbox.Fault{Provider: sandbox.EasyPay, Kind: sandbox.KindDown})
	r := s.run(t)
	r.ready(t)
	const backlog = 60
	for i := range backlog {
		_, err := r.Publish(t.Context(), easyPay(fmt.Sprint(i), "008", query.Bulk))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return r.breakerOpen(t) }, patience, 10*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := r.Ask(ctx, unionPay(t, "meanwhile", query.Bulk))
	require.NoError(t, err)
	require.Equal(t, query.Completed, result.Status, "the other provider goes on")

	calls := s.sandbox.Stats().Providers[sandbox.EasyPay].Arrivals
	time.Sleep(time.Second) // Two probes fit into it: what is counted here is what must not happen.
	more := s.sandbox.Stats().Providers[sandbox.EasyPay].Arrivals - calls
	require.LessOrEqual(t, more, uint64(4), "single probes")
	names := r.topology.Names()
	require.Greater(t, r.count(t, names.Queries()), backlog/2, "the backlog lies where it was")
	require.Zero(t, r.count(t, names.Dead()))

	s.fail(t)
	require.Eventually(t, func() bool { return r.count(t, names.Results()) == backlog+1 }, patience, 50*time.Millisecond)
	once := 0
	for i := range backlog {
		answered := r.resultOf(t, query.Key("shop", "urn:shop", fmt.Sprint(i)))
		require.Equal(t, query.TypeCompleted, answered.Type)
		if len(answered.Data.Attempts) == 1 {
			once++
		}
	}
	require.Greater(t, once, backlog/2, "most queries kept their attempts")
}

// TestRefusedCredentialsStopAtOnce asks an upstream that refuses us: one answer is enough, and no query dies of it.
func TestRefusedCredentialsStopAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Breaker.OpenFor = 500 * time.Millisecond
	s.fail(t, sandbox.Fault{Provider: sandbox.UnionPay, Kind: sandbox.KindMsgResponse})
	r := s.run(t)
	r.ready(t)
	key, err := r.Publish(t.Context(), unionPay(t, "1", query.Interactive))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.sandbox.Stats().Providers[sandbox.UnionPay].Arrivals == 1 }, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool { return r.breakerOpen(t) }, patience, 10*time.Millisecond)
	s.fail(t)
	require.Equal(t, query.TypeCompleted, r.resultOf(t, key).Type)
	require.Zero(t, r.count(t, r.topology.Names().Dead()))
}

// TestAskOfAnUpstreamThatIsDownIsRefusedAtOnce asks while an upstream is known to be down for longer than anybody waits. Nothing is stored, so
// that the same query can be sent again, and the other provider answers.
func TestAskOfAnUpstreamThatIsDownIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Breaker.OpenFor = 20 * time.Minute
	s.Ask.Timeout, s.Ask.MaxTimeout = patience, patience
	s.fail(t, sandbox.Fault{Provider: sandbox.UnionPay, Kind: sandbox.KindMsgResponse})
	r := s.run(t)
	r.ready(t)
	_, err := r.Publish(t.Context(), unionPay(t, "1", query.Interactive))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.breakerOpen(t) }, patience, 10*time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	refused, err := r.Direct(ctx, unionPay(t, "2", query.Interactive))
	refusal, ok := errors.AsType[*client.Refusal](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "overloaded", refusal.Reason)
	require.Greater(t, refusal.RetryAfter, patience)
	require.LessOrEqual(t, refusal.RetryAfter, s.Breaker.OpenFor)
	_, err = r.Lookup(ctx, refused.Key)
	require.ErrorIs(t, err, client.ErrNoResult)

	answered, err := r.Direct(ctx, easyPay("3", "008", query.Interactive))
	require.NoError(t, err)
	require.Equal(t, query.Completed, answered.Status)
	require.Equal(t, 1, r.count(t, r.topology.Names().Results()))
}

// TestConfigCodeStopsAtOnce gets one answer with a code that the configuration knows to be about our account. KICC has not published such
// codes, so that no code of EasyPay means this by itself.
func TestConfigCodeStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Breaker.OpenFor = 500 * time.Millisecond
	s.Providers.EasyPay.Codes = map[string]string{"M001": "config"}
	refusal := of("008", sandbox.KindCode, "M001")
	refusal.Count = 1
	s.fail(t, refusal)
	r := s.run(t)
	r.ready(t)
	key, err := r.Publish(t.Context(), easyPay("1", "008", query.Interactive))
	require.NoError(t, err)
	result := r.resultOf(t, key)
	require.Equal(t, query.TypeCompleted, result.Type)
	require.Len(t, result.Data.Attempts, 2)
	require.Equal(t, "M001", result.Data.Attempts[0].Upstream)
	require.Eventually(t, func() bool { return len(s.lines(`"breaker":"open"`, `"provider":"easypay"`)) == 1 }, patience, 10*time.Millisecond, "one is enough")
	require.Zero(t, r.count(t, r.topology.Names().Dead()))
}

// breakerOpen tells whether some upstream counts as down.
func (r *running) breakerOpen(t *testing.T) bool {
	t.Helper()
	families, err := r.metrics.Registry().Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() != "discount_worker_breaker_open" {
			continue
		}
		for _, metric := range family.GetMetric() {
			if metric.GetGauge().GetValue() == 1 {
				return true
			}
		}
	}
	return false
}
