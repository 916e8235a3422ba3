package upstream

import (
	"context"
	"sync"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Hold bounds what one account may take of the slots that it shares with other accounts. A query that would be held for longer is put
// off: nothing was asked, its slot is free for another account, and it comes back later. The zero value puts nothing off: an account
// that is alone holds its queries until they can be asked.
type Hold struct {
	// AtMost is how long an attempt may wait until it can be made. Zero means for ever.
	AtMost time.Duration
	// Seats is how many queries of each lane may wait or be under way at once. A replay takes one of bulk.
	Seats map[query.Lane]int
	// Interval is the time between two calls at the account's pace: what was put off comes back one by one, this far apart.
	Interval time.Duration
	// Furthest is the longest time until a query comes back.
	Furthest time.Duration
}

// Times of queries that are put off.
const (
	// soonest is the shortest time until a query comes back: the broker keeps schedules by the second.
	soonest = time.Second
	// lastChance is how long before its deadline a query is not put off any more, because it could come back too late.
	lastChance = 3 * time.Second
)

// holder is what a client keeps for its Hold.
type holder struct {
	seats map[query.Lane]chan struct{}

	mu sync.Mutex
	// next is when the next query that is put off comes back.
	next time.Time
}

func newHolder(hold Hold) *holder {
	h := &holder{seats: make(map[query.Lane]chan struct{}, len(hold.Seats))}
	for lane, seats := range hold.Seats {
		h.seats[lane] = make(chan struct{}, seats)
	}
	return h
}

// putsOff tells whether a query may be put off. One whose asker waits for the reply holds no slot, and one that is near its deadline
// would come back too late: both wait where they are.
func (c *Client) putsOff(ctx context.Context, q *query.Query) bool {
	if c.Hold.AtMost <= 0 || q.Direct {
		return false
	}
	deadline, limited := ctx.Deadline()
	return !limited || time.Until(deadline) > c.Hold.AtMost+lastChance
}

// sit takes one of the account's seats until leave is called, or puts the query off if all are taken.
func (c *Client) sit(ctx context.Context, q *query.Query) (leave func(), err error) {
	seats := c.holder.seats[q.Way()]
	if seats == nil || !c.putsOff(ctx, q) {
		return func() {}, nil
	}
	select {
	case seats <- struct{}{}:
		return func() { <-seats }, nil
	default:
		return nil, c.putOff(fault.Throttled, fault.Paced)
	}
}

// putOff returns the fault of a query that comes back later. What is put off at once comes back at the account's pace, and not before
// the account can be up.
func (c *Client) putOff(kind fault.Kind, code fault.Code) error {
	off := fault.New(string(c.Name), kind, code)
	off.After = c.holder.comeBack(time.Now(), c.Breaker.UpIn(), c.Hold)
	return off
}

// comeBack takes the next place in the line of those that were put off, and tells how long it is until then. A line that has become too
// long goes on in its middle: what comes back too early is put off again.
func (h *holder) comeBack(now time.Time, up time.Duration, hold Hold) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := now.Add(max(hold.Furthest, soonest))
	first := now.Add(max(up, soonest))
	if first.After(last) {
		first = last
	}
	if h.next.After(last) {
		h.next = now.Add(last.Sub(now) / 2)
	}
	if h.next.Before(first) {
		h.next = first
	}
	at := h.next
	h.next = at.Add(hold.Interval)
	return at.Sub(now)
}
