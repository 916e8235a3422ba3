package quota

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func requireEnded(t *testing.T, err error, kind fault.Kind, code fault.Code) {
	t.Helper()
	require.Equal(t, kind, fault.KindOf(err))
	require.Equal(t, code, fault.CodeOf(err))
}

// alone runs a test with a fleet of one in virtual time.
func alone(t *testing.T, settings Settings, test func(t *testing.T, w *world, r *replica)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(settings, 7).settled()
		r := w.add()
		test(t, w, r)
		w.end()
	})
}

func ask(ctx context.Context, r *replica) error {
	return r.Wait(ctx, &query.Query{Lane: query.Interactive, Client: "shop"})
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), d)
	t.Cleanup(stop)
	return ctx
}

func TestDeadlineThatIsKnownToBeTooNearIsToldAtOnce(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 0.1, Burst: 1}, func(t *testing.T, _ *world, r *replica) {
		require.NoError(t, ask(t.Context(), r))
		began := time.Now()
		for range 5 {
			requireEnded(t, ask(within(t, 9*time.Second), r), fault.Expired, fault.DeadlinePassed)
		}
		require.Zero(t, time.Since(began))
		require.NoError(t, ask(within(t, 11*time.Second), r), "and it cost no slot")
	})
}

func TestEndedContextsTakeNoSlot(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 1, Burst: 1}, func(t *testing.T, _ *world, r *replica) {
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		passed, stop := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
		defer stop()
		for range 20 {
			requireEnded(t, ask(cancelled, r), fault.Interrupted, fault.Stopped)
			requireEnded(t, ask(passed, r), fault.Expired, fault.DeadlinePassed)
		}
		require.NoError(t, ask(within(t, time.Second), r))
	})
}

func TestSlotOfAWaiterThatGivesUpGoesToTheNext(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 1, Burst: 1}, func(t *testing.T, _ *world, r *replica) {
		require.NoError(t, ask(t.Context(), r))
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- ask(ctx, r) }()
		synctest.Wait()
		go func() { second <- ask(t.Context(), r) }()
		time.Sleep(900 * time.Millisecond)
		cancel()
		requireEnded(t, <-first, fault.Interrupted, fault.Stopped)
		require.NoError(t, <-second)
		require.Less(t, time.Since(began), 1100*time.Millisecond)
	})
}

// TestGrantedSlotOfAWaiterThatGivesUpIsPutBack gives up between the grant and its notice.
func TestGrantedSlotOfAWaiterThatGivesUpIsPutBack(t *testing.T) {
	t.Parallel()
	f := New(Options{Store: newFakeStore(1), Accounts: map[Account]Settings{easy: {Ceiling: 1, Burst: 1}}})
	a := f.accounts[easy]
	a.heard = true
	tick := f.now()
	given := slot{from: tick, until: tick + time.Hour}
	a.slots = []slot{given}
	gone := a.waiting.push(Interactive, "shop", &waiter{granted: make(chan slot, 1), deadline: forever})
	a.grant(f.now())
	require.Empty(t, a.slots)
	f.giveUp(a, gone)
	require.Equal(t, []slot{given}, a.slots)
	next := a.waiting.push(Interactive, "shop", &waiter{granted: make(chan slot, 1), deadline: forever})
	a.grant(f.now())
	require.Equal(t, given, <-next.value.granted)
}

// TestSlotThatPassedWhileTheProcessStoodStillIsNotUsed lets the clock leap between the grant and its notice.
func TestSlotThatPassedWhileTheProcessStoodStillIsNotUsed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var stood time.Duration
		start := time.Now()
		f := New(Options{
			Store: newFakeStore(1), Accounts: map[Account]Settings{{Provider: query.EasyPay}: {Ceiling: 1, Burst: 1}},
			Clock: func() Reading {
				mu.Lock()
				defer mu.Unlock()
				return Reading{Ticks: time.Since(start) + stood, Wall: time.Now().Add(stood)}
			},
		})
		a := f.accounts[Account{Provider: query.EasyPay}]
		a.heard = true
		done := make(chan error, 1)
		go func() { done <- f.Wait(t.Context(), &query.Query{Provider: query.EasyPay}) }()
		synctest.Wait()
		a.mu.Lock()
		a.slots = []slot{{until: time.Millisecond}}
		a.grant(0)
		mu.Lock()
		stood = time.Second
		mu.Unlock()
		a.mu.Unlock()
		synctest.Wait()
		require.Empty(t, done, "it waits again")
		require.Equal(t, 1, a.waiting.length)
		a.mu.Lock()
		a.slots = []slot{{until: time.Hour}}
		a.grant(time.Second)
		a.mu.Unlock()
		require.NoError(t, <-done)
	})
}

func TestNobodyIsLetThroughWithoutTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Settings{Ceiling: 10, Burst: 1}, 1)
		var troubles []error
		w.store.setAway(true)
		r := w.add(func(o *Options) { o.OnTrouble = func(_ Account, err error) { troubles = append(troubles, err) } })
		requireEnded(t, ask(within(t, 3*time.Second), r), fault.Expired, fault.DeadlinePassed)
		require.Zero(t, r.Capacity(query.EasyPay, query.Interactive))
		require.Equal(t, forever, r.Delay(easy, Interactive))
		w.store.setAway(false)
		require.NoError(t, ask(within(t, 3*time.Second), r), "it comes back by itself")
		require.Positive(t, r.Capacity(query.EasyPay, query.Interactive))
		w.store.setAway(true)
		passed := 0
		for ask(within(t, 3*time.Second), r) == nil {
			passed++
		}
		require.LessOrEqual(t, passed, 2, "what was leased may be used: a tenth of a second, and the call at its end")
		require.Zero(t, r.Capacity(query.EasyPay, query.Interactive))
		w.end()
		require.LessOrEqual(t, len(troubles), 6, "each absence is told, not each attempt")
		require.NotEmpty(t, troubles)
		for _, err := range troubles {
			requireEnded(t, err, fault.Unavailable, fault.BrokerUnreachable)
			require.ErrorIs(t, err, errAway)
		}
	})
}

func TestAccountsWithoutALimit(t *testing.T) {
	t.Parallel()
	alone(t, Settings{}, func(t *testing.T, w *world, r *replica) {
		synctest.Wait()
		time.Sleep(time.Second)
		began := time.Now()
		for range 1000 {
			require.NoError(t, ask(t.Context(), r))
		}
		require.Zero(t, time.Since(began))
		require.Equal(t, math.MaxInt32, r.Capacity(query.EasyPay, query.Bulk))
		require.Zero(t, r.Delay(easy, Bulk))
		require.NoError(t, Pause(t.Context(), w.store, easy, Author{}))
		time.Sleep(time.Second)
		requireEnded(t, ask(within(t, time.Second), r), fault.Expired, fault.DeadlinePassed)
		require.NoError(t, Resume(t.Context(), w.store, easy, Author{}))
		require.NoError(t, ask(within(t, time.Second), r))
		r.Throttled(easy, r.Clock().Wall, 3*time.Second)
		requireEnded(t, ask(within(t, time.Second), r), fault.Expired, fault.DeadlinePassed)
		require.NoError(t, ask(within(t, 4*time.Second), r))
		r.AccountOf = func(*query.Query) Account { return Account{Provider: "another"} }
		require.NoError(t, ask(t.Context(), r), "accounts that nobody named are not paced")
		require.Zero(t, r.Delay(Account{Provider: "another"}, Bulk))
		r.Throttled(Account{Provider: "another"}, time.Now(), time.Second)
	})
}

// fleetOf runs a test with several busy members.
func fleetOf(t *testing.T, n int, settings Settings, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(settings, 11).settled()
		for range n {
			w.backlog(w.add(), 60)
		}
		time.Sleep(3 * time.Second)
		test(t, w)
		w.end()
	})
}

func TestPauseStopsTheFleetWithinASecond(t *testing.T) {
	t.Parallel()
	fleetOf(t, 8, Settings{Ceiling: 100, Burst: 10}, func(t *testing.T, w *world) {
		require.NoError(t, Pause(t.Context(), w.store, easy, Author{By: "ops", Why: "their night shift called"}))
		paused := time.Since(w.start)
		time.Sleep(10 * time.Second)
		require.Zero(t, w.used(paused+time.Second, paused+10*time.Second, 1))
		for _, r := range w.replicas {
			require.Zero(t, r.Capacity(query.EasyPay, query.Bulk))
			require.Equal(t, forever, r.Delay(easy, Ask))
		}
		require.NoError(t, Resume(t.Context(), w.store, easy, Author{}))
		resumed := time.Since(w.start)
		time.Sleep(10 * time.Second)
		require.Greater(t, w.used(resumed+time.Second, resumed+10*time.Second, 100), 0.98)
	})
}

func TestCeilingIsSetForTheFleetWithinASecond(t *testing.T) {
	t.Parallel()
	fleetOf(t, 4, Settings{Ceiling: 100, Burst: 10}, func(t *testing.T, w *world) {
		for _, ceiling := range []float64{20, 300, 0} {
			require.NoError(t, Set(t.Context(), w.store, easy, ceiling, Author{}))
			time.Sleep(10 * time.Second)
			now := time.Since(w.start)
			if ceiling == 0 {
				ceiling = 100
			}
			require.InDelta(t, 1, w.used(now-5*time.Second, now, ceiling), 0.03, "%v", ceiling)
		}
		require.NoError(t, Set(t.Context(), w.store, easy, 10, Author{}))
		set := time.Since(w.start)
		time.Sleep(4 * time.Second)
		require.LessOrEqual(t, w.used(set+time.Second, set+4*time.Second, 10), 1.5)
	})
}

func TestRetryAfterHoldsTheFleet(t *testing.T) {
	t.Parallel()
	fleetOf(t, 4, Settings{Ceiling: 100, Burst: 10}, func(t *testing.T, w *world) {
		r := w.replicas[0]
		r.Throttled(easy, r.Clock().Wall, 5*time.Second)
		at := time.Since(w.start)
		requireEnded(t, ask(within(t, 4*time.Second), r), fault.Expired, fault.DeadlinePassed)
		require.Equal(t, at, time.Since(w.start), "who can't wait that long hears it at once")
		time.Sleep(500 * time.Millisecond)
		w.replicas[1].Throttled(easy, w.replicas[1].Clock().Wall.Add(-time.Minute), time.Second)
		require.Greater(t, r.Delay(easy, Interactive), 4*time.Second)
		time.Sleep(time.Second)
		for _, r := range w.replicas {
			requireEnded(t, ask(within(t, 3*time.Second), r), fault.Expired, fault.DeadlinePassed)
		}
		time.Sleep(8 * time.Second)
		require.Zero(t, w.used(at+500*time.Millisecond, at+4900*time.Millisecond, 1), "a shorter wish shortens nothing")
		require.Greater(t, w.used(at+6*time.Second, at+9*time.Second, 70), 0.9, "it goes on, more slowly")
		view, err := Show(t.Context(), w.store, easy)
		require.NoError(t, err)
		require.Equal(t, "retry_after", view.Control.Why)
		require.InDelta(t, 100, view.State.Knee, 1e-9, "lowered once")
	})
}

func TestWaitersHearOfABlockTheyCannotOutlast(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 0.5, Burst: 1}, func(t *testing.T, w *world, r *replica) {
		require.NoError(t, ask(t.Context(), r))
		began := time.Now()
		waiting := make(chan error, 1)
		go func() { waiting <- ask(within(t, 5*time.Second), r) }()
		synctest.Wait()
		r.Throttled(easy, r.Clock().Wall, 30*time.Second)
		requireEnded(t, <-waiting, fault.Expired, fault.DeadlinePassed)
		require.Zero(t, time.Since(began))
		_ = w
	})
}

func TestChangesAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Settings{Ceiling: 100, Burst: 10}, 7)
		var mu sync.Mutex
		var changes []Change
		r := w.add(func(o *Options) {
			o.OnChange = func(c Change) {
				mu.Lock()
				defer mu.Unlock()
				changes = append(changes, c)
			}
		})
		w.backlog(r, 50)
		time.Sleep(8 * time.Second)
		r.Throttled(easy, r.Clock().Wall, 0)
		time.Sleep(3 * time.Second)
		require.NoError(t, Pause(t.Context(), w.store, easy, Author{By: "ops", Why: "test"}))
		time.Sleep(time.Second)
		w.end()
		told := map[Why]int{}
		for _, c := range changes {
			require.Equal(t, easy, c.Account)
			told[c.Why]++
		}
		require.GreaterOrEqual(t, told[Recovered], 3)
		require.GreaterOrEqual(t, told[Lowered], 1)
		last := changes[len(changes)-1]
		require.Equal(t, Controlled, last.Why)
		require.True(t, last.Control.Paused)
		require.Equal(t, "ops", last.Control.By)
	})
}

func TestRefusalsAreToldTogether(t *testing.T) {
	t.Parallel()
	a := newAccount(easy, Settings{Ceiling: 100, Burst: 10}, 0.1)
	a.merge(throttle{sent: 1, until: 5, part: 0.1})
	a.merge(throttle{sent: 3, until: 2, part: 0.9})
	require.Equal(t, throttle{sent: 3, until: 5, part: 0.1}, *a.pending)
}

// TestRateIsToldOnceItIsKnown changes the controls of an account before anybody has called, and when one of two replicas has: the other one
// still knows no rate.
func TestRateIsToldOnceItIsKnown(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settled bool
		rate    float64
	}{"at the ceiling": {true, 100}, "slow start": {false, 12.5}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				type told struct {
					why      Why
					from, to float64
				}
				w := newWorld(Settings{Ceiling: 100, Burst: 10}, 7)
				if test.settled {
					w.settled()
				}
				var mu sync.Mutex
				var heard [2][]told
				for i := range heard {
					w.add(func(o *Options) {
						o.OnChange = func(c Change) {
							mu.Lock()
							defer mu.Unlock()
							heard[i] = append(heard[i], told{c.Why, c.From, c.To})
						}
					})
				}
				control := func() {
					require.NoError(t, Resume(t.Context(), w.store, easy, Author{By: "ops"}))
					time.Sleep(time.Second)
				}
				control()
				require.NoError(t, ask(within(t, time.Minute), w.replicas[0]))
				control()
				w.end()
				require.Equal(t, []told{{Controlled, 0, 0}, {Begun, 0, test.rate}, {Controlled, test.rate, test.rate}}, heard[0])
				require.Equal(t, []told{{Controlled, 0, 0}, {Controlled, 0, 0}}, heard[1])
			})
		})
	}
}

func TestBrokenEntriesStopTheAccountUntilReset(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"state": easy.stateKey(), "control": easy.controlKey()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(Settings{Ceiling: 10, Burst: 1}, 1)
				w.store.put(key, []byte(`{"rate":`), 0)
				var told []error
				r := w.add(func(o *Options) { o.OnTrouble = func(_ Account, err error) { told = append(told, err) } })
				requireEnded(t, ask(within(t, 10*time.Second), r), fault.Expired, fault.DeadlinePassed)
				require.Len(t, told, 1, "once, not at every attempt")
				require.ErrorIs(t, told[0], ErrBroken)
				requireEnded(t, told[0], fault.Unavailable, fault.BadJSON)
				require.Zero(t, r.Capacity(query.EasyPay, query.Bulk))
				if name == "control" {
					require.ErrorIs(t, Pause(t.Context(), w.store, easy, Author{}), ErrBroken, "nothing is written over what nobody understands")
				}
				require.NoError(t, Reset(t.Context(), w.store, easy, w.settings, Author{By: "ops"}))
				began := time.Now()
				require.NoError(t, ask(within(t, 10*time.Second), r))
				require.Greater(t, time.Since(began), time.Second, "slots of the old state may still be on their way")
				w.end()
			})
		})
	}
}

func TestCapacity(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 2, Burst: 1}, func(t *testing.T, w *world, r *replica) {
		require.NoError(t, ask(t.Context(), r))
		require.InDelta(t, 10, r.Capacity(query.EasyPay, query.Bulk), 6, "a quarter of the ack wait at two per second")
		require.Zero(t, r.Capacity(query.UnionPay, query.Bulk))
		w.backlog(r, 30)
		time.Sleep(10 * time.Second)
		require.Zero(t, r.Capacity(query.EasyPay, query.Bulk), "enough wait already")
		require.Greater(t, r.Capacity(query.EasyPay, query.Interactive), 8, "bulk does not keep interactive out")
		r.Throttled(easy, r.Clock().Wall, 6*time.Second)
		time.Sleep(10 * time.Millisecond)
		require.Positive(t, r.Capacity(query.EasyPay, query.Interactive), "it is over soon enough")
		r.Throttled(easy, r.Clock().Wall, 60*time.Second)
		time.Sleep(10 * time.Millisecond)
		require.Zero(t, r.Capacity(query.EasyPay, query.Interactive))
	})
}

func TestDelay(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 10, Burst: 1}, func(t *testing.T, w *world, r *replica) {
		w.backlog(r, 200)
		time.Sleep(10 * time.Second)
		bulk, interactive := r.Delay(easy, Bulk), r.Delay(easy, Interactive)
		require.InDelta(t, 20, bulk.Seconds(), 4)
		require.Less(t, interactive, time.Second)
		began := time.Now()
		require.NoError(t, ask(t.Context(), r))
		require.InDelta(t, interactive.Seconds(), time.Since(began).Seconds(), 0.5)
	})
}

func TestSmallestAccountIsAlwaysWorthOneQuery(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 0.01, Burst: 1}, func(t *testing.T, _ *world, r *replica) {
		time.Sleep(time.Second)
		require.Equal(t, 1, r.Capacity(query.EasyPay, query.Bulk))
	})
}

func TestAccountsHaveTheirOwnPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore(1)
		f := New(Options{Store: store, Accounts: map[Account]Settings{
			{Provider: query.EasyPay}: {Ceiling: 1, Burst: 1}, {Provider: query.UnionPay}: {Ceiling: 1, Burst: 1},
		}})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.Run(ctx) })
		began := time.Now()
		require.NoError(t, f.Wait(ctx, &query.Query{Provider: query.EasyPay}))
		require.NoError(t, f.Wait(ctx, &query.Query{Provider: query.UnionPay}))
		require.Less(t, time.Since(began), 300*time.Millisecond)
		stop()
		running.Wait()
		require.Len(t, store.entries, 2)
	})
}

func TestEditsGiveUpAgainstEndlessConflicts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		err := Pause(t.Context(), contested{newFakeStore(1)}, easy, Author{})
		require.ErrorIs(t, err, ErrConflict)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, Pause(ctx, contested{newFakeStore(1)}, easy, Author{}), context.DeadlineExceeded)
	})
}

// contested is a store in which somebody else is always faster.
type contested struct{ *fakeStore }

func (contested) Put(context.Context, string, []byte, uint64) (uint64, error) { return 0, ErrConflict }

func TestOpsErrorsPassThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newFakeStore(1)
		require.Error(t, Set(t.Context(), store, easy, -1, Author{}))
		store.setAway(true)
		_, err := Show(t.Context(), store, easy)
		require.ErrorIs(t, err, errAway)
		require.ErrorIs(t, Pause(t.Context(), store, easy, Author{}), errAway)
		require.ErrorIs(t, Reset(t.Context(), store, easy, Settings{}, Author{}), errAway)
	})
}

func BenchmarkWaitUnlimited(b *testing.B) {
	f := New(Options{Store: newFakeStore(1), Accounts: map[Account]Settings{{Provider: query.EasyPay}: {}}})
	f.heard(Entry{})
	q := &query.Query{Provider: query.EasyPay, Lane: query.Interactive, Client: "shop"}
	b.ReportAllocs()
	for b.Loop() {
		if err := f.Wait(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}
