// Package quota keeps the pace of calls to the upstreams. It gives out permits and must never make a call itself.
package quota

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Rate is the pace of one provider.
type Rate struct {
	// PerSecond is how many calls may be made per second; 0 or less means as many as there are slots for.
	PerSecond float64
	// Burst is how many calls may be made at once.
	Burst int
}

// Local keeps the pace of one process. Replicas don't know of each other: their rates add up. It may be used by many goroutines.
type Local struct {
	limits map[query.Provider]*limit
}

// limit is the pace of one provider. Its lock makes looking at a permit and putting it back one step: whoever came in between would have
// queued up behind a permit that nobody uses.
type limit struct {
	mu      sync.Mutex
	limiter *rate.Limiter
}

// NewLocal returns a pace with the given rates. A provider without one is not limited.
func NewLocal(rates map[query.Provider]Rate) *Local {
	limits := make(map[query.Provider]*limit, len(rates))
	for provider, r := range rates {
		if r.PerSecond > 0 {
			limits[provider] = &limit{limiter: rate.NewLimiter(rate.Limit(r.PerSecond), max(r.Burst, 1))}
		}
	}
	return &Local{limits: limits}
}

// Wait returns when the next call for q may be made. It returns an Expired fault at once if that would be after the deadline of ctx,
// so that whoever asked hears it while it still matters, and an Interrupted one if ctx is cancelled. Neither uses up a permit, unless
// others queued up behind one that is cancelled: they keep their places.
func (l *Local) Wait(ctx context.Context, q *query.Query) error {
	if err := ctx.Err(); err != nil {
		return stopped(err)
	}
	limit := l.limits[q.Provider]
	if limit == nil {
		return nil
	}
	permit, delay, err := limit.reserve(ctx)
	if err != nil || delay == 0 {
		return err
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		limit.giveBack(permit)
		return stopped(ctx.Err())
	}
}

// reserve takes the next permit and tells how long it is until then.
func (l *limit) reserve(ctx context.Context) (*rate.Reservation, time.Duration, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	permit := l.limiter.ReserveN(now, 1)
	delay := permit.DelayFrom(now)
	if deadline, ok := ctx.Deadline(); ok && deadline.Sub(now) < delay {
		permit.CancelAt(now)
		return nil, 0, fault.New("wait for pace", fault.Expired, fault.DeadlinePassed)
	}
	return permit, delay, nil
}

func (l *limit) giveBack(permit *rate.Reservation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	permit.Cancel()
}

// stopped returns the fault of a wait whose context ended.
func stopped(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fault.Because("wait for pace", fault.Expired, fault.DeadlinePassed, err)
	}
	return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, err)
}
