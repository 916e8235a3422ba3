package upstream

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// tried returns a client whose breaker is open, of an upstream that takes took for each call and fails, and the count of its permits from then on.
func tried(t *testing.T, took time.Duration) (b *bundle, begun func() []time.Duration, permits func() int) {
	t.Helper()
	b, begun = within(t, took, fails)
	b.Retry.MaxAttempts = 1
	b.Breaker = NewBreaker(BreakerPolicy{MinCalls: 1, FailureRatio: 1, Window: 10 * time.Second, OpenFor: 10 * time.Second}, nil)
	_, _, err := b.ask(t.Context())
	require.Error(t, err)
	require.Equal(t, BreakerOpen, b.Breaker.State())
	var mu sync.Mutex
	taken, pace := 0, &metronome{interval: 100 * time.Millisecond}
	b.wait = func(ctx context.Context, q *query.Query) error {
		err := pace.Wait(ctx, q)
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			taken++
		}
		return err
	}
	return b, begun, func() int {
		mu.Lock()
		defer mu.Unlock()
		return taken
	}
}

// Of the queries that are held, one tries the upstream again. The others take no permits that they could not use.
func TestWhoWaitsForAProbeTakesNoPermits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun, permits := tried(t, 5*time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Second)
		defer cancel()
		var held sync.WaitGroup
		for range 40 {
			held.Go(func() { _, _, _ = b.ask(ctx) })
		}
		held.Wait()
		require.Len(t, begun(), 1+3, "a probe every 15 s, after the call that opened it")
		require.Equal(t, 3, permits(), "as many as probes")
	})
}

func TestOneAtATimeTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := NewBreaker(breakerPolicy(), nil)
		finish(t, b, errRefused)
		time.Sleep(5*time.Second + time.Millisecond)
		require.Equal(t, 1, b.Capacity())
		first, err := b.WaitUp(t.Context())
		require.NoError(t, err)
		require.Zero(t, b.Capacity(), "somebody is about to try")

		others := make(chan func(), 2)
		for range 2 {
			go func() {
				leave, waited := b.WaitUp(t.Context())
				if waited == nil {
					others <- leave
				}
			}()
		}
		time.Sleep(time.Minute)
		require.Empty(t, others, "it may have to wait for its permit")
		done, err := b.Allow()
		require.NoError(t, err)
		first()
		time.Sleep(time.Minute)
		require.Empty(t, others, "its call is under way")
		require.Zero(t, b.Capacity())

		done(errSilent)
		time.Sleep(2 * breakerPoll)
		require.Len(t, others, 1, "it said nothing, so that another one tries")
		(<-others)()
		require.Equal(t, 1, b.Capacity(), "who leaves without a call makes room")
		time.Sleep(2 * breakerPoll)
		(<-others)()

		finish(t, b, nil)
		require.Equal(t, BreakerClosed, b.State())
		for range 3 {
			_, err := b.WaitUp(t.Context())
			require.NoError(t, err, "any number, once it is up")
		}
	})
}

// Whoever is about to try the upstream again makes room, whatever becomes of its wait for a permit.
func TestWhoGetsNoPermitLetsOthersTry(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *bundle){
		"its time is over": func(b *bundle) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			defer cancel()
			_, _, _ = b.ask(ctx)
		},
		"its wait panics": func(b *bundle) {
			defer func() { _ = recover() }()
			_, _, _ = b.ask(context.WithValue(context.Background(), panics{}, true))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun, _ := tried(t, 0)
				b.wait = func(ctx context.Context, _ *query.Query) error {
					if ctx.Value(panics{}) != nil {
						panic("the wait panics")
					}
					<-ctx.Done()
					return noPlace(ctx.Err())
				}
				end(b)
				require.Equal(t, BreakerHalfOpen, b.Breaker.State())
				b.wait = func(context.Context, *query.Query) error { return nil }
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, attempts, _ := b.ask(ctx)
				require.Len(t, attempts, 1)
				require.Len(t, begun(), 2)
			})
		})
	}
}

// panics marks the context of a call whose wait for the pace panics.
type panics struct{}
