package quota

import "time"

// turns tell when a replica leases slots that nobody waits for. The replicas take turns, though nobody is in charge: each leaves the next leases
// to the others, as many as there are replicas but for atTheDoor. Those look at the entry at the same time, and one of them is first.
type turns struct {
	// turn is the tick of the next turn, looked that of the last look at the entry.
	turn, looked time.Duration
	// last is what had been leased in all when this replica had its last turn, in nanoseconds; 0 if it never had one.
	last int64
}

// atTheDoor is how many replicas look at the entry at the same time, so that it does not matter if one of them is gone.
const atTheDoor = 3

// next returns the tick at which the entry is worth a look. Those whose turn comes first may be gone.
func (l *turns) next() time.Duration { return min(l.turn, l.looked+trusting) }

// may tells whether to lease now, and if not, how long to wait before anything else is done. Before its turn a replica leases only what the
// others seem to have left; at its turn it waits until the time has come.
func (l *turns) may(s State, t terms, tick time.Duration) (ok bool, pause time.Duration) {
	early := s.early(t)
	l.looked = tick
	switch {
	case s.Renewed:
		return true, 0
	case t.pressing:
		return early <= 0, early + jittered(s.block())
	case tick < l.turn:
		return early+s.block() <= 0, 0
	case early > 0:
		l.turn = tick + early + jittered(s.block()/4)
	}
	return early <= 0, 0
}

// round returns what the others have leased since this replica's last turn, or false if there is no telling.
func (l *turns) round(s State) (others time.Duration, ok bool) {
	return time.Duration(max(0, s.Leased-l.last)), l.last > 0 && l.looked-l.turn < trusting
}

// leased notes a lease from the state before to the one after it, and finds out when the next turn comes. trip is how long a look takes.
func (l *turns) leased(before, after State, t terms, server span, trip time.Duration) {
	took := time.Duration(after.Leased - before.Leased)
	if t.pressing {
		l.last += int64(took)
		return
	}
	l.last = after.Leased
	var wait time.Duration
	block := after.block()
	switch alone := t.round && t.others == 0; {
	case alone:
		// Others may wait for their turn, and have to look at the entry first.
		wait = block/4 + trip
	case after.Replicas > atTheDoor:
		wait = time.Duration((after.Replicas - atTheDoor) * float64(max(took, shortest)))
	default:
		wait = block/2 + 2*trip
	}
	l.turn = server.tick(after.Next.Add(wait-after.lead(t.Settings))) - server.width()
}
