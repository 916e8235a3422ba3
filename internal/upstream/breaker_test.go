package upstream

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

func breakerPolicy() BreakerPolicy {
	return BreakerPolicy{MinCalls: 10, FailureRatio: 0.5, Window: 10 * time.Second, OpenFor: 5 * time.Second}
}

// finish makes one call with the given outcome.
func finish(t *testing.T, b *Breaker, outcome error) {
	t.Helper()
	done, err := b.Allow()
	require.NoError(t, err)
	done(outcome)
}

var (
	errDown    = fault.New("call", fault.Unavailable, fault.Timeout)
	errRefused = fault.New("call", fault.Unauthorized, fault.GatewayRefused)
)

func TestBreakerOpensOnFailures(t *testing.T) {
	t.Parallel()
	for _, failure := range []error{
		errDown, fault.New("call", fault.Throttled, fault.RateLimited), fault.New("call", fault.Unknown, fault.Panicked),
	} {
		synctest.Test(t, func(t *testing.T) {
			var changes []BreakerState
			b := NewBreaker(breakerPolicy(), func(to BreakerState) { changes = append(changes, to) })
			for range 9 {
				finish(t, b, failure)
				require.Equal(t, math.MaxInt, b.Capacity(), "too few calls to judge")
			}
			finish(t, b, failure)
			require.Equal(t, BreakerOpen, b.State())
			require.Zero(t, b.Capacity())
			_, err := b.Allow()
			require.Equal(t, fault.BreakerOpen, fault.CodeOf(err))
			require.Equal(t, fault.Unavailable, fault.KindOf(err))

			time.Sleep(5*time.Second + time.Millisecond)
			require.Equal(t, 1, b.Capacity())
			probe, err := b.Allow()
			require.NoError(t, err)
			_, err = b.Allow()
			require.Error(t, err, "one probe at a time")
			require.Zero(t, b.Capacity(), "and another query would have to wait for it")
			probe(failure)
			require.Equal(t, BreakerOpen, b.State(), "the probe failed")

			time.Sleep(5*time.Second + time.Millisecond)
			finish(t, b, nil)
			require.Equal(t, math.MaxInt, b.Capacity())
			require.Equal(t, []BreakerState{BreakerOpen, BreakerHalfOpen, BreakerOpen, BreakerHalfOpen, BreakerClosed}, changes)
		})
	}
}

func TestBreakerOpensAtOnceOnRefusedCredentials(t *testing.T) {
	t.Parallel()
	b := NewBreaker(breakerPolicy(), nil)
	finish(t, b, nil)
	finish(t, b, errRefused)
	require.Equal(t, BreakerOpen, b.State())
}

func TestRefusedCredentialsAreForgottenWhenTheyWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerPolicy(), nil)
		finish(t, b, errRefused)
		time.Sleep(5*time.Second + time.Millisecond)
		finish(t, b, nil)
		finish(t, b, errDown)
		require.Equal(t, BreakerClosed, b.State(), "one failure is not many")
	})
}

func TestBreakerIgnoresWhatIsNotTheUpstreamsFault(t *testing.T) {
	t.Parallel()
	b := NewBreaker(breakerPolicy(), nil)
	for range 100 {
		finish(t, b, fault.New("call", fault.Rejected, fault.UpstreamBroken))
		finish(t, b, fault.New("call", fault.Malformed, fault.BadField))
		finish(t, b, fault.New("call", fault.Interrupted, fault.Stopped))
	}
	require.Equal(t, BreakerClosed, b.State())
	for range 99 {
		finish(t, b, errDown)
	}
	require.Equal(t, BreakerClosed, b.State(), "200 good ones against 99")
}

func TestInterruptedProbeFreesItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerPolicy(), nil)
		finish(t, b, errRefused)
		time.Sleep(5*time.Second + time.Millisecond)
		finish(t, b, fault.New("call", fault.Interrupted, fault.Stopped))
		finish(t, b, nil)
		require.Equal(t, BreakerClosed, b.State())
	})
}

func TestOldFailuresAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerPolicy(), nil)
		for range 50 {
			finish(t, b, errDown)
			finish(t, b, nil)
			finish(t, b, nil)
			time.Sleep(4 * time.Second)
		}
		require.Equal(t, BreakerClosed, b.State())
		for range 9 {
			finish(t, b, errDown)
			time.Sleep(3 * time.Second)
		}
		require.Equal(t, BreakerClosed, b.State(), "a slow trickle of failures is not ten calls within the window")
	})
}

func TestBreakerWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerPolicy(), nil)
		finish(t, b, errRefused)
		began := time.Now()
		leave, err := b.WaitUp(t.Context())
		require.NoError(t, err)
		require.WithinDuration(t, began.Add(5*time.Second), time.Now(), 100*time.Millisecond)
		done, err := b.Allow()
		require.NoError(t, err)
		leave()
		done(errDown)

		late, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.WaitUp(late)
		require.Equal(t, fault.Expired, fault.KindOf(err))
		stopped, stop := context.WithCancel(t.Context())
		stop()
		_, err = b.WaitUp(stopped)
		require.Equal(t, fault.Interrupted, fault.KindOf(err))
		require.Equal(t, fault.BreakerOpen, fault.CodeOf(err))
	})
}

func TestBudgetIsAShareOfFirstAttempts(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		reserve := rapid.IntRange(1, 20).Draw(t, "reserve")
		b := NewBudget(0.1, reserve)
		first, repeated := 0, 0
		for _, again := range rapid.SliceOfN(rapid.Bool(), 0, 500).Draw(t, "attempts") {
			if !again {
				b.Earn()
				first++
			} else if b.Spend() {
				repeated++
			}
			require.LessOrEqual(t, float64(repeated), float64(reserve)+0.1*float64(first)+1e-6)
		}
	})
}

func TestBudgetIsUsable(t *testing.T) {
	t.Parallel()
	b := NewBudget(0.1, 2)
	require.True(t, b.Spend())
	require.True(t, b.Spend())
	require.False(t, b.Spend())
	for range 10 {
		require.False(t, b.Spend())
		b.Earn()
	}
	for range 2 {
		b.Earn()
	}
	require.True(t, b.Spend(), "ten first attempts pay for one more")
}
