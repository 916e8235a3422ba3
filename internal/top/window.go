package top

import (
	"math"
	"time"

	"discountquery.example/worker/internal/query"
)

const (
	// span is how far back results are remembered, recent how far back they count for rates, both in seconds.
	span   = 60
	recent = 10
	// bins is in how many ranges durations are counted. Each is wider than the one before by step, so a duration is known to within half of
	// that; the last one begins beyond 10 days.
	bins = 270
	step = 1.08
)

// tally counts results.
type tally struct {
	completed, failed uint64
	// took counts durations by their bin.
	took [bins]uint32
	// recentCompleted and recentFailed are those of the last seconds.
	recentCompleted, recentFailed uint64
}

// window counts the results of each of the last seconds. Its size does not depend on how many there are.
type window struct {
	seconds [span]second
}

// second is what happened in one second of Unix time.
type second struct {
	at int64
	tally
}

func (w *window) add(at time.Time, status query.Status, took time.Duration) {
	unix := at.Unix()
	if unix < 0 {
		return
	}
	s := &w.seconds[unix%span]
	if s.at > unix {
		return // That second is long over.
	}
	if s.at != unix {
		*s = second{at: unix}
	}
	if status == query.Completed {
		s.completed++
	} else {
		s.failed++
	}
	s.took[binOf(took)]++
}

// sum returns what the window holds now. The present second is not over, so it does not count for the rates.
func (w *window) sum(now time.Time) *tally {
	sum := &tally{}
	unix := now.Unix()
	for i := range w.seconds {
		s := &w.seconds[i]
		if s.at <= unix-span || s.at > unix {
			continue
		}
		sum.merge(&s.tally)
		if s.at >= unix-recent && s.at < unix {
			sum.recentCompleted += s.completed
			sum.recentFailed += s.failed
		}
	}
	return sum
}

func (t *tally) merge(other *tally) {
	t.completed += other.completed
	t.failed += other.failed
	t.recentCompleted += other.recentCompleted
	t.recentFailed += other.recentFailed
	for i, count := range other.took {
		t.took[i] += count
	}
}

// rates returns the tally for people.
func (t *tally) rates() Rates {
	return Rates{
		Completed: float64(t.recentCompleted) / recent, Failed: float64(t.recentFailed) / recent, Count: t.completed + t.failed,
		P50: t.quantile(0.50), P99: t.quantile(0.99),
	}
}

// quantile returns the milliseconds that a share of the durations takes at most, nil if there are none.
func (t *tally) quantile(share float64) *float64 {
	total := t.completed + t.failed
	rank := uint64(math.Ceil(share * float64(total)))
	for bin, count := range t.took {
		if uint64(count) >= rank && rank > 0 {
			middle := middleOf(bin)
			return &middle
		}
		rank -= min(uint64(count), rank)
	}
	return nil
}

// binOf returns in which bin a duration counts. The first one holds all below a millisecond.
func binOf(d time.Duration) int {
	ms := float64(d) / float64(time.Millisecond)
	if ms < 1 {
		return 0
	}
	return min(1+int(math.Log(ms)/math.Log(step)), bins-1)
}

// middleOf returns the milliseconds in the middle of a bin.
func middleOf(bin int) float64 {
	if bin == 0 {
		return 0.5
	}
	low := math.Pow(step, float64(bin-1))
	return math.Round(low*(1+step)/2*100) / 100
}
