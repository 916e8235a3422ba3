package sandbox

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestArrivalsCountEveryRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Empty(t, b.Arrivals(EasyPay))
	require.Nil(t, b.Arrivals("elsewhere"))
	require.Nil(t, b.ArrivalsOf("elsewhere", "x"))
	before := time.Since(b.started)
	for _, body := range []string{plainInquiry, plainInquiry, `{"mallId":"T0000002"}`, `{"mallId":"4111111111111111"}`, "{"} {
		b.easy(t, body)
	}
	b.ask(t, b.upi())
	times := b.Arrivals(EasyPay)
	require.Len(t, times, 5)
	require.True(t, slices.IsSorted(times))
	require.GreaterOrEqual(t, times[0], before)
	require.LessOrEqual(t, times[4], time.Since(b.started))
	require.Equal(t, times[:2], b.ArrivalsOf(EasyPay, "T0000001"))
	require.Equal(t, times[2:3], b.ArrivalsOf(EasyPay, "T0000002"))
	require.Empty(t, b.ArrivalsOf(EasyPay, ""))
	require.Empty(t, b.ArrivalsOf(EasyPay, "4111111111111111"))
	require.Len(t, b.ArrivalsOf(UnionPay, "100120156"), 1)

	require.Equal(t, 5, b.MaxInWindow(EasyPay, time.Hour))
	require.Equal(t, 0, b.Violations(EasyPay, 1, 5))
	require.Equal(t, 1, b.Violations(EasyPay, 1e-6, 4))

	st := b.Stats()
	require.EqualValues(t, 5, st.Providers[EasyPay].Arrivals)
	require.Equal(t, map[string]uint64{"T0000001": 2, "T0000002": 1}, st.Providers[EasyPay].Accounts)
	require.EqualValues(t, 3, st.Providers[EasyPay].Outcomes["answered"])
	require.EqualValues(t, 1, st.Providers[EasyPay].Outcomes["declined"])
	require.EqualValues(t, 1, st.Providers[EasyPay].Outcomes["refused"])
	require.Len(t, st.Providers[EasyPay].Outcomes, len(outcomeNames))
	require.Equal(t, map[string]uint64{"code S101": 1, string(reasonJSON): 1}, st.Providers[EasyPay].Reasons)
	require.Equal(t, 5, st.Providers[EasyPay].PeakPerSecond)
	require.Positive(t, st.Providers[EasyPay].CallsPerSecond)
	require.Equal(t, 1, st.Providers[EasyPay].MaxInFlight)
	require.WithinDuration(t, time.Now(), st.Started.Add(time.Duration(st.Elapsed*float64(time.Second))), time.Second)

	b.Reset()
	require.Empty(t, b.Arrivals(EasyPay))
	require.Empty(t, b.ArrivalsOf(EasyPay, "T0000001"))
	require.Zero(t, b.Stats().Providers[EasyPay].Arrivals)
	b.easy(t, plainInquiry)
	require.Greater(t, b.Arrivals(EasyPay)[0], times[4], "offsets go on from the same start")
}

func TestResetArmsFaultsAnewAndKeepsMemory(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faults(t, "easypay:status=503#1")
	require.Equal(t, 503, b.easy(t, plainInquiry).StatusCode)
	require.Equal(t, 200, b.easy(t, plainInquiry).StatusCode)
	c := b.upi()
	require.Equal(t, 200, b.ask(t, c).StatusCode)
	b.Reset()
	require.Equal(t, 503, b.easy(t, plainInquiry).StatusCode)
	require.Equal(t, 401, b.ask(t, c).StatusCode, "the UUID is still known")
}

func TestLedgerOverwritesTheOldest(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now(), 1)
	require.EqualValues(t, chunkEntries, l.capacity)
	const extra = 10
	for range chunkEntries + extra {
		l.settle(l.arrive(), "T0000001", Answered, "")
		l.leave()
	}
	times := l.arrivals(nil)
	require.Len(t, times, chunkEntries)
	require.True(t, slices.IsSorted(times))
	st := l.stats()
	require.EqualValues(t, chunkEntries+extra, st.Arrivals)
	require.EqualValues(t, extra, st.Forgotten)
	require.EqualValues(t, chunkEntries+extra, st.Outcomes["answered"])
}

// A request that ends long after it came must not mark another one's entry, nor count in a period that began later.
func TestLedgerSettlesLate(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now(), chunkEntries)
	slow := l.arrive()
	for range chunkEntries {
		l.settle(l.arrive(), "T0000001", Answered, "")
	}
	l.settle(slow, "T0000002", Silent, reasonClientGone)
	account := "T0000002"
	require.Empty(t, l.arrivals(&account), "its entry was overwritten")
	require.EqualValues(t, 1, l.stats().Outcomes["silent"])

	slow = l.arrive()
	l.reset()
	l.settle(slow, "T0000002", Silent, reasonClientGone)
	require.Zero(t, l.stats().Outcomes["silent"])
	require.Zero(t, l.stats().Outcomes["pending"])
}

func TestLedgerBoundsAccounts(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now(), 0)
	require.GreaterOrEqual(t, l.capacity, uint64(1_000_000))
	for i := range maxAccounts + 50 {
		l.settle(l.arrive(), fmt.Sprintf("T%07d", i), Answered, "")
	}
	accounts := l.stats().Accounts
	require.Len(t, accounts, maxAccounts-1)
	require.EqualValues(t, 52, accounts[otherAccounts])
}

func TestLedgerIsOrderedUnderConcurrency(t *testing.T) {
	t.Parallel()
	l := newLedger(time.Now(), 0)
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for range 1000 {
				l.settle(l.arrive(), "T0000001", Answered, "")
				l.leave()
			}
		})
	}
	callers.Wait()
	times := l.arrivals(nil)
	require.Len(t, times, 8000)
	require.True(t, slices.IsSorted(times))
	require.Zero(t, l.stats().InFlight)
	require.LessOrEqual(t, l.stats().MaxInFlight, 8)
}

func TestOutcomeNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for o := range outcomeNames {
		name := Outcome(o).String()
		require.NotEmpty(t, name)
		require.False(t, seen[name])
		seen[name] = true
	}
	require.Equal(t, "unknown", Outcome(200).String())
}

func TestMemoryForgetsTheOldest(t *testing.T) {
	t.Parallel()
	m := newMemory[int](3)
	for i := range 4 {
		require.True(t, m.add(i))
	}
	require.False(t, m.add(3))
	require.False(t, m.add(1))
	require.True(t, m.add(0), "it was forgotten when 3 came")
	require.True(t, m.add(1), "and 1 when 0 came again")
	require.Len(t, m.known, 3)
}
