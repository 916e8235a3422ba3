//go:build faults

package faults

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestF31HiddenLimit sets a ceiling far above what the upstream takes. The fleet has to find the limit, stay near it, and lose nothing.
func TestF31HiddenLimit(t *testing.T) {
	t.Parallel()
	const limit = 137
	lasts := 10 * time.Second
	if paceInFull() {
		lasts = time.Minute
	}
	p := newPaced(t, 1000, 10)
	p.upstream.misbehave(t, "easypay:limit=137/14")
	p.begin(t, 4)
	feeding := p.feed(t, p.load, 500)
	refused := func() int {
		return int(p.upstream.Stats().Providers[sandbox.EasyPay].Outcomes[sandbox.Throttled.String()])
	}
	require.Eventually(t, func() bool { return refused() > 0 }, soon, 10*time.Millisecond, "the limit is met")
	pause(t.Context(), lasts/2)
	before, began := p.calls()-refused(), time.Now()
	pause(t.Context(), lasts/2)
	taken, took := p.calls()-refused()-before, time.Since(began)
	all, bad := p.calls(), refused()
	feeding.stop()
	p.upstream.misbehave(t, "")
	p.finish(t, p.load, soon, 20)
	p.requirePace(t, 0)
	used, part := float64(taken)/took.Seconds()/limit, float64(bad)/float64(all)
	t.Logf("F31: a hidden limit of %d/s behind a ceiling of 1000/s: %.1f %% of it used in the last %s of %s, %d of %d calls refused (%.2f %%)",
		limit, 100*used, took.Round(time.Second), lasts, bad, all, 100*part)
	if paceInFull() {
		require.GreaterOrEqual(t, used, 0.9)
		require.Less(t, part, 0.01)
	}
}

// arrived keeps when results came.
type arrived struct {
	mu sync.Mutex
	at map[string]time.Time
}

// follow notes when each result comes.
func (p *paced) follow(t *testing.T) *arrived {
	t.Helper()
	a := &arrived{at: map[string]time.Time{}}
	_, err := p.conn.Subscribe("discount.result.>", func(m *nats.Msg) {
		key, _, _ := strings.Cut(strings.TrimPrefix(m.Subject, "discount.result."), ".")
		a.mu.Lock()
		defer a.mu.Unlock()
		a.at[key] = time.Now()
	})
	require.NoError(t, err)
	return a
}

// since returns how long after they were asked all of these queries had their results, or false if some have none yet.
func (a *arrived) since(asked map[string]time.Time) ([]time.Duration, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	waits := make([]time.Duration, 0, len(asked))
	for key, at := range asked {
		if came, ok := a.at[key]; ok {
			waits = append(waits, came.Sub(at))
		}
	}
	return waits, len(waits) == len(asked)
}

// shop publishes queries at random times for a while and returns how long each took from its publication to its result, shortest first.
func (p *paced) shop(t *testing.T, results *arrived, perSecond float64, d time.Duration) []time.Duration {
	t.Helper()
	asked := map[string]time.Time{}
	for end := time.Now().Add(d); time.Now().Before(end); {
		pause(t.Context(), time.Duration(p.draw.ExpFloat64()/perSecond*float64(time.Second)))
		at := time.Now()
		asked[p.load.one(t.Context())] = at
	}
	var waits []time.Duration
	require.Eventually(t, func() (all bool) {
		waits, all = results.since(asked)
		return all
	}, soon, 10*time.Millisecond)
	slices.Sort(waits)
	return waits
}

// TestF31Lanes asks interactive queries without and with a backlog of bulk queries, on four workers. Those who wait go first: all of them have
// their results while the backlog is still there.
func TestF31Lanes(t *testing.T) {
	t.Parallel()
	const rate, burst, perSecond = 400, 40, 60
	backlog, lasts := 4_000, 3*time.Second
	if paceInFull() {
		backlog, lasts = 100_000, 30*time.Second
	}
	p := newPaced(t, rate, burst)
	results := p.follow(t)
	bulk := newLoad(p.site)
	bulk.lane, bulk.last = query.Bulk, 10_000_000
	p.begin(t, 4)
	feeding := p.feed(t, bulk, 2*rate)
	p.warmUp(t)
	feeding.stop()
	require.Empty(t, p.quiesce(t, soon))
	alone := p.shop(t, results, perSecond, lasts)
	feeding = p.feed(t, bulk, backlog)
	waiting := func() int { return bulk.count() + p.load.count() - p.upstream.asked() }
	require.Eventually(t, func() bool { return waiting() >= backlog }, patience, 10*time.Millisecond)
	feeding.stop()
	beside := p.shop(t, results, perSecond, lasts)
	left := waiting()
	require.Positive(t, left, "interactive queries waited for the backlog")
	p.hasten(t)
	p.load.join(bulk)
	p.finish(t, p.load, patience, 20)
	at := func(waits []time.Duration, percent int) time.Duration {
		return waits[len(waits)*percent/100].Round(100 * time.Microsecond)
	}
	t.Logf("F31: %d + %d interactive queries: p50 %s alone, %s beside a bulk backlog; p99 %s and %s (%.1f x); %d of the backlog were left",
		len(alone), len(beside), at(alone, 50), at(beside, 50), at(alone, 99), at(beside, 99), float64(at(beside, 99))/float64(at(alone, 99)), left)
	if paceInFull() {
		require.Less(t, at(beside, 50), 2*at(alone, 50)+5*time.Millisecond, "half of them wait for the backlog")
	}
}
