package quota

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func easyPay() *query.Query { return &query.Query{Provider: query.EasyPay} }

func only(perSecond float64, burst int) *Local {
	return NewLocal(map[query.Provider]Rate{query.EasyPay: {PerSecond: perSecond, Burst: burst}})
}

// requireFault checks an error's kind and code.
func requireFault(t testing.TB, err error, kind fault.Kind, code fault.Code) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, kind, fault.KindOf(err))
	require.Equal(t, code, fault.CodeOf(err))
}

// tooMany returns a window in which more permits were given than rate x window + burst, or nothing. Every window that could break the
// rule begins and ends with a permit. A millionth of a permit is left to the arithmetic of floats.
func tooMany(given []time.Duration, perSecond float64, burst int) string {
	slices.Sort(given)
	for i := range given {
		for j := i; j < len(given); j++ {
			allowed := perSecond*(given[j]-given[i]).Seconds() + float64(burst)
			if float64(j-i+1) > allowed+1e-6*float64(len(given)) {
				return fmt.Sprintf("%d permits from %v to %v, at most %.6f allowed", j-i+1, given[i], given[j], allowed)
			}
		}
	}
	return ""
}

// asking is one goroutine of the model: when it comes, how many permits it wants, and how long it waits for each at most.
type asking struct {
	after    time.Duration
	permits  int
	deadline time.Duration
	cancel   time.Duration
}

func drawAsking(t *rapid.T) asking {
	milliseconds := func(most int, what string) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Millisecond
	}
	a := asking{after: milliseconds(3000, "after"), permits: rapid.IntRange(1, 6).Draw(t, "permits")}
	switch rapid.IntRange(0, 2).Draw(t, "ends") {
	case 1:
		a.deadline = milliseconds(2000, "deadline")
	case 2:
		a.cancel = milliseconds(2000, "cancel")
	}
	return a
}

// run takes its permits and tells when it got each.
func (a asking) run(pace *Local, got func()) {
	time.Sleep(a.after)
	for range a.permits {
		ctx, stop := context.WithCancel(context.Background())
		if a.deadline > 0 {
			ctx, stop = context.WithTimeout(ctx, a.deadline)
		}
		if a.cancel > 0 {
			time.AfterFunc(a.cancel, stop)
		}
		if pace.Wait(ctx, easyPay()) == nil {
			got()
		}
		stop()
	}
}

func TestRateIsKeptInEveryWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		perSecond := rapid.Float64Range(0.5, 200).Draw(r, "rate")
		burst := rapid.IntRange(1, 20).Draw(r, "burst")
		all := rapid.SliceOfN(rapid.Custom(drawAsking), 1, 24).Draw(r, "asking")
		var given []time.Duration
		synctest.Test(t, func(*testing.T) {
			pace, start := only(perSecond, burst), time.Now()
			var mu sync.Mutex
			var running sync.WaitGroup
			for _, a := range all {
				running.Go(func() {
					a.run(pace, func() {
						mu.Lock()
						defer mu.Unlock()
						given = append(given, time.Since(start))
					})
				})
			}
			running.Wait()
		})
		if broken := tooMany(given, perSecond, burst); broken != "" {
			r.Fatal(broken)
		}
	})
}

// TestRuleFindsWhatItMustFind keeps the check above honest.
func TestRuleFindsWhatItMustFind(t *testing.T) {
	t.Parallel()
	require.Empty(t, tooMany([]time.Duration{0, 0, 0, time.Second, 2 * time.Second}, 1, 3))
	require.NotEmpty(t, tooMany([]time.Duration{0, 0, 0, 0}, 1, 3))
	require.NotEmpty(t, tooMany([]time.Duration{0, 0, 0, time.Second, 2*time.Second - 10*time.Millisecond}, 1, 3))
}

func TestRateIsUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace, start := only(10, 4), time.Now()
		for range 104 {
			require.NoError(t, pace.Wait(t.Context(), easyPay()))
		}
		require.InDelta(t, 10, time.Since(start).Seconds(), 0.001)
	})
}

func TestBurstIsAtLeastOne(t *testing.T) {
	t.Parallel()
	for _, burst := range []int{-1, 0, 1} {
		synctest.Test(t, func(t *testing.T) {
			pace, start := only(1, burst), time.Now()
			require.NoError(t, pace.Wait(t.Context(), easyPay()))
			require.Zero(t, time.Since(start))
			require.NoError(t, pace.Wait(t.Context(), easyPay()))
			require.Equal(t, time.Second, time.Since(start))
		})
	}
}

func TestDeadlineThatIsTooNearIsToldAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace, start := only(1, 1), time.Now()
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
		defer cancel()
		for range 20 {
			requireFault(t, pace.Wait(ctx, easyPay()), fault.Expired, fault.DeadlinePassed)
		}
		require.Zero(t, time.Since(start), "whoever asked hears it while it still matters")
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		require.Equal(t, time.Second, time.Since(start), "and it cost no permit")
	})
}

// TestRefusalsCostNothingHoweverManyAskAtOnce asks from many goroutines at once: a permit that was only looked at must not delay others.
func TestRefusalsCostNothingHoweverManyAskAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace, start := only(1, 1), time.Now()
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		var asking sync.WaitGroup
		for range 64 {
			asking.Go(func() {
				for range 200 {
					if fault.KindOf(pace.Wait(ctx, easyPay())) != fault.Expired {
						t.Error("the deadline was too near")
					}
				}
			})
		}
		asking.Wait()
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestDeadlineThatIsJustFarEnough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace := only(1, 1)
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second+time.Millisecond)
		defer cancel()
		require.NoError(t, pace.Wait(ctx, easyPay()))
	})
}

func TestCancelledWaitGivesItsPermitBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace, start := only(1, 1), time.Now()
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(300*time.Millisecond, cancel)
		requireFault(t, pace.Wait(ctx, easyPay()), fault.Interrupted, fault.Stopped)
		require.Equal(t, 300*time.Millisecond, time.Since(start))
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		require.Equal(t, time.Second, time.Since(start))
	})
}

func TestContextThatEndedTakesNoPermit(t *testing.T) {
	t.Parallel()
	for name, pace := range map[string]*Local{"limited": only(1, 1), "unlimited": only(0, 0)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			expired, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
			defer stop()
			for range 50 {
				requireFault(t, pace.Wait(cancelled, easyPay()), fault.Interrupted, fault.Stopped)
				requireFault(t, pace.Wait(expired, easyPay()), fault.Expired, fault.DeadlinePassed)
			}
			soon, done := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer done()
			require.NoError(t, pace.Wait(soon, easyPay()), "the one permit is still there")
		})
	}
}

func TestProviderWithoutALimitNeverWaits(t *testing.T) {
	t.Parallel()
	for name, rates := range map[string]map[query.Provider]Rate{
		"not named": {query.UnionPay: {PerSecond: 1, Burst: 1}}, "zero": {query.EasyPay: {Burst: 1}},
		"negative": {query.EasyPay: {PerSecond: -1, Burst: 1}}, "no rates": nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pace, start := NewLocal(rates), time.Now()
				for range 1000 {
					require.NoError(t, pace.Wait(t.Context(), easyPay()))
				}
				require.Zero(t, time.Since(start))
			})
		})
	}
}

func TestProvidersHaveTheirOwnPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pace := NewLocal(map[query.Provider]Rate{query.EasyPay: {PerSecond: 1, Burst: 1}, query.UnionPay: {PerSecond: 1, Burst: 1}})
		start := time.Now()
		require.NoError(t, pace.Wait(t.Context(), easyPay()))
		require.NoError(t, pace.Wait(t.Context(), &query.Query{Provider: query.UnionPay}))
		require.Zero(t, time.Since(start))
	})
}

func BenchmarkWait(b *testing.B) {
	pace := only(1e9, 1<<30)
	q := easyPay()
	b.ReportAllocs()
	for b.Loop() {
		if err := pace.Wait(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}
