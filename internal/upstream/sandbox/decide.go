package sandbox

import "time"

// decision is what the faults in force do to one call.
type decision struct {
	delay time.Duration
	shape shape
	// strike is the fault that shows, or nil for an honest answer.
	strike *armed
	// wait is how long a limit asks the caller to stay away.
	wait time.Duration
}

// is reports whether the fault that shows is of this kind.
func (d *decision) is(k Kind) bool { return d.strike != nil && d.strike.Kind == k }

// down reports whether an outage strikes the call. It is asked first, also for requests that would be refused.
func (x *exchange) down(faults []*armed, f *facts) bool {
	for _, a := range faults {
		if a.role != roleOutage {
			return false // Outages come first in a plan.
		}
		if hit, _ := a.strikes(f); hit {
			x.ledger.fire(a.Kind)
			return true
		}
	}
	return false
}

// decide asks every fault but the outages, in the plan's order. Once a fault shows, others that would hide the answer too are not
// asked any more: their counts and draws wait for a call that they can strike.
func (x *exchange) decide(faults []*armed, f *facts, honest shape) decision {
	d := decision{shape: honest}
	for _, a := range faults {
		hides := a.role != roleShape && a.role != roleDelay
		if a.role == roleOutage || (hides && d.strike != nil) {
			continue
		}
		hit, wait := a.strikes(f)
		if !hit {
			continue
		}
		x.ledger.fire(a.Kind)
		switch a.role {
		case roleDelay:
			d.delay += a.delay()
		case roleShape:
			d.shape.apply(a)
		case roleOutage, roleLimit, roleReplace, roleAlter:
			d.strike, d.wait = a, wait
		}
	}
	return d
}

// delay returns the latency of this strike: the fixed one, or the next draw from the range.
func (a *armed) delay() time.Duration {
	if a.set.low == a.set.high {
		return a.set.low
	}
	spread := draw(^a.seed, a.seen.Load()) * float64(a.set.high-a.set.low)
	return a.set.low + time.Duration(spread)
}
