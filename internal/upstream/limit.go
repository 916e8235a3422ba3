package upstream

import (
	"math"
	"slices"
	"time"
)

// How a limit follows what it learns.
const (
	// windowSize is how many calls are looked at together: the first that were sent in a window. It ends when known of them are done. Of
	// these the fastest third is left out, so that what is compared is the mean of the window's middle half, and a few slow calls say
	// nothing and are not waited for.
	windowSize = 32
	known      = windowSize * 3 / 4
	// tolerance and slack are how much longer than without company calls may take before there are too many: a part of that time, and a
	// time that is nothing but chance on a fast line.
	tolerance = 1.2
	slack     = 5 * time.Millisecond
	// sharpest is the part of the limit that is left at least after one window.
	sharpest = 0.5
	// drillEvery and drillEveryCall are how long it is from one drill to the next, the second in times that a call takes.
	drillEvery     = 30 * time.Second
	drillEveryCall = 100
	// crowded is how many times as long calls take with all their company as with half of it, from which on half may still be too much.
	crowded = 1.5
)

// limit works out how many calls may be under way. It compares how long calls take with how long they take without company: what is beyond
// that is time in the upstream's queue, and more calls would only make it longer. A call that was refused or not answered in time
// lowers the limit at once.
//
// How long calls take without company can't be known while they have some. So every now and then there is a drill: for one window half as many
// calls are let through, and what those take is what the next ones are compared with. A limit on its floor needs no drill.
//
// It has no clock and no lock of its own.
type limit struct {
	floor, ceiling float64
	// value is how many calls may be under way, but for drills.
	value float64
	// alone is how long a call takes without company; 0 before anything is known.
	alone time.Duration
	// crowd is how long calls took in the last window that was no drill.
	crowd time.Duration
	// round numbers the windows from 1. Only calls that were sent in the present one count: those before it were sent under another limit.
	round uint64
	// drill is how many calls may be under way during a drill; 0 outside of one.
	drill float64
	// drillAt is when the next drill begins.
	drillAt time.Time

	took    [known]time.Duration
	sent    int
	done    int
	dropped int
	// peak is how many calls were under way at most in this window.
	peak int
}

// outcome is what a call says about how many calls the upstream can take.
type outcome int

const (
	// silent says nothing: the call never reached the upstream, or was cut short by us.
	silent outcome = iota
	// inTime is a call that was answered.
	inTime
	// overload is a call that was refused because there were too many, not answered in time, or broken by the upstream.
	overload
)

// allowed returns how many calls may be under way now.
func (l *limit) allowed() int {
	if l.drill > 0 {
		return int(l.drill)
	}
	return int(l.value)
}

// send notes that a call is sent, one of so many that are under way, and returns the round in which it counts; 0 for none.
func (l *limit) send(underWay int) uint64 {
	l.peak = max(l.peak, underWay)
	if l.sent >= windowSize {
		return 0
	}
	l.sent++
	return l.round
}

// learn takes in how a call of a round ended. One that was dropped late counts in the next round.
func (l *limit) learn(now time.Time, round uint64, took time.Duration, how outcome) {
	switch {
	case round == 0 || round+1 < l.round:
		return
	case how == overload:
		l.dropped++
	case round < l.round:
		return
	case how == silent:
		l.sent-- // Another one is looked at in its place.
		return
	default:
		l.took[l.done] = took
		l.done++
	}
	if l.done+l.dropped == known {
		l.judge(now)
		l.round++
		l.sent, l.done, l.dropped, l.peak = 0, 0, 0, 0
	}
}

// judge draws the conclusion of a full window.
func (l *limit) judge(now time.Time) {
	if l.round == 1 && l.dropped == 0 {
		return // The first calls found nobody there, and say little of what those after them met.
	}
	took := l.typical()
	if l.isAlone(took) {
		l.alone, l.drillAt = took, now
		if l.isSure(took) {
			l.drillAt = now.Add(max(drillEvery, drillEveryCall*took))
		}
	}
	drilled := l.drill > 0
	l.drill = 0
	if drilled && l.dropped == 0 {
		return // The next window is compared with what was learned.
	}
	l.crowd = took
	l.value = min(max(l.next(took), l.floor), l.ceiling)
	if half := min(l.value, float64(l.peak)) / 2; !now.Before(l.drillAt) && half > l.floor {
		l.drill = half
	}
}

// isAlone tells whether calls that took so long had no company that counts: nothing is known yet, it was a drill, there were no
// more than there always may be, or the upstream has become much faster.
func (l *limit) isAlone(took time.Duration) bool {
	if took == 0 {
		return false
	}
	return l.alone == 0 || l.drill > 0 || float64(l.peak) <= l.floor || took < l.alone/2
}

// isSure tells whether it needs no other drill to know how long a call takes without company: there was hardly any, or a drill, which leaves half,
// has made the difference that an end of the queue makes and not that of a shorter one.
func (l *limit) isSure(took time.Duration) bool {
	drilled := l.drill > 0 && float64(l.crowd) <= crowded*float64(took)+float64(2*slack)
	return drilled || float64(l.peak) <= l.floor
}

// next returns the limit after a window in which calls took so long. It grows only if it was used, and not while calls are
// dropped; all calls dropped halve it.
func (l *limit) next(took time.Duration) float64 {
	next := l.value * (1 - sharpest*float64(l.dropped)/known)
	if fair := tolerance*float64(l.alone) + float64(slack); float64(took) > fair {
		next *= max(fair/float64(took), sharpest)
	}
	if l.dropped == 0 && 2*l.peak >= int(l.value) {
		next += math.Sqrt(l.value) / 2
	}
	return next
}

// typical returns how long the window's calls took, without its fastest and slowest quarters; 0 if none was answered.
func (l *limit) typical() time.Duration {
	if l.done == 0 {
		return 0
	}
	slices.Sort(l.took[:l.done])
	middle := l.took[l.done/3 : l.done]
	sum := time.Duration(0)
	for _, took := range middle {
		sum += took
	}
	return sum / time.Duration(len(middle))
}
