package upstream

import (
	"container/list"

	"discountquery.example/worker/internal/query"
)

// turn says whose turn it is when a place becomes free: a lower one goes first.
type turn int

// The turns. They are those of the pace, so that the line for places does not turn its order round.
const (
	// askers are connected and wait for their replies.
	askers turn = iota
	// waited are queries that somebody waits for.
	waited
	// patient are bulk queries and what operators replay.
	patient
)

// turns is how many there are.
const turns = 3

// patientShare is the part of all places that goes to patient queries, however many others wait, where nothing else is said.
const patientShare = 0.1

// turnOf returns the turn of a query.
func turnOf(q *query.Query) turn {
	switch {
	case q.Direct:
		return askers
	case q.Lane == query.Bulk || q.Replay != nil:
		return patient
	default:
		return waited
	}
}

// line holds those who wait for a place: within a turn, who came first goes first. It is not safe for use by several goroutines.
type line struct {
	waiting [turns]list.List
	// share is the part of all places that patient queries get if they want them, and credit what they have saved up of it while they waited.
	share, credit float64
	length        int
}

// waiter is one who waits for a place.
type waiter struct {
	turn    turn
	granted chan struct{}
	// spot is where it stands; nil when it does not wait any more.
	spot *list.Element
}

// push puts a new waiter behind the others of its turn.
func (l *line) push(whose turn) *waiter {
	w := &waiter{turn: whose, granted: make(chan struct{})}
	w.spot = l.waiting[whose].PushBack(w)
	l.length++
	return w
}

// pop takes out the waiter whose turn it is.
func (l *line) pop() (*waiter, bool) {
	if l.length == 0 {
		return nil, false
	}
	whose := l.first()
	w, _ := l.waiting[whose].Front().Value.(*waiter)
	l.remove(w)
	l.credit += l.share
	switch {
	case l.waiting[patient].Len() == 0:
		l.credit = 0
	case whose == patient:
		l.credit = max(l.credit-1, 0)
	}
	return w, true
}

// patientOnly tells that nobody waits but patient ones.
func (l *line) patientOnly() bool { return l.length == l.waiting[patient].Len() }

// first returns whose turn it is. Somebody must wait.
func (l *line) first() turn {
	const rounding = 1e-9 // Ten times a tenth is a little less than one.
	if l.waiting[patient].Len() > 0 && l.credit+l.share >= 1-rounding {
		return patient
	}
	for whose := range turn(turns) {
		if l.waiting[whose].Len() > 0 {
			return whose
		}
	}
	return patient
}

// remove takes a waiter out, and tells whether it still waited.
func (l *line) remove(w *waiter) bool {
	if w.spot == nil {
		return false
	}
	l.waiting[w.turn].Remove(w.spot)
	w.spot = nil
	l.length--
	return true
}
