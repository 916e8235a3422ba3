// Package worker holds the way of one query, from its delivery to its settlement. It must never know the broker's client, HTTP or
// the log: what it needs of them are the interfaces below.
package worker

import (
	"context"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/crashpoint"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/mutant"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/trace"
)

// Caller asks an upstream, at the pace of the fleet.
type Caller interface {
	// Call returns the answer, every attempt it made, and a *fault.Error if there is no answer. details is nil for providers
	// that need no card data.
	Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error)
}

// Results stores results and knows which are stored.
type Results interface {
	// StoreResult stores a result under the guard and returns when the broker has confirmed it. A Duplicate fault means that the
	// query has one already, and one with the code TooLarge that no result of that size can be stored. Any other error means that ctx ended.
	StoreResult(ctx context.Context, q *query.Query, status query.Status, event []byte) error
	// Result returns the query's result, nil if it has none.
	Result(ctx context.Context, q *query.Query) ([]byte, error)
}

// Aside stores what does not end in a result yet, or not only. Its writes fail as StoreResult does, but for the Duplicate.
type Aside interface {
	// StoreDead stores a dead letter. Storing it a second time is no error.
	StoreDead(ctx context.Context, q *query.Query, reason query.Reason, event []byte) error
	// DeadLetter returns the query's dead letter, nil if it has none.
	DeadLetter(ctx context.Context, q *query.Query) ([]byte, error)
	// ScheduleRetry stores a retry that comes due at the given time.
	ScheduleRetry(ctx context.Context, q *query.Query, at time.Time, retry []byte) error
}

// Observer is told the outcome of each delivery.
type Observer interface {
	Observe(outcome decide.Outcome)
}

// Options are the parts of a Worker. All of them are needed but Tracer.
type Options struct {
	Decoder  *query.Decoder
	Unsealer *card.Unsealer
	Policies map[query.Lane]decide.Policy
	Caller   Caller
	Results  Results
	Aside    Aside
	Observer Observer
	// Tracer begins the span of each delivery. Nil records nothing.
	Tracer *trace.Tracer
	// Build names the worker's version in dead letters.
	Build string
}

// Worker handles queries. It may be used by many goroutines.
type Worker struct {
	Options

	copies copies
	// lastChance is taken by the query on its last chance that is asked here: there is one at a time.
	lastChance atomic.Bool
}

// New returns a worker made of the given parts.
func New(options Options) *Worker { return &Worker{Options: options} }

// releaseDelay is how long a query that was interrupted rests before somebody takes it up again.
const releaseDelay = time.Second

// Handle takes one delivery from its bytes to its settlement. When it returns with Done, everything the query needed is stored and
// the message can be acked; otherwise nothing was lost and the message must be delivered again.
func (w *Worker) Handle(ctx context.Context, delivery query.Delivery) decide.Settlement {
	c := w.newCase(delivery)
	defer w.leave(c)
	ctx, err := w.read(ctx, c)
	if err == nil {
		err = w.ask(ctx, c)
	}
	verdict := decide.Settle(w.policy(c), c.query, c.facts(), err)
	verdict, stored := w.settle(ctx, c, verdict)
	w.observe(ctx, c, verdict, stored == nil)
	if stored != nil || mutant.NoAck && verdict.Action == decide.Retry {
		return decide.Settlement{After: releaseDelay}
	}
	return decide.Settlement{Done: true}
}

// Overdue tells whether the query should have had its result at the given time. One that can't be read has its lane's horizon.
func (w *Worker) Overdue(delivery query.Delivery, at time.Time) bool {
	c := w.newCase(delivery)
	if w.decode(c) != nil {
		c.query.Expires = time.Time{}
	}
	return !at.Before(w.policy(c).Limit(c.query, c.received))
}

// ask is the way to the answer of a query that was read: look, decide, unseal, call. The call keeps the fleet's pace at each attempt.
func (w *Worker) ask(ctx context.Context, c *work) (err error) {
	defer c.recoverPanic(&err)
	if err := w.copies.enter(ctx, c); err != nil {
		return err
	}
	if err := w.look(ctx, c); err != nil {
		return err
	}
	facts := c.facts()
	facts.Crowded = w.crowded(c, facts)
	if err := decide.Plan(w.policy(c), c.query, facts); err != nil {
		return err
	}
	if err := w.unseal(c); err != nil {
		return err
	}
	crashpoint.Here(crashpoint.AfterDecode)
	ctx, cancel := context.WithDeadline(ctx, w.policy(c).Limit(c.query, c.received))
	defer cancel()
	answer, attempts, err := w.Caller.Call(ctx, c.query, c.card)
	c.attempts = keepAttempts(append(c.attempts, attempts...))
	c.called(attempts)
	c.answer = answer
	return w.outOfTime(c, err)
}

// crowded tells whether another query that the next crash would quarantine is asked here. If there is none, this one keeps others out until it
// leaves.
func (w *Worker) crowded(c *work, facts decide.Facts) bool {
	if !decide.LastChance(w.policy(c), facts) {
		return false
	}
	c.onLastChance = w.lastChance.CompareAndSwap(false, true)
	return !c.onLastChance
}

// leave lets others in that waited for this delivery to end.
func (w *Worker) leave(c *work) {
	w.copies.leave(c)
	if c.onLastChance {
		w.lastChance.Store(false)
	}
}

// outOfTime tells a query that died while it waited, for the pace or for an upstream that is down, by which limit it died: its own
// deadline, which makes it expired, or its lane's horizon, which makes it exhausted.
func (w *Worker) outOfTime(c *work, err error) error {
	kind := fault.KindOf(err)
	waitedTooLong := kind == fault.Expired || kind == fault.Interrupted && !time.Now().Before(w.policy(c).Limit(c.query, c.received))
	switch {
	case err == nil || !waitedTooLong:
		return err
	case c.query.Expires.IsZero():
		return fault.Because("wait", fault.Unavailable, fault.Horizon, err)
	default:
		return fault.Because("wait", fault.Expired, fault.DeadlinePassed, err)
	}
}

// look finds out whether the query has its result, before a call is spent: it may have been published twice, or its ack got lost.
func (w *Worker) look(ctx context.Context, c *work) error {
	result, err := w.Results.Result(ctx, c.query)
	if err != nil {
		return fault.Because("look for result", fault.Interrupted, fault.Stopped, err)
	}
	if result == nil {
		return nil
	}
	c.result = result
	return fault.New("look for result", fault.Duplicate, fault.AlreadyAnswered)
}

// unseal opens the query's card data, if its provider needs any.
func (w *Worker) unseal(c *work) error {
	if c.query.UnionPay == nil {
		return nil
	}
	binding := card.Binding{ID: c.query.ID, Source: c.query.Source, Type: query.TypeRequested}
	details, err := c.keys.Unseal(c.query.UnionPay.Data.Reveal(), binding)
	if err != nil {
		return err
	}
	fingerprint, keyID := c.keys.Ring.Fingerprint(details.Number)
	c.card = details
	c.cardRef = &query.CardRef{Fingerprint: fingerprint, KeyID: keyID, LastFour: details.Number.LastFour()}
	return nil
}

// policy returns the policy of the case's lane. A query whose lane could not be read gets the zero policy: it is malformed.
func (w *Worker) policy(c *work) decide.Policy {
	policy := w.Policies[c.query.Way()]
	policy.OneRound = c.direct
	return policy
}

// work is one delivery on its way: what was read of it and what happened to it so far.
type work struct {
	delivery query.Delivery
	// keys are those that there were when the delivery came: it is finished with them, whatever they are replaced by meanwhile.
	keys *card.Unsealer
	// original is the message as its publisher wrote it, also if it came as a scheduled retry.
	original query.Original
	// sealed is the original of a scheduled retry whose key is gone; "" if it could be opened.
	sealed   string
	origin   query.Origin
	query    *query.Query
	card     *card.Details
	cardRef  *query.CardRef
	answer   query.Answer
	attempts []query.Attempt
	received time.Time
	started  time.Time
	rounds   int
	crashes  int
	replay   *query.Replay
	// parent is the trace context that the query's rounds go on with, and span the span of this delivery.
	parent  string
	span    trace.Span
	calling time.Duration
	waited  time.Duration
	// result is the event that is stored for the query.
	result []byte
	stack  string
	jitter float64
	// alone tells that no other copy of the query is handled in this process.
	alone bool
	// onLastChance tells that it is the one query on its last chance that is asked in this process.
	onLastChance bool
	// scheduled tells that the message is a retry that came due, direct that its asker waits for the reply until a time.
	scheduled bool
	direct    bool
	until     time.Time
	// nameless tells that the message's identity could not be read, so that no result can be addressed to whoever asked.
	nameless bool
}

func (w *Worker) newCase(delivery query.Delivery) *work {
	return &work{
		keys:     w.Unsealer.Snapshot(),
		delivery: delivery, query: &query.Query{}, received: delivery.Stored, started: time.Now(),
		jitter: rand.Float64(), //nolint:gosec // It spreads retries; nobody gains by guessing it.
	}
}

func (c *work) facts() decide.Facts {
	return decide.Facts{
		Now: time.Now(), Received: c.received, Deliveries: c.delivery.Number,
		Crashes: c.crashes, Attempts: c.attempts, Rounds: c.rounds, Jitter: c.jitter,
	}
}

// Limits of the attempts that are kept. A bulk query can be tried hundreds of times in a day, and each round carries the history along.
const (
	firstAttempts = 10
	lastAttempts  = 40
)

// keepAttempts keeps the first attempts and the last ones, and drops what lies between.
func keepAttempts(attempts []query.Attempt) []query.Attempt {
	if len(attempts) <= firstAttempts+lastAttempts {
		return attempts
	}
	return slices.Concat(attempts[:firstAttempts], attempts[len(attempts)-lastAttempts:])
}

func (c *work) called(attempts []query.Attempt) {
	for _, attempt := range attempts {
		c.calling += time.Duration(attempt.Milliseconds) * time.Millisecond
		c.waited += time.Duration(attempt.WaitedMS) * time.Millisecond
	}
}

// recoverPanic turns a panic into a fault and an attempt, so that a query that makes the worker panic is set aside after a few
// rounds. The panic's value is dropped: it could hold card data.
func (c *work) recoverPanic(err *error) {
	if recover() == nil {
		return
	}
	c.stack = string(debug.Stack())
	c.attempts = append(c.attempts, query.Attempt{At: time.Now(), Kind: fault.Unknown.String(), Code: fault.Panicked})
	*err = fault.New("handle query", fault.Unknown, fault.Panicked)
}

func (c *work) outcome(verdict decide.Verdict, settled bool) decide.Outcome {
	outcome := decide.Outcome{
		Query: c.query, Verdict: verdict, Received: c.received, Started: c.started, Finished: time.Now(),
		Attempts: c.attempts, Deliveries: c.delivery.Number, Waited: c.waited, Settled: settled, Stack: c.stack,
	}
	if verdict.Action == decide.Complete {
		outcome.Answer = &c.answer
	}
	if mutant.LogBody {
		outcome.Stack = string(c.original.Data)
	}
	return outcome
}
