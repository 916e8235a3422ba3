// Package gauge reads what the broker holds for the worker as figures: how much waits, how long, what died, how full it is, and how many
// replicas that is work for. It must never change anything on the broker, keep or show a message, or log.
package gauge

import "time"

// Figures are what the broker held when they were read. A part that could not be read is nil.
type Figures struct {
	// At is when they were read, by the broker's clock, as are all ages in them.
	At time.Time
	// Queues has one entry for each provider, lane and kind of queue, queries before retries.
	Queues []Queue
	// Scheduled is how many retries wait for their time. It is read with the queues.
	Scheduled uint64
	// Streams has one entry for each stream, without those behind buckets. It is read with the queues.
	Streams []Stream
	// Advisories is how many notes of the broker are stored on messages that it gave up on. It is read with the queues.
	Advisories uint64
	// Dead has one entry for each provider, or None, and reason, and a last one under Other.
	Dead []Letters
	// Replays is how many batches of replays there are in each state that is known; every such state is there.
	Replays map[string]uint64
}

// Kinds of a queue.
const (
	// QueueQuery holds queries as they were published.
	QueueQuery = "query"
	// QueueRetry holds retries that came due.
	QueueRetry = "retry"
)

// Queue is what waits and what is under way of one provider, lane and kind, over all clients.
type Queue struct {
	Provider string
	Lane     string
	// Kind is QueueQuery or QueueRetry.
	Kind string
	// Backlog is how many messages were never delivered, AckPending how many were and are not acked.
	Backlog    uint64
	AckPending uint64
	// AckFloorLag is how far, in sequences of the stream, the last delivery is ahead of the first message that is not acked. If there is a
	// consumer for each client, it is the largest of theirs.
	AckFloorLag uint64
	// OldestAge is how long ago the oldest message was stored that is not acked, in nanoseconds; 0 if there is none.
	OldestAge time.Duration
	// Delivered is how many deliveries there ever were. It falls if a consumer is made anew.
	Delivered uint64
}

// Other stands for a provider or a reason that is not among those served: of a provider that was turned off since, say.
const Other = "other"

// None stands in the subject of a dead letter for the provider of what could not be read at all: a retry that can't be opened, say.
const None = "none"

// Letters is how many queries of one provider died of one reason. A query that died several times of the same reason counts once: the
// broker counts subjects, and that is one subject.
type Letters struct {
	Provider string
	Reason   string
	Count    uint64
}

// Stream is how full one stream is.
type Stream struct {
	// Name is the stream's name without the prefix, as in QUERIES.
	Name     string
	Messages uint64
	// Bytes is the size of all messages as the broker counts it.
	Bytes uint64
	// Full is the part of the limit that is used, of messages or of bytes, whichever is nearer; 0 if there is no limit.
	Full float64
}
