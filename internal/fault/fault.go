// Package fault holds the closed list of what can go wrong with one query.
// It is a leaf: it holds words only and must never import another room.
package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Kind says what a failure means for the query that met it. The list is closed: each switch over it names every kind.
type Kind uint8

// The kinds of failure. Their zero value is Unknown, so that a forgotten kind is treated as a fault of ours and never as an answer.
const (
	// Unknown is a failure that nobody classified. It is treated like Unavailable and counted, because it is a defect of the worker.
	Unknown Kind = iota
	// Malformed is a query that can't be read, breaks its schema or can't be unsealed. Asking again can't help.
	Malformed
	// Rejected is a query that the upstream, or a check made on its behalf, refuses for good.
	Rejected
	// Throttled is the upstream asking for fewer calls (HTTP 429, or 503 with Retry-After).
	Throttled
	// Unavailable is an upstream, a network or an answer that is broken for now.
	Unavailable
	// Unauthorized is the upstream refusing our credentials: it concerns every query and none in particular.
	Unauthorized
	// Expired is a query whose deadline passed before an answer was there.
	Expired
	// Interrupted is a shutdown or a cancelled context. It is no failure and costs no attempt.
	Interrupted
	// Duplicate is a query that has its result already: somebody was first, and there is nothing left to do but to ack.
	Duplicate
)

// kindNames holds the names of the kinds in the order of their values.
var kindNames = [...]string{
	Unknown: "unknown", Malformed: "malformed", Rejected: "rejected", Throttled: "throttled",
	Unavailable: "unavailable", Unauthorized: "unauthorized", Expired: "expired", Interrupted: "interrupted",
	Duplicate: "duplicate",
}

// String returns the kind's name as it stands in events, metrics and logs.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return kindNames[Unknown]
}

// ParseKind returns the kind of the given name, Unknown for any other text.
func ParseKind(name string) Kind {
	return Kind(max(slices.Index(kindNames[:], name), 0)) //nolint:gosec // There are few kinds.
}

// Kinds returns every kind, so that metrics can exist at zero from the start and tests can cover the whole list.
func Kinds() []Kind {
	kinds := make([]Kind, len(kindNames))
	for i := range kindNames {
		kinds[i] = Kind(i)
	}
	return kinds
}

// Error is the one error type that crosses the rooms. It carries closed words only: foreign error text can hold card data
// (a URL, a JSON literal, a quoted input), so it is never part of the message.
type Error struct {
	// Op names the operation that failed, for example "unionpay: verify response".
	Op string
	// Kind says what the failure means for the query.
	Kind Kind
	// Code is the closed detail of the failure.
	Code Code
	// Upstream is the upstream's own response code, when it answered with one. It has at most 16 characters of [0-9A-Za-z_-].
	Upstream string
	// Status is the HTTP status of the response, 0 if there was none.
	Status int
	// After is how long the upstream asked us to wait, 0 if it did not.
	After time.Duration
	// Sent tells that the request was written to the upstream, so that it may have counted the call.
	Sent bool
	// Cause is kept for errors.Is and errors.As. It is never printed.
	Cause error
}

// New returns an error of the given operation, kind and code.
func New(op string, kind Kind, code Code) *Error {
	return &Error{Op: op, Kind: kind, Code: code}
}

// Because returns an error like New that answers errors.Is for cause without printing it.
func Because(op string, kind Kind, code Code, cause error) *Error {
	return &Error{Op: op, Kind: kind, Code: code, Cause: cause}
}

// Error returns the operation, the kind and the closed code, and nothing that came from outside.
func (e *Error) Error() string {
	text := e.Op + ": " + e.Kind.String()
	if e.Code != "" {
		text += " (" + string(e.Code) + ")"
	}
	return text
}

// Format prints the same as Error for every verb: %#v, or a verb that does not fit, would spell out the cause.
func (e *Error) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, e.Error()) }

// MarshalText returns the same as Error, so that a log line of a struct that holds the error does not spell out the cause.
func (e *Error) MarshalText() ([]byte, error) { return []byte(e.Error()), nil }

// Unwrap returns the cause for errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Cause }

// KindOf returns the kind of err. A cancelled context without a kind is Interrupted, a passed deadline Unavailable, any other error Unknown.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Interrupted
	case errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	default:
		return Unknown
	}
}

// CodeOf returns the closed code of err, or Unclassified if it has none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok && e.Code != "" {
		return e.Code
	}
	return Unclassified
}

// From returns err as an *Error. An error of a foreign type becomes one with the operation given and keeps only its kind.
func From(op string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return Because(op, KindOf(err), Unclassified, err)
}
