package telemetry

import "github.com/prometheus/client_golang/prometheus"

// KeyMetrics counts what is done with keys. Its labels are the ids of the worker's own keys, which are public, and closed words. It may be
// used by many goroutines.
type KeyMetrics struct {
	opened  *prometheus.CounterVec
	reloads *prometheus.CounterVec
}

// What became of changed key files.
const (
	keysReplaced = "replaced"
	keysRefused  = "refused"
)

// unknownKey is the label for every key that the worker does not hold: what a stranger writes is never a label.
const unknownKey = "unknown"

// NewKeyMetrics returns metrics that are served with the others. Those of the given sources of keys exist at zero from the start.
func NewKeyMetrics(registry prometheus.Registerer, sources ...string) *KeyMetrics {
	m := &KeyMetrics{
		opened:  counter("sealed_opened_total", "Sealed queries and scheduled retries that were opened, by the key they were sealed to.", "kid"),
		reloads: counter("key_reloads_total", "Changes of key files, by whether the new keys were taken.", "source", "outcome"),
	}
	registry.MustRegister(m.opened, m.reloads)
	m.Expect(unknownKey)
	for _, source := range sources {
		m.reloads.WithLabelValues(source, keysReplaced)
		m.reloads.WithLabelValues(source, keysRefused)
	}
	return m
}

// Expect makes the counts of keys exist at zero.
func (m *KeyMetrics) Expect(kids ...string) {
	for _, kid := range kids {
		m.opened.WithLabelValues(kid)
	}
}

// Opened counts something that was sealed to a key of the worker, or to another one, which is always called "unknown".
func (m *KeyMetrics) Opened(kid string) { m.opened.WithLabelValues(kid).Inc() }

// Reloaded counts a change of the files of a source.
func (m *KeyMetrics) Reloaded(source string, taken bool) {
	outcome := keysRefused
	if taken {
		outcome = keysReplaced
	}
	m.reloads.WithLabelValues(source, outcome).Inc()
}
