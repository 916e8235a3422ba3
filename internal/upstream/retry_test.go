package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// refused is how a transport fails when nobody listens.
func refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connect: connection refused by " + canary)}
}

// reply returns a response with status and body.
func reply(status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// within runs a test in virtual time, in which a client's attempts take took and end as script says; the last entry stands for all
// further ones. It returns the client and a function that tells when the attempts began, counted from the start.
func within(t *testing.T, took time.Duration, script ...func() (*http.Response, error)) (*bundle, func() []time.Duration) {
	t.Helper()
	start, begun := time.Now(), []time.Duration{}
	var mu sync.Mutex
	b := setup(roundTripper(func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		begun = append(begun, time.Since(start))
		next := script[min(len(begun), len(script))-1]
		mu.Unlock()
		select {
		case <-time.After(took):
			return next()
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}))
	b.Retry = RetryPolicy{MaxAttempts: 6, Initial: 100 * time.Millisecond, MaxInterval: 400 * time.Millisecond, Multiplier: 2, Budget: time.Hour}
	return b, func() []time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(begun)
	}
}

func fails() (*http.Response, error) { return nil, refused() }

func succeeds() (*http.Response, error) { return reply(http.StatusOK, "fine"), nil }

func millis(values ...int) []time.Duration {
	all := []time.Duration{}
	for _, value := range values {
		all = append(all, time.Duration(value)*time.Millisecond)
	}
	return all
}

func TestDelaysGrowUpToTheirCap(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 0, fails)
		_, attempts, err := b.ask(t.Context())
		requireFault(t, err, fault.Unavailable, fault.Connect)
		require.Equal(t, millis(0, 100, 300, 700, 1100, 1500), begun())
		require.Len(t, attempts, 6)
	})
}

func TestDelaysAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		seen := map[time.Duration]bool{}
		for range 100 {
			b, begun := within(t, 0, fails)
			b.Retry.Jitter = 0.5
			_, _, err := b.ask(t.Context())
			require.Error(t, err)
			for i, base := range millis(100, 200, 400, 400, 400) {
				gap := begun()[i+1] - begun()[i]
				require.GreaterOrEqual(t, gap, base/2)
				require.LessOrEqual(t, gap, base*3/2+time.Nanosecond)
				seen[gap] = true
			}
		}
		require.Greater(t, len(seen), 400, "hardly two delays are equal")
	})
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*RetryPolicy)
		took   time.Duration
		want   int
	}{
		"attempts":                   {func(p *RetryPolicy) { p.MaxAttempts = 3 }, 0, 3},
		"one attempt":                {func(p *RetryPolicy) { p.MaxAttempts = 1 }, 0, 1},
		"no attempts means one":      {func(p *RetryPolicy) { p.MaxAttempts = 0 }, 0, 1},
		"budget of delays":           {func(p *RetryPolicy) { p.Budget = 699 * time.Millisecond }, 0, 3},
		"budget met exactly":         {func(p *RetryPolicy) { p.Budget = 700 * time.Millisecond }, 0, 4},
		"budget spent by attempts":   {func(p *RetryPolicy) { p.Budget = 2 * time.Second }, time.Second, 2},
		"budget of less than a wait": {func(p *RetryPolicy) { p.Budget = time.Millisecond }, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun := within(t, test.took, fails)
				test.change(&b.Retry)
				_, attempts, err := b.ask(t.Context())
				requireFault(t, err, fault.Unavailable, fault.Connect)
				require.Len(t, begun(), test.want)
				require.Len(t, attempts, test.want)
			})
		})
	}
}

func TestCallEndsWithTheQuerysDeadline(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		took time.Duration
		code fault.Code
		want []time.Duration
	}{
		"while it waits": {took: 0, code: fault.Connect, want: millis(0, 100)},
		"while it asks":  {took: 60 * time.Millisecond, code: fault.Timeout, want: millis(0, 160)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun := within(t, test.took, fails)
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				start := time.Now()
				_, attempts, err := b.ask(ctx)
				requireFault(t, err, fault.Unavailable, test.code)
				require.Equal(t, 200*time.Millisecond, time.Since(start))
				require.Equal(t, test.want, begun())
				require.Len(t, attempts, len(test.want))
			})
		})
	}
}

func TestAttemptHasItsOwnDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, time.Hour, fails)
		b.AttemptTimeout, b.Retry.MaxAttempts = 5*time.Second, 2
		_, attempts, err := b.ask(t.Context())
		requireFault(t, err, fault.Unavailable, fault.Timeout)
		require.Equal(t, millis(0, 5100), begun())
		require.EqualValues(t, 5000, attempts[0].Milliseconds)
		require.Equal(t, fault.Timeout, attempts[1].Code)
	})
}

func TestInterruption(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		after    time.Duration
		kind     fault.Kind
		code     fault.Code
		attempts int
		told     int
	}{
		"in the first attempt":  {30 * time.Millisecond, fault.Interrupted, fault.Stopped, 0, 1},
		"between two attempts":  {100 * time.Millisecond, fault.Unavailable, fault.Connect, 1, 1},
		"in the second attempt": {180 * time.Millisecond, fault.Unavailable, fault.Connect, 1, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := within(t, 60*time.Millisecond, fails)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				time.AfterFunc(test.after, cancel)
				start := time.Now()
				_, attempts, err := b.ask(ctx)
				requireFault(t, err, test.kind, test.code)
				require.Equal(t, test.after, time.Since(start), "it ends at once")
				require.Len(t, attempts, test.attempts, "an interruption is no attempt")
				require.Len(t, b.told, test.told)
			})
		})
	}
}

func TestOnlyWhatMayPassIsRepeated(t *testing.T) {
	t.Parallel()
	for _, kind := range fault.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun := within(t, 0, succeeds)
				b.read = func(Response) (query.Answer, error) {
					return query.Answer{Outcome: query.OutcomeOK}, fault.New("read", kind, fault.BadResponse)
				}
				answer, _, err := b.ask(t.Context())
				requireFault(t, err, kind, fault.BadResponse)
				require.Zero(t, answer, "a failed call has no answer")
				want := map[fault.Kind]int{fault.Unavailable: 6, fault.Unknown: 6}[kind]
				require.Len(t, begun(), max(want, 1))
			})
		})
	}
}

func TestForeignErrorOfAProviderIsRepeatedAndHidden(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 0, succeeds)
		b.read = func(Response) (query.Answer, error) { return query.Answer{}, errors.New("json: " + canary) }
		_, attempts, err := b.ask(t.Context())
		requireFault(t, err, fault.Unknown, fault.Unclassified)
		require.Len(t, begun(), 6)
		require.Equal(t, fault.Unclassified, attempts[0].Code)
	})
}

func TestEachAttemptIsPreparedAnew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 7*time.Millisecond, fails, fails, succeeds)
		start, prepared := time.Now(), []time.Duration{}
		b.prepare = func(now time.Time, question Question) error {
			prepared = append(prepared, now.Sub(start))
			require.Equal(t, "1", question.Query.ID)
			require.NotNil(t, question.Card)
			return nil
		}
		answer, _, err := b.ask(t.Context())
		require.NoError(t, err)
		require.Equal(t, query.OutcomeOK, answer.Outcome)
		require.Equal(t, millis(0, 107, 314), prepared)
		require.Equal(t, prepared, begun())
		require.Equal(t, []string{"wait 1", "prepare", "attempt", "wait 1", "prepare", "attempt", "wait 1", "prepare", "attempt"}, b.events,
			"each attempt costs a permit, taken right before it is sent")
	})
}

func TestPreparationThatFailsIsNoAttempt(t *testing.T) {
	t.Parallel()
	for name, failing := range map[string]int{"the first": 1, "the second": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun := within(t, 0, fails)
				prepared := 0
				b.prepare = func(time.Time, Question) error {
					if prepared++; prepared == failing {
						return fault.New("prepare", fault.Rejected, fault.BadField)
					}
					return nil
				}
				_, attempts, err := b.ask(t.Context())
				requireFault(t, err, fault.Rejected, fault.BadField)
				require.Len(t, begun(), failing-1)
				require.Len(t, attempts, failing-1)
				require.Len(t, b.told, failing-1)
			})
		})
	}
}

func TestPaceThatRunsOutKeepsTheRealError(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.Interrupted, fault.Expired} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, begun := within(t, 0, fails)
				waits := 0
				b.wait = func(context.Context, *query.Query) error {
					if waits++; waits == 1 {
						return nil
					}
					return fault.New("wait for pace", kind, fault.DeadlinePassed)
				}
				_, attempts, err := b.ask(t.Context())
				requireFault(t, err, fault.Unavailable, fault.Connect)
				require.Len(t, begun(), 1)
				require.Len(t, attempts, 1)
			})
		})
	}
}

func TestWaitingForThePaceIsToldAndCostsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 0, succeeds)
		b.wait = func(context.Context, *query.Query) error {
			time.Sleep(1500 * time.Millisecond)
			return nil
		}
		_, attempts, err := b.ask(t.Context())
		require.NoError(t, err)
		require.Equal(t, millis(1500), begun())
		require.Len(t, attempts, 1)
		require.EqualValues(t, 1500, attempts[0].WaitedMS)
		require.Zero(t, attempts[0].Milliseconds)
	})
}

func TestRefusalIsToldToTheFleet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		b, _ := within(t, 20*time.Millisecond, func() (*http.Response, error) {
			refused := reply(429, canary)
			refused.Header.Set("Retry-After", "7")
			return refused, nil
		})
		var sent []time.Duration
		var after time.Duration
		b.throttled = func(sentAt time.Time, retryAfter time.Duration) {
			sent, after = append(sent, sentAt.Sub(start)), retryAfter
		}
		_, _, err := b.ask(t.Context())
		require.Equal(t, fault.Throttled, fault.KindOf(err))
		require.Equal(t, millis(0), sent, "the time it was sent, not the time it was refused")
		require.Equal(t, 7*time.Second, after)
	})
}

func TestUpstreamThatGoesDownDuringTheWaitIsNotAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 0, succeeds)
		b.Breaker = NewBreaker(breakerPolicy(), nil)
		waits := 0
		b.wait = func(context.Context, *query.Query) error {
			if waits++; waits == 1 {
				finish(t, b.Breaker, errRefused)
			}
			return nil
		}
		_, attempts, err := b.ask(t.Context())
		require.NoError(t, err)
		require.Len(t, attempts, 1)
		require.GreaterOrEqual(t, begun()[0], 5*time.Second, "it waited until the upstream was tried again")
		require.Equal(t, 2, waits, "the permit of the first wait was not used late")
	})
}

func TestHistoryOfAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().UTC()
		b, _ := within(t, 30*time.Millisecond, fails, func() (*http.Response, error) { return reply(502, canary), nil },
			func() (*http.Response, error) { return reply(302, canary), nil }, succeeds)
		reads := 0
		whole := b.read
		b.read = func(r Response) (query.Answer, error) {
			if reads++; reads == 2 {
				busy := fault.New("read", fault.Unavailable, fault.UpstreamBusy)
				busy.Upstream, busy.Status = "VTIM", r.Status
				return query.Answer{}, busy
			}
			return whole(r)
		}
		_, attempts, err := b.ask(t.Context())
		require.NoError(t, err)
		at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
		require.Equal(t, []query.Attempt{
			{At: at(0), Milliseconds: 30, Kind: "unavailable", Code: fault.Connect},
			{At: at(130), Milliseconds: 30, Kind: "unavailable", Code: fault.HTTPStatus, Status: 502},
			{At: at(360), Milliseconds: 30, Kind: "unavailable", Code: fault.Redirect, Status: 302},
			{At: at(790), Milliseconds: 30, Kind: "unavailable", Code: fault.UpstreamBusy, Status: 200, Upstream: "VTIM"},
			{At: at(1220), Milliseconds: 30, Status: 200, Upstream: "0000"},
		}, attempts)
		require.Len(t, b.told, 5)
		for i, told := range b.told {
			require.Equal(t, query.EasyPay, told.provider)
			require.Equal(t, 30*time.Millisecond, told.took)
			require.Equal(t, i == 4, told.err == nil)
		}
	})
}

func TestRepeatedAttemptsKeepToTheSharedBudget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 0, fails)
		b.Budget = NewBudget(0.5, 3)
		for range 5 {
			_, attempts, err := b.ask(t.Context())
			requireFault(t, err, fault.Unavailable, fault.Connect)
			require.NotEmpty(t, attempts, "the first attempt of a query is never refused")
		}
		require.Len(t, begun(), 5+3+2, "the reserve, and one repeated attempt for two first ones")
	})
}

func TestFirstAttemptWaitsForAnUpstreamThatIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 0, fails, fails, succeeds)
		b.Breaker = NewBreaker(BreakerPolicy{MinCalls: 2, FailureRatio: 1, Window: time.Minute, OpenFor: 10 * time.Second}, nil)
		_, attempts, err := b.ask(t.Context())
		requireFault(t, err, fault.Unavailable, fault.Connect)
		require.Len(t, attempts, 2, "a repeated attempt is not worth waiting for")

		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, attempts, err = b.ask(soon)
		requireFault(t, err, fault.Expired, fault.BreakerOpen)
		require.Empty(t, attempts, "a query that waited was not asked")
		require.Len(t, b.told, 2)

		start := time.Now()
		_, attempts, err = b.ask(t.Context())
		require.NoError(t, err)
		require.Len(t, attempts, 1)
		require.InDelta(t, 9, time.Since(start).Seconds(), 0.2)
		require.Len(t, begun(), 3)
		require.Equal(t, BreakerClosed, b.Breaker.State())
	})
}

func TestPreparationThatFailsFreesTheBreakersPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := within(t, 0, fails, succeeds)
		b.Breaker = NewBreaker(BreakerPolicy{MinCalls: 1, FailureRatio: 1, Window: time.Minute, OpenFor: time.Second}, nil)
		_, _, err := b.ask(t.Context())
		requireFault(t, err, fault.Unavailable, fault.Connect)
		b.prepare = func(time.Time, Question) error { return fault.New("prepare", fault.Rejected, fault.BadField) }
		_, _, err = b.ask(t.Context())
		requireFault(t, err, fault.Rejected, fault.BadField)
		require.Equal(t, BreakerHalfOpen, b.Breaker.State(), "it says nothing about the upstream")
		b.prepare = func(time.Time, Question) error { return nil }
		_, _, err = b.ask(t.Context())
		require.NoError(t, err, "and the one place of a probe is free again")
	})
}

func TestNobodyNeedsToListen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := within(t, 0, fails, succeeds)
		b.OnAttempt = nil
		_, attempts, err := b.ask(t.Context())
		require.NoError(t, err)
		require.Len(t, attempts, 2)
	})
}
