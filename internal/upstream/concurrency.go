package upstream

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// ConcurrencyPolicy bounds how many calls to one account may be under way at once.
type ConcurrencyPolicy struct {
	// Floor is how many there may always be, at least one.
	Floor int
	// Ceiling is how many there may be at most.
	Ceiling int
	// BulkShare is the part of all places that bulk queries get while others wait too; 0 means a tenth.
	BulkShare float64
}

// firstLimit is how many calls there may be before anything is known about the upstream.
const firstLimit = 32

// Concurrency gives out places for calls to one account: as many as the upstream answers without letting them wait. A call holds its place
// from before it waits for the pace until it is done, because a permit must be used at once. It may be used by many goroutines.
//
// Places that nobody else waits for are taken at once. Else those go first whose asker waits for the reply, then interactive queries, then
// bulk ones, which get their share in any case. An eighth of the places is kept from bulk queries: with a backlog they would hold all of them while
// they wait for the pace, and whoever came later would have to wait for the slot of one of them.
type Concurrency struct {
	onLimit func(from, to int)

	mu    sync.Mutex
	limit limit
	line  line
	// taken is how many places are held; underWay is how many of their calls are on the wire.
	taken, underWay int
}

// NewConcurrency returns places for one account. onLimit is told each change of their number, one at a time, and first the number at the start, as
// a change from 0; it must return at once and may be nil. Drills, in which half as many places are given out for one window, are no changes.
func NewConcurrency(policy ConcurrencyPolicy, onLimit func(from, to int)) *Concurrency {
	if onLimit == nil {
		onLimit = func(int, int) {}
	}
	floor := float64(max(policy.Floor, 1))
	ceiling := max(float64(policy.Ceiling), floor)
	if policy.BulkShare <= 0 {
		policy.BulkShare = patientShare
	}
	c := &Concurrency{
		onLimit: onLimit, line: line{share: policy.BulkShare},
		limit: limit{floor: floor, ceiling: ceiling, value: min(max(firstLimit, floor), ceiling), round: 1},
	}
	onLimit(0, c.limit.allowed())
	return c
}

// Limit returns how many calls may be under way at once, but for drills.
func (c *Concurrency) Limit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.limit.value)
}

// UnderWay returns how many calls are on the wire now.
func (c *Concurrency) UnderWay() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.underWay
}

// place is the right to have one call under way. The zero value is none, and needs no leaving.
type place struct {
	of *Concurrency
	// calling tells that the call is on the wire, sent at sentAt. round is in which it counts, until it has counted.
	calling bool
	round   uint64
	sentAt  time.Time
}

// enter takes a place when there is one. It returns an Expired fault if the deadline of ctx passes before, and an Interrupted one if ctx is
// cancelled. Without a limit there is always a place.
func (c *Concurrency) enter(ctx context.Context, q *query.Query, p *place) error {
	if c == nil {
		return nil
	}
	if ctx.Err() != nil {
		return noPlace(ctx.Err())
	}
	c.mu.Lock()
	if c.taken < c.most(turnOf(q) == patient) { // Then nobody waits who could have the place.
		c.taken++
		c.mu.Unlock()
		p.of = c
		return nil
	}
	w := c.line.push(turnOf(q))
	c.mu.Unlock()
	select {
	case <-w.granted:
		p.of = c
		return nil
	case <-ctx.Done():
		c.giveUp(w)
		return noPlace(ctx.Err())
	}
}

// keptOf is the part of all places that bulk queries do not take: one in so many.
const keptOf = 8

// most returns how many places may be held for another one to be taken.
func (c *Concurrency) most(bulk bool) int {
	allowed := c.limit.allowed()
	if bulk {
		allowed -= allowed / keptOf
	}
	return allowed
}

// grant gives free places to those whose turn it is.
func (c *Concurrency) grant() {
	for c.taken < c.most(c.line.patientOnly()) {
		w, ok := c.line.pop()
		if !ok {
			return
		}
		c.taken++
		close(w.granted)
	}
}

// giveUp ends a wait. A place that was granted in the meantime goes to somebody else.
func (c *Concurrency) giveUp(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.line.remove(w) {
		c.taken--
		c.grant()
	}
}

// noPlace returns the fault of a wait whose context ended.
func noPlace(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Because("wait for a place", fault.Expired, fault.DeadlinePassed, err)
	}
	return fault.Because("wait for a place", fault.Interrupted, fault.Stopped, err)
}

// call notes that the place's call goes out now.
func (p *place) call() {
	if p.of == nil {
		return
	}
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.underWay++
	p.calling, p.sentAt, p.round = true, time.Now(), p.of.limit.send(p.of.underWay)
}

// answered notes how the place's call ended.
func (p *place) answered(err error) {
	if p.of == nil {
		return
	}
	now := time.Now()
	p.of.mu.Lock()
	defer p.of.mu.Unlock()
	p.of.learn(now, p, outcomeOf(err))
}

func (c *Concurrency) learn(now time.Time, p *place, how outcome) {
	from := int(c.limit.value)
	c.limit.learn(now, p.round, now.Sub(p.sentAt), how)
	p.round = 0
	if to := int(c.limit.value); to != from {
		c.onLimit(from, to)
	}
	c.grant()
}

// leave gives the place back. It may be called twice.
func (p *place) leave() {
	c := p.of
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.calling {
		c.limit.learn(time.Now(), p.round, 0, silent) // It counts as nothing if it did not come to its end.
		c.underWay--
	}
	c.taken--
	c.grant()
	*p = place{}
}

// outcomeOf returns what the outcome of a call says about the number of calls that the upstream can take. That it was not reached, or that it
// refuses our credentials, is no sign of too many.
func outcomeOf(err error) outcome {
	if upstreamWorks(err) {
		return inTime
	}
	failure := fault.From("call", err)
	switch {
	case failure.Kind == fault.Throttled:
		return overload
	case failure.Kind != fault.Unavailable:
		return silent
	case failure.Status >= http.StatusInternalServerError:
		return overload
	case failure.Code == fault.Timeout || failure.Code == fault.ConnectionLost || failure.Code == fault.UpstreamBusy:
		return overload
	default:
		return silent
	}
}
