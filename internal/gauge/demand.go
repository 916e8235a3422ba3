package gauge

import (
	"math"
	"time"
)

// Limit says what keeps waiting messages waiting.
type Limit string

// The limits.
const (
	// LimitNone is that next to nothing waits.
	LimitNone Limit = "none"
	// LimitUpstream is that an upstream takes no more calls than it gets: more replicas would help nobody.
	LimitUpstream Limit = "upstream"
	// LimitWorkers is that the upstream would take more calls than the replicas make.
	LimitWorkers Limit = "workers"
)

// Limits returns every limit, for metrics and tests.
func Limits() []Limit { return []Limit{LimitNone, LimitUpstream, LimitWorkers} }

// How soon a backlog should be gone. Who waits for an interactive query waits for seconds, and a new replica is there within a minute at
// best: to plan for less would start replicas that find nothing left. Nobody waits for a bulk query; ten minutes let a batch go through on
// few replicas and still be done long before its lane's horizon of a day.
const (
	drainInteractive = time.Minute
	drainBulk        = 10 * time.Minute
)

const (
	// useful is the part of its slots that a replica is planned to use. The rest is for what does not come evenly.
	useful = 0.8
	// usedUp is the part of what an upstream takes from which on it counts as used up: deliveries are counted, and some of them make
	// more than one call.
	usedUp = 0.8
	// mostReplicas bounds the answer where nothing else does.
	mostReplicas = 10_000
	// noticeable is how much must wait to count: what is handled in this time. Even a queue that nobody is behind on holds some.
	noticeable = time.Second
)

// Work is what there is to do in one queue, and how fast a replica does it.
type Work struct {
	Provider string
	// Bulk tells that nobody waits for it.
	Bulk bool
	// Arrivals is how many messages come in a second, Handled how many the whole fleet takes in a second.
	Arrivals, Handled float64
	// Backlog is how many wait.
	Backlog uint64
	// Hold is how long a message holds a slot on average, without the time in which it only waits for the upstream's pace, and Waited
	// that time.
	Hold, Waited time.Duration
	// Slots is how many messages of the queue one replica holds at once.
	Slots int
}

// Demand is how many replicas could do useful work, at least one, and what limits the work now.
type Demand struct {
	Replicas int
	Limit    Limit
}

// Replicas says how many replicas could do useful work. takes is how many calls a second each provider takes now, over all its accounts:
// nothing while it is down or paused, so that an outage starts no replicas, and +Inf without a limit. A provider that is missing takes nothing.
//
// By Little's law a queue needs as many slots as it has messages to handle in a second, times the seconds that each holds one. Every replica
// has slots of its own for each queue, which no other queue can use: the queue that needs most replicas says how many, and the others
// find room on them. What is to be handled is what comes and the backlog over the time in which it should be gone, but never more than
// the provider takes. That each of a provider's queues is given all of that is more than they can have together, but only so does a
// longer backlog of one queue never ask for fewer replicas.
func Replicas(work []Work, takes map[string]float64) Demand {
	need := 1.0
	for _, w := range work {
		need = max(need, w.replicas(takes[w.Provider]))
	}
	return Demand{Replicas: int(math.Ceil(min(need, mostReplicas))), Limit: limit(work, takes)}
}

// wanted returns how many messages a second should be handled.
func (w Work) wanted() float64 {
	drain := drainInteractive
	if w.Bulk {
		drain = drainBulk
	}
	return w.Arrivals + float64(w.Backlog)/drain.Seconds()
}

// replicas returns how many replicas one queue could use if its provider takes that many calls a second.
func (w Work) replicas(takes float64) float64 {
	return min(w.wanted(), takes) * w.Hold.Seconds() / (float64(max(w.Slots, 1)) * useful)
}

// limit says what keeps waiting messages waiting. Where several providers differ, the one that more replicas would help counts.
func limit(work []Work, takes map[string]float64) Limit {
	found := LimitNone
	for _, group := range providers(work) {
		switch limitOf(group, takes[group[0].Provider]) {
		case LimitWorkers:
			return LimitWorkers
		case LimitUpstream:
			found = LimitUpstream
		case LimitNone:
		}
	}
	return found
}

// limitOf says what keeps the messages of one provider waiting. An upstream is used up if it gets the calls that it takes, and also if
// messages wait for their turn for longer than they are worked on.
func limitOf(work []Work, takes float64) Limit {
	var backlog, handled float64
	var hold, waited time.Duration
	for _, w := range work {
		backlog += float64(w.Backlog)
		handled += w.Handled
		hold, waited = max(hold, w.Hold), max(waited, w.Waited)
	}
	switch {
	case backlog <= handled*noticeable.Seconds():
		return LimitNone
	case handled >= usedUp*takes || waited > hold: // Also if it takes nothing.
		return LimitUpstream
	default:
		return LimitWorkers
	}
}

// providers groups the work by its provider.
func providers(work []Work) [][]Work {
	var groups [][]Work
	index := map[string]int{}
	for _, w := range work {
		i, known := index[w.Provider]
		if !known {
			i = len(groups)
			index[w.Provider] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], w)
	}
	return groups
}
