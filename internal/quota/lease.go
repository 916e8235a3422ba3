package quota

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"discountquery.example/worker/internal/fault"
)

// How slots are leased.
const (
	// shortest and longest bound the time that one lease covers.
	shortest = 15 * time.Millisecond
	longest  = 100 * time.Millisecond
	// longestPress is how far ahead of the present slots are leased for those that somebody waits for, at most, maxAhead how far ahead any
	// slot is.
	longestPress = 400 * time.Millisecond
	maxAhead     = 1150 * time.Millisecond
	// trusting is how long a replica that waits for its turn believes that the others take theirs.
	trusting = 250 * time.Millisecond
	// storeTimeout bounds the calls of the store that make up one step. If replies are usually fast, leastTimeout is enough.
	storeTimeout = 2 * time.Second
	leastTimeout = storeTimeout / 4
	// retryPause is the longest wait before the store is tried again after it failed.
	retryPause = 500 * time.Millisecond
	// leastLead is how long before the last slot held the next lease is begun, at least.
	leastLead = 20 * time.Millisecond
)

// leaser leases slots of one account. It is used by one goroutine.
type leaser struct {
	fleet   *Fleet
	account *account

	// state and revision are the last entry known; fresh tells that it can be the present one because nobody else writes.
	state    State
	revision uint64
	fresh    bool
	turns
	// pressing tells that somebody waits for what is being leased.
	pressing bool
	// conflicts counts the attempts in vain since the last lease, which was wanted since the tick wanted, if there were any.
	conflicts int
	wanting   bool
	wanted    time.Duration
	// trip is how long a call of the store takes, taking how long a lease takes.
	trip, taking estimate
	// checked is when the server's time was looked up last; 0 means never.
	checked time.Duration
	row     int
	// told is the rate that was told last; 0 before the first.
	told   float64
	silent bool
}

func newLeaser(f *Fleet, a *account) *leaser {
	return &leaser{fleet: f, account: a}
}

func (l *leaser) run(ctx context.Context) {
	for ctx.Err() == nil {
		n, pressing, at := l.want()
		if n == 0 {
			l.wanting = false
			if l.silent {
				at = l.look(ctx, at)
			}
			l.fleet.await(ctx, at, l.account.lease)
			continue
		}
		if !l.wanting {
			l.wanting, l.wanted = true, l.fleet.now()
		}
		l.pressing = pressing
		if pause := l.attempt(ctx, n); pause > 0 {
			l.fleet.await(ctx, l.fleet.now()+pause, nil)
		}
	}
}

// look tries whether the store is back, although nobody needs a slot now: as long as it counts as away, nothing is pulled, so that nobody would
// ever come to wait. It returns when there is more to do: at the tick given if the store is back.
func (l *leaser) look(ctx context.Context, at time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := l.read(ctx, l.settings()); err != nil {
		return min(at, l.fleet.now()+l.failed(err))
	}
	free := l.fleet.now()
	if server, known := l.fleet.clock.span(free); known {
		free = server.tick(l.state.Next)
	}
	l.seen(free)
	return at
}

// want returns how many slots could be used now, and whether somebody waits for them, or if none, when to look again. For those that nobody
// waits for, a replica takes its turn.
func (l *leaser) want() (n int, pressing bool, at time.Duration) {
	a, tick := l.account, l.fleet.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.block(l.fleet.blockedUntil(a.control, tick), tick)
	if !a.heard || a.mute || a.control.Paused || a.waiting.length == 0 || a.effective().Ceiling <= 0 {
		return 0, false, forever
	}
	if tick < a.blocked {
		return 0, false, a.blocked
	}
	held := a.live(tick)
	soon := int(a.use.rate(tick) * max(l.taking.high(), leastLead).Seconds())
	if urgent := a.waiting.length - a.waiting.waiting(Bulk); urgent > held {
		return urgent + soon - held, true, 0
	}
	if wanted := a.waiting.length + soon; wanted > held {
		if look := l.next(); look > tick {
			return 0, false, look
		}
		return wanted - held, false, 0
	}
	return 0, false, forever
}

// attempt tries once to lease slots, n at most, and returns how long to wait before anything else is done.
func (l *leaser) attempt(ctx context.Context, n int) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, min(storeTimeout, max(leastTimeout, 8*l.trip.high())))
	defer cancel()
	settings := l.settings()
	if !l.fresh {
		if err := l.read(ctx, settings); err != nil {
			return l.failed(err)
		}
	}
	tick := l.fleet.now()
	server, known := l.fleet.clock.span(tick)
	t := terms{
		Settings: settings, now: server.late, reach: l.reach(settings), vague: server.width() + timerLateness,
		pressing: l.pressing, raced: l.conflicts > 1,
	}
	if !known || t.vague > t.slack() && tick-l.checked > 2*refresh {
		return l.learn(ctx)
	}
	if ok, pause := l.may(l.state, t, tick); !ok {
		l.fresh, l.wanting = false, false
		l.seen(server.tick(l.state.Next))
		l.account.ranShort(tick)
		return pause
	}
	before := l.state
	t.others, t.round = l.round(before)
	state, granted := l.state.lease(t, n)
	if err := l.write(ctx, state); err != nil {
		return l.failed(err)
	}
	if n > granted.n {
		l.account.ranShort(tick)
	}
	l.leased(before, state, t, server, l.trip.usual())
	l.take(granted, server)
	return l.check(ctx)
}

// reach is how long it takes until slots that are asked for now are in hand; longer if there is little room for a lease that takes more than
// usual. It is bounded, because a process that was stopped in the middle of a call of the store takes that for a slow store: it would ask
// for slots so far ahead that it got none.
func (l *leaser) reach(settings Settings) time.Duration {
	high := l.trip.high()
	return min(high+max(0, high-settings.room()), maxAhead)
}

func (l *leaser) settings() Settings {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	return l.account.effective()
}

// read gets the present entry. An account that has none begins.
func (l *leaser) read(ctx context.Context, settings Settings) error {
	sent := l.fleet.now()
	found, err := l.fleet.Store.Get(ctx, l.account.name.stateKey())
	received := l.fleet.now()
	if err == nil || errors.Is(err, ErrMissing) {
		l.trip.add(received - sent)
	}
	if errors.Is(err, ErrMissing) {
		l.state, l.revision = begin(settings), 0
		return nil
	}
	if err != nil {
		return err
	}
	l.fleet.clock.noteRead(found, received)
	if l.state, err = readState(found.Value, l.fleet.latest(received)); err != nil {
		return err
	}
	l.revision = found.Revision
	return nil
}

// write replaces the entry by what follows from it.
func (l *leaser) write(ctx context.Context, state State) error {
	value, err := state.bytes()
	if err != nil {
		return err
	}
	sent := l.fleet.now()
	l.fresh = false
	revision, err := l.fleet.Store.Put(ctx, l.account.name.stateKey(), value, l.revision)
	if err != nil {
		return err
	}
	confirmed := l.fleet.now()
	l.trip.add(confirmed - sent)
	l.fleet.clock.noteWrite(revision, sent, confirmed)
	l.state, l.revision = state, revision
	l.fresh = l.conflicts == 0
	return nil
}

// learn finds out the server's time: it writes the entry as it is and looks when that was.
func (l *leaser) learn(ctx context.Context) time.Duration {
	if err := l.write(ctx, l.state); err != nil {
		return l.failed(err)
	}
	l.checked = 0
	return l.check(ctx)
}

// check looks at the entry now and then, to know the server's time well.
func (l *leaser) check(ctx context.Context) time.Duration {
	tick := l.fleet.now()
	if l.checked > 0 && tick-l.checked < refresh {
		return 0
	}
	written := l.revision
	if err := l.read(ctx, l.settings()); err != nil {
		l.fresh = false
		return l.failed(err)
	}
	l.fresh = l.fresh && l.revision == written
	l.checked = tick
	return 0
}

// take hands over the slots of a lease and learns from how it went.
func (l *leaser) take(g grant, server span) {
	tick := l.fleet.now()
	l.taking.add(tick - l.wanted)
	l.conflicts, l.wanting, l.silent = 0, false, false
	l.row++
	settings := l.settings()
	slots := make([]slot, g.n)
	for i := range slots {
		from := server.tick(g.start.Add(time.Duration(i) * g.interval))
		until := from + g.tolerance - server.width()
		slots[i] = slot{
			// The less is known of the server's time, the less is left to use a slot. What bulk has of it stays.
			from: from, patient: max(from, until-max(settings.room()/2, timerLateness)), until: until,
			slack: settings.slack(), row: l.row,
		}
	}
	a := l.account
	a.mu.Lock()
	a.slots = append(a.slots, slots...)
	a.free = server.tick(l.state.Next)
	a.away = false
	a.lowered(server.tick(l.state.Cut))
	a.mu.Unlock()
	wake(a.serve)
	l.tell()
}

// seen notes the first call time that nobody holds.
func (l *leaser) seen(free time.Duration) {
	l.account.mu.Lock()
	defer l.account.mu.Unlock()
	l.account.free, l.account.away = free, false
	l.silent = false
}

// tell reports the first rate that is known, and one that has changed by a tenth or reached the ceiling.
func (l *leaser) tell() {
	a := l.account
	a.mu.Lock()
	before := l.told
	a.rate, a.known = l.state.Rate, true
	change := Change{Account: a.name, Why: Recovered, From: before, To: a.rate, Control: a.control}
	full := a.rate == a.effective().Ceiling
	a.mu.Unlock()
	if math.Abs(change.To-before) < before/10 && (!full || change.To == before) {
		return
	}
	switch {
	case before == 0:
		change.Why = Begun
	case change.To < before:
		change.Why = Lowered
	}
	l.told = change.To
	l.fleet.OnChange(change)
}

// failed returns the pause after an attempt that failed. Whoever loses a race keeps out of the way for a random while, a short one if
// somebody waits; the store's absence is told once.
func (l *leaser) failed(err error) time.Duration {
	l.fresh = false
	if errors.Is(err, ErrConflict) {
		l.conflicts++
		if l.pressing {
			return jittered((l.trip.usual() << min(l.conflicts, 4)) / 8)
		}
		return jittered(l.trip.usual() << min(l.conflicts, 3))
	}
	a := l.account
	a.mu.Lock()
	a.away = true
	a.mu.Unlock()
	if !l.silent {
		l.silent = true
		l.fleet.OnTrouble(a.name, trouble("lease pace", err))
	}
	return retryPause/2 + jittered(retryPause/2)
}

// trouble returns what is told of an error of the store.
func trouble(op string, err error) error {
	code := fault.BrokerUnreachable
	if errors.Is(err, ErrBroken) {
		code = fault.BadJSON
	}
	return fault.Because(op, fault.Unavailable, code, err)
}

// estimate follows a duration by its last samples. The largest of them counts for nothing: a process that was stopped in the middle of one is
// not slow ever after.
type estimate struct {
	samples [16]time.Duration
	n       int
}

func (e *estimate) add(d time.Duration) {
	e.samples[e.n%len(e.samples)] = d
	e.n++
}

// sorted returns the samples that count, the smallest first.
func (e *estimate) sorted() []time.Duration {
	samples := slices.Sorted(slices.Values(e.samples[:min(e.n, len(e.samples))]))
	return samples[:max(len(samples)-1, min(1, len(samples)))]
}

// usual returns the median, 0 if nothing is known.
func (e *estimate) usual() time.Duration {
	if e.n == 0 {
		return 0
	}
	samples := e.sorted()
	return samples[len(samples)/2]
}

// high returns what is rarely exceeded, 0 if nothing is known. A few samples say little of that.
func (e *estimate) high() time.Duration {
	if e.n == 0 {
		return 0
	}
	samples := e.sorted()
	largest := samples[len(samples)-1]
	if len(samples) < 4 {
		return 3 * largest
	}
	return largest + largest/4
}
