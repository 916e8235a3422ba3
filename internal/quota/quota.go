// Package quota keeps the pace of calls to the upstreams. It gives out permits and must never make a call itself.
package quota

import (
	"context"
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

// Local keeps the pace of one process. Replicas don't know of each other: their rates add up.
type Local struct {
	limits map[query.Provider]*rate.Limiter
}

// NewLocal returns a pace with the given rates. A provider without one is not limited.
func NewLocal(rates map[query.Provider]Rate) *Local {
	limits := make(map[query.Provider]*rate.Limiter, len(rates))
	for provider, r := range rates {
		if r.PerSecond > 0 {
			limits[provider] = rate.NewLimiter(rate.Limit(r.PerSecond), max(r.Burst, 1))
		}
	}
	return &Local{limits: limits}
}

// Wait returns when the next call for q may be made. It returns an Expired fault at once if that would be after the deadline of ctx,
// so that whoever asked hears it while it still matters, and an Interrupted one if ctx is cancelled.
func (l *Local) Wait(ctx context.Context, q *query.Query) error {
	limiter := l.limits[q.Provider]
	if limiter == nil {
		return stopped(ctx.Err())
	}
	permit := limiter.Reserve()
	delay := permit.Delay()
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < delay {
		permit.Cancel()
		return fault.New("wait for pace", fault.Expired, fault.DeadlinePassed)
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		permit.Cancel()
		return stopped(ctx.Err())
	}
}

// stopped returns the fault of a wait that was cut short, nil for no error.
func stopped(err error) error {
	if err == nil {
		return nil
	}
	return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, err)
}
