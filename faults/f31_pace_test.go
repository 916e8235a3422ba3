//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestF31Scale lets the fleet grow and shrink between eight workers and one every five seconds, under a backlog. However many workers come,
// go or are killed, the upstream must not see more calls than all of them together may make, and each query has its one result.
func TestF31Scale(t *testing.T) {
	t.Parallel()
	rate, burst, calls := 200, 20, 3_000
	if paceInFull() {
		rate, burst, calls = 500, 50, 200_000
	}
	p := newPaced(t, rate, burst)
	p.begin(t, 8)
	feeding := p.feed(t, p.load, 4*rate)
	p.warmUp(t)
	used := p.use()
	rounds := 0
	for began := time.Now(); p.calls() < calls; rounds++ {
		require.Less(t, time.Since(began), 4*time.Duration(calls/rate)*time.Second+soon, "the calls stand still")
		pause(t.Context(), 5*time.Second)
		p.scale(t, []int{1, 8}[rounds%2])
	}
	part := used()
	feeding.stop()
	p.scale(t, 8)
	found := p.finish(t, p.load, soon, 20)
	p.requirePace(t, p.killed*slotsEach)
	t.Logf("F31: %d calls of %d queries, %d times between 8 workers and 1 (%d stopped, %d killed); %.1f %% of the rate used",
		p.calls(), found.Queries, rounds, p.stopped, p.killed, 100*part)
	if paceInFull() {
		require.GreaterOrEqual(t, part, 0.95)
	}
}

// TestF32StoreAway kills the broker, which keeps the pace, under a backlog. Without it nobody may call beyond what was leased, and with it
// back the calls go on within the pace.
func TestF32StoreAway(t *testing.T) {
	t.Parallel()
	// leased is the longest time for which call times are handed out, with the slack of the burst, and a call's way.
	const rate, burst, leased, workers = 200, 20, 1300*time.Millisecond + onTheWay, 4
	p := newPaced(t, rate, burst)
	p.begin(t, workers)
	feeding := p.feed(t, p.load, 4*rate)
	p.warmUp(t)
	kills := 1
	if paceInFull() {
		kills = 10
	}
	most := 0
	for range kills {
		before := p.calls()
		p.brokers[0].kill()
		pause(t.Context(), leased)
		held := p.calls()
		most = max(most, held-before)
		pause(t.Context(), 2*time.Second)
		require.Equal(t, held, p.calls(), "F32: calls that nobody had leased")
		p.brokers[0].run(t)
		require.Eventually(t, func() bool { return p.calls() >= held+2*rate }, soon, 10*time.Millisecond, "the calls go on")
	}
	require.LessOrEqual(t, most, burst+rate, "F32: more calls than may be leased or under way")
	feeding.stop()
	found := p.finish(t, p.load, soon, 20)
	// What the workers hold when the broker dies may be called already, and is then called again under a permit of its own.
	p.requirePace(t, workers*slotsEach*kills)
	t.Logf("F32: the store was away %d times; at most %d calls were made after that, with slots leased before; %d queries, none lost", kills, most, found.Queries)
}
