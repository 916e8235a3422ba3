package gauge

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/broker"
)

// figures returns what the broker said as figures, without what is asked for apart.
func (s survey) figures(topology broker.Topology) Figures {
	names := topology.Names()
	f := Figures{At: s.at(), Advisories: s.streams[names.Advisories()].State.Msgs}
	for _, config := range topology.Streams() {
		f.Streams = append(f.Streams, streamOf(s.streams[config.Name], names.Short(config.Name)))
	}
	at := map[place]int{}
	for _, one := range s.consumers {
		index, known := at[one.place]
		if !known {
			index = len(f.Queues)
			at[one.place] = index
			f.Queues = append(f.Queues, Queue{
				Provider: one.provider, Lane: one.lane, Kind: kindOf(one.stream, names), OldestAge: age(s.oldest[one.place], f.At),
			})
		}
		f.Queues[index].add(one.info)
	}
	f.Scheduled = scheduled(s.streams[names.Retries()].State.Msgs, f.Queues)
	return f
}

// at returns the latest time by the broker's clock that it gave with its answers.
func (s survey) at() time.Time {
	var latest time.Time
	for _, info := range s.streams {
		if info.TimeStamp.After(latest) {
			latest = info.TimeStamp
		}
	}
	for _, one := range s.consumers {
		if one.info.TimeStamp.After(latest) {
			latest = one.info.TimeStamp
		}
	}
	return latest
}

func kindOf(stream string, names broker.Names) string {
	if stream == names.Retries() {
		return QueueRetry
	}
	return QueueQuery
}

// add adds the figures of one consumer to its queue.
func (q *Queue) add(info *jetstream.ConsumerInfo) {
	q.Backlog += info.NumPending
	q.AckPending += uint64(max(info.NumAckPending, 0))
	q.AckFloorLag = max(q.AckFloorLag, less(info.Delivered.Stream, info.AckFloor.Stream))
	q.Delivered += info.Delivered.Consumer
}

// streamOf returns how full a stream is.
func streamOf(info *jetstream.StreamInfo, name string) Stream {
	full := 0.0
	if limit := info.Config.MaxMsgs; limit > 0 {
		full = float64(info.State.Msgs) / float64(limit)
	}
	if limit := info.Config.MaxBytes; limit > 0 {
		full = max(full, float64(info.State.Bytes)/float64(limit))
	}
	return Stream{Name: name, Messages: info.State.Msgs, Bytes: info.State.Bytes, Full: full}
}

// scheduled returns how many messages of the retries are not due: all that no consumer has pending or delivered. The broker could also count
// their subjects, but that takes it longer the more there are, and in an outage there are many and they change all the time. What the
// consumers count came a moment later, so it can be more. A message that the broker gave up on counts as scheduled until it is swept up.
func scheduled(stored uint64, queues []Queue) uint64 {
	due := uint64(0)
	for _, q := range queues {
		if q.Kind == QueueRetry {
			due += q.Backlog + q.AckPending
		}
	}
	return less(stored, due)
}

// less returns a without b, and 0 if b is more.
func less(a, b uint64) uint64 { return a - min(a, b) }

// age returns how long before now a time was; 0 if it is zero or later.
func age(at, now time.Time) time.Duration {
	if at.IsZero() {
		return 0
	}
	return max(now.Sub(at), 0)
}
