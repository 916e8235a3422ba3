package telemetry

import (
	"time"
)

// ConsumerSlots is how busy one pull loop is.
type ConsumerSlots struct {
	// Consumer is the stream and the consumer's name, as in the loop's events.
	Consumer string
	// Slots is how many messages it may hold, Held how many it holds.
	Slots, Held int
}

// Slots shows how busy the pull loops are. read is called at each look.
func (m *Metrics) Slots(read func() []ConsumerSlots) {
	show := func(name, help string, value func(ConsumerSlots) int) {
		m.registry.MustRegister(scraped(name, help, func() []sample {
			var all []sample
			for _, one := range read() {
				all = append(all, sample{value: float64(value(one)), labels: []string{one.Consumer}})
			}
			return all
		}, "consumer"))
	}
	show("slots", "Messages that a pull loop may hold at once.", func(one ConsumerSlots) int { return one.Slots })
	show("slots_held", "Messages that a pull loop holds now.", func(one ConsumerSlots) int { return one.Held })
}

// Readiness shows whether the worker is ready.
func (m *Metrics) Readiness(health *Health) {
	m.registry.MustRegister(scraped("ready", "Whether the worker is ready for work: 1 or 0.", func() []sample {
		return []sample{{value: truth(len(health.Problems()) == 0)}}
	}))
}

// KeyAge is how old one key is.
type KeyAge struct {
	// Use is what the key is for, of a list that the caller keeps closed.
	Use string
	// KID is the key's id or its file's name, from the configuration or the keys' folder.
	KID string
	// Age is the time since the key was made, or since its file was written if the key does not tell.
	Age time.Duration
}

// KeyAges shows how old the keys are. read is called at each look.
func (m *Metrics) KeyAges(read func() []KeyAge) {
	m.registry.MustRegister(scraped("key_age_seconds", "Time since a key was made, or its file written if it does not tell.", func() []sample {
		var all []sample
		for _, one := range read() {
			all = append(all, sample{value: one.Age.Seconds(), labels: []string{one.Use, one.KID}})
		}
		return all
	}, "use", "kid"))
}
