package query

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"discountquery.example/worker/internal/fault"
)

// Status is the last token of a result's subject.
type Status string

// The two statuses of a result.
const (
	// Completed is a result with an answer.
	Completed Status = "completed"
	// Failed is a result without an answer.
	Failed Status = "failed"
)

// Reason says why a query ended without an answer. It is the last token of a dead letter's subject.
type Reason string

// The reasons for which a query fails. All but ReasonExpired also make a dead letter.
const (
	// ReasonExpired is a query whose deadline passed before it could be asked.
	ReasonExpired Reason = "expired"
	// ReasonMalformed is a query that could not be read.
	ReasonMalformed Reason = "malformed"
	// ReasonRejected is a query that the upstream or its field rules refuse.
	ReasonRejected Reason = "rejected"
	// ReasonExhausted is a query that got no answer until its deadline or its lane's horizon.
	ReasonExhausted Reason = "exhausted"
	// ReasonQuarantined is a query whose holders crashed too often.
	ReasonQuarantined Reason = "quarantined"
)

// Reasons returns every reason, for metrics and tests.
func Reasons() []Reason {
	return []Reason{ReasonExpired, ReasonMalformed, ReasonRejected, ReasonExhausted, ReasonQuarantined}
}

// Attempt is one call to the upstream.
type Attempt struct {
	// At is when the attempt began.
	At time.Time `json:"at"`
	// Milliseconds is how long it took.
	Milliseconds int64 `json:"ms"`
	// WaitedMS is how long it had waited before it began, for the fleet's pace or for an upstream that was down, in milliseconds.
	WaitedMS int64 `json:"waitedMs,omitzero"`
	// Kind and Code say how it failed; both are empty for the attempt that was answered.
	Kind string     `json:"kind,omitzero"`
	Code fault.Code `json:"code,omitzero"`
	// Upstream is the upstream's own code, where it sent one.
	Upstream string `json:"upstreamCode,omitzero"`
	// Status is the HTTP status, 0 if there was no response.
	Status int `json:"httpStatus,omitzero"`
}

// Asked is the part of a query that events repeat: everything but its secrets.
type Asked struct {
	Client   string    `json:"client"`
	Source   string    `json:"source,omitzero"`
	ID       string    `json:"id,omitzero"`
	Key      string    `json:"key"`
	Provider Provider  `json:"provider"`
	Lane     Lane      `json:"lane"`
	Time     time.Time `json:"time,omitzero"`
	Expires  time.Time `json:"expires,omitzero"`
	// MaxAge is the age, in seconds, up to which an answer to the same question was good enough; nil if the upstream had to be asked.
	MaxAge   *int64            `json:"maxAge,omitzero"`
	EasyPay  *EasyPayQuestion  `json:"easypay,omitzero"`
	UnionPay *UnionPayQuestion `json:"unionpay,omitzero"`
}

// Asked returns the part of the query that events repeat.
func (q *Query) Asked() Asked {
	return Asked{
		Client: q.Client, Source: q.Source, ID: q.ID, Key: q.Key(), Provider: q.Provider, Lane: q.Lane,
		Time: q.Time, Expires: q.Expires, MaxAge: seconds(q.MaxAge), EasyPay: q.EasyPay, UnionPay: q.UnionPay,
	}
}

// Query returns the query without what events do not repeat, its secrets above all: enough to tell whoever asked, not to ask again.
func (a *Asked) Query() *Query {
	q := &Query{
		Client: a.Client, Source: a.Source, ID: a.ID, Provider: a.Provider, Lane: a.Lane,
		Time: a.Time, Expires: a.Expires, EasyPay: a.EasyPay, UnionPay: a.UnionPay,
	}
	if a.MaxAge != nil {
		age := time.Duration(*a.MaxAge) * time.Second
		q.MaxAge = &age
	}
	return q
}

// CardRef is how an event refers to a card without holding it.
type CardRef struct {
	// Fingerprint joins results of one card: base64url of an HMAC-SHA-256 under the worker's fingerprint key.
	Fingerprint string `json:"fingerprint"`
	// KeyID names the fingerprint key. Fingerprints of different keys can't be joined.
	KeyID string `json:"keyId"`
	// LastFour is the end of the card number.
	LastFour string `json:"lastFour"`
}

// Timing says where a query's time went.
type Timing struct {
	// Received is when the broker stored the query, Finished when the result was written.
	Received time.Time `json:"received"`
	Finished time.Time `json:"finished"`
	// TotalMS is the time between them, CallMS the part of it spent in calls to the upstream, in milliseconds.
	TotalMS int64 `json:"totalMs"`
	CallMS  int64 `json:"callMs"`
}

// CompletedData is the data of discount.query.completed.v1 (schemas/query.completed.v1.json).
type CompletedData struct {
	Query    Asked     `json:"query"`
	Outcome  Outcome   `json:"outcome"`
	Offers   []Offer   `json:"offers,omitempty"`
	Best     *Offer    `json:"best,omitzero"`
	Usage    *Usage    `json:"usage,omitzero"`
	Card     *CardRef  `json:"card,omitzero"`
	Upstream Response  `json:"upstream"`
	AsOf     time.Time `json:"asOf"`
	// Shared tells that the upstream was asked on behalf of another query: this one made no call of its own for it.
	Shared   bool      `json:"shared,omitzero"`
	Timing   Timing    `json:"timing"`
	Attempts []Attempt `json:"attempts"`
	// Replay is left out for a query that was never replayed.
	Replay *ReplayRef `json:"replay,omitzero"`
}

// FailedData is the data of discount.query.failed.v1 (schemas/query.failed.v1.json).
type FailedData struct {
	Query    Asked      `json:"query"`
	Reason   Reason     `json:"reason"`
	Kind     string     `json:"kind"`
	Code     fault.Code `json:"code"`
	Upstream Response   `json:"upstream,omitzero"`
	Card     *CardRef   `json:"card,omitzero"`
	// DeadLetter tells that ops hold a dead letter of this query and may still bring it to a completed result.
	DeadLetter bool      `json:"deadLetter"`
	Timing     Timing    `json:"timing"`
	Attempts   []Attempt `json:"attempts"`
	// Replay is left out for a query that was never replayed.
	Replay *ReplayRef `json:"replay,omitzero"`
}

// Origin says where a dead letter's message lay.
type Origin struct {
	Stream   string    `json:"stream"`
	Sequence uint64    `json:"sequence"`
	Subject  string    `json:"subject"`
	Stored   time.Time `json:"stored"`
	// Deliveries counts how often the message was delivered.
	Deliveries int `json:"deliveries"`
}

// DeadData is the data of discount.query.dead.v1 (schemas/query.dead.v1.json).
type DeadData struct {
	Query    Asked      `json:"query"`
	Reason   Reason     `json:"reason"`
	Kind     string     `json:"kind"`
	Code     fault.Code `json:"code"`
	Upstream Response   `json:"upstream,omitzero"`
	// Cause groups dead letters that died of the same thing: see Cause.
	Cause     string    `json:"cause"`
	FirstSeen time.Time `json:"firstSeen"`
	Origin    Origin    `json:"origin"`
	Attempts  []Attempt `json:"attempts"`
	// Worker is the build that wrote the letter.
	Worker string `json:"worker"`
	// Revision counts the replays of the query; 0 for one that was never replayed.
	Revision int `json:"revision"`
	// Replay is left out for a query that was never replayed.
	Replay *ReplayRef `json:"replay,omitzero"`
	// Payload is the original message (Original), sealed to the worker's own key as a compact JWE.
	Payload string `json:"payload"`
	// Emptied tells that only the subject of the message is in Payload, because the rest was too large for a letter.
	Emptied bool `json:"emptied,omitzero"`
}

// HeaderDied is the header of a dead letter that was stored once more, sealed to another key: when it was stored first (RFC 3339).
const HeaderDied = "Discount-Died"

// Replay says by whom a query is asked again, and what its outcome supersedes. It has no deadline: that of the query has long passed.
type Replay struct {
	ReplayRef

	// Result is the sequence of the failed result that the outcome supersedes, Letter that of the dead letter; 0 for none.
	Result uint64 `json:"result"`
	Letter uint64 `json:"letter"`
	// TraceParent is the trace context of the dead letter. A replay has a trace of its own, which is linked to that one.
	TraceParent string `json:"traceparent,omitzero"`
}

// ReplayRef is how an event refers to the replay it came from.
type ReplayRef struct {
	// Revision counts the replays of the query, this one included.
	Revision int `json:"revision"`
	// Batch names the replay that the query was part of, Actor who started it.
	Batch string `json:"batch"`
	Actor string `json:"actor"`
}

// ReplayRef returns how events refer to the query's replay, nil if it is none.
func (q *Query) ReplayRef() *ReplayRef {
	if q.Replay == nil {
		return nil
	}
	return &q.Replay.ReplayRef
}

// Way returns the lane in which the query is handled: its own, but bulk for a replay, which must hold up nobody who waits.
func (q *Query) Way() Lane {
	if q.Replay != nil {
		return Bulk
	}
	return q.Lane
}

// Revision returns how often the query was replayed.
func (q *Query) Revision() int {
	if q.Replay == nil {
		return 0
	}
	return q.Replay.Revision
}

// Original is what is sealed in a dead letter and in a scheduled retry: the message as its publisher wrote it, without the
// broker's own headers.
type Original struct {
	Subject string              `json:"subject"`
	Header  map[string][]string `json:"header,omitzero"`
	Data    []byte              `json:"data"`
}

// Retry is the body of a scheduled retry: the original message, sealed, and what was tried so far. It stays inside the worker's own
// stream and is no event.
type Retry struct {
	Origin    Origin    `json:"origin"`
	FirstSeen time.Time `json:"firstSeen"`
	Attempts  []Attempt `json:"attempts"`
	// Rounds counts the scheduled retries, this one included.
	Rounds int `json:"rounds"`
	// Crashes counts the holders of the query that died before it was set apart, and is 0 once it was asked without a further one.
	Crashes int `json:"crashes,omitzero"`
	// Replay is set for a query that an operator has asked again.
	Replay *Replay `json:"replay,omitzero"`
	// TraceParent is the trace context that all rounds go on with; empty if they go on with the publisher's, or begin one.
	TraceParent string `json:"traceparent,omitzero"`
	// Asked tells whose query it is when the payload's key is gone. Nil in a retry that was written before there was this member.
	Asked *Asked `json:"asked,omitzero"`
	// Payload is the Original, sealed to the worker's own key as a compact JWE.
	Payload string `json:"payload"`
}

// Cause returns a short stable name for what a query died of, the same for all queries that died of it.
func Cause(provider Provider, reason Reason, e *fault.Error) string {
	sum := sha256.Sum256([]byte(string(provider) + "\n" + string(reason) + "\n" + e.Kind.String() + "\n" +
		string(e.Code) + "\n" + e.Upstream + "\n" + strconv.Itoa(e.Status)))
	return hex.EncodeToString(sum[:6])
}
