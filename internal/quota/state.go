package quota

import (
	"errors"
	"math"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/strict"
)

// ErrBroken is a state or control entry that can't be understood. Nobody calls by guessing: the account stands still until somebody
// has looked and called Reset.
var ErrBroken = errors.New("pace entry is broken")

// Settings bound the pace of one account.
type Settings struct {
	// Ceiling is the highest rate in calls per second; 0 or less means no limit.
	Ceiling float64
	// Floor is the rate that no throttling goes below; 0 or less means a hundredth of the ceiling.
	Floor float64
	// Burst is how many calls may be made at once; less than 1 means 1.
	Burst int
}

// interval returns the distance of calls at the given rate, rounded up so that it is never too short.
func interval(rate float64) time.Duration {
	return time.Duration(min(math.Ceil(float64(time.Second)/rate), math.MaxInt64/4))
}

// slack returns how far from its time a call may stray: calls that stand one interval of the ceiling apart and stray by less than this
// never make up more than ceiling x window + burst in any window.
func (s Settings) slack() time.Duration {
	return time.Duration(max(s.Burst, 1)-1) * interval(s.Ceiling)
}

// floor returns the lowest rate.
func (s Settings) floor() float64 {
	if s.Floor > 0 {
		return min(s.Floor, s.Ceiling)
	}
	return s.Ceiling / 100
}

// How the rate is found.
const (
	// startShare of the ceiling is where an unknown account starts, but with startAtLeast calls per second if the ceiling allows.
	startShare   = 1.0 / 8
	startAtLeast = 10
	// firstCut is what a throttling leaves of the rate while its knee is looked for, laterCut when it was known roughly.
	firstCut = 0.7
	laterCut = 0.85
	// leastCut is what remains however much was refused; less than certain is taken for chance.
	leastCut = 0.1
	certain  = 0.2
	// searching is how long after a decrease the next one counts as part of the same search.
	searching = 2 * time.Second
	// rest is the part of the knee at which the rate rests. It takes returning to get there, and stays for resting.
	rest      = 0.95
	returning = 5 * time.Second
	resting   = 30 * time.Second
	// probing is how long a probe takes to double the rate. It starts almost flat: a twentieth more after a third of it.
	probing = 30 * time.Second
	// longestStep bounds the time that counts as use between two leases: a rate that grew in one leap would be found wrong too late.
	longestStep = time.Second / 4
	// slowGrowth and fastGrowth are by how much the size of leases changes.
	slowGrowth = 1.03
	fastGrowth = 1.3
	// gapShare is how much longer than the gap behind it a lease is at least.
	gapShare = 80
	// slowest is a rate of one call in a month.
	slowest = 1.0 / (30 * 24 * 3600)
	// farAhead is a time of the next call that nobody can have meant.
	farAhead = 24 * time.Hour
)

// State is what all replicas know of one account. It is a value: every change makes a new one. All times are the server's.
type State struct {
	// Next is the theoretical arrival time: the first call time that nobody holds.
	Next time.Time `json:"next"`
	// Rate is the present rate in calls per second.
	Rate float64 `json:"rate"`
	// Size is how many slots one lease has: the same for all replicas, so that all get the same.
	Size float64 `json:"size,omitzero"`
	// Slack is how many nanoseconds after its time a call that was leased last may be made.
	Slack int64 `json:"slack_ns,omitzero"`
	// Low is the rate at the last decrease, or at the start, and Busy for how many nanoseconds the rate was used up since.
	Low  float64 `json:"low"`
	Busy int64   `json:"busy_ns,omitzero"`
	// Knee is the rate at which the upstream throttled last; 0 if it never did.
	Knee float64 `json:"knee,omitzero"`
	// Cut is the time of the last decrease: what was sent before says nothing new.
	Cut time.Time `json:"cut,omitzero"`
	// Seen is the time of the last lease.
	Seen time.Time `json:"seen,omitzero"`
	// Renewed tells that the state follows one that was broken or dropped: calls of that one may still be on their way.
	Renewed bool `json:"renewed,omitzero"`
	// Unknown keeps what a newer version wrote.
	Unknown jsontext.Value `json:",embed"`
}

// begin returns the state of an account that nobody has called yet.
func begin(s Settings) State {
	rate := min(s.Ceiling, max(s.Ceiling*startShare, startAtLeast))
	return State{Rate: rate, Low: rate}
}

// readState reads a stored state, which must make sense at the given time.
func readState(data []byte, now time.Time) (State, error) {
	var s State
	if strict.Read(data, &s) != nil {
		return State{}, ErrBroken
	}
	whole := s.Rate >= slowest && s.Size >= 0 && s.Low >= slowest && s.Knee >= 0 && s.Slack >= 0 && s.Busy >= 0
	if !whole || s.Next.After(now.Add(farAhead)) || s.Cut.After(now.Add(farAhead)) {
		return State{}, ErrBroken
	}
	return s, nil
}

// bytes returns the stored form.
func (s State) bytes() ([]byte, error) { return json.Marshal(s) }

// terms are what a replica brings to a lease.
type terms struct {
	Settings

	// now is the latest that the server's clock can show.
	now time.Time
	// reach is how long it takes until the slots are in hand.
	reach time.Duration
	// vague is how far the replica's calls can be off their times because its clock and its timers are not exact.
	vague time.Duration
	// round is the time within which all replicas should have had a lease.
	round time.Duration
}

// tolerance returns how long after its time a slot may be used: as long as the burst allows, or as it takes to hit it at all.
func (t terms) tolerance() time.Duration { return max(t.slack(), t.vague) }

// grant is a row of slots: call times that nobody else has.
type grant struct {
	start     time.Time
	interval  time.Duration
	tolerance time.Duration
	n         int
}

// start returns the first call time that is free and can be reached. Behind slots that may be used later than the burst allows, because
// their holder could not do better, stands a gap of the difference.
func (s State) start(t terms) time.Time {
	free := s.Next.Add(max(0, time.Duration(s.Slack)-t.slack()))
	reachable := t.now.Add(t.reach - t.slack())
	if s.Renewed {
		reachable = t.now.Add(maxAhead)
	}
	if free.After(reachable) {
		return free
	}
	return reachable
}

// lease gives out the next slots, as many as a lease has now, but n at most.
func (s State) lease(t terms, n int) (State, grant) {
	spare := s.Next.Before(t.now)
	s = s.recover(t.Settings, t.now)
	size := max(int(s.Size), 1, s.worthIts(t))
	g := grant{start: s.start(t), interval: interval(s.Rate), tolerance: t.tolerance(), n: min(n, size)}
	if n >= size {
		s.Size = s.resized(g.start.Add(time.Duration(g.n)*g.interval).Sub(t.now), t.round, spare)
	}
	s.Next = g.start.Add(time.Duration(g.n) * g.interval)
	s.Slack = int64(g.tolerance)
	s.Renewed = false
	return s, g
}

// worthIts returns how many slots make up for the gap that has to stand behind a lease if the burst is smaller than what the clock is off.
func (s State) worthIts(t terms) int {
	if s.searching(t.Settings) {
		return 1
	}
	gap := max(0, t.vague-t.slack())
	return int(min(gapShare*gap, maxAhead/2) / interval(s.Rate))
}

// resized returns the size of the next lease. The last slot of this one is about as far away as a round of all replicas takes.
func (s State) resized(round, target time.Duration, spare bool) float64 {
	size := max(s.Size, 1)
	switch {
	case spare:
		return size * fastGrowth
	case round > target*2:
		return max(1, size/fastGrowth)
	case round > target:
		return max(1, size/slowGrowth)
	default:
		return size * slowGrowth
	}
}

// recover lets the rate grow with the time in which it was used up. An idle account learns nothing.
func (s State) recover(settings Settings, now time.Time) State {
	if used := now.Sub(s.Seen); !s.Seen.IsZero() && used > 0 && !s.Next.Before(now) {
		s.Busy += int64(min(used, longestStep))
	}
	if now.After(s.Seen) {
		s.Seen = now
	}
	s.Rate = s.grown()
	if s.Rate >= settings.Ceiling {
		s.Rate, s.Low, s.Busy, s.Knee = settings.Ceiling, settings.Ceiling, 0, 0
	}
	return s
}

// searching tells whether the rate grows fast, so that slots should not be held for long.
func (s State) searching(settings Settings) bool {
	return s.Rate < settings.Ceiling && (s.Knee == 0 || time.Duration(s.Busy) < searching)
}

// grown returns the rate after Busy: doubling each second while no knee is known; else back to a little below the knee in a curve that
// flattens, a long rest there, and a probe that starts flat.
func (s State) grown() float64 {
	busy := time.Duration(s.Busy)
	if s.Knee == 0 {
		return s.Low * math.Exp2(min(busy.Seconds(), 60))
	}
	plateau := max(s.Knee*rest, s.Low)
	switch probe := busy - returning - resting; {
	case busy < returning:
		return plateau - (plateau-s.Low)*cube(1-ratio(busy, returning))
	case probe < 0:
		return plateau
	default:
		return plateau * (1 + cube(min(ratio(probe, probing), 1000)))
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(b) }

func cube(x float64) float64 { return x * x * x }

// refusal is a call that was answered with "too many".
type refusal struct {
	// sent is when it was sent at the latest.
	sent time.Time
	// retryAfter is how long the upstream wants to be left alone; 0 or less if it did not say.
	retryAfter time.Duration
	// part of all calls of the last second met the same.
	part float64
}

// throttled tells what becomes of the state after a refusal. The rate is lowered once for all calls that were on their way under the rate
// that was too high; the time moves forward for each, and never back.
func (s State) throttled(settings Settings, now time.Time, r refusal) State {
	leased := s.Next
	if until := now.Add(r.retryAfter); r.retryAfter > 0 && until.After(s.Next) {
		s.Next = until
	}
	if !r.sent.After(s.Cut) {
		return s
	}
	factor := laterCut
	if s.Knee == 0 || time.Duration(s.Busy) < searching {
		factor = firstCut
	}
	// What was not refused is what the upstream takes, if so much was refused that it can't be chance.
	before := min(s.Rate, settings.Ceiling)
	s.Knee = before
	if r.part > certain {
		s.Knee *= max(1-r.part, leastCut)
	}
	s.Rate = max(min(before*factor, s.Knee*rest), settings.floor())
	s.Low, s.Busy, s.Seen = s.Rate, 0, now
	s.Cut = now
	if leased.After(now) {
		s.Cut = leased
	}
	return s
}
