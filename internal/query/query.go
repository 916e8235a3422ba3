// Package query holds the words of the domain: the query that a publisher asks, the answer an upstream gives and the result
// event that carries it. It reads bytes into words and back and must never do I/O or ask for the time.
package query

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"time"
)

// Provider names one upstream system. It is a token of every subject.
type Provider string

// The providers this worker can ask.
const (
	// EasyPay is KICC EasyPay's instant-discount coupon inquiry.
	EasyPay Provider = "easypay"
	// UnionPay is UnionPay International's cardholder instant-discount usage query.
	UnionPay Provider = "unionpay"
)

// Lane says how a query competes with others: interactive before bulk.
type Lane string

// The lanes. A shopper waits for an interactive query, nobody waits for a bulk query.
const (
	// Interactive is for queries somebody waits for.
	Interactive Lane = "interactive"
	// Bulk is for queries that may take hours.
	Bulk Lane = "bulk"
)

// Types of the CloudEvents that cross the subjects. A new version gets a new name.
const (
	// TypeRequested is a query.
	TypeRequested = "discount.query.requested.v1"
	// TypeCompleted is a result with an answer.
	TypeCompleted = "discount.query.completed.v1"
	// TypeFailed is a result without an answer.
	TypeFailed = "discount.query.failed.v1"
	// TypeDead is a dead letter, for ops only.
	TypeDead = "discount.query.dead.v1"
)

// Delivery is one delivery of a query message, as the consumer got it from the broker.
type Delivery struct {
	// Subject is the subject the message was stored under.
	Subject string
	// Header holds the message's headers as the publisher wrote them.
	Header map[string][]string
	// Data is the payload.
	Data []byte
	// Stream and Sequence say where the message lies.
	Stream   string
	Sequence uint64
	// Number counts the deliveries of this message, from 1. Nothing but a crash of its holder raises it.
	Number int
	// Stored is the broker's time of storing the message.
	Stored time.Time
}

// Query is one question of one client. Its identity is (Client, Source, ID).
type Query struct {
	// Client is the client's token in the subject, which the broker's permissions vouch for.
	Client string
	// Source and ID are the CloudEvents attributes of the query.
	Source string
	ID     string
	// Provider and Lane come from the subject.
	Provider Provider
	Lane     Lane
	// Direct tells that whoever asked waits for the reply. Such a query goes before all others.
	Direct bool
	// Time is when the publisher says it asked; zero if it did not say.
	Time time.Time
	// Expires is the publisher's deadline (the expirytime attribute); zero if there is none.
	Expires time.Time
	// MaxAge is how old an answer to the same question may be to be good enough (the maxage attribute, whole seconds up to MaxMaxAge); nil
	// if the upstream must be asked. Zero lets the query share a call that is under way, and nothing older.
	MaxAge *time.Duration
	// Correlation is echoed in the result: an order number, for example.
	Correlation string
	// TraceParent and TraceState are the W3C trace context of the publisher.
	TraceParent string
	TraceState  string
	// Replay tells that an operator has the query asked again; nil for one that is asked on its client's behalf.
	Replay *Replay
	// EasyPay holds the question for EasyPay, nil for other providers.
	EasyPay *EasyPayQuestion
	// UnionPay holds the question for UnionPay, nil for other providers.
	UnionPay *UnionPayQuestion
}

// EasyPayQuestion has the field names of the coupon inquiry page.
type EasyPayQuestion struct {
	// MallID is KICC's merchant id, 8 characters; empty means the configured default.
	MallID string `json:"mallId,omitzero"`
	// CardCd is the card company's code, 3 characters. Never set together with CardBin.
	CardCd string `json:"cardCd,omitzero"`
	// CardBin is the first 8 digits of the card number.
	CardBin string `json:"cardBin,omitzero"`
	// Amount is the payment in won; nil if none was given.
	Amount *int64 `json:"amount,omitzero"`
}

// UnionPayQuestion has the field names of the usage query page. The three secret fields travel sealed in Data.
type UnionPayQuestion struct {
	// PID identifies the offer, up to 10 digits; empty means the configured default.
	PID string `json:"pid,omitzero"`
	// ScenID is the optional scenario, up to 4 characters.
	ScenID string `json:"scenId,omitzero"`
	// Data holds the sealed card data. It is never part of a result.
	Data Opaque `json:"-"`
}

// Key returns the key of the identity (client, source, id): the first 26 characters of the lower-case unpadded base32 of the
// SHA-256 over client, LF, source, LF, id. Any language can compute it.
func Key(client, source, id string) string {
	sum := sha256.Sum256([]byte(client + "\n" + source + "\n" + id))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:17]))[:26]
}

// Key returns the key of the query's identity.
func (q *Query) Key() string { return Key(q.Client, q.Source, q.ID) }

// Opaque holds bytes that must never be printed. Its content lies behind a function, so that not even %+v of a struct
// that holds it can show it.
type Opaque struct {
	bytes func() []byte
}

// Conceal returns an Opaque that holds b.
func Conceal(b []byte) Opaque {
	return Opaque{bytes: func() []byte { return b }}
}

// Reveal returns the bytes, nil if there are none.
func (o Opaque) Reveal() []byte {
	if o.bytes == nil {
		return nil
	}
	return o.bytes()
}

// String hides the content.
func (Opaque) String() string { return "[concealed]" }

// MarshalText hides the content.
func (o Opaque) MarshalText() ([]byte, error) { return []byte(o.String()), nil }
