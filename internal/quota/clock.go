package quota

import (
	"math"
	"sync"
	"time"
)

// Reading is one look at a replica's own clocks.
type Reading struct {
	// Ticks is a clock that never jumps, counted from any moment.
	Ticks time.Duration
	// Wall is the time of day, which may be wrong and may jump.
	Wall time.Time
}

// systemClock reads the clocks of the machine.
func systemClock() func() Reading {
	start := time.Now()
	return func() Reading {
		now := time.Now()
		return Reading{Ticks: now.Sub(start), Wall: now}
	}
}

// Bounds of what clocks do.
const (
	// drift is how fast two clocks may run apart: what time daemons may slew a clock by at most.
	drift = 500e-6
	// timerLateness is how late a timer may fire before its slot is given up, if the burst leaves no more.
	timerLateness = 2 * time.Millisecond
	// leap is a difference of the two local clocks that only a set clock or a suspended machine explains.
	leap = 100 * time.Millisecond
	// refresh is how old the knowledge of the server's time may get.
	refresh = 2 * time.Second
)

// clock knows the server's time as a span, learned from the timestamps of entries. It may be used by many goroutines.
type clock struct {
	read func() Reading

	mu sync.Mutex
	// early and late bound the server's time at tick zero, as known at tick at.
	early, late time.Time
	known       bool
	at          time.Duration
	// wrote is this replica's last confirmed write: it was made between sent and confirmed.
	wrote           uint64
	sent, confirmed time.Duration
	// apart is what the two local clocks differed by at the last look.
	apart  time.Duration
	looked bool
}

// span is the server's time at one tick.
type span struct {
	early, late time.Time
	// zero is early at tick zero, for converting times of the server into ticks.
	zero time.Time
}

// width returns how much is not known.
func (s span) width() time.Duration { return s.late.Sub(s.early) }

// tick returns the first tick at which the server's time surely has come to t.
func (s span) tick(t time.Time) time.Duration { return t.Sub(s.zero) }

// now returns the present tick, and whether the local clocks leapt apart since the last call. After a leap nothing is known any more.
func (c *clock) now() (time.Duration, bool) {
	r := c.read()
	c.mu.Lock()
	defer c.mu.Unlock()
	apart := time.Duration(r.Wall.UnixNano()) - r.Ticks
	leapt := c.looked && (apart-c.apart).Abs() > leap
	c.apart, c.looked = apart, true
	if leapt {
		c.known, c.wrote = false, 0
	}
	return r.Ticks, leapt
}

// span returns what is known of the server's time at a tick, or false if nothing is.
func (c *clock) span(tick time.Duration) (span, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known {
		return span{}, false
	}
	early, late := c.bounds(tick)
	return span{early: early.Add(tick), late: late.Add(tick), zero: early}, true
}

// bounds returns the server's time at tick zero as far as it is known at a tick.
func (c *clock) bounds(tick time.Duration) (early, late time.Time) {
	wider := drifted((tick - c.at).Abs())
	return c.early.Add(-wider), c.late.Add(wider)
}

// drifted returns how far two clocks may run apart in a time, rounded up.
func drifted(d time.Duration) time.Duration { return time.Duration(math.Ceil(float64(d) * drift)) }

// noteWrite keeps a write of this replica that the server confirmed.
func (c *clock) noteWrite(revision uint64, sent, confirmed time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if revision > c.wrote {
		c.wrote, c.sent, c.confirmed = revision, sent, confirmed
	}
}

// noteRead learns from an entry that was read. It was written before it was read, and if it is not older than this replica's own last write, after
// that was sent. What contradicts it was known of another clock, such as that of a former leader, and is forgotten.
func (c *clock) noteRead(e Entry, received time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	bounded := c.wrote != 0 && e.Revision >= c.wrote
	early, late := e.Created.Add(-received), e.Created.Add(-c.sent+drifted(received-c.sent))
	if bounded && e.Revision == c.wrote {
		early = e.Created.Add(-c.confirmed - drifted(received-c.confirmed))
	}
	if c.known {
		before, after := c.bounds(received)
		if before.After(early) {
			early = before
		}
		if !bounded || after.Before(late) {
			late = after
		}
	}
	if !c.known && !bounded {
		return
	}
	c.early, c.late, c.at, c.known = early, late, received, true
	if early.After(late) {
		c.known, c.wrote = false, 0
	}
}
