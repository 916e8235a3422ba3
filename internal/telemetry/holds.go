package telemetry

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// holds are the figures of what the broker holds, as this worker read them last. They are absent until it has read them once.
type holds struct {
	backlog, ackPending, ackFloorLag, oldest *prometheus.GaugeVec
	scheduled, advisories                    *prometheus.GaugeVec
	dead, replays                            *prometheus.GaugeVec
	messages, bytes, full                    *prometheus.GaugeVec
	demand, limited                          *prometheus.GaugeVec
	read                                     *atomic.Pointer[time.Time]
}

func newHolds() holds {
	queue := []string{"provider", "lane", "queue"}
	return holds{
		backlog:     gauge("backlog", "Messages that were never delivered.", queue...),
		ackPending:  gauge("ack_pending", "Messages that were delivered and are not acked.", queue...),
		ackFloorLag: gauge("ack_floor_lag", "Sequences from the first message that is not acked to the last delivery.", queue...),
		oldest:      gauge("oldest_age_seconds", "Time since the oldest message was stored that is not acked; 0 if there is none.", queue...),
		scheduled:   gauge("scheduled", "Retries that wait for their time."),
		advisories:  gauge("advisories", "Stored notes of the broker on messages that it gave up on."),
		dead:        gauge("dead_letters", "Queries with a dead letter, by the reason of which they died.", "provider", "reason"),
		replays:     gauge("replays", "Batches of replays, by how far they are.", "state"),
		messages:    gauge("stream_messages", "Messages in a stream.", "stream"),
		bytes:       gauge("stream_bytes", "Size of all messages in a stream.", "stream"),
		full: gauge("stream_full_ratio",
			"Part of a stream's limit of messages or bytes that is used, whichever is nearer; 0 without limits.", "stream"),
		demand: gauge("demand_replicas", "Replicas that could do useful work now."),
		limited: gauge("demand_limited_by",
			"What keeps waiting queries waiting: 1 for the one that holds, the upstreams' pace, the number of workers, or none.", "limit"),
		read: &atomic.Pointer[time.Time]{},
	}
}

func (h holds) register(registry *prometheus.Registry) {
	registry.MustRegister(h.backlog, h.ackPending, h.ackFloorLag, h.oldest, h.scheduled, h.advisories, h.dead, h.replays,
		h.messages, h.bytes, h.full, h.demand, h.limited,
		scraped("broker_read_age_seconds", "Time since the broker's figures were last read in full.", func() []sample {
			read := h.read.Load()
			if read == nil {
				return nil
			}
			return []sample{{value: time.Since(*read).Seconds()}}
		}))
}

// Queue says what the broker holds for one provider, lane and kind of queue.
type Queue struct {
	// Provider, Lane and Queue are its labels, of closed lists.
	Provider, Lane, Queue            string
	Backlog, AckPending, AckFloorLag uint64
	// OldestAge is 0 if there is no message.
	OldestAge time.Duration
}

// HoldsQueue shows one queue.
func (m *Metrics) HoldsQueue(q Queue) {
	m.holds.backlog.WithLabelValues(q.Provider, q.Lane, q.Queue).Set(float64(q.Backlog))
	m.holds.ackPending.WithLabelValues(q.Provider, q.Lane, q.Queue).Set(float64(q.AckPending))
	m.holds.ackFloorLag.WithLabelValues(q.Provider, q.Lane, q.Queue).Set(float64(q.AckFloorLag))
	m.holds.oldest.WithLabelValues(q.Provider, q.Lane, q.Queue).Set(q.OldestAge.Seconds())
}

// HoldsStream shows how full a stream is; full is the part of its limit that is used, from 0 to 1.
func (m *Metrics) HoldsStream(stream string, messages, bytes uint64, full float64) {
	m.holds.messages.WithLabelValues(stream).Set(float64(messages))
	m.holds.bytes.WithLabelValues(stream).Set(float64(bytes))
	m.holds.full.WithLabelValues(stream).Set(full)
}

// HoldsScheduled shows how many retries wait for their time.
func (m *Metrics) HoldsScheduled(count uint64) {
	m.holds.scheduled.WithLabelValues().Set(float64(count))
}

// HoldsAdvisories shows how many notes of the broker are stored.
func (m *Metrics) HoldsAdvisories(count uint64) {
	m.holds.advisories.WithLabelValues().Set(float64(count))
}

// HoldsDead shows how many queries of a provider died of a reason.
func (m *Metrics) HoldsDead(provider, reason string, count uint64) {
	m.holds.dead.WithLabelValues(provider, reason).Set(float64(count))
}

// HoldsReplays shows how many batches of replays are in a state.
func (m *Metrics) HoldsReplays(state string, count uint64) {
	m.holds.replays.WithLabelValues(state).Set(float64(count))
}

// BrokerRead notes that the broker's figures were just read in full.
func (m *Metrics) BrokerRead() {
	now := time.Now()
	m.holds.read.Store(&now)
}

// Demand shows how many replicas could do useful work, and which of the limits holds.
func (m *Metrics) Demand(replicas int, limit string, limits []string) {
	m.holds.demand.WithLabelValues().Set(float64(replicas))
	for _, one := range limits {
		m.holds.limited.WithLabelValues(one).Set(truth(one == limit))
	}
}
