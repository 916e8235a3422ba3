package deadletter

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"discountquery.example/worker/internal/query"
)

// State says how far a batch is.
type State string

// The states of a batch.
const (
	// Running is a batch at work, or one whose process died: it can be resumed.
	Running State = "running"
	// Paused is a batch that was interrupted, or whose canaries had no outcome in time: it can be resumed.
	Paused State = "paused"
	// Stopped is a batch whose canaries died again. It can be resumed, with new canaries, once the cause is repaired.
	Stopped State = "stopped"
	// Done and Cancelled are ends.
	Done      State = "done"
	Cancelled State = "cancelled"
)

// Ended tells that nothing more is published.
func (s State) Ended() bool { return s == Done || s == Cancelled }

// Batch is one replay: its selection, what it may do, and how far it is.
type Batch struct {
	ID     string `json:"id"`
	Filter Filter `json:"filter"`
	// Upto is the last sequence that the batch looks at: the letters that its own replays leave are never part of it.
	Upto uint64 `json:"upto"`
	// Total is how many letters were picked when the batch was planned.
	Total int `json:"total"`
	// Rate is how many letters are published in a second, at most.
	Rate float64 `json:"rate"`
	// Canary is how many letters go first. If more than half of them die again, the batch stops; 0 is none.
	Canary int `json:"canary"`
	// CanaryWait is how long their outcomes are waited for, in seconds.
	CanaryWait int    `json:"canaryWaitSeconds"`
	Actor      string `json:"actor"`
	Why        string `json:"why,omitzero"`
	State      State  `json:"state"`
	// Cursor is the last sequence that is dealt with.
	Cursor uint64 `json:"cursor"`
	// Seen counts the letters dealt with, Published those of them that were published.
	Seen      int `json:"seen"`
	Published int `json:"published"`
	// LeftOut counts the letters that were not published, by their standing.
	LeftOut map[Standing]int `json:"leftOut,omitzero"`
	// Canaries are the letters that went first.
	Canaries []Canary `json:"canaries,omitzero"`
	// Proven tells that the canaries lived.
	Proven   bool      `json:"proven,omitzero"`
	Started  time.Time `json:"started"`
	Updated  time.Time `json:"updated"`
	Finished time.Time `json:"finished,omitzero"`
	// Run names the process at work, so that one that was overtaken notices.
	Run string `json:"run,omitzero"`
	// Doubts are the letters that were claimed last when the batch was cancelled, and may not have been published. Looked is the ledger's last
	// revision then: what a process has claimed later may not have been published either. Both are gone once that process has said its last word.
	Doubts []uint64 `json:"doubts,omitzero"`
	Looked uint64   `json:"looked,omitzero"`
	// Payload replaces that of the one letter of a batch whose query was edited, sealed.
	Payload string `json:"payload,omitzero"`
}

// Canary is a letter that went first.
type Canary struct {
	Sequence uint64 `json:"sequence"`
	Key      string `json:"key"`
	Revision int    `json:"revision"`
	// Outcome is empty until it is known, then Completed or Failed.
	Outcome query.Status `json:"outcome,omitzero"`
}

// Limits of a batch.
const (
	maxRate   = 10000
	maxCanary = 100
)

// Request is what an operator wants replayed, after having seen the plan.
type Request struct {
	Plan Plan
	// Rate is how many letters are published in a second, above 0 and at most 10000.
	Rate float64
	// Canary is how many letters go first, at most 100; 0 is none. CanaryWait is how long their outcomes are waited for.
	Canary     int
	CanaryWait time.Duration
	// Edit replaces the query of the one letter that was picked; it may be nil.
	Edit *Edit
}

// mayRate tells whether a batch can have a rate. NaN is none.
func mayRate(rate float64) bool { return rate > 0 && rate <= maxRate }

// Start writes down and stores a new batch. Run does the work.
func (l *Letters) Start(ctx context.Context, request Request) (Batch, error) {
	if !mayRate(request.Rate) || request.Canary < 0 || request.Canary > maxCanary {
		return Batch{}, fmt.Errorf("the rate must be above 0 and at most %d, the canary at most %d", maxRate, maxCanary)
	}
	now := time.Now().UTC()
	r := &record{Batch: Batch{
		ID: now.Format("20060102-150405-") + strings.ToLower(rand.Text()[:6]), Filter: request.Plan.Filter, Upto: request.Plan.Upto,
		Total: request.Plan.Letters, Rate: request.Rate, Canary: request.Canary, CanaryWait: int(request.CanaryWait.Seconds()),
		Actor: l.Actor, Why: l.Why, State: Paused, Started: now,
	}}
	action, what := query.AuditDeadReplay, fmt.Sprintf("%d letters at %g/s", request.Plan.Ready, request.Rate)
	if request.Edit != nil {
		if request.Plan.Filter.Sequence != request.Edit.sequence {
			return Batch{}, errors.New("an edited query goes with its own letter alone")
		}
		r.Payload, action, what = request.Edit.payload, query.AuditDeadEdit, fmt.Sprintf("letter %d edited", request.Edit.sequence)
	}
	if err := l.audit(ctx, action, r.ID, what); err != nil {
		return Batch{}, err
	}
	if err := l.tidy(ctx, tidyAtOnce+request.Plan.Ready); err != nil {
		return Batch{}, fmt.Errorf("tidy up the ledger of replays: %w", err)
	}
	err := l.ledger.write(ctx, r)
	return r.Batch, err
}

// Batch returns the record of a batch.
func (l *Letters) Batch(ctx context.Context, id string) (Batch, error) {
	r, err := l.ledger.read(ctx, id)
	if err != nil {
		return Batch{}, err
	}
	return r.Batch, nil
}

// Cancel ends a batch early. The process at work notices at its next save, a second later at most; what it has published goes its way, and
// another batch may have the rest.
func (l *Letters) Cancel(ctx context.Context, id string) (Batch, error) {
	r, err := l.ledger.read(ctx, id)
	if err != nil {
		return Batch{}, err
	}
	if r.State.Ended() {
		return r.Batch, fmt.Errorf("replay %s has ended: it is %s", id, r.State)
	}
	if err := l.audit(ctx, query.AuditReplayCancel, id, fmt.Sprintf("cancelled after %d published", r.Published)); err != nil {
		return Batch{}, err
	}
	for {
		if err := l.doubted(ctx, r); err != nil {
			return r.Batch, err
		}
		r.State, r.Finished = Cancelled, time.Now().UTC()
		err := l.ledger.write(ctx, r)
		if !errors.Is(err, errTaken) {
			return r.Batch, err
		}
		if r, err = l.ledger.read(ctx, id); err != nil || r.State.Ended() {
			return l.Batch(ctx, id)
		}
	}
}
