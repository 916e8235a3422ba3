package upstream

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// metronome is a pace of one call in each interval.
type metronome struct {
	mu       sync.Mutex
	interval time.Duration
	next     time.Time
}

// Throttled implements Pacer and changes nothing.
func (m *metronome) Throttled(*query.Query, time.Time, time.Duration) {}

// Wait implements Pacer as the fleet's pace does: it fails at once if the turn would come too late.
func (m *metronome) Wait(ctx context.Context, _ *query.Query) error {
	m.mu.Lock()
	at := m.next
	if at.Before(time.Now()) {
		at = time.Now()
	}
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(at) {
		m.mu.Unlock()
		return fault.New("wait for pace", fault.Expired, fault.DeadlinePassed)
	}
	m.next = at.Add(m.interval)
	m.mu.Unlock()
	select {
	case <-time.After(time.Until(at)):
		return nil
	case <-ctx.Done():
		return fault.New("wait for pace", fault.Interrupted, fault.Stopped)
	}
}

const seats = 8

// shares is how an account holds queries in these tests.
func shares() Hold {
	return Hold{
		AtMost: time.Second, Interval: 100 * time.Millisecond, Furthest: 5 * time.Minute,
		Seats: map[query.Lane]int{query.Interactive: seats, query.Bulk: seats},
	}
}

// account returns a client whose upstream takes took and ends as script says, with hold.
func account(t *testing.T, hold Hold, took time.Duration, script ...func() (*http.Response, error)) (*bundle, func() []time.Duration) {
	t.Helper()
	b, begun := within(t, took, script...)
	b.Hold = hold
	b.Client = New(b.Options)
	b.Breaker = NewBreaker(BreakerPolicy{MinCalls: 5, FailureRatio: 0.5, Window: 10 * time.Second, OpenFor: 10 * time.Second}, nil)
	b.Retry.MaxAttempts = 1
	return b, begun
}

func asked(lane query.Lane) *query.Query {
	return &query.Query{Client: "shop", Source: "urn:test", ID: "1", Provider: query.EasyPay, Lane: lane}
}

// requirePutOff checks that a query was put off at a time without an attempt, and returns when it is to come back.
func requirePutOff(t *testing.T, attempts []query.Attempt, err error, kind fault.Kind, code fault.Code) time.Duration {
	t.Helper()
	off := requireFault(t, err, kind, code)
	require.Empty(t, attempts, "nothing was asked")
	require.GreaterOrEqual(t, off.After, time.Second)
	return off.After
}

func TestAnOpenBreakerPutsOffAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := account(t, shares(), 0, fails)
		for range 5 {
			_, _, err := b.ask(t.Context())
			requireFault(t, err, fault.Unavailable, fault.Connect)
		}
		require.Equal(t, 10*time.Second, b.Breaker.UpIn())
		time.Sleep(3 * time.Second)
		start := time.Now()
		for i := range 20 {
			_, attempts, err := b.ask(t.Context())
			after := requirePutOff(t, attempts, err, fault.Unavailable, fault.BreakerOpen)
			require.Equal(t, 7*time.Second+time.Duration(i)*100*time.Millisecond, after, "when it can be up, one behind the other")
		}
		require.Equal(t, start, time.Now(), "no slot was held")
		require.Len(t, begun(), 5)
	})
}

func TestABreakerThatIsNearlyUpIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := account(t, shares(), 0, fails, fails, fails, fails, fails, succeeds)
		for range 5 {
			_, _, err := b.ask(t.Context())
			require.Error(t, err)
		}
		time.Sleep(9200 * time.Millisecond)
		_, attempts, err := b.ask(t.Context())
		require.NoError(t, err)
		require.Len(t, attempts, 1)
		require.Equal(t, BreakerClosed, b.Breaker.State())
		require.Zero(t, b.Breaker.UpIn())
	})
}

func TestOneProbeAndTheOthersArePutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := account(t, shares(), 4*time.Second, fails)
		var asking sync.WaitGroup
		for range 5 {
			asking.Go(func() { _, _, _ = b.ask(t.Context()) })
		}
		asking.Wait()
		time.Sleep(10*time.Second + time.Millisecond)
		asking.Go(func() { _, _, _ = b.ask(t.Context()) })
		synctest.Wait()
		time.Sleep(time.Second)
		_, attempts, err := b.ask(t.Context())
		requirePutOff(t, attempts, err, fault.Unavailable, fault.BreakerOpen)
		asking.Wait()
		require.Len(t, begun(), 6)
	})
}

func TestAPaceWithoutRoomPutsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := account(t, shares(), 0, succeeds)
		b.Pacer = &metronome{interval: time.Second}
		start := time.Now()
		var asking sync.WaitGroup
		var mu sync.Mutex
		off := 0
		for range seats {
			asking.Go(func() {
				if _, attempts, err := b.ask(t.Context()); err != nil {
					requirePutOff(t, attempts, err, fault.Throttled, fault.Paced)
					mu.Lock()
					defer mu.Unlock()
					off++
				}
			})
		}
		asking.Wait()
		require.Equal(t, time.Second, time.Since(start), "one waits for its turn within the second, and no longer")
		require.Len(t, begun(), 2)
		require.Equal(t, seats-2, off)
	})
}

func TestAnAccountWithoutASeatPutsOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := account(t, shares(), 5*time.Second, succeeds)
		var asking sync.WaitGroup
		for range seats {
			asking.Go(func() {
				_, _, err := b.Call(t.Context(), asked(query.Bulk), &card.Details{})
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		start := time.Now()
		_, attempts, err := b.Call(t.Context(), asked(query.Bulk), &card.Details{})
		requirePutOff(t, attempts, err, fault.Throttled, fault.Paced)
		require.Equal(t, start, time.Now())
		asking.Go(func() {
			_, _, err := b.Call(t.Context(), asked(query.Interactive), &card.Details{})
			require.NoError(t, err, "the other lane has seats of its own")
		})
		asking.Wait()
		_, _, err = b.Call(t.Context(), asked(query.Bulk), &card.Details{})
		require.NoError(t, err, "seats are given back")
		require.Len(t, begun(), seats+2)
	})
}

// What operators replay is seated with bulk, whatever lane its client asked in.
func TestReplaysTakeNoSeatOfThoseWhoWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := account(t, shares(), 5*time.Second, succeeds)
		replay := asked(query.Interactive)
		replay.Replay = &query.Replay{}
		var asking sync.WaitGroup
		for range seats {
			asking.Go(func() {
				_, _, err := b.Call(t.Context(), replay, &card.Details{})
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		var waited error
		asking.Go(func() { _, _, waited = b.Call(t.Context(), asked(query.Interactive), &card.Details{}) })
		synctest.Wait()
		_, attempts, err := b.Call(t.Context(), asked(query.Bulk), &card.Details{})
		asking.Wait()
		require.NoError(t, waited, "replays do not put off who is waited for")
		requirePutOff(t, attempts, err, fault.Throttled, fault.Paced)
		require.Len(t, begun(), seats+1)
	})
}

// What can't come back in time, or to nobody, is not put off.
func TestWhoWaitsWhereItIs(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		hold   Hold
		direct bool
		left   time.Duration
		kind   fault.Kind
	}{
		"an account that is alone":  {hold: Hold{}, left: 8 * time.Second, kind: fault.Expired},
		"a query near its deadline": {hold: shares(), left: 4 * time.Second, kind: fault.Expired},
		"one whose asker waits":     {hold: shares(), direct: true, left: 8 * time.Second, kind: fault.Expired},
		"any other is put off":      {hold: shares(), left: 4001 * time.Millisecond, kind: fault.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, _ := account(t, test.hold, 0, fails)
				for range 5 {
					_, _, err := b.ask(t.Context())
					require.Error(t, err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), test.left)
				defer cancel()
				start := time.Now()
				q := asked(query.Interactive)
				q.Direct = test.direct
				_, attempts, err := b.Call(ctx, q, &card.Details{})
				requireFault(t, err, test.kind, fault.BreakerOpen)
				require.Empty(t, attempts)
				if test.kind == fault.Expired {
					require.Equal(t, test.left, time.Since(start))
				}
			})
		})
	}
}

func TestAStopIsNoPuttingOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := account(t, shares(), 0, succeeds)
		pace := &metronome{interval: time.Second}
		b.Pacer = pace
		_, _, err := b.ask(t.Context())
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(100*time.Millisecond, cancel)
		_, _, err = b.ask(ctx)
		requireFault(t, err, fault.Interrupted, fault.Stopped)
	})
}

// A repeated attempt that would be held is not made: what failed before is what the query is told.
func TestARepeatedAttemptIsNotHeld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, begun := account(t, shares(), 0, fails)
		b.Pacer, b.Retry.MaxAttempts = &metronome{interval: 3 * time.Second}, 3
		_, attempts, err := b.ask(t.Context())
		failure := requireFault(t, err, fault.Unavailable, fault.Connect)
		require.Zero(t, failure.After)
		require.Len(t, attempts, 1)
		require.Len(t, begun(), 1)
		require.LessOrEqual(t, time.Since(attempts[0].At), 1200*time.Millisecond)
	})
}

func TestPuttingOffEarnsNoRepeats(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, _ := account(t, shares(), 0, fails)
		b.Budget = NewBudget(1, 1)
		require.True(t, b.Budget.Spend())
		for range 5 {
			finish(t, b.Breaker, errDown)
		}
		_, _, err := b.ask(t.Context())
		requireFault(t, err, fault.Unavailable, fault.BreakerOpen)
		require.False(t, b.Budget.Spend())
	})
}

func TestTheLineOfThoseThatComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hold := Hold{
			Interval: time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "interval")),
			Furthest: time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "furthest")),
		}
		h, now := newHolder(hold), time.Unix(0, 0)
		var before time.Time
		for _, step := range rapid.SliceOfN(rapid.Int64Range(0, int64(time.Minute)), 1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(step))
			up := time.Duration(rapid.Int64Range(0, int64(2*time.Hour)).Draw(t, "up in"))
			after := h.comeBack(now, up, hold)
			require.GreaterOrEqual(t, after, soonest)
			require.LessOrEqual(t, after, max(hold.Furthest, soonest))
			if at := now.Add(after); at.After(before) {
				require.GreaterOrEqual(t, after, min(up, hold.Furthest), "not before it can be up, unless that is too far")
				before = at
			}
		}
	})
}

// TestOneSlowAccountNeverHoldsAnother puts a backlog of a thousand queries of one account before those of another, with slots as a worker
// has them. In virtual time, each query of the second account takes as long as if its account were alone.
func TestOneSlowAccountNeverHoldsAnother(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		took   time.Duration
		script func() (*http.Response, error)
		pace   time.Duration
		asked  int
	}{
		"its upstream is down":            {took: 0, script: fails, pace: time.Millisecond, asked: 30},
		"its pace is one call per second": {took: 20 * time.Millisecond, script: succeeds, pace: time.Second, asked: 50},
		"its upstream takes five seconds": {took: 5 * time.Second, script: succeeds, pace: time.Millisecond, asked: 300},
		"its attempts run into timeouts":  {took: time.Hour, script: fails, pace: time.Millisecond, asked: 300},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				slow, begun := account(t, shares(), test.took, test.script)
				slow.Pacer, slow.AttemptTimeout = &metronome{interval: test.pace}, 5*time.Second
				fast, _ := account(t, shares(), 50*time.Millisecond, succeeds)
				fast.Pacer = &metronome{interval: 10 * time.Millisecond}
				l := newLoop(t, 2*seats)
				for i := range 1000 {
					l.publish(slow, fmt.Sprint("slow ", i))
				}
				for i := range 1000 {
					time.Sleep(20 * time.Millisecond)
					l.publish(fast, fmt.Sprint("fast ", i))
				}
				time.Sleep(time.Second)
				took := l.stop()
				require.Equal(t, 1000, len(took[fast]), "every one is answered") //nolint:testifylint // Len would print them all.
				slices.Sort(took[fast])
				require.Equal(t, 50*time.Millisecond, took[fast][989], "p99 is what the call takes: nobody waited for a slot")
				require.NotEmpty(t, begun())
				require.LessOrEqual(t, len(begun()), test.asked, "and the slow account kept its own bounds")
			})
		})
	}
}

// TestASlowAccountUsesItsPace holds that being put off costs an account nothing of its rate.
func TestASlowAccountUsesItsPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hold := shares()
		hold.AtMost, hold.Seats = 1500*time.Millisecond, map[query.Lane]int{query.Bulk: 15 + seats}
		b, begun := account(t, hold, 50*time.Millisecond, succeeds)
		b.Pacer = &metronome{interval: 100 * time.Millisecond}
		l := newLoop(t, 2*(15+seats))
		for i := range 2000 {
			l.publish(b, fmt.Sprint(i))
		}
		time.Sleep(100 * time.Second)
		l.stop()
		require.GreaterOrEqual(t, len(begun()), 980, "of 1,000 permits")
		require.LessOrEqual(t, l.putOff, 10_000, "and what comes back comes at about the pace")
	})
}

// loop is a pull loop with its slots: queries in the order of their publication, those that were put off when they come back.
type loop struct {
	ctx    context.Context
	cancel context.CancelFunc
	slots  sync.WaitGroup

	mu     sync.Mutex
	queue  []*published
	wake   chan struct{}
	took   map[*bundle][]time.Duration
	putOff int
}

type published struct {
	account *bundle
	id      string
	at      time.Time
}

func newLoop(t *testing.T, slots int) *loop {
	t.Helper()
	l := &loop{wake: make(chan struct{}, slots), took: map[*bundle][]time.Duration{}}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	for range slots {
		l.slots.Go(func() {
			for l.ctx.Err() == nil {
				l.handle(t)
			}
		})
	}
	return l
}

func (l *loop) publish(to *bundle, id string) {
	l.push(&published{account: to, id: id, at: time.Now()})
}

func (l *loop) push(p *published) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, p)
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *loop) handle(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	if len(l.queue) == 0 {
		l.mu.Unlock()
		select {
		case <-l.wake:
		case <-l.ctx.Done():
		}
		return
	}
	next := l.queue[0]
	l.queue = l.queue[1:]
	l.mu.Unlock()
	q := asked(query.Bulk)
	q.ID = next.id
	_, _, err := next.account.Call(l.ctx, q, &card.Details{})
	l.mu.Lock()
	defer l.mu.Unlock()
	off := fault.From("call", err)
	switch {
	case err == nil:
		l.took[next.account] = append(l.took[next.account], time.Since(next.at))
	case l.ctx.Err() != nil:
	default:
		back := 5 * time.Second
		if off.After > 0 {
			l.putOff++
			back = time.Until(time.Now().Add(off.After + time.Second - time.Nanosecond).Truncate(time.Second))
		}
		time.AfterFunc(back, func() { l.push(next) })
	}
}

// stop ends the loop and returns how long the answered queries took.
func (l *loop) stop() map[*bundle][]time.Duration {
	l.cancel()
	l.slots.Wait()
	return l.took
}
