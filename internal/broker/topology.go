// Package broker connects to NATS, says which streams, consumers and buckets there must be, plans and applies them, tells
// drift, and starts the embedded server. It must never log, delete anything on a server, or know what a query contains.
package broker

import (
	"math"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Defaults of a topology.
const (
	// DefaultPrefix is the first token of every subject.
	DefaultPrefix = "discount"
	// DefaultAckWait is how long the broker waits for an ack before it delivers again: also the time to recover from a crash.
	DefaultAckWait = 30 * time.Second
	// DefaultMaxAckPending bounds the messages in work at once per consumer, over all replicas.
	DefaultMaxAckPending = 2000
	// DefaultMaxDeliver is the broker's backstop. The worker quarantines a message much earlier.
	DefaultMaxDeliver = 20

	// dedupe is how long a stream remembers message ids.
	dedupe = 2 * time.Minute

	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
	day = 24 * time.Hour
)

// Limits bounds one stream. A zero field is no limit.
type Limits struct {
	// MaxAge is how long a message is kept.
	MaxAge time.Duration `json:"max_age"`
	// MaxBytes is how much the stream may hold, in bytes. The server reserves it from its own store.
	MaxBytes int64 `json:"max_bytes"`
	// MaxMsgSize is the largest message accepted, in bytes, headers included.
	MaxMsgSize int32 `json:"max_msg_size"`
}

// Topology says what a broker must hold for the worker. It is pure data: two equal topologies ask for the same objects.
type Topology struct {
	// Prefix is the first token of every subject. In upper case it starts the streams' names.
	Prefix string `json:"prefix"`
	// Providers and Lanes name what is served. A query to any other is refused by the broker at publish.
	Providers []string `json:"providers"`
	Lanes     []string `json:"lanes"`
	// Clients, if any, are the only ones whose queries are accepted, and each gets a consumer of its own per provider and lane: a backlog
	// of one then keeps no other waiting. Without any, all clients share one consumer, first come, first served.
	Clients []string `json:"clients,omitempty"`
	// Replicas is the number of copies of each stream and bucket: 1, 3 or 5.
	Replicas int `json:"replicas"`
	// AckWait is how long a consumer waits for an ack or a heartbeat before it delivers again.
	AckWait time.Duration `json:"ack_wait"`
	// MaxAckPending bounds the messages in work at once per consumer, over all replicas.
	MaxAckPending int `json:"max_ack_pending"`
	// MaxDeliver is how often the broker delivers a message before it gives up.
	MaxDeliver int `json:"max_deliver"`
	// Queries bounds the queries. It has no MaxAge by default: it would remove unanswered queries without a word to anybody,
	// and what a query's own deadline does not end, its lane's horizon does.
	Queries Limits `json:"queries"`
	// Retries bounds the retries. It must have no MaxBytes: the server allows no refusal of new messages on a stream with
	// schedules, so a full stream would drop its oldest queries without a word. The server's own store limit still refuses.
	Retries Limits `json:"retries"`
	// Results bounds the results.
	Results Limits `json:"results"`
	// Dead bounds the dead letters.
	Dead Limits `json:"dead"`
	// Advisories bounds the broker's notes. When they are too many the oldest go, because the newest can't be sent again.
	Advisories Limits `json:"advisories"`
	// Audit bounds the records of what operators did.
	Audit Limits `json:"audit"`
	// AnswerTTL is how long a recent answer is kept.
	AnswerTTL time.Duration `json:"answer_ttl"`
}

// DefaultTopology returns the topology for both providers and lanes on a single server.
func DefaultTopology() Topology {
	return Topology{
		Prefix:        DefaultPrefix,
		Providers:     []string{"easypay", "unionpay"},
		Lanes:         []string{"interactive", "bulk"},
		Replicas:      1,
		AckWait:       DefaultAckWait,
		MaxAckPending: DefaultMaxAckPending,
		MaxDeliver:    DefaultMaxDeliver,
		Queries:       Limits{MaxBytes: 1 * gib, MaxMsgSize: 64 * kib},
		Retries:       Limits{MaxMsgSize: 256 * kib},
		Results:       Limits{MaxAge: 7 * day, MaxBytes: 2 * gib, MaxMsgSize: 256 * kib},
		Dead:          Limits{MaxAge: 30 * day, MaxBytes: 1 * gib, MaxMsgSize: 256 * kib},
		Advisories:    Limits{MaxAge: 30 * day, MaxBytes: 16 * mib, MaxMsgSize: 16 * kib},
		Audit:         Limits{MaxAge: 400 * day, MaxBytes: 64 * mib, MaxMsgSize: 16 * kib},
		AnswerTTL:     10 * time.Minute,
	}
}

// Names returns the names of everything in the topology.
func (t Topology) Names() Names { return NewNames(t.Prefix) }

// Binding is one consumer and the stream it reads.
type Binding struct {
	// Stream is the name of the stream.
	Stream string
	// Provider and Lane say whose messages the consumer gets.
	Provider string
	Lane     string
	// Client is the only client whose messages it gets; empty for all.
	Client string
	// Config is the consumer's configuration.
	Config jetstream.ConsumerConfig
}

// Streams returns the configuration of every stream but those behind the buckets, with each default of the server written out.
func (t Topology) Streams() []jetstream.StreamConfig {
	n := t.Names()
	queries := t.stream(n.Queries(), t.Queries, subjectsOf(t.queryConsumers())...)
	queries.Retention, queries.DenyDelete, queries.DenyPurge = jetstream.WorkQueuePolicy, true, true

	// Schedules force roll-ups on and the refusals of purges and of new messages off (server 2.15: checkStreamCfg).
	// Whoever may publish here can therefore wipe the stream: only the worker may.
	retries := t.stream(n.Retries(), t.Retries.around(t.Queries), append([]string{n.ScheduleFilter()}, subjectsOf(t.retryConsumers())...)...)
	retries.Retention, retries.Discard = jetstream.WorkQueuePolicy, jetstream.DiscardOld
	retries.AllowMsgSchedules, retries.AllowRollup = true, true

	// Without direct gets a read is answered by the stream's leader, so a result that was confirmed is always found.
	results := t.stream(n.Results(), t.Results, n.ResultFilter())
	results.DenyDelete, results.DenyPurge = true, true

	// Single dead letters can be dropped by ops, all of them at once can't.
	dead := t.stream(n.Dead(), t.Dead.around(t.Queries), n.DeadFilter())
	dead.DenyPurge = true

	advisories := t.stream(n.Advisories(), t.Advisories, n.AdvisoryFilters()...)
	advisories.Discard = jetstream.DiscardOld

	// Who can act must not be able to hide it.
	audit := t.stream(n.Audit(), t.Audit, n.AuditFilter())
	audit.DenyDelete, audit.DenyPurge = true, true
	return []jetstream.StreamConfig{queries, retries, results, dead, advisories, audit}
}

// Consumers returns every consumer, those of the queries first. None names a number of replicas: a consumer has its stream's.
func (t Topology) Consumers() []Binding {
	return append(t.queryConsumers(), t.retryConsumers()...)
}

// Buckets returns the configuration of every key-value bucket.
func (t Topology) Buckets() []jetstream.KeyValueConfig {
	n := t.Names()
	bucket := func(name string, ttl time.Duration, size int64, what string) jetstream.KeyValueConfig {
		return jetstream.KeyValueConfig{
			Bucket: name, Description: what, TTL: ttl, MaxBytes: size, History: 1, Replicas: t.Replicas, Storage: jetstream.FileStorage,
		}
	}
	return []jetstream.KeyValueConfig{
		bucket(n.PaceBucket(), 0, 16*mib, "pace of the fleet's calls, one key per upstream account"),
		bucket(n.ReplaysBucket(), 0, roomForReplays(t.Dead.MaxBytes), "records of replays"),
		bucket(n.AnswersBucket(), t.AnswerTTL, 256*mib, "recent answers"),
	}
}

// roomForReplays returns how many bytes the records of replays may take, given those of the letters: a claim of each letter lies there. The smallest
// letter takes seven times as much as its claim, and claims of letters that are gone stay until the next replay.
func roomForReplays(letters int64) int64 {
	if letters == 0 {
		return orUnlimited(letters)
	}
	return max(64*mib, letters/4)
}

func (t Topology) stream(name string, limits Limits, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: name, Subjects: subjects,
		Retention: jetstream.LimitsPolicy, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Replicas: t.Replicas,
		MaxAge: limits.MaxAge, MaxBytes: orUnlimited(limits.MaxBytes), MaxMsgSize: orUnlimited(limits.MaxMsgSize),
		MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, Duplicates: window(limits.MaxAge),
	}
}

// around returns limits with room for messages that carry one of the queries: sealed, it takes less than twice its size, and more if it is full of
// bytes that JSON has to escape. The rest is for what was tried.
func (l Limits) around(queries Limits) Limits {
	const times = 4
	switch {
	case l.MaxMsgSize == 0: // There is room for all.
	case queries.MaxMsgSize == 0, queries.MaxMsgSize > math.MaxInt32/times:
		l.MaxMsgSize = 0
	default:
		l.MaxMsgSize = max(l.MaxMsgSize, times*queries.MaxMsgSize)
	}
	return l
}

// queryConsumers returns the consumers of the queries: one per provider and lane, and per client if the clients are named.
func (t Topology) queryConsumers() []Binding {
	n := t.Names()
	var all []Binding
	for _, b := range t.perLane(n.Queries()) {
		if len(t.Clients) == 0 {
			all = append(all, t.bind(b, n.Consumer(b.Provider, b.Lane), n.QueryFilter(b.Provider, b.Lane)))
		}
		for _, client := range t.Clients {
			b.Client = client
			all = append(all, t.bind(b, n.ClientConsumer(b.Provider, b.Lane, client), n.ClientQueryFilter(b.Provider, b.Lane, client)))
		}
	}
	return all
}

// retryConsumers returns the consumers of the retries that came due: one per provider and lane. They are few, and come in their own time.
func (t Topology) retryConsumers() []Binding {
	n := t.Names()
	var all []Binding
	for _, b := range t.perLane(n.Retries()) {
		all = append(all, t.bind(b, n.Consumer(b.Provider, b.Lane), n.RetryFilter(b.Provider, b.Lane)))
	}
	return all
}

func (t Topology) perLane(stream string) []Binding {
	var all []Binding
	for _, provider := range t.Providers {
		for _, lane := range t.Lanes {
			all = append(all, Binding{Stream: stream, Provider: provider, Lane: lane})
		}
	}
	return all
}

func (t Topology) bind(b Binding, name, filter string) Binding {
	b.Config = jetstream.ConsumerConfig{
		Name: name, Durable: name, FilterSubject: filter,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy, ReplayPolicy: jetstream.ReplayInstantPolicy,
		AckWait: t.AckWait, MaxAckPending: t.MaxAckPending, MaxDeliver: t.MaxDeliver,
	}
	return b
}

func subjectsOf(bindings []Binding) []string {
	var all []string
	for _, b := range bindings {
		all = append(all, b.Config.FilterSubject)
	}
	return all
}

// window returns how long message ids are remembered: never longer than the messages themselves, or the server refuses it.
func window(maxAge time.Duration) time.Duration {
	if maxAge > 0 {
		return min(dedupe, maxAge)
	}
	return dedupe
}

// orUnlimited returns the server's own word for no limit when there is none.
func orUnlimited[T int32 | int64](limit T) T {
	if limit == 0 {
		return -1
	}
	return limit
}
