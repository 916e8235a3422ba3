package deadletter

import (
	"context"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// lookEvery is the time between two looks at the canaries.
const lookEvery = 200 * time.Millisecond

// proveCanaries waits for the canaries once all of them are published.
func (r *run) proveCanaries(ctx context.Context) error {
	if r.Canary == 0 || r.Proven || len(r.Canaries) < r.Canary {
		return nil
	}
	return r.awaitCanaries(ctx)
}

// awaitCanaries waits for the outcomes of the letters that went first. More than half of them dead again stop the batch; without an
// outcome in time it is paused. It waits no longer than the answer is open.
func (r *run) awaitCanaries(ctx context.Context) error {
	if err := r.save(ctx); err != nil {
		return err
	}
	until := time.Now().Add(time.Duration(r.CanaryWait) * time.Second)
	for {
		if err := r.lookAtCanaries(ctx); err != nil {
			return err
		}
		lived, died := r.outcomes()
		switch {
		case 2*died > len(r.Canaries):
			r.State = Stopped
			return errStopped
		case 2*(len(r.Canaries)-lived) <= len(r.Canaries):
			r.Proven = true
			return r.save(ctx)
		case time.Now().After(until):
			r.State = Paused
			return errStopped
		}
		r.report(true)
		if err := rest(ctx, lookEvery); err != nil {
			return fault.Because("wait for canaries", fault.Interrupted, fault.Stopped, err)
		}
		if time.Since(r.saved) >= saveAfter {
			if err := r.save(ctx); err != nil {
				return err
			}
		}
	}
}

func (r *run) outcomes() (lived, died int) {
	for _, c := range r.Canaries {
		switch c.Outcome {
		case query.Completed:
			lived++
		case query.Failed:
			died++
		}
	}
	return lived, died
}

// lookAtCanaries looks for outcomes that were not known.
func (r *run) lookAtCanaries(ctx context.Context) error {
	for i := range r.Canaries {
		if c := &r.Canaries[i]; c.Outcome == "" {
			outcome, err := r.outcome(ctx, *c)
			if err != nil {
				return err
			}
			c.Outcome = outcome
		}
	}
	return nil
}

// outcome returns what became of a replay, nothing while that is open. A query without an identity has no result, only another letter.
func (r *run) outcome(ctx context.Context, c Canary) (query.Status, error) {
	message, err := r.desk.last(ctx, r.desk.results, r.desk.Subjects.ResultGuard(c.Key))
	if err != nil {
		return "", err
	}
	if message != nil {
		completed, revision := readResult(message.Data)
		switch {
		case completed:
			return query.Completed, nil
		case revision > c.Revision:
			return query.Failed, nil
		}
	}
	letter, err := r.desk.lastOf(ctx, c.Key)
	if err == nil && letter != nil && letter.Sequence > c.Sequence {
		return query.Failed, nil
	}
	return "", err
}
