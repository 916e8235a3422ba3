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
		crashes    int
		crowded    bool
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
		"second delivery":               {deliveries: 2},
		"third delivery":                {deliveries: 3, stop: true, kind: fault.Unavailable, code: fault.SetApart},
		"third, and little time left":   {deliveries: 3, expires: epoch.Add(19 * time.Second)},
		"third, and time enough":        {deliveries: 3, expires: epoch.Add(20 * time.Second), stop: true, kind: fault.Unavailable, code: fault.SetApart},
		"third, and no time left":       {deliveries: 3, expires: epoch, stop: true, kind: fault.Expired, code: fault.DeadlinePassed},
		"set apart":                     {deliveries: 1, crashes: 2},
		"set apart, and not alone":      {deliveries: 1, crashes: 2, crowded: true, stop: true, kind: fault.Unavailable, code: fault.SetApart},
		"no last chance, and not alone": {deliveries: 2, crowded: true},
		"set apart, and one more crash": {deliveries: 2, crashes: 2, stop: true, kind: fault.Rejected, code: fault.CrashLoop},
		"fourth delivery":               {deliveries: 4, stop: true, kind: fault.Rejected, code: fault.CrashLoop},
		"crash loop goes before expiry": {deliveries: 4, expires: epoch, stop: true, kind: fault.Rejected, code: fault.CrashLoop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.received.IsZero() {
				test.received = epoch
			}
			facts := Facts{Now: epoch, Received: test.received, Deliveries: test.deliveries, Crashes: test.crashes, Crowded: test.crowded}
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

// TestSetApart requires that a query which is set apart comes back at a time of its own, with its crashes and without a further round, and that
// its crashes are forgotten once it was asked without one.
func TestSetApart(t *testing.T) {
	t.Parallel()
	facts := Facts{Now: epoch, Received: epoch, Deliveries: 3, Rounds: 4}
	times := map[time.Time]bool{}
	for _, facts.Jitter = range []float64{0, 0.5, 0.999} {
		verdict := Settle(testPolicy(), &query.Query{}, facts, Plan(testPolicy(), &query.Query{}, facts))
		require.Equal(t, Retry, verdict.Action)
		require.True(t, verdict.PutOff())
		require.Equal(t, []int{4, 2}, []int{verdict.Rounds, verdict.Crashes})
		times[verdict.At] = true
	}
	require.Equal(t, map[time.Time]bool{epoch.Add(time.Second): true, epoch.Add(6 * time.Second): true, epoch.Add(11 * time.Second): true}, times)

	facts = Facts{Now: epoch, Received: epoch, Deliveries: 1, Crashes: 2}
	paced := fault.New("call", fault.Throttled, fault.Paced)
	paced.After = time.Second
	require.Equal(t, 2, Settle(testPolicy(), &query.Query{}, facts, paced).Crashes, "it was not asked")
	require.Equal(t, 2, Settle(testPolicy(), &query.Query{}, facts, context.Canceled).Crashes, "a stop proves nothing")
	require.Zero(t, Settle(testPolicy(), &query.Query{}, facts, fault.New("call", fault.Unavailable, fault.Timeout)).Crashes)
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
