package answers

import (
	"context"
	"errors"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// flight is one call under way: the leader makes it, others wait for it.
type flight struct {
	rank int
	// landed is closed when the leader is done. What follows is written before that, and read after it.
	landed chan struct{}
	// answer is what all may have, failure what all have to put up with. Without either, somebody else has to lead.
	answer  *query.Answer
	failure error
	// asked tells that the answer is the upstream's to this very call, and not one that was found.
	asked bool
}

// enter returns an answer of this process that fits, or else the flight for the question and whether the caller leads it.
//
// Nobody follows a leader that comes after them in the line for the upstream's pace: they ask themselves, and who comes later follows them.
func (c *Cache) enter(key string, q *query.Query) (known *query.Answer, f *flight, leads bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answer, ok := c.recent.get(key); ok && c.fits(answer, *q.MaxAge) {
		return &answer, nil, false
	}
	if f := c.flights[key]; f != nil && f.rank >= rank(q) {
		return nil, f, false
	}
	f = &flight{rank: rank(q), landed: make(chan struct{})}
	c.flights[key] = f
	return nil, f, true
}

// land keeps the flight's answer, if it has one, and lets those who follow go on. Both at once: nobody finds neither.
func (c *Cache) land(key string, f *flight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flights[key] == f {
		delete(c.flights, key)
	}
	if f.answer != nil {
		c.recent.put(key, *f.answer)
	}
	close(f.landed)
}

// remember keeps an answer that was got without a flight.
func (c *Cache) remember(key string, answer query.Answer) {
	if !keepable(answer.Outcome) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recent.put(key, answer)
}

// wait returns when the flight has landed, or with a fault when ctx ends first.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.landed:
		return nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.Because("wait for answer", fault.Expired, fault.DeadlinePassed, ctx.Err())
	}
	return fault.Because("wait for answer", fault.Interrupted, fault.Stopped, ctx.Err())
}

// rank orders queries as the pace does: those whose asker waits for the reply, then the interactive ones, then bulk and what operators replay.
func rank(q *query.Query) int {
	switch {
	case q.Direct:
		return 2
	case q.Way() == query.Interactive:
		return 1
	default:
		return 0
	}
}

// ofUpstream tells whether a failure is the upstream's, so that asking once more on behalf of another query would meet it again. All others
// are the query's own: the sameness of questions leaves out the cardholder's token and mobile, for which a query can be refused.
func ofUpstream(kind fault.Kind) bool {
	switch kind {
	case fault.Throttled, fault.Unavailable, fault.Unauthorized:
		return true
	case fault.Unknown, fault.Malformed, fault.Rejected, fault.Expired, fault.Interrupted, fault.Duplicate:
	}
	return false
}
