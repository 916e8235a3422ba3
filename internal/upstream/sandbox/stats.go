package sandbox

import (
	"maps"
	"time"
)

// Stats is a picture of what the sandbox has seen since its start or the last reset.
type Stats struct {
	// Started is when the sandbox was made, by its wall clock. Offsets count from here.
	Started time.Time `json:"started"`
	// Elapsed is the time since then, in seconds.
	Elapsed float64 `json:"elapsedSeconds"`
	// Faults are the faults in force, in the grammar of FaultHelp.
	Faults string `json:"faults"`
	// Providers holds one entry for each provider.
	Providers map[Provider]ProviderStats `json:"providers"`
}

// ProviderStats are the counts of one provider. No key or value in it comes from card data.
type ProviderStats struct {
	// Arrivals is the number of requests, whatever became of them.
	Arrivals uint64 `json:"arrivals"`
	// Forgotten is how many of them are counted but no longer kept one by one.
	Forgotten uint64 `json:"forgotten"`
	// InFlight is how many are being handled, and MaxInFlight the most at once.
	InFlight    int `json:"inFlight"`
	MaxInFlight int `json:"maxInFlight"`
	// CallsPerSecond is the mean over the kept arrivals, from the first to the last; PeakPerSecond the most within one second.
	CallsPerSecond float64 `json:"callsPerSecond"`
	PeakPerSecond  int     `json:"peakPerSecond"`
	// Outcomes counts by class; every class is there.
	Outcomes map[string]uint64 `json:"outcomes"`
	// Reasons counts why requests weren't answered with success, in closed words.
	Reasons map[string]uint64 `json:"reasons"`
	// Fired counts how often faults struck, by kind.
	Fired map[Kind]uint64 `json:"faultsFired"`
	// Accounts counts by mallId or insCode; beyond 4,096 accounts the rest is counted together.
	Accounts map[string]uint64 `json:"accounts"`
}

// Stats returns the counts of this moment.
func (s *Sandbox) Stats() Stats {
	stats := Stats{
		Started:   s.now().Add(-time.Since(s.started)),
		Elapsed:   time.Since(s.started).Seconds(),
		Faults:    FormatFaults(s.Faults()),
		Providers: make(map[Provider]ProviderStats, len(s.ledgers)),
	}
	for p, l := range s.ledgers {
		stats.Providers[p] = l.stats()
	}
	return stats
}

func (l *ledger) stats() ProviderStats {
	arrivals := l.arrivals(nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	st := ProviderStats{
		Arrivals:      l.total - l.base,
		Forgotten:     l.oldest() - l.base,
		InFlight:      l.inFlight,
		MaxInFlight:   l.maxInFlight,
		PeakPerSecond: MaxInWindow(arrivals, time.Second),
		Outcomes:      make(map[string]uint64, len(l.outcomes)),
		Reasons:       make(map[string]uint64, len(l.reasons)),
		Fired:         maps.Clone(l.fired),
		Accounts:      make(map[string]uint64, len(l.names)),
	}
	for o, n := range l.outcomes {
		st.Outcomes[Outcome(o).String()] = n
	}
	for why, n := range l.reasons {
		st.Reasons[string(why)] = n
	}
	for i, name := range l.names {
		if l.counts[i] > 0 && name != "" {
			st.Accounts[name] = l.counts[i]
		}
	}
	if n := len(arrivals); n > 1 && arrivals[n-1] > arrivals[0] {
		st.CallsPerSecond = float64(n-1) / (arrivals[n-1] - arrivals[0]).Seconds()
	}
	return st
}
