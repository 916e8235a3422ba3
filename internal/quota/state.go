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

// room returns how late after its time a slot may be used. The rest of the slack is kept for what happens to calls on their way.
func (s Settings) room() time.Duration { return s.slack() / 2 }

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
	// probing is how long a probe takes to double the rate. It starts almost flat: a twentieth more after a third of it. A knee that was
	// guessed is not rested at, and is probed in guessing.
	probing  = 30 * time.Second
	guessing = 15 * time.Second
	// longestStep bounds the time that counts as use between two leases, unless one call takes longer: a rate that grew in one leap would be
	// found wrong too late. For the same reason it grows by largestStep at most where calls are seconds apart.
	longestStep = time.Second / 4
	largestStep = 2
	// calming is how much of the length of a lease remains in the next one, crowding by how much it grows when replicas get into each
	// other's way.
	calming  = 0.98
	crowding = 1.05
	// mostReplicas is more than there ever are.
	mostReplicas = 100_000
	// fewer is what remains of the number of replicas when nobody came to lease in time.
	fewer = 0.8
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
	// Block is how many nanoseconds one lease covers, and Trip how many it takes until its slots are in hand: the same for all replicas,
	// because who leases earlier or more than the others leaves nothing to them.
	Block int64 `json:"block_ns,omitzero"`
	Trip  int64 `json:"trip_ns,omitzero"`
	// Leased is how many nanoseconds were ever leased, without the gaps in between.
	Leased int64 `json:"leased_ns,omitzero"`
	// Replicas is about how many replicas lease.
	Replicas float64 `json:"replicas,omitzero"`
	// Slack is how many nanoseconds after its time a call that was leased last may be made.
	Slack int64 `json:"slack_ns,omitzero"`
	// Low is the rate at the last decrease, or at the start, and Busy for how many nanoseconds the rate was used up since.
	Low  float64 `json:"low"`
	Busy int64   `json:"busy_ns,omitzero"`
	// Knee is what the upstream takes at most, as far as is known: the rate at which it throttled last, or less if Guessed; 0 if it never did.
	Knee float64 `json:"knee,omitzero"`
	// Guessed tells that Knee was computed from the part of the calls that were refused. That is a matter of chance where they are few.
	Guessed bool `json:"guessed,omitzero"`
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
	whole := s.Rate >= slowest && s.Low >= slowest && s.Knee >= 0 && s.Replicas >= 0 && min(s.Slack, s.Busy, s.Block, s.Trip, s.Leased) >= 0
	whole = whole && s.Replicas <= mostReplicas && s.Leased <= math.MaxInt64/2
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
	// pressing tells that somebody waits for these slots.
	pressing bool
	// others is what the others have leased since this replica's last turn, if round.
	others time.Duration
	round  bool
	// raced tells that others were faster, more than once.
	raced bool
}

// tolerance returns how long after its time a slot may be used: as long as the burst allows, or as it takes to hit it at all.
func (t terms) tolerance() time.Duration { return max(t.room(), t.vague) }

// grant is a row of slots: call times that nobody else has.
type grant struct {
	start     time.Time
	interval  time.Duration
	tolerance time.Duration
	n         int
}

// free returns the first call time that nobody holds. Behind slots that may be used later than the burst allows, because their holder could
// not do better, stands a gap of the difference.
func (s State) free(t terms) time.Time { return s.Next.Add(max(0, time.Duration(s.Slack)-t.slack())) }

// start returns the first call time that is free and can be reached.
func (s State) start(t terms) time.Time {
	reachable := t.now.Add(t.reach - t.room())
	if s.Renewed {
		reachable = t.now.Add(maxAhead)
	}
	if free := s.free(t); free.After(reachable) {
		return free
	}
	return reachable
}

// block returns the time that one lease covers: not much less than a lease takes, and more while replicas get into each other's way.
func (s State) block() time.Duration {
	return min(max(time.Duration(s.Block), s.trip()*3/4, shortest), longest)
}

// trip returns how long it takes until leased slots are in hand. It is bounded, because one replica must not hold all of them up.
func (s State) trip() time.Duration { return min(time.Duration(s.Trip), longest) }

// lead returns how far ahead of the present the first free call time is at most when a lease begins. It is less than 0 where the burst
// leaves room enough: then slots are leased when their time has come already, and what is free can be had at once by those that
// somebody waits for. What a lease takes, a block in case somebody misses his turn, and at least a quarter of the room remain.
func (s State) lead(settings Settings) time.Duration {
	return max(s.block()+s.trip(), settings.room()/4) - settings.room()
}

// limit returns how far ahead of the present the first free call time may be for a lease to begin. Who presses goes before those who
// take their turn.
func (s State) limit(t terms) time.Duration {
	lead := s.lead(t.Settings)
	if !t.pressing {
		return lead
	}
	return min(max(lead, 0)+2*max(s.block(), interval(s.Rate)), longestPress)
}

// early returns how much too early it is to lease; less than 0 if it is not.
func (s State) early(t terms) time.Duration {
	return max(s.free(t).Sub(t.now), -farAhead) - s.limit(t)
}

// fits returns how many slots there are from the given start to the end of the block behind the limit.
func (s State) fits(t terms, start time.Time) int {
	step := interval(s.Rate)
	left := t.now.Add(s.limit(t) + s.block()).Sub(start)
	return max(int((left+step-1)/step), s.worthIts(t), 1)
}

// lease gives out the next slots, n at most.
func (s State) lease(t terms, n int) (State, grant) {
	start, late := s.start(t), s.early(t)+s.block() < 0
	s = s.recover(t, n >= s.fits(t, start))
	g := grant{start: start, interval: interval(s.Rate), tolerance: t.tolerance(), n: min(n, s.fits(t, start))}
	took := time.Duration(g.n) * g.interval
	s.Next, s.Leased = g.start.Add(took), s.Leased+int64(took)
	s.Slack = int64(g.tolerance)
	s.Renewed = false
	s.Trip = int64(max(t.reach+t.vague, s.trip()*15/16))
	s.Block = int64(float64(s.block()) * calming)
	if t.raced {
		s.Block = int64(float64(s.block()) * crowding)
	}
	if !t.pressing {
		s.Replicas = s.counted(t, took, late)
	}
	return s, g
}

// counted returns about how many replicas lease, after a turn in which one of them took so much. One that gets a part p of all slots makes a
// part p of all leases, and says 1/p: the average of what they say is how many they are, however uneven the parts. A lease that came late
// tells that somebody waited for others who are gone.
func (s State) counted(t terms, took time.Duration, late bool) float64 {
	count := s.Replicas
	if late {
		count *= fewer
	}
	if t.round {
		count += (min(ratio(t.others+took, took), mostReplicas) - count) / 8
	}
	return count
}

// worthIts returns how many slots make up for the gap that has to stand behind a lease if the burst is smaller than what the clock is off.
func (s State) worthIts(t terms) int {
	if s.searching(t.Settings) {
		return 1
	}
	gap := max(0, t.vague-t.slack())
	return int(min(gapShare*gap, maxAhead/2) / interval(s.Rate))
}

// recover lets the rate grow with the time in which it was used up: slots were leased one behind the other, and all that there were. Whether
// more are wanted can't be seen where calls are seconds apart: who would have to wait for the next one hears that it is too far away, and does
// not wait. An account that is idle, or has enough, learns nothing.
func (s State) recover(t terms, short bool) State {
	busy := !s.Seen.IsZero() && !s.Next.Before(t.now.Add(s.lead(t.Settings)-s.block()/2))
	if used := t.now.Sub(s.Seen); busy && short && used > 0 {
		s.Busy += int64(min(used, max(longestStep, interval(s.Rate))))
		s.Rate = min(s.grown(), s.Rate*largestStep)
	}
	if t.now.After(s.Seen) && (short || !busy) {
		s.Seen = t.now
	}
	if s.Rate >= t.Ceiling {
		s.Rate, s.Low, s.Busy, s.Knee, s.Guessed = t.Ceiling, t.Ceiling, 0, 0, false
	}
	return s
}

// searching tells whether the rate grows fast, so that slots should not be held for long.
func (s State) searching(settings Settings) bool {
	return s.Rate < settings.Ceiling && (s.Knee == 0 || time.Duration(s.Busy) < searching)
}

// grown returns the rate after Busy: doubling each second while no knee is known; else back to a little below the knee in a curve that
// flattens, a long rest there, and a probe that starts flat. There is no rest below a knee that was guessed, and the probe is quicker.
func (s State) grown() float64 {
	busy := time.Duration(s.Busy)
	if s.Knee == 0 {
		return s.Low * math.Exp2(min(busy.Seconds(), 60))
	}
	plateau, rested, double := max(s.Knee*rest, s.Low), returning+resting, probing
	if s.Guessed {
		rested, double = returning, guessing
	}
	switch {
	case busy < returning:
		return plateau - (plateau-s.Low)*cube(1-ratio(busy, returning))
	case busy < rested:
		return plateau
	default:
		return plateau * (1 + cube(min(ratio(busy-rested, double), 1000)))
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
	s.Knee, s.Guessed = before, r.part > certain
	if s.Guessed {
		s.Knee *= max(1-r.part, leastCut)
	}
	s.Rate = max(min(before*factor, s.Knee*rest), settings.floor())
	s.Low, s.Busy, s.Seen = s.Rate, 0, now
	s.Cut = now
	if last := leased.Add(time.Duration(s.Slack)); last.After(now) {
		s.Cut = last
	}
	return s
}
