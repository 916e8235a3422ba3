package deadletter

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"discountquery.example/worker/internal/query"
)

// Resumption is what changes when a batch goes on.
type Resumption struct {
	// Rate is how many letters are published in a second, above 0 and at most 10000; nil leaves it as it was.
	Rate *float64
	// CanaryWait is how long the outcomes of the canaries are waited for; nil leaves it as it was.
	CanaryWait *time.Duration
}

// Resume writes down that a batch goes on, changes it and works on it as Run does. A batch that has ended is returned as it is.
func (l *Letters) Resume(ctx context.Context, id string, change Resumption, tell func(Progress)) (Batch, error) {
	if change.Rate != nil && !mayRate(*change.Rate) {
		return Batch{}, fmt.Errorf("the rate must be above 0 and at most %d", maxRate)
	}
	r, err := l.ledger.read(ctx, id)
	if err != nil {
		return Batch{}, err
	}
	if r.State.Ended() {
		return r.Batch, nil
	}
	pace := r.Rate
	if change.Rate != nil {
		pace = *change.Rate
	}
	if err := l.audit(ctx, query.AuditReplayResume, id, fmt.Sprintf("resumed after %d published, at %g/s", r.Published, pace)); err != nil {
		return Batch{}, err
	}
	return l.work(ctx, id, change, tell)
}

// limiterOf returns what keeps a rate. It makes up for a short time that was lost.
func limiterOf(pace float64) *rate.Limiter {
	return rate.NewLimiter(rate.Limit(pace), max(1, int(pace*catchUp.Seconds())))
}

// changePace gives the batch the rate that was asked for, once all letters are behind that earlier runs have claimed. How many of those are in
// doubt follows from the rate at which they were claimed, so the record must not say another one before, nor the old one after.
func (r *run) changePace(ctx context.Context) error {
	if r.wanted == nil || len(r.own) > 0 && r.Cursor < r.own[len(r.own)-1] {
		return nil
	}
	r.Rate, r.wanted = *r.wanted, nil
	r.limiter = limiterOf(r.Rate)
	return r.save(ctx)
}
