package decide

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testPolicy() Policy {
	return Policy{Horizon: 10 * time.Minute, QuarantineAfter: 3, FirstRetry: 4 * time.Second, MaxRetry: time.Minute}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		expires    time.Time
		received   time.Time
		deliveries int
		kind       fault.Kind
		code       fault.Code
		stop       bool
	}{
		"no deadline":                   {deliveries: 1},
		"before the deadline":           {deliveries: 1, expires: epoch.Add(time.Millisecond)},
		"at the deadline":               {deliveries: 1, expires: epoch, stop: true, kind: fault.Expired, code: fault.DeadlinePassed},
		"after the deadline":            {deliveries: 1, expires: epoch.Add(-time.Hour), stop: true, kind: fault.Expired, code: fault.DeadlinePassed},
		"before the horizon":            {deliveries: 1, received: epoch.Add(time.Millisecond - 10*time.Minute)},
		"at the horizon":                {deliveries: 1, received: epoch.Add(-10 * time.Minute), stop: true, kind: fault.Unavailable, code: fault.Horizon},
		"a deadline beyond the horizon": {deliveries: 1, received: epoch.Add(-time.Hour), expires: epoch.Add(time.Hour)},
		"third delivery":                {deliveries: 3},
		"fourth delivery":               {deliveries: 4, stop: true, kind: fault.Rejected, code: fault.CrashLoop},
		"crash loop goes before expiry": {deliveries: 4, expires: epoch, stop: true, kind: fault.Rejected, code: fault.CrashLoop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.received.IsZero() {
				test.received = epoch
			}
			facts := Facts{Now: epoch, Received: test.received, Deliveries: test.deliveries}
			err := Plan(testPolicy(), &query.Query{Expires: test.expires}, facts)
			if !test.stop {
				require.NoError(t, err)
				return
			}
			require.Equal(t, test.kind, fault.KindOf(err))
			require.Equal(t, test.code, fault.CodeOf(err))
		})
	}
}

func TestPlanWithoutQuarantine(t *testing.T) {
	t.Parallel()
	policy := testPolicy()
	policy.QuarantineAfter = 0
	require.NoError(t, Plan(policy, &query.Query{}, Facts{Now: epoch, Received: epoch, Deliveries: 1000}))
}

func TestSettleByKind(t *testing.T) {
	t.Parallel()
	want := map[fault.Kind]Verdict{
		fault.Malformed:    {Action: Bury, Reason: query.ReasonMalformed},
		fault.Rejected:     {Action: Bury, Reason: query.ReasonRejected},
		fault.Expired:      {Action: Fail, Reason: query.ReasonExpired},
		fault.Interrupted:  {Action: Release},
		fault.Duplicate:    {Action: Skip},
		fault.Throttled:    {Action: Retry, At: epoch.Add(2 * time.Second), Rounds: 1},
		fault.Unavailable:  {Action: Retry, At: epoch.Add(2 * time.Second), Rounds: 1},
		fault.Unauthorized: {Action: Retry, At: epoch.Add(2 * time.Second), Rounds: 1},
		fault.Unknown:      {Action: Retry, At: epoch.Add(2 * time.Second), Rounds: 1},
	}
	require.Len(t, want, len(fault.Kinds()), "every kind has a verdict")
	for _, kind := range fault.Kinds() {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			failure := fault.New("call", kind, fault.HTTPStatus)
			verdict := Settle(testPolicy(), &query.Query{}, Facts{Now: epoch, Received: epoch, Deliveries: 1}, failure)
			expected := want[kind]
			expected.Fault = failure
			require.Equal(t, expected, verdict)
		})
	}
}

func TestSettleAnswer(t *testing.T) {
	t.Parallel()
	require.Equal(t, Verdict{Action: Complete}, Settle(testPolicy(), &query.Query{}, Facts{Now: epoch}, nil))
}

func TestSettleForeignErrors(t *testing.T) {
	t.Parallel()
	facts := Facts{Now: epoch, Received: epoch}
	require.Equal(t, Release, Settle(testPolicy(), &query.Query{}, facts, context.Canceled).Action)
	require.Equal(t, Retry, Settle(testPolicy(), &query.Query{}, facts, errors.New("card 6200000000000005")).Action)
}

func TestSettleCrashLoopIsQuarantined(t *testing.T) {
	t.Parallel()
	verdict := Settle(testPolicy(), &query.Query{}, Facts{Now: epoch}, fault.New("plan", fault.Rejected, fault.CrashLoop))
	require.Equal(t, Bury, verdict.Action)
	require.Equal(t, query.ReasonQuarantined, verdict.Reason)
}

func TestSettlePanicsAreQuarantined(t *testing.T) {
	t.Parallel()
	failure := fault.New("handle query", fault.Unknown, fault.Panicked)
	facts := Facts{Now: epoch, Received: epoch}
	for range 2 {
		facts.Attempts = append(facts.Attempts, query.Attempt{Code: fault.Panicked}, query.Attempt{Code: fault.Timeout})
		require.Equal(t, Retry, Settle(testPolicy(), &query.Query{}, facts, failure).Action)
	}
	facts.Attempts = append(facts.Attempts, query.Attempt{Code: fault.Panicked})
	verdict := Settle(testPolicy(), &query.Query{}, facts, failure)
	require.Equal(t, Bury, verdict.Action)
	require.Equal(t, query.ReasonQuarantined, verdict.Reason)
}

func TestRetryDelays(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rounds int
		jitter float64
		after  time.Duration
		want   time.Duration
	}{
		"first, no jitter":       {want: 2 * time.Second},
		"first, full jitter":     {jitter: 0.999999999, want: 4 * time.Second},
		"second":                 {rounds: 1, want: 4 * time.Second},
		"fourth":                 {rounds: 3, want: 16 * time.Second},
		"capped":                 {rounds: 4, want: 30 * time.Second},
		"capped for ever":        {rounds: 1_000_000, want: 30 * time.Second},
		"the upstream asks more": {after: 90 * time.Second, want: 90 * time.Second},
		"the upstream asks less": {after: time.Second, want: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure := fault.New("call", fault.Throttled, fault.RateLimited)
			failure.After = test.after
			verdict := Settle(testPolicy(), &query.Query{}, Facts{Now: epoch, Received: epoch, Rounds: test.rounds, Jitter: test.jitter}, failure)
			require.Equal(t, Retry, verdict.Action)
			require.WithinDuration(t, epoch.Add(test.want), verdict.At, time.Millisecond)
		})
	}
}

func TestRetriesAreDueAtWholeSeconds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := epoch.Add(time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "now")))
		failure := fault.New("call", fault.Throttled, fault.RateLimited)
		failure.After = time.Duration(rapid.Int64Range(int64(5*time.Second), int64(time.Minute)).Draw(t, "after"))
		verdict := Settle(testPolicy(), &query.Query{}, Facts{Now: now, Received: epoch}, failure)
		require.Equal(t, Retry, verdict.Action)
		require.Equal(t, verdict.At.Truncate(time.Second), verdict.At)
		require.False(t, verdict.At.Before(now.Add(failure.After)), "never before the upstream asked for")
		require.Less(t, verdict.At.Sub(now.Add(failure.After)), time.Second)
	})
}

func TestPutOffQueriesComeBackAsTheyWere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failure *fault.Error
		after   time.Duration
		left    time.Duration
		rounds  int
		want    time.Duration
		used    int
	}{
		"no room in the pace":        {fault.New("call", fault.Throttled, fault.Paced), 7 * time.Second, time.Hour, 5, 7 * time.Second, 5},
		"an open breaker":            {fault.New("call", fault.Unavailable, fault.BreakerOpen), time.Second, time.Hour, 0, time.Second, 0},
		"longer than the longest":    {fault.New("call", fault.Throttled, fault.Paced), 5 * time.Minute, time.Hour, 1, 5 * time.Minute, 1},
		"a deadline comes before":    {fault.New("call", fault.Throttled, fault.Paced), time.Minute, 20 * time.Second, 2, 10 * time.Second, 2},
		"the last chance":            {fault.New("call", fault.Throttled, fault.Paced), time.Minute, 2100 * time.Millisecond, 2, 2 * time.Second, 2},
		"a breaker between attempts": {fault.New("call", fault.Unavailable, fault.BreakerOpen), 0, time.Hour, 0, 2 * time.Second, 1},
		"an upstream that throttles": {fault.New("call", fault.Throttled, fault.RateLimited), 7 * time.Second, time.Hour, 0, 7 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.failure.After = test.after
			facts := Facts{Now: epoch, Received: epoch, Rounds: test.rounds}
			verdict := Settle(testPolicy(), &query.Query{Expires: epoch.Add(test.left)}, facts, test.failure)
			require.Equal(t, Verdict{Action: Retry, At: epoch.Add(test.want), Rounds: test.used, Fault: test.failure}, verdict)
			require.Equal(t, test.used == test.rounds, verdict.PutOff())
		})
	}
}

// A query can be put off any number of times: only its time can end it.
func TestPuttingOffUsesNothingUp(t *testing.T) {
	t.Parallel()
	off := fault.New("call", fault.Throttled, fault.Paced)
	off.After = 3 * time.Second
	now, rounds, times := epoch, 0, 0
	for now.Before(epoch.Add(10*time.Minute - 3*time.Second)) {
		verdict := Settle(testPolicy(), &query.Query{}, Facts{Now: now, Received: epoch, Rounds: rounds}, off)
		require.Equal(t, Retry, verdict.Action)
		now, rounds, times = verdict.At, verdict.Rounds, times+1
	}
	require.Zero(t, rounds)
	require.Greater(t, times, 190)
	require.Equal(t, query.ReasonExhausted, Settle(testPolicy(), &query.Query{}, Facts{Now: epoch.Add(10*time.Minute - time.Second), Received: epoch}, off).Reason)
}

func TestVerdictsWithoutAFaultAreNotPutOff(t *testing.T) {
	t.Parallel()
	for _, action := range Actions() {
		require.False(t, Verdict{Action: action}.PutOff())
	}
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	failure := fault.New("call", fault.Unavailable, fault.Timeout)
	settle := func(q query.Query, now time.Time) Verdict {
		return Settle(testPolicy(), &q, Facts{Now: now, Received: epoch}, failure)
	}
	require.Equal(t, Retry, settle(query.Query{}, epoch.Add(9*time.Minute)).Action)
	late := settle(query.Query{}, epoch.Add(10*time.Minute-2*time.Second))
	require.Equal(t, Verdict{Action: Bury, Reason: query.ReasonExhausted, Fault: failure}, late)
	require.Equal(t, Bury, settle(query.Query{Expires: epoch.Add(2 * time.Second)}, epoch).Action, "a retry at the deadline is too late")
	require.Equal(t, Retry, settle(query.Query{Expires: epoch.Add(time.Hour)}, epoch.Add(30*time.Minute)).Action, "a deadline goes before the horizon")
}

// TestEveryQueryEnds is a model of one query's life: deliveries, answers of every kind, crashes, panics and steps of the clock, in any
// order. It must end in exactly one result, with a dead letter if it failed for any reason but expiry, and in bounded time.
func TestEveryQueryEnds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		limit := 10_000
		for ; m.results == 0 && limit > 0; limit-- {
			m.deliver(t)
		}
		require.Positive(t, limit, "the query never ended")
		m.afterwards(t)
		m.repair() // A message whose holder died is delivered until somebody has settled it.
		require.Equal(t, 1, m.results)
		if m.failed && m.reason != query.ReasonExpired {
			require.Equal(t, 1, m.dead, "what could not be answered is a dead letter")
		} else {
			require.Zero(t, m.dead, "what has its answer has no letter")
		}
		// The clock of the model steps at most a minute per delivery, and a message waits at most its retry.
		require.False(t, m.now.After(m.policy.Limit(m.query, epoch).Add(m.slack)), "it was given up too late")
	})
}

// model is a broker with one query and a worker that uses Plan and Settle.
type model struct {
	policy     Policy
	query      *query.Query
	now        time.Time
	deliveries int
	rounds     int
	attempts   []query.Attempt
	results    int
	failed     bool
	reason     query.Reason
	dead       int
	// slack is how much later than its limit the query may end: a crash or a pause can hold its message that long.
	slack time.Duration
}

func newModel(t *rapid.T) *model {
	m := &model{policy: testPolicy(), query: &query.Query{}, now: epoch}
	if rapid.Bool().Draw(t, "has a deadline") {
		m.query.Expires = epoch.Add(time.Duration(rapid.Int64Range(-10, 3600).Draw(t, "deadline")) * time.Second)
	}
	m.slack = max(0, epoch.Sub(m.policy.Limit(m.query, epoch)))
	return m
}

// deliver is one delivery of the message: the clock steps, the holder may crash before or after it has stored the outcome.
func (m *model) deliver(t *rapid.T) {
	m.deliveries++
	step := time.Duration(rapid.Int64Range(0, 60).Draw(t, "step")) * time.Second
	m.now = m.now.Add(step)
	m.slack += step
	if rapid.IntRange(0, 9).Draw(t, "crash before") == 0 {
		return
	}
	if m.results > 0 {
		m.store(t, Verdict{Action: Skip}) // A delivery after the result looks for it first.
		return
	}
	facts := Facts{
		Now: m.now, Received: epoch, Deliveries: m.deliveries, Attempts: m.attempts, Rounds: m.rounds,
		Jitter: rapid.Float64Range(0, 0.999).Draw(t, "jitter"),
	}
	err := Plan(m.policy, m.query, facts)
	if err == nil {
		err = m.call(t)
		facts.Attempts = m.attempts
	}
	verdict := Settle(m.policy, m.query, facts, err)
	m.store(t, verdict)
}

// call is one call to the upstream.
func (m *model) call(t *rapid.T) error {
	kind := rapid.SampledFrom(append(fault.Kinds(), fault.Unavailable, fault.Unavailable)).Draw(t, "answer")
	if kind == fault.Duplicate || kind == fault.Malformed {
		return nil
	}
	failure := fault.New("call", kind, rapid.SampledFrom([]fault.Code{fault.Timeout, fault.Panicked, fault.Paced, fault.BreakerOpen}).Draw(t, "code"))
	failure.After = time.Duration(rapid.Int64Range(0, 300).Draw(t, "after")) * time.Second
	if kind != fault.Interrupted {
		m.attempts = append(m.attempts, query.Attempt{Kind: kind.String(), Code: failure.Code})
	}
	return failure
}

// store does what a verdict asks for, under the guard.
func (m *model) store(t *rapid.T, verdict Verdict) {
	switch verdict.Action {
	case Complete:
		m.write(false, "")
	case Fail:
		m.write(true, verdict.Reason)
	case Bury:
		m.write(true, verdict.Reason)
		if rapid.IntRange(0, 2).Draw(t, "crash between the result and the letter") > 0 {
			m.repair()
		}
	case Retry:
		m.now, m.deliveries, m.rounds = verdict.At, 0, verdict.Rounds
	case Release:
		m.now, m.deliveries = m.now.Add(time.Second), 0
		m.slack += time.Second
	case Skip:
		m.repair()
	}
}

// repair writes the letter that a failed result owes, unless it is there.
func (m *model) repair() {
	if m.failed && m.reason != query.ReasonExpired {
		m.dead = 1
	}
}

// write is a guarded write: only the first one counts.
func (m *model) write(failed bool, reason query.Reason) {
	if m.results == 0 {
		m.results, m.failed, m.reason = 1, failed, reason
	}
}

// afterwards delivers the message a few more times, as a broker does whose ack got lost.
func (m *model) afterwards(t *rapid.T) {
	now := m.now
	for range rapid.IntRange(0, 3).Draw(t, "lost acks") {
		m.deliver(t)
	}
	m.now = now
}
