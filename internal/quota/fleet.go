// Package quota keeps the pace of calls to the upstreams: one rate for each account over all workers, kept in a bucket of the broker. It gives
// out permits and must never make a call itself.
package quota

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Why says why a pace changed.
type Why string

// Why a pace changed.
const (
	// Begun is the first rate that this replica knows of: an unknown account begins slowly, a known one as it was left.
	Begun Why = "begun"
	// Lowered is an upstream that asked for fewer calls.
	Lowered Why = "throttled"
	// Recovered is a rate that has grown by a tenth or more, or to the ceiling.
	Recovered Why = "recovered"
	// Controlled is a pause, a block or a ceiling that was set or taken back.
	Controlled Why = "controlled"
)

// Whys returns every Why, so that metrics can exist at zero from the start.
func Whys() []Why { return []Why{Begun, Lowered, Recovered, Controlled} }

// Change is a change of an account's pace, as one replica sees it.
type Change struct {
	Account Account
	Why     Why
	// From and To are the fleet's rates before and after, in calls per second; 0 if there is no limit, or as long as this replica has not
	// leased and so does not know.
	From, To float64
	// Control is what holds now.
	Control Control
}

// Options are the parts of a Fleet.
type Options struct {
	Store Store
	// Accounts are all accounts that may be called. Queries of others are not paced.
	Accounts map[Account]Settings
	// AccountOf tells which account a query is counted by. Nil means one account without a name per provider.
	AccountOf func(*query.Query) Account
	// ClassOf tells a query's class. Nil means the class of its lane.
	ClassOf func(*query.Query) Class
	// BulkShare is the part of all calls that bulk queries get if they want them; 0 means a tenth.
	BulkShare float64
	// AckWait is how long the broker leaves a query to its holder. It bounds the capacity.
	AckWait time.Duration
	// OnChange and OnTrouble are told what happens, by several goroutines. They must be quick, and may be nil.
	OnChange  func(Change)
	OnTrouble func(Account, error)
	// Clock reads the machine's clocks. Nil means the real ones.
	Clock func() Reading
}

// Fleet is one replica's part in the pace that all replicas keep together. It may be used by many goroutines.
type Fleet struct {
	Options

	clock    clock
	accounts map[Account]*account
}

// New returns a Fleet. Nobody is let through before Run runs.
func New(options Options) *Fleet {
	f := &Fleet{Options: options, accounts: make(map[Account]*account, len(options.Accounts))}
	if f.AccountOf == nil {
		f.AccountOf = func(q *query.Query) Account { return Account{Provider: q.Provider} }
	}
	if f.ClassOf == nil {
		f.ClassOf = func(q *query.Query) Class { return classOf(q.Lane) }
	}
	if f.BulkShare <= 0 {
		f.BulkShare = 0.1
	}
	if f.OnChange == nil {
		f.OnChange = func(Change) {}
	}
	if f.OnTrouble == nil {
		f.OnTrouble = func(Account, error) {}
	}
	if f.Clock == nil {
		f.Clock = systemClock()
	}
	f.clock.read = f.Clock
	for name, settings := range options.Accounts {
		f.accounts[name] = newAccount(name, settings, f.BulkShare)
	}
	return f
}

func classOf(lane query.Lane) Class {
	if lane == query.Bulk {
		return Bulk
	}
	return Interactive
}

// Run keeps the pace until ctx ends: it leases slots, gives them out, watches the controls and tells of throttling.
func (f *Fleet) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { f.watch(ctx) })
	for _, a := range f.accounts {
		running.Go(func() { f.serve(ctx, a) })
		running.Go(func() { newLeaser(f, a).run(ctx) })
		running.Go(func() { f.report(ctx, a) })
	}
	running.Wait()
}

// Wait returns when the next call for q may be made. It returns an Expired fault if that would be after the deadline of ctx, at once
// when that is known, and an Interrupted one if ctx is cancelled. A slot whose query gave up goes to the next one that waits.
func (f *Fleet) Wait(ctx context.Context, q *query.Query) error {
	if err := ctx.Err(); err != nil {
		return ended(err)
	}
	a := f.accounts[f.AccountOf(q)]
	if a == nil {
		return nil
	}
	w := &waiter{granted: make(chan slot, 1), hopeless: make(chan struct{}), deadline: forever}
	t, ok := f.enqueue(ctx, a, w, f.ClassOf(q), q.Client)
	if !ok {
		return fault.New("wait for pace", fault.Expired, fault.DeadlinePassed)
	}
	for {
		select {
		case s := <-w.granted:
			if f.now() <= s.until {
				return nil
			}
			// The process stood still for longer than the slot was good for.
			f.change(a, func(time.Duration) { a.waiting.restore(t) })
		case <-w.hopeless:
			return fault.New("wait for pace", fault.Expired, fault.DeadlinePassed)
		case <-ctx.Done():
			f.giveUp(a, t)
			return ended(ctx.Err())
		}
	}
}

// enqueue puts a waiter into its place, unless its deadline is known to be too near.
func (f *Fleet) enqueue(ctx context.Context, a *account, w *waiter, class Class, client string) (t *ticket[*waiter], ok bool) {
	tick := f.now()
	if deadline, limited := ctx.Deadline(); limited {
		w.deadline = tick + time.Until(deadline)
	}
	a.mu.Lock()
	if w.deadline < a.earliest(class, client, tick) {
		a.mu.Unlock()
		return nil, false
	}
	t = a.waiting.push(class, client, w)
	a.grant(tick)
	done := t.place == nil
	a.mu.Unlock()
	if !done {
		wake(a.serve)
		wake(a.lease)
	}
	return t, true
}

// giveUp ends a wait. A slot that was granted in the meantime goes to somebody else.
func (f *Fleet) giveUp(a *account, t *ticket[*waiter]) {
	f.change(a, func(time.Duration) {
		if a.waiting.remove(t) {
			return
		}
		select {
		case s := <-t.value.granted:
			a.putBack(s)
		default:
		}
	})
}

// change changes an account and lets everybody look at what follows from it.
func (f *Fleet) change(a *account, change func(tick time.Duration)) {
	tick := f.now()
	a.mu.Lock()
	change(tick)
	a.mu.Unlock()
	wake(a.serve)
	wake(a.lease)
}

// serve gives slots out when their time has come.
func (f *Fleet) serve(ctx context.Context, a *account) {
	for ctx.Err() == nil {
		tick := f.now()
		a.mu.Lock()
		at := a.grant(tick)
		a.mu.Unlock()
		f.await(ctx, at, a.serve)
	}
}

// await waits until a tick, or until it is woken, or until ctx ends.
func (f *Fleet) await(ctx context.Context, at time.Duration, woken <-chan struct{}) {
	var due <-chan time.Time
	if at != forever {
		timer := time.NewTimer(at - f.now())
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-woken:
	}
}

// now returns the present tick. If the machine was suspended or its clock was set, nobody knows when the slots held were meant for.
func (f *Fleet) now() time.Duration {
	tick, leapt := f.clock.now()
	if leapt {
		for _, a := range f.accounts {
			a.mu.Lock()
			a.slots = nil
			a.mu.Unlock()
			wake(a.lease)
		}
	}
	return tick
}

// Away tells whether the pace of an account can't be read or written, so that nothing is asked there.
func (f *Fleet) Away() bool {
	for _, a := range f.accounts {
		if a.lost() {
			return true
		}
	}
	return false
}

func (a *account) lost() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.away && a.effective().Ceiling > 0
}

// Capacity returns how many more queries of a lane are worth pulling: what the provider's pace lets through in a quarter of the ack
// wait, without those that wait already. It is 0 while nobody may call for that long or the store is away.
func (f *Fleet) Capacity(provider query.Provider, lane query.Lane) int {
	tick, quarter := f.now(), f.AckWait/4
	total, class := 0, classOf(lane)
	for name, a := range f.accounts {
		if name.Provider == provider {
			total += min(a.capacity(class, tick, quarter), math.MaxInt32)
		}
	}
	return total
}

func (a *account) capacity(class Class, tick, within time.Duration) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	closed := !a.heard || a.mute || a.control.Paused || a.away && a.effective().Ceiling > 0
	if closed || a.blocked-tick > within {
		return 0
	}
	if a.effective().Ceiling <= 0 {
		return math.MaxInt32
	}
	calls := max(1, min(a.share(tick)*within.Seconds(), math.MaxInt32))
	return max(0, int(calls-math.Ceil(a.ahead(class))))
}

// Delay estimates how long a new query of a class would wait. It is the longest duration there is while nobody may call.
func (f *Fleet) Delay(account Account, class Class) time.Duration {
	a := f.accounts[account]
	if a == nil {
		return 0
	}
	tick := f.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.delay(class, tick)
}

// ended returns the fault of a wait whose context ended.
func ended(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Because("wait for pace", fault.Expired, fault.DeadlinePassed, err)
	}
	return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, err)
}

// sleep waits for a while, or returns the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// jittered returns a random part of d.
func jittered(d time.Duration) time.Duration {
	return time.Duration(rand.Float64() * float64(d)) //nolint:gosec // It keeps replicas apart; nobody gains by guessing it.
}
