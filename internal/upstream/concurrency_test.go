package upstream

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// counter is an upstream that serves so many calls at a time, each for took; the others wait their turn there.
type counter struct {
	mu    sync.Mutex
	desks int
	took  time.Duration
	// free are the times at which the desks are free.
	free []time.Time
	// fails makes every call fail at once with this status, if it is not 0.
	fails int
	// spread is by which part of took its calls differ, to both sides.
	spread float64
	dice   *rand.Rand

	answered atomic.Int64
	underWay atomic.Int64
	most     atomic.Int64
}

func newCounter(desks int, took time.Duration) *counter {
	c := &counter{dice: rand.New(rand.NewPCG(1, 2))} // The same every time.
	c.open(desks, took, 0)
	return c
}

// open changes how the counter serves from now on.
func (c *counter) open(desks int, took time.Duration, fails int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.desks, c.took, c.fails = desks, took, fails
	c.free = make([]time.Time, desks)
}

// book takes the desk that is free first and returns when its service is done.
func (c *counter) book() (until time.Time, status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails != 0 {
		return time.Now().Add(20 * time.Millisecond), c.fails
	}
	first := 0
	for i, at := range c.free {
		if at.Before(c.free[first]) {
			first = i
		}
	}
	begin := c.free[first]
	if begin.Before(time.Now()) {
		begin = time.Now()
	}
	c.free[first] = begin.Add(time.Duration(float64(c.took) * (1 + c.spread*(2*c.dice.Float64()-1))))
	return c.free[first], http.StatusOK
}

// RoundTrip implements http.RoundTripper.
func (c *counter) RoundTrip(r *http.Request) (*http.Response, error) {
	c.underWay.Add(1)
	defer c.underWay.Add(-1)
	c.most.Store(max(c.most.Load(), c.underWay.Load()))
	until, status := c.book()
	select {
	case <-time.After(time.Until(until)):
		c.answered.Add(1)
		return reply(status, "fine"), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// scene is a counter with a client before it whose number of calls is limited, and people who ask without a pause.
type scene struct {
	*counter

	client *bundle
	limits *Concurrency

	telling sync.Mutex
	changes [][2]int
}

// crowd opens a counter and lets so many people ask it until the test ends.
func crowd(t *testing.T, people int, policy ConcurrencyPolicy, desks int, took time.Duration) *scene {
	t.Helper()
	s := &scene{counter: newCounter(desks, took)}
	s.spread = 0.8
	s.limits = NewConcurrency(policy, func(from, to int) {
		s.telling.Lock()
		defer s.telling.Unlock()
		s.changes = append(s.changes, [2]int{from, to})
	})
	s.client = setup(s.counter)
	s.client.OnAttempt = nil
	s.client.Concurrency = s.limits
	s.client.Breaker = NewBreaker(BreakerPolicy{MinCalls: 1 << 30, FailureRatio: 1, Window: time.Minute, OpenFor: time.Minute}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for range people {
		asking.Go(func() {
			for ctx.Err() == nil {
				_, _, _ = s.client.Call(ctx, asked(query.Interactive), &card.Details{})
			}
		})
	}
	t.Cleanup(func() {
		cancel()
		asking.Wait()
		s.limits.mu.Lock()
		defer s.limits.mu.Unlock()
		require.Zero(t, s.limits.taken, "every place was given back")
		require.Zero(t, s.limits.underWay)
		require.Zero(t, s.limits.line.length)
	})
	return s
}

// over watches the limit for a while and returns its least, its largest and its mean value.
func (s *scene) over(d time.Duration) (least, most, mean int) {
	least = s.limits.Limit()
	for range 100 {
		time.Sleep(d / 100)
		now := s.limits.Limit()
		least, most, mean = min(least, now), max(most, now), mean+now
	}
	return least, most, mean / 100
}

// bounds are how the limit is bounded by default.
func bounds() ConcurrencyPolicy { return ConcurrencyPolicy{Floor: 4, Ceiling: 256} }

func TestTheLimitSettlesNearTheKnee(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		people, desks int
		took          time.Duration
	}{
		"a crowd":              {people: 300, desks: 20, took: 50 * time.Millisecond},
		"a few too many":       {people: 40, desks: 20, took: 50 * time.Millisecond},
		"many desks":           {people: 150, desks: 50, took: 100 * time.Millisecond},
		"slow desks":           {people: 100, desks: 20, took: time.Second},
		"few desks, many wait": {people: 300, desks: 6, took: 200 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := crowd(t, test.people, bounds(), test.desks, test.took)
				time.Sleep(120 * test.took)
				before := s.answered.Load()
				least, most, mean := s.over(150 * test.took)
				require.GreaterOrEqual(t, least, test.desks*9/10, "all desks are used")
				require.LessOrEqual(t, mean, test.desks*8/5+2, "and hardly anybody waits for one")
				require.LessOrEqual(t, most, test.desks*2+2)
				used := float64(s.answered.Load()-before) / float64(150*test.desks)
				require.Greater(t, used, 0.9, "drills cost little")
			})
		})
	}
}

func TestAFastUpstreamReachesTheCeiling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := crowd(t, 80, ConcurrencyPolicy{Floor: 4, Ceiling: 64}, 80, 200*time.Millisecond)
		time.Sleep(10 * time.Second)
		least, most, mean := s.over(40 * time.Second)
		require.Equal(t, 64, most)
		require.GreaterOrEqual(t, mean, 60, "and nothing takes it down again")
		require.GreaterOrEqual(t, least, 48, "but for chance")
		require.Equal(t, int64(64), s.most.Load(), "that many calls, and never more")
	})
}

func TestTheLimitDoesNotGrowUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := crowd(t, 8, bounds(), 400, 50*time.Millisecond)
		least, most, _ := s.over(time.Minute)
		require.Equal(t, firstLimit, least)
		require.Equal(t, firstLimit, most)
		s.telling.Lock()
		defer s.telling.Unlock()
		require.Equal(t, [][2]int{{0, firstLimit}}, s.changes, "the start is told, and nothing else")
	})
}

func TestTheLimitRecoversAfterASlowPhase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := crowd(t, 100, bounds(), 50, 200*time.Millisecond)
		time.Sleep(20 * time.Second)
		before := s.limits.Limit()
		require.GreaterOrEqual(t, before, 45)
		s.open(5, 200*time.Millisecond, 0)
		time.Sleep(30 * time.Second)
		_, most, _ := s.over(20 * time.Second)
		require.Less(t, most, 20, "fewer desks")
		s.open(50, 200*time.Millisecond, 0)
		time.Sleep(20 * time.Second)
		require.GreaterOrEqual(t, s.limits.Limit(), 45, "and all of them again")
	})
}

// An upstream that is slow whatever we do gets its calls all the same: at the floor that is noticed.
func TestAnUpstreamThatIsSlowForItselfIsNoQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := crowd(t, 100, bounds(), 400, 100*time.Millisecond)
		time.Sleep(10 * time.Second)
		require.GreaterOrEqual(t, s.limits.Limit(), 64)
		s.open(400, time.Second, 0)
		least, _, _ := s.over(time.Minute)
		require.Equal(t, 4, least)
		time.Sleep(4 * time.Minute)
		require.GreaterOrEqual(t, s.limits.Limit(), 50)
	})
}

func TestRefusedCallsLowerTheLimitToItsFloor(t *testing.T) {
	t.Parallel()
	for name, status := range map[string]int{"throttled": http.StatusTooManyRequests, "broken": http.StatusInternalServerError} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := crowd(t, 50, bounds(), 400, 100*time.Millisecond)
				time.Sleep(5 * time.Second)
				s.open(400, 100*time.Millisecond, status)
				time.Sleep(10 * time.Second)
				least, most, _ := s.over(10 * time.Second)
				require.Equal(t, 4, least)
				require.Equal(t, 4, most)
				s.open(400, 100*time.Millisecond, 0)
				time.Sleep(20 * time.Second)
				require.GreaterOrEqual(t, s.limits.Limit(), 32)
			})
		})
	}
}

func TestTimeoutsLowerTheLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := crowd(t, 50, bounds(), 400, 100*time.Millisecond)
		time.Sleep(5 * time.Second)
		s.open(400, time.Hour, 0)
		time.Sleep(8 * time.Minute)
		require.Equal(t, 4, s.limits.Limit())
	})
}

func TestWhatAnOutcomeSays(t *testing.T) {
	t.Parallel()
	of := func(kind fault.Kind, code fault.Code, status int) error {
		err := fault.New("test", kind, code)
		err.Status = status
		return err
	}
	for name, test := range map[string]struct {
		err  error
		want outcome
	}{
		"answered":           {nil, inTime},
		"rejected":           {of(fault.Rejected, fault.HTTPStatus, 422), inTime},
		"too many":           {of(fault.Throttled, fault.RateLimited, 429), overload},
		"too many, later":    {of(fault.Throttled, fault.RateLimited, 503), overload},
		"broken":             {of(fault.Unavailable, fault.HTTPStatus, 500), overload},
		"busy":               {of(fault.Unavailable, fault.UpstreamBusy, 200), overload},
		"no answer":          {of(fault.Unavailable, fault.Timeout, 0), overload},
		"connection lost":    {of(fault.Unavailable, fault.ConnectionLost, 0), overload},
		"nobody there":       {of(fault.Unavailable, fault.Connect, 0), silent},
		"no address":         {of(fault.Unavailable, fault.DNS, 0), silent},
		"moved":              {of(fault.Unavailable, fault.HTTPStatus, 404), silent},
		"not trusted":        {of(fault.Unavailable, fault.BadSignature, 200), silent},
		"credentials":        {of(fault.Unauthorized, fault.GatewayRefused, 401), silent},
		"stopped":            {of(fault.Interrupted, fault.Stopped, 0), silent},
		"something else":     {errors.New("else"), silent},
		"a deadline of ours": {errSilent, silent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, outcomeOf(test.err))
		})
	}
}

// full returns a client whose only place is taken until free is called.
func full(t *testing.T, hold Hold, transport http.RoundTripper) (b *bundle, free func()) {
	t.Helper()
	b = setup(transport)
	b.Hold = hold
	b.Client = New(b.Options)
	b.Concurrency = NewConcurrency(ConcurrencyPolicy{Floor: 1, Ceiling: 1}, nil)
	var taken place
	require.NoError(t, b.Concurrency.enter(t.Context(), asked(query.Bulk), &taken))
	return b, taken.leave
}

func TestWaitingForAPlaceEndsWithTheContext(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		kind fault.Kind
		code fault.Code
	}{
		"deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, 300*time.Millisecond)
		}, fault.Expired, fault.DeadlinePassed},
		"stop": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(300*time.Millisecond, cancel)
			return ctx, cancel
		}, fault.Interrupted, fault.Stopped},
		"stopped before": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			return ctx, cancel
		}, fault.Interrupted, fault.Stopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, free := full(t, Hold{}, newCounter(1, time.Millisecond))
				ctx, cancel := test.end(t.Context())
				defer cancel()
				_, attempts, err := b.ask(ctx)
				requireFault(t, err, test.kind, test.code)
				require.Empty(t, attempts, "waiting costs no attempt")
				require.NotContains(t, b.events, "wait 1", "and no permit")
				free()
				_, _, err = b.ask(t.Context())
				require.NoError(t, err, "nobody stands in the line any more")
			})
		})
	}
}

// An account that shares its slots puts off who would wait for a place too long.
func TestAQueryWithoutAPlaceIsPutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, free := full(t, shares(), newCounter(1, time.Millisecond))
		start := time.Now()
		_, attempts, err := b.ask(t.Context())
		requirePutOff(t, attempts, err, fault.Throttled, fault.Paced)
		require.Equal(t, time.Second, time.Since(start))
		free()
		_, _, err = b.ask(t.Context())
		require.NoError(t, err)
	})
}

// The place is held while the call waits for its pace, and given back between two attempts.
func TestAPlaceIsHeldWhileThereIsAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := within(t, 10*time.Millisecond, fails, succeeds)
		b.Concurrency = NewConcurrency(ConcurrencyPolicy{Floor: 1, Ceiling: 1}, nil)
		held := func() int {
			b.Concurrency.mu.Lock()
			defer b.Concurrency.mu.Unlock()
			return b.Concurrency.taken
		}
		b.wait = func(context.Context, *query.Query) error {
			require.Equal(t, 1, held())
			return nil
		}
		time.AfterFunc(5*time.Millisecond, func() { require.Equal(t, 1, held(), "on the wire") })
		time.AfterFunc(50*time.Millisecond, func() { require.Zero(t, held(), "while it waits for its second attempt") })
		_, _, err := b.ask(t.Context())
		require.NoError(t, err)
		require.Len(t, begun(), 2)
		require.Zero(t, held())
	})
}

func TestAPanicGivesThePlaceBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := func() { panic("bad") }
		b := setup(roundTripper(func(*http.Request) (*http.Response, error) { bad(); return nil, nil }))
		b.Concurrency = NewConcurrency(ConcurrencyPolicy{Floor: 1, Ceiling: 1}, nil)
		for name, change := range map[string]func(){
			"on the wire": func() {},
			"in between":  func() { b.prepare = func(time.Time, Question) error { bad(); return nil } },
			"at the pace": func() { b.wait = func(context.Context, *query.Query) error { bad(); return nil } },
		} {
			change()
			require.Panics(t, func() { _, _, _ = b.ask(t.Context()) }, name)
			require.Zero(t, b.Concurrency.taken, name)
			require.Zero(t, b.Concurrency.underWay, name)
		}
	})
}

// TestBulkQueriesLeavePlaces lets bulk queries take all the places they can, as they do while they wait for the pace: who comes later and is
// waited for has a place at once, and bulk queries have all places again but the kept ones.
func TestBulkQueriesLeavePlaces(t *testing.T) {
	t.Parallel()
	for places, kept := range map[int]int{1: 0, 7: 0, 8: 1, 31: 3} {
		c := NewConcurrency(ConcurrencyPolicy{Floor: places, Ceiling: places}, nil)
		enter := func(q *query.Query) (*place, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			var p place
			return &p, c.enter(ctx, q, &p)
		}
		held := make([]*place, 0, places)
		for range places - kept {
			p, err := enter(asked(query.Bulk))
			require.NoError(t, err)
			held = append(held, p)
		}
		_, err := enter(asked(query.Bulk))
		require.Error(t, err, "%d places", places)
		for range kept {
			p, err := enter(asked(query.Interactive))
			require.NoError(t, err, "%d places", places)
			held = append(held, p)
		}
		_, err = enter(asked(query.Interactive))
		require.Error(t, err, "there are no more than that")
		for _, p := range held {
			p.leave()
		}
		_, err = enter(asked(query.Bulk))
		require.NoError(t, err)
	}
}
