// Package decide says what happens to a query: whether it is asked, and what becomes of it afterwards. Its functions are pure:
// no I/O, no clock, no context and no randomness, so that every path can be tested and model-checked.
package decide

import (
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Policy holds the rules of one lane.
type Policy struct {
	// Horizon is how long a query without a deadline of its own is tried, counted from when the broker stored it.
	Horizon time.Duration
	// QuarantineAfter is how many holders of a message may crash, or how often its handling may panic, before it is set aside.
	QuarantineAfter int
	// FirstRetry is the delay of the first scheduled retry; each further one doubles it up to MaxRetry.
	FirstRetry time.Duration
	MaxRetry   time.Duration
	// OneRound ends a query that its first round did not answer: whoever asked waits for the reply and takes no later one.
	OneRound bool
}

// Facts are what is known about a query when a decision is due.
type Facts struct {
	// Now is the time of the decision.
	Now time.Time
	// Received is when the broker stored the query first, whatever retries came after.
	Received time.Time
	// Deliveries counts the deliveries of the message at hand. All but the last one ended with the death of their holder.
	Deliveries int
	// Crashes counts those that died while they held an earlier message of the query, before it was set apart.
	Crashes int
	// Crowded tells that another query which is on its last chance is in the same hands.
	Crowded bool
	// Attempts are all calls made so far, the oldest first.
	Attempts []query.Attempt
	// Rounds counts the scheduled retries so far.
	Rounds int
	// Jitter is a random number in [0, 1) that spreads retries.
	Jitter float64
}

// crashes counts the holders that died.
func (f Facts) crashes() int { return f.Crashes + max(f.Deliveries-1, 0) }

// Limit returns the time at which the query is given up: its own deadline, or else the lane's horizon.
func (p Policy) Limit(q *query.Query, received time.Time) time.Time {
	if !q.Expires.IsZero() {
		return q.Expires
	}
	return received.Add(p.Horizon)
}

// Plan says whether a query that was read is asked now. It returns nil to go on, an Expired fault for a query whose deadline has
// passed, an Unavailable fault with the code Horizon for one without a deadline that waited beyond its lane's horizon, a Rejected
// fault with the code CrashLoop for one whose holders crashed too often, and an Unavailable fault with the code SetApart for one that the next
// crash would quarantine.
func Plan(policy Policy, q *query.Query, facts Facts) error {
	if policy.QuarantineAfter > 0 && facts.crashes() >= policy.QuarantineAfter {
		return fault.New("plan", fault.Rejected, fault.CrashLoop)
	}
	if left := policy.Limit(q, facts.Received).Sub(facts.Now); left > 0 {
		return apart(policy, facts, left)
	}
	if q.Expires.IsZero() {
		return fault.New("plan", fault.Unavailable, fault.Horizon)
	}
	return fault.New("plan", fault.Expired, fault.DeadlinePassed)
}

// spread is the time over which queries are set apart.
const spread = 10 * time.Second

// LastChance tells whether the next crash would quarantine a query that was held by some that died.
func LastChance(policy Policy, facts Facts) bool {
	return facts.crashes() > 0 && facts.crashes() == policy.QuarantineAfter-1
}

// apart sets a query apart before its last chance, until it is the only such one in its holder's hands. A worker that dies takes all that it
// holds along, and all of it is delivered again at the same time, so that one query that kills its holders would have the others quarantined
// with it. One whose time is short stays where it is.
func apart(policy Policy, facts Facts, left time.Duration) error {
	if !LastChance(policy, facts) || facts.Deliveries == 1 && !facts.Crowded || left < 2*spread {
		return nil
	}
	failure := fault.New("plan", fault.Unavailable, fault.SetApart)
	failure.After = time.Second + time.Duration(facts.Jitter*float64(spread))
	return failure
}

// Action is what becomes of a query.
type Action uint8

// The actions.
const (
	// Release gives the message back unanswered: the worker is stopping.
	Release Action = iota
	// Complete publishes a completed result.
	Complete
	// Fail publishes a failed result without a dead letter.
	Fail
	// Bury publishes a failed result and then writes a dead letter.
	Bury
	// Retry schedules another round.
	Retry
	// Skip does nothing: the query has its result.
	Skip
)

// String returns the action's name as it stands in metrics and logs.
func (a Action) String() string {
	return [...]string{"release", "complete", "fail", "bury", "retry", "skip"}[a]
}

// Actions returns every action, for metrics and tests.
func Actions() []Action { return []Action{Release, Complete, Fail, Bury, Retry, Skip} }

// Verdict is a decided action with what it needs.
type Verdict struct {
	Action Action
	// Reason is set for Fail and Bury.
	Reason query.Reason
	// At is when the next round is due, set for Retry, and Rounds how many rounds the query has used up by then.
	At     time.Time
	Rounds int
	// Crashes is what the next round has to know of them: those before the query was set apart, until it was asked without one.
	Crashes int
	// Fault is what led here; nil for Complete.
	Fault *fault.Error
}

// Failure returns the fault as an error, nil if there is none.
func (v Verdict) Failure() error {
	if v.Fault == nil {
		return nil
	}
	return v.Fault
}

// PutOff tells that the query was not asked, because its account put it off or it was set apart: it comes back as if nothing had happened.
func (v Verdict) PutOff() bool { return v.Action == Retry && v.Fault != nil && putOff(v.Fault) }

// Settle says what becomes of a query after it was asked, or after the attempt to ask it ended with err.
//
// A fault of the query ends it at once. A fault of the upstream schedules another round, however often it happens, until the
// query's deadline or its lane's horizon leaves no room for one. A query that its account put off without asking comes back as if
// nothing had happened.
func Settle(policy Policy, q *query.Query, facts Facts, err error) Verdict {
	if err == nil {
		return Verdict{Action: Complete}
	}
	failure := fault.From("settle", err)
	switch failure.Kind {
	case fault.Malformed:
		return Verdict{Action: Bury, Reason: query.ReasonMalformed, Fault: failure}
	case fault.Rejected:
		reason := query.ReasonRejected
		if failure.Code == fault.CrashLoop {
			reason = query.ReasonQuarantined
		}
		return Verdict{Action: Bury, Reason: reason, Fault: failure}
	case fault.Expired:
		return Verdict{Action: Fail, Reason: query.ReasonExpired, Fault: failure}
	case fault.Interrupted:
		return Verdict{Action: Release, Crashes: facts.Crashes, Fault: failure}
	case fault.Duplicate:
		return Verdict{Action: Skip, Fault: failure}
	case fault.Throttled, fault.Unavailable, fault.Unauthorized, fault.Unknown:
		return later(policy, q, facts, failure)
	default:
		return later(policy, q, facts, failure)
	}
}

// later schedules another round, unless it would come too late or the query's handling keeps panicking.
func later(policy Policy, q *query.Query, facts Facts, failure *fault.Error) Verdict {
	if policy.QuarantineAfter > 0 && panics(facts.Attempts) >= policy.QuarantineAfter {
		return Verdict{Action: Bury, Reason: query.ReasonQuarantined, Fault: failure}
	}
	limit := policy.Limit(q, facts.Received)
	wait, rounds, crashes := max(failure.After, policy.delay(facts.Rounds, facts.Jitter)), facts.Rounds+1, 0
	if putOff(failure) {
		wait, rounds, crashes = min(failure.After, limit.Sub(facts.Now)/2), facts.Rounds, facts.Crashes
	}
	if failure.Code == fault.SetApart {
		crashes = facts.crashes()
	}
	at := wholeSecond(facts.Now.Add(wait))
	if policy.OneRound || !at.Before(limit) {
		return Verdict{Action: Bury, Reason: query.ReasonExhausted, Fault: failure}
	}
	return Verdict{Action: Retry, At: at, Rounds: rounds, Crashes: crashes, Fault: failure}
}

// putOff tells whether the query was put off by its account, which could not ask it soon, or set apart. That is no round: neither is the query
// to blame, nor does it help anybody to wait for longer each time. It comes back in time to be asked before its deadline.
func putOff(failure *fault.Error) bool {
	return failure.After > 0 && (failure.Code == fault.BreakerOpen || failure.Code == fault.Paced || failure.Code == fault.SetApart)
}

// wholeSecond rounds up: the broker keeps schedules by the second, and one that came early would be before a Retry-After.
func wholeSecond(at time.Time) time.Time {
	return at.Add(time.Second - time.Nanosecond).Truncate(time.Second)
}

// delay returns the wait before the round after `rounds` earlier ones: doubling, capped, and spread over its upper half.
func (p Policy) delay(rounds int, jitter float64) time.Duration {
	delay := p.FirstRetry
	for range rounds {
		if delay >= p.MaxRetry/2 {
			delay = p.MaxRetry
			break
		}
		delay *= 2
	}
	return delay/2 + time.Duration(jitter*float64(delay/2))
}

func panics(attempts []query.Attempt) int {
	count := 0
	for _, attempt := range attempts {
		if attempt.Code == fault.Panicked {
			count++
		}
	}
	return count
}

// Settlement is what the consumer does with a message once everything about it is stored.
type Settlement struct {
	// Done lets the message be acked. Otherwise it is given back to the broker.
	Done bool
	// After is how long the broker should wait before it delivers a message again that was given back.
	After time.Duration
}

// Outcome is the one wide record of what happened to one delivery, for the log and the metrics. It holds no card data.
type Outcome struct {
	Query      *query.Query
	Verdict    Verdict
	Answer     *query.Answer
	Received   time.Time
	Started    time.Time
	Finished   time.Time
	Attempts   []query.Attempt
	Deliveries int
	// Waited is the part of the time that went into waiting for the pace.
	Waited time.Duration
	// Settled tells that everything the verdict asked for was stored.
	Settled bool
	// Stack is the stack of a panic, without its value, which could hold card data.
	Stack string
	// Trace is the id of the trace in which the delivery is recorded; "" if it is in none.
	Trace string
}
