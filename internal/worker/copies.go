package worker

import (
	"context"
	"sync"

	"discountquery.example/worker/internal/fault"
)

// copies lets one of several copies of a query in at a time: the others find its result then, instead of asking too.
type copies struct {
	mu sync.Mutex
	// inside holds, for each key that somebody is in with, what is closed when that one leaves.
	inside map[string]chan struct{}
}

// enter waits until no other copy is in. It fails only when ctx ends, or when an asker waits no longer: then the other copy goes on, and its
// result is there to be looked up.
func (c *copies) enter(ctx context.Context, work *work) error {
	if work.direct {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, work.until)
		defer stop()
	}
	for {
		left, free := c.tryEnter(work.query.Key())
		if free {
			work.alone = true
			return nil
		}
		select {
		case <-left:
		case <-ctx.Done():
			return fault.Because("wait for copy", fault.Interrupted, fault.Stopped, ctx.Err())
		}
	}
}

func (c *copies) tryEnter(key string) (left chan struct{}, free bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if left, taken := c.inside[key]; taken {
		return left, false
	}
	if c.inside == nil {
		c.inside = map[string]chan struct{}{}
	}
	c.inside[key] = make(chan struct{})
	return nil, true
}

// leave lets the next copy in, if this one was in.
func (c *copies) leave(work *work) {
	if !work.alone {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	key := work.query.Key()
	close(c.inside[key])
	delete(c.inside, key)
}
