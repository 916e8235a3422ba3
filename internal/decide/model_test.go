package decide

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// TestEveryQueryEnds is a model of one query's life: deliveries, answers of every kind, crashes, panics, lost acks, clocks that differ and
// step back, and several messages of the query at once, in any order. Whatever happens, the last message goes only when there is exactly
// one result, with a dead letter if it failed for any reason but expiry. No call begins after the query's limit, and nobody writes who has
// seen a result.
func TestEveryQueryEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		for left := 2_000; m.live(); left-- {
			require.Positive(t, left, "the query never ended")
			m.deliver(t)
		}
		require.Equal(t, 1, m.results, "nothing is left that could answer it")
		if m.failed && m.reason != query.ReasonExpired {
			require.Equal(t, 1, m.letters, "what could not be answered is a dead letter")
		} else {
			require.Zero(t, m.letters, "what has its answer has no letter")
		}
	})
}

// skewed is how far a worker's clock may be from the broker's, to either side. It differs from delivery to delivery: clocks step back too.
const skewed = 30 * time.Second

// model is a broker with the messages of one query, and workers that use Plan and Settle.
type model struct {
	policy Policy
	query  *query.Query
	limit  time.Time
	// now is the broker's clock.
	now time.Time
	// queue holds what can be delivered. What is under way stays in it until it is acked, so that it can be delivered to another worker.
	queue []*message
	// schedule is the retry that comes due at a time. A further one takes its place.
	schedule *message
	due      time.Time
	results  int
	letters  int
	failed   bool
	reason   query.Reason
	// slack is how much later than its limit the query may end: what passed since somebody last planned to ask it.
	slack time.Duration
}

// message is the query as it was published, or a retry of it with its history.
type message struct {
	deliveries int
	crashes    int
	rounds     int
	attempts   []query.Attempt
}

func newModel(t *rapid.T) *model {
	m := &model{policy: testPolicy(), query: &query.Query{}, now: epoch, queue: []*message{{}}}
	if rapid.Bool().Draw(t, "has a deadline") {
		m.query.Expires = epoch.Add(seconds(t, "deadline", -10, 3600))
	}
	m.limit = m.policy.Limit(m.query, epoch)
	m.slack = max(0, epoch.Sub(m.limit))
	return m
}

func (m *model) live() bool { return len(m.queue) > 0 || m.schedule != nil }

// deliver lets time pass and delivers one message, whose holder may crash at once.
func (m *model) deliver(t *rapid.T) {
	step := seconds(t, "step", 0, 60)
	m.now, m.slack = m.now.Add(step), m.slack+step
	if len(m.queue) == 0 && m.now.Before(m.due) {
		m.now = m.due
	}
	if m.schedule != nil && !m.now.Before(m.due) {
		m.queue, m.schedule = append(m.queue, m.schedule), nil
	}
	held := m.queue[rapid.IntRange(0, len(m.queue)-1).Draw(t, "message")]
	held.deliveries++
	if oneIn(t, 10, "crash before") {
		return
	}
	if m.handle(t, held) && !oneIn(t, 5, "lost ack") {
		m.queue = slices.DeleteFunc(m.queue, func(other *message) bool { return other == held })
	}
}

// handle takes a delivery from the look for a result to what becomes of it, and tells whether the message can be acked. Meanwhile another
// worker may get a message of the query too, be it the same.
func (m *model) handle(t *rapid.T, held *message) bool {
	skew, answered := seconds(t, "clock", -skewed/time.Second, skewed/time.Second), m.results > 0
	facts := Facts{
		Now: m.now.Add(skew), Received: epoch, Deliveries: held.deliveries, Crashes: held.crashes, Crowded: oneIn(t, 3, "crowded"), Attempts: held.attempts, Rounds: held.rounds,
		Jitter: rapid.Float64Range(0, 0.999).Draw(t, "jitter"),
	}
	var err error
	if answered {
		err = fault.New("look for result", fault.Duplicate, fault.AlreadyAnswered)
	} else if err = Plan(m.policy, m.query, facts); err == nil {
		require.True(t, facts.Now.Before(m.limit), "it is asked after its limit")
		m.slack = 0
		if oneIn(t, 10, "another holder") {
			m.deliver(t)
		}
		facts.Attempts, err = call(t, held.attempts)
		facts.Now = m.now.Add(skew)
	}
	return m.store(t, Settle(m.policy, m.query, facts, err), facts, answered)
}

// call is one call to the upstream. It returns the history of the query with it.
func call(t *rapid.T, attempts []query.Attempt) ([]query.Attempt, error) {
	kind := rapid.SampledFrom(append(fault.Kinds(), fault.Unavailable, fault.Unavailable)).Draw(t, "answer")
	if kind == fault.Duplicate || kind == fault.Malformed {
		return attempts, nil
	}
	failure := fault.New("call", kind, rapid.SampledFrom([]fault.Code{fault.Timeout, fault.Panicked, fault.Paced, fault.BreakerOpen}).Draw(t, "code"))
	failure.After = seconds(t, "after", 0, 300)
	if kind == fault.Interrupted {
		return attempts, failure
	}
	return append(slices.Clip(attempts), query.Attempt{Kind: kind.String(), Code: failure.Code}), failure
}

// store does what a verdict asks for and tells whether it got to the end of that.
func (m *model) store(t *rapid.T, verdict Verdict, facts Facts, answered bool) bool {
	switch verdict.Action {
	case Complete:
		m.write(t, false, "", answered)
	case Fail:
		m.write(t, true, verdict.Reason, answered)
	case Bury:
		m.write(t, true, verdict.Reason, answered)
		if oneIn(t, 3, "crash between the result and the letter") {
			return false
		}
	case Retry:
		require.False(t, verdict.At.Before(facts.Now), "a retry in the past")
		require.True(t, verdict.At.Before(m.limit), "a retry that comes too late")
		m.schedule, m.due = &message{rounds: verdict.Rounds, crashes: verdict.Crashes, attempts: facts.Attempts}, verdict.At
		return true
	case Release:
		m.schedule, m.due = &message{rounds: facts.Rounds, crashes: verdict.Crashes, attempts: facts.Attempts}, facts.Now.Add(time.Second)
		return true
	case Skip:
	}
	if m.failed && m.reason != query.ReasonExpired {
		m.letters = 1 // Of the result that is stored, whoever wrote it.
	}
	return true
}

// write is a guarded write: the first one counts. Later ones can only be of those who looked before there was a result.
func (m *model) write(t *rapid.T, failed bool, reason query.Reason, answered bool) {
	require.False(t, answered, "a second result is written although the first one was found")
	if m.results > 0 {
		return
	}
	m.results, m.failed, m.reason = 1, failed, reason
	require.False(t, m.now.After(m.limit.Add(skewed+m.slack)), "it was given up too late")
}

func seconds(t *rapid.T, label string, least, most time.Duration) time.Duration {
	return time.Duration(rapid.Int64Range(int64(least), int64(most)).Draw(t, label)) * time.Second
}

func oneIn(t *rapid.T, n int, label string) bool { return rapid.IntRange(1, n).Draw(t, label) == n }
