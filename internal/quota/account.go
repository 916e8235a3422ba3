package quota

import (
	"math"
	"sync"
	"time"
)

// slot is one call time in ticks of this replica.
type slot struct {
	from, until time.Duration
	// patient is the tick from which the slot goes to a query that nobody waits for, if nobody else came.
	patient time.Duration
	// slack is how far the calls of one lease may be off each other, row the lease.
	slack time.Duration
	row   int
}

// waiter is one query that waits for its slot.
type waiter struct {
	granted chan slot
	// deadline is the tick after which nobody waits any more.
	deadline time.Duration
	hopeless chan struct{}
}

// account is one replica's side of an account: the slots it holds and the queries that wait for them.
type account struct {
	name     Account
	settings Settings
	// serve wakes the goroutine that grants slots, lease the one that leases them, report the one that tells of throttling.
	serve, lease, report chan struct{}

	mu      sync.Mutex
	waiting *order[*waiter]
	slots   []slot
	// late is how late calls of the lease row were made at worst.
	late time.Duration
	row  int
	// use counts the calls made, asked and refused those since the last decrease of the rate, at tick cut, and how many met too many.
	use, asked, refused meter
	cut                 time.Duration
	// control is what the watch said last, heard whether it said anything yet, and mute that it can't be read.
	control Control
	heard   bool
	mute    bool
	// blocked is the tick until which the upstream does not want to be called.
	blocked time.Duration
	// free is the tick of the first call time that nobody holds, as far as this replica knows.
	free time.Duration
	// short is the tick at which more slots were wanted than there were last; 0 means never.
	short time.Duration
	// rate is the fleet's rate as far as this replica knows; the ceiling is assumed until a lease has told it, which known tells.
	rate  float64
	known bool
	away  bool
	// pending is what still has to be told to the others, or nil.
	pending *throttle
}

// forever is a tick that never comes.
const forever = time.Duration(math.MaxInt64)

func newAccount(name Account, settings Settings, share float64) *account {
	return &account{
		name: name, settings: settings, waiting: newOrder[*waiter](share),
		serve: make(chan struct{}, 1), lease: make(chan struct{}, 1), report: make(chan struct{}, 1),
		rate: settings.Ceiling,
	}
}

// wake makes a goroutine look again.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// effective returns the settings that hold now. A ceiling of 0 means no limit.
func (a *account) effective() Settings {
	s := a.settings
	if a.control.Ceiling > 0 {
		s.Ceiling = a.control.Ceiling
	}
	return s
}

// open tells whether calls may be made at a tick.
func (a *account) open(tick time.Duration) bool {
	return a.heard && !a.mute && !a.control.Paused && tick >= a.blocked
}

// grant gives slots that have come to the waiters whose turn it is, and returns the tick at which there is more to do.
func (a *account) grant(tick time.Duration) time.Duration {
	if !a.open(tick) {
		a.slots = nil
		if a.heard && !a.mute && !a.control.Paused && a.waiting.length > 0 {
			return a.blocked
		}
		return forever
	}
	if a.effective().Ceiling <= 0 {
		for a.waiting.length > 0 {
			a.give(slot{from: tick, until: forever})
		}
		return forever
	}
	for len(a.slots) > 0 && a.waiting.length > 0 {
		next := a.slots[0]
		if next.row != a.row {
			a.row, a.late = next.row, 0
		}
		from := next.from + max(0, a.late-next.slack)
		if a.waiting.length == a.waiting.waiting(Bulk) {
			from = max(from, next.patient)
		}
		if from > tick && from <= next.until {
			return from
		}
		a.slots = a.slots[1:]
		if next.until < tick || from > next.until {
			wake(a.lease)
			continue
		}
		a.late = max(a.late, tick-next.from)
		a.use.count(tick)
		if tick > a.cut {
			a.asked.count(tick)
		}
		a.give(next)
	}
	if a.waiting.length > 0 {
		wake(a.lease) // Somebody who came later may have had the slot that was leased for one who still waits.
	}
	return forever
}

func (a *account) give(s slot) {
	if t, ok := a.waiting.pop(); ok {
		t.value.granted <- s
	}
}

// putBack returns a slot that was granted and not used.
func (a *account) putBack(s slot) {
	if s.until != forever {
		a.slots = append([]slot{s}, a.slots...)
		a.use.uncount()
	}
}

// live drops slots that can't be used any more and returns how many are left.
func (a *account) live(tick time.Duration) int {
	for len(a.slots) > 0 && a.slots[0].until < tick {
		a.slots = a.slots[1:]
	}
	return len(a.slots)
}

// lowered notes the tick up to which calls were made at a rate that is known to be too high.
func (a *account) lowered(cut time.Duration) {
	if cut > a.cut+leap {
		a.asked, a.refused = meter{}, meter{}
	}
	a.cut = cut
}

// apply takes over a control entry. Slots that were leased under a higher ceiling are dropped.
func (a *account) apply(c Control, broken bool, blocked, tick time.Duration) {
	before := a.effective()
	a.control, a.mute, a.heard = c, broken, true
	a.block(blocked, tick)
	after := a.effective()
	if after.Ceiling > 0 && (before.Ceiling <= 0 || after.Ceiling < before.Ceiling) {
		a.slots = nil
	}
	if before.Ceiling != after.Ceiling {
		a.rate = min(max(a.rate, startAtLeast), after.Ceiling)
	}
}

// block lets nobody call before a tick, and tells those that can't wait for it.
func (a *account) block(until, tick time.Duration) {
	if until <= max(a.blocked, tick) {
		return
	}
	a.blocked = until
	a.slots = nil
	a.waiting.each(func(t *ticket[*waiter]) {
		if t.value.deadline < until && a.waiting.remove(t) {
			close(t.value.hopeless)
		}
	})
}

// unblock lets calls be made again that the controls forbade before the tick given: somebody reset them. A block of this replica's own that the
// others have not been told of yet ends later than that, and stays.
func (a *account) unblock(told time.Duration) {
	if a.blocked <= told+blockStep {
		a.blocked, a.free = 0, 0
	}
}

// earliest returns the first tick at which one more waiter can have its turn, if all goes well.
func (a *account) earliest(class Class, client string, tick time.Duration) time.Duration {
	if a.effective().Ceiling <= 0 {
		return a.blocked
	}
	ahead := a.waiting.before(class, client)
	if held := a.live(tick); ahead < held {
		return max(a.slots[ahead].from, a.blocked)
	}
	first := max(a.free, tick-a.effective().slack())
	return max(first+time.Duration(ahead-len(a.slots))*interval(a.effective().Ceiling), a.blocked)
}

// share returns how many calls per second this replica can expect: what it uses if the fleet's pace is used up, else all of it.
func (a *account) share(tick time.Duration) float64 {
	if a.free > tick || a.short > 0 && tick-a.short < window {
		return max(a.use.rate(tick), 1/fairWindow.Seconds())
	}
	return a.rate
}

// told returns the fleet's rate as this replica knows it, or 0 if it does not.
func (a *account) told() float64 {
	if !a.known {
		return 0
	}
	return a.rate
}

// ranShort notes that more slots were wanted than there are: the fleet's pace is used up.
func (a *account) ranShort(tick time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.short = tick
}

// fairWindow is how long a replica that has used nothing yet assumes to wait for one slot of a pace that others use up.
const fairWindow = 10 * time.Second

// ahead returns how many waiters stand before a new one of a class, with what bulk takes in between.
func (a *account) ahead(class Class) float64 {
	if class == Bulk {
		return float64(a.waiting.length)
	}
	n := float64(a.waiting.waiting(Ask))
	if class == Interactive {
		n += float64(a.waiting.waiting(Interactive))
	}
	if a.waiting.waiting(Bulk) > 0 {
		n /= 1 - a.waiting.share
	}
	return n
}

// delay estimates how long a new waiter of a class waits.
func (a *account) delay(class Class, tick time.Duration) time.Duration {
	if !a.heard || a.mute || a.control.Paused || a.away {
		return forever
	}
	blocked := max(0, a.blocked-tick)
	if a.effective().Ceiling <= 0 {
		return blocked
	}
	behind := a.ahead(class)
	if held := a.live(tick); float64(held) > behind {
		return max(blocked, a.slots[int(behind)].from-tick)
	}
	first := max(0, a.free-tick)
	seconds := max(0, behind-float64(len(a.slots))) / a.share(tick)
	return max(blocked, time.Duration(min(seconds*float64(time.Second), math.MaxInt64/4))+first)
}

// meter measures a rate over about the last second.
type meter struct {
	value float64
	at    time.Duration
}

// window is the time over which a meter forgets.
const window = time.Second

func (m *meter) rate(tick time.Duration) float64 {
	return m.value * math.Exp(-max(0, tick-m.at).Seconds()/window.Seconds())
}

func (m *meter) count(tick time.Duration) {
	m.value, m.at = m.rate(tick)+1/window.Seconds(), tick
}

func (m *meter) uncount() { m.value = max(0, m.value-1/window.Seconds()) }
