package gauge

import "time"

// kept is how many readings rates are taken over. At one each 15 seconds that is a minute: a single burst starts no replica.
const kept = 5

// Rates tells from successive figures how many messages come and go. It is for one goroutine.
type Rates struct {
	figures []Figures
}

// Rate is how many messages of a queue come and how many are delivered, in a second.
type Rate struct {
	Arrivals, Handled float64
}

// Add takes over the newest figures. Those without queues say nothing.
func (r *Rates) Add(f Figures) {
	if f.Queues == nil {
		return
	}
	if r.figures = append(r.figures, f); len(r.figures) > kept {
		r.figures = r.figures[1:]
	}
}

// Of returns the rates of a queue, by its provider, lane and kind. They are zero until there are two readings. What comes is what was delivered
// and what the backlog grew by. A consumer that was made anew counts from zero, which would be a negative rate: then it is 0.
func (r *Rates) Of(q Queue) Rate {
	if len(r.figures) < 2 {
		return Rate{}
	}
	first, last := r.figures[0], r.figures[len(r.figures)-1]
	before, after := find(first, q), find(last, q)
	took := last.At.Sub(first.At)
	if before == nil || after == nil || took <= 0 {
		return Rate{}
	}
	handled := perSecond(before.Delivered, after.Delivered, took)
	return Rate{Arrivals: perSecond(before.Delivered+before.Backlog, after.Delivered+after.Backlog, took), Handled: handled}
}

func find(f Figures, like Queue) *Queue {
	for i, q := range f.Queues {
		if q.Provider == like.Provider && q.Lane == like.Lane && q.Kind == like.Kind {
			return &f.Queues[i]
		}
	}
	return nil
}

func perSecond(before, after uint64, took time.Duration) float64 {
	return float64(less(after, before)) / took.Seconds()
}
