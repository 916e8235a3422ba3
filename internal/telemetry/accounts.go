package telemetry

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// answered is the kind of an attempt that did not fail.
const answered = "answered"

// Attempt counts one call to the upstream by a provider's account, whose name comes from the configuration. trace is the id of the trace in
// which the call is recorded, "" for none.
func (m *Metrics) Attempt(provider query.Provider, account string, took time.Duration, err error, trace string) {
	kind := answered
	if err != nil {
		kind = fault.KindOf(err).String()
	}
	m.attempts.WithLabelValues(string(provider), account, kind).Inc()
	timed(m.took.WithLabelValues(string(provider), account), took, trace)
}

// ExpectAccount makes the counts of a provider's account exist at zero.
func (m *Metrics) ExpectAccount(provider query.Provider, account string) {
	for _, kind := range fault.Kinds() {
		m.attempts.WithLabelValues(string(provider), account, kind.String())
	}
	m.attempts.WithLabelValues(string(provider), account, answered)
	m.breaker.WithLabelValues(string(provider), account)
	m.took.WithLabelValues(string(provider), account)
	m.pace.WithLabelValues(string(provider), account)
	m.limit.WithLabelValues(string(provider), account)
	m.lost.WithLabelValues(string(provider), account)
}

// ExpectPaceChanges makes the counts of the changes of an account's pace exist at zero.
func (m *Metrics) ExpectPaceChanges(provider query.Provider, account string, whys ...string) {
	for _, why := range whys {
		m.changes.WithLabelValues(string(provider), account, why)
	}
}

// PaceChanged counts a change of an account's pace and shows the rate since, in calls per second.
func (m *Metrics) PaceChanged(provider query.Provider, account, why string, rate float64) {
	m.changes.WithLabelValues(string(provider), account, why).Inc()
	m.pace.WithLabelValues(string(provider), account).Set(rate)
}

// ConcurrencyLimit shows how many calls of an account may be under way at once.
func (m *Metrics) ConcurrencyLimit(provider query.Provider, account string, limit int) {
	m.limit.WithLabelValues(string(provider), account).Set(float64(limit))
}

// PaceTrouble counts a time when an account's pace could not be read or written.
func (m *Metrics) PaceTrouble(provider query.Provider, account string) {
	m.lost.WithLabelValues(string(provider), account).Inc()
}

// Breaker shows how much of an account's calls its breaker lets through: 1 for none, 0.5 for single ones, 0 for all.
func (m *Metrics) Breaker(provider query.Provider, account string, open float64) {
	m.breaker.WithLabelValues(string(provider), account).Set(open)
}

// account is a provider's account as a label.
type account struct {
	provider query.Provider
	name     string
}

// control is what operators and upstreams said about the pace of the accounts.
type control struct {
	ceiling *prometheus.GaugeVec
	stops   *stops
}

// stops knows which accounts are stopped, and until when.
type stops struct {
	mu     sync.Mutex
	paused map[account]bool
	until  map[account]time.Time
}

func newControl() control {
	return control{
		ceiling: gauge("pace_ceiling_per_second",
			"The most calls per second that the fleet may make, as configured or as an operator set it; 0 for no limit.", "provider", "account"),
		stops: &stops{paused: map[account]bool{}, until: map[account]time.Time{}},
	}
}

func (c control) register(registry *prometheus.Registry) {
	registry.MustRegister(c.ceiling, scraped("pace_paused",
		"Whether all calls of the account are stopped, by an operator or for a time by the upstream: 1 or 0.",
		func() []sample { return c.stops.samples(time.Now()) }, "provider", "account"))
}

// samples returns which accounts are stopped at a time. A stop until a time ends without anybody saying so.
func (s *stops) samples(now time.Time) []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []sample
	for one, paused := range s.paused {
		all = append(all, sample{value: truth(paused || now.Before(s.until[one])), labels: []string{string(one.provider), one.name}})
	}
	return all
}

// PaceControl shows what holds for an account's pace: its ceiling in calls per second, 0 for no limit, whether it is paused, and until when
// the upstream does not want to be called, zero if it did not say.
func (m *Metrics) PaceControl(provider query.Provider, name string, ceiling float64, paused bool, blockedUntil time.Time) {
	m.control.ceiling.WithLabelValues(string(provider), name).Set(ceiling)
	s := m.control.stops
	s.mu.Lock()
	defer s.mu.Unlock()
	one := account{provider: provider, name: name}
	s.paused[one], s.until[one] = paused, blockedUntil
}
