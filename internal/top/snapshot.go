package top

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/gauge"
)

// Snapshot is everything at one moment. A part that could not be had is empty, and Problems says which.
type Snapshot struct {
	At       time.Time `json:"at"`
	Accounts []Account `json:"accounts"`
	Lanes    []Lane    `json:"lanes"`
	// Scheduled is how many retries wait for their time; nil if that is not known.
	Scheduled *uint64   `json:"scheduledRetries,omitempty"`
	Dead      []Dead    `json:"deadLetters"`
	Streams   []Stream  `json:"streams"`
	Replicas  []Replica `json:"replicas"`
	Replays   []Batch   `json:"replays"`
	Problems  []string  `json:"problems"`
}

// Rates are how results came in.
type Rates struct {
	// Completed and Failed are results per second over the last ten seconds.
	Completed float64 `json:"completedPerSecond"`
	Failed    float64 `json:"failedPerSecond"`
	// Count is how many results there were in the last minute, P50 and P99 how long half and all but a hundredth of them took at most, in
	// milliseconds, to within 4 percent; nil if there were none.
	Count uint64   `json:"lastMinute"`
	P50   *float64 `json:"p50Ms,omitempty"`
	P99   *float64 `json:"p99Ms,omitempty"`
}

// Account is one account at an upstream.
type Account struct {
	Account string `json:"account"`

	Rates

	// Pace is nil if it is not known.
	Pace *Pace `json:"pace,omitempty"`
	// Breakers counts the replicas by the state of their breaker.
	Breakers map[string]int `json:"breakers,omitempty"`
}

// Pace is how fast an account is called by all replicas together, in calls per second.
type Pace struct {
	Account string `json:"account"`
	// Ceiling is the most that is called: configured, or set by somebody; 0 for no limit. Now is the present rate, 0 if nobody has called yet.
	Ceiling float64 `json:"ceiling"`
	Now     float64 `json:"now"`
	// Paused tells that somebody stopped it, BlockedUntil when the upstream wants to be called again, and Broken that it can't be read.
	Paused       bool      `json:"paused"`
	BlockedUntil time.Time `json:"blockedUntil,omitzero"`
	Broken       bool      `json:"broken,omitempty"`
}

// Lane is what waits in one lane of a provider.
type Lane struct {
	Provider string `json:"provider"`
	Lane     string `json:"lane"`
	// Waiting is how many queries nobody has taken yet, Due how many retries, and InFlight how many of both are being asked.
	Waiting  uint64 `json:"waiting"`
	Due      uint64 `json:"dueRetries"`
	InFlight uint64 `json:"inFlight"`
	// Oldest is how long the oldest of them has been there, in milliseconds.
	Oldest int64 `json:"oldestMs"`

	Rates
}

// Dead is how many queries of a provider died of one reason.
type Dead struct {
	Provider string `json:"provider"`
	Reason   string `json:"reason"`
	Count    uint64 `json:"count"`
	// Change is how many more, or fewer, they are than at the first snapshot.
	Change int64 `json:"change"`
}

// Stream is how full a stream is, from 0 to 1.
type Stream struct {
	Name     string  `json:"name"`
	Messages uint64  `json:"messages"`
	Full     float64 `json:"full"`
}

// Replica is one worker.
type Replica struct {
	ID      string    `json:"id"`
	Started time.Time `json:"started"`

	ask.Replica
}

// Batch is a replay at work.
type Batch struct {
	ID        string    `json:"id"`
	Total     int       `json:"total"`
	Seen      int       `json:"seen"`
	Published int       `json:"published"`
	Rate      float64   `json:"rate"`
	Actor     string    `json:"actor"`
	Updated   time.Time `json:"updated"`
}

func replicasOf(found []ask.Found) []Replica {
	all := make([]Replica, 0, len(found))
	for _, one := range found {
		all = append(all, Replica{ID: one.ID, Started: one.Started, Replica: one.Replica})
	}
	return all
}

// takeFigures fills in what the broker holds.
func (s *Snapshot) takeFigures(f gauge.Figures) {
	at := map[[2]string]int{}
	for _, q := range f.Queues {
		key := [2]string{q.Provider, q.Lane}
		index, known := at[key]
		if !known {
			index = len(s.Lanes)
			at[key] = index
			s.Lanes = append(s.Lanes, Lane{Provider: q.Provider, Lane: q.Lane})
		}
		lane := &s.Lanes[index]
		if q.Kind == gauge.QueueRetry {
			lane.Due += q.Backlog
		} else {
			lane.Waiting += q.Backlog
		}
		lane.InFlight += q.AckPending
		lane.Oldest = max(lane.Oldest, q.OldestAge.Milliseconds())
	}
	slices.SortFunc(s.Lanes, func(a, b Lane) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), -cmp.Compare(a.Lane, b.Lane)) // Interactive before bulk.
	})
	if f.Queues != nil {
		s.Scheduled = &f.Scheduled
	}
	for _, stream := range f.Streams {
		s.Streams = append(s.Streams, Stream{Name: stream.Name, Messages: stream.Messages, Full: stream.Full})
	}
}

// countDead fills in the dead letters and what has changed since the first snapshot.
func (t *Top) countDead(s *Snapshot, f gauge.Figures) {
	if t.first == nil && f.Dead != nil {
		t.first = map[letters]uint64{}
		for _, one := range f.Dead {
			t.first[letters{one.Provider, one.Reason}] = one.Count
		}
	}
	for _, one := range f.Dead {
		before := t.first[letters{one.Provider, one.Reason}]
		s.Dead = append(s.Dead, Dead{
			Provider: one.Provider, Reason: one.Reason, Count: one.Count, Change: int64(one.Count) - int64(before), //nolint:gosec // Counts are far below.
		})
	}
}

// breakers counts the replicas by the state of each account's breaker.
func (s *Snapshot) breakers() map[string]map[string]int {
	all := map[string]map[string]int{}
	for _, replica := range s.Replicas {
		for _, account := range replica.Accounts {
			if all[account.Account] == nil {
				all[account.Account] = map[string]int{}
			}
			all[account.Account][account.Breaker]++
		}
	}
	return all
}

// accountNames returns the configured accounts and, behind them, others that had results.
func (t *Top) accountNames(seen map[string]*tally) []string {
	names := slices.Sorted(slices.Values(t.Accounts))
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
