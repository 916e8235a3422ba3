package upstream

import (
	"context"
	"io"
	"net/http"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// A call that ends with its query's time says nothing about the upstream, unless the upstream had half of an attempt's time.
func TestWhatAQuerysDeadlineSays(t *testing.T) {
	t.Parallel()
	const queries, hour = 40, time.Hour
	quarrels := func() (*http.Response, error) { return reply(http.StatusServiceUnavailable, canary), nil }
	stalls := func() (*http.Response, error) {
		stalled := reply(http.StatusServiceUnavailable, "")
		stalled.Body = io.NopCloser(stalledBody{})
		return stalled, nil
	}
	unreachable := func() (*http.Response, error) { return nil, os.ErrDeadlineExceeded }
	for name, test := range map[string]struct {
		left, took time.Duration
		ends       func() (*http.Response, error)
		code       fault.Code
		want       BreakerState
	}{
		"it answers in 80 ms, and there are 50":     {50 * time.Millisecond, 80 * time.Millisecond, succeeds, fault.Timeout, BreakerClosed},
		"it is down within the time that there is":  {50 * time.Millisecond, 20 * time.Millisecond, quarrels, fault.HTTPStatus, BreakerOpen},
		"its status comes and its body does not":    {50 * time.Millisecond, 20 * time.Millisecond, stalls, fault.HTTPStatus, BreakerOpen},
		"it does not let us dial, with time left":   {hour, time.Second, unreachable, fault.Timeout, BreakerOpen},
		"it hangs, and there is hardly half of it":  {2499 * time.Millisecond, hour, succeeds, fault.Timeout, BreakerClosed},
		"it hangs, and there is half of it":         {2500 * time.Millisecond, hour, succeeds, fault.Timeout, BreakerOpen},
		"it hangs, and there is more than half":     {3 * time.Second, hour, succeeds, fault.Timeout, BreakerOpen},
		"it hangs, and there is more time than one": {hour, hour, succeeds, fault.Timeout, BreakerOpen},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun := within(t, test.took, test.ends)
				b.AttemptTimeout, b.Retry.MaxAttempts = 5*time.Second, 1
				b.Breaker = NewBreaker(BreakerPolicy{MinCalls: queries, FailureRatio: 0.5, Window: hour, OpenFor: hour}, nil)
				b.Concurrency = NewConcurrency(ConcurrencyPolicy{Floor: 4, Ceiling: 256}, nil)
				for range queries {
					ctx, cancel := context.WithTimeout(t.Context(), test.left)
					_, attempts, err := b.ask(ctx)
					cancel()
					requireFault(t, err, fault.Unavailable, test.code)
					require.Len(t, attempts, 1, "it was made, whatever it says")
					require.Equal(t, test.code, attempts[0].Code)
				}
				require.Len(t, begun(), queries)
				require.Equal(t, test.want, b.Breaker.State())
				require.Equal(t, test.want == BreakerClosed, b.Concurrency.Limit() == firstLimit, "the limit is %d", b.Concurrency.Limit())
			})
		})
	}
}

// stalledBody is a body that does not come before its reader's time is over.
type stalledBody struct{}

func (stalledBody) Read([]byte) (int, error) {
	time.Sleep(100 * time.Millisecond)
	return 0, context.DeadlineExceeded
}
