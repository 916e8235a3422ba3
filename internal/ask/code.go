package ask

import (
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// Code says what became of a request. The list is closed, and no text of anybody else's stands in a refusal.
type Code string

// The codes. All but Answered, Unanswerable and Unsent are the description of a refusal (the header Nats-Service-Error), with their
// status beside them (Nats-Service-Error-Code).
const (
	// Answered is a request whose reply is an event: a completed or a failed result.
	Answered Code = "answered"
	// Malformed (400) is a request that can't be read, and for a query, whose identity can't be read either: a malformed query that
	// has one gets a failed result.
	Malformed Code = "malformed"
	// TooLarge (413) is a request that is larger than a query may be.
	TooLarge Code = "too_large"
	// NoResult (404) is a lookup of a query that has no result, or that is not the client's own.
	NoResult Code = "no_result"
	// Overloaded (503) is a query for which there is no slot, or that would wait beyond its deadline for the pace or for an upstream that is
	// down. It was not asked.
	Overloaded Code = "overloaded"
	// Stopping (503) is a request that met a worker that stops. Another worker takes the next one.
	Stopping Code = "stopping"
	// Unavailable (503) is a query whose result could not be stored, or a lookup that could not be made. It is safe to send again.
	Unavailable Code = "unavailable"
	// DeadlinePassed (504) is a query whose result did not come in time. It may be stored a moment later and be found by a lookup.
	DeadlinePassed Code = "deadline_passed"
	// Unanswerable is a request without a reply subject, or with one that is no inbox. It is dropped.
	Unanswerable Code = "unanswerable"
	// Unsent is a request whose reply could not be sent, because the connection to the broker was lost.
	Unsent Code = "unsent"
)

// Codes returns every code, for metrics and tests.
func Codes() []Code {
	return []Code{Answered, Malformed, TooLarge, NoResult, Overloaded, Stopping, Unavailable, DeadlinePassed, Unanswerable, Unsent}
}

// HeaderRetryAfter is the header of a refusal with the status 503: after how many seconds the request is worth sending again.
const HeaderRetryAfter = "Discount-Retry-After"

// leastRetryAfter is told where nothing better is known, mostRetryAfter where the wait has no end that is known, as while the account is paused.
const (
	leastRetryAfter = time.Second
	mostRetryAfter  = time.Hour
)

// status returns the code's number in a refusal, which means what it means in HTTP, or "" for what is no refusal.
func (c Code) status() string {
	switch c {
	case Malformed:
		return "400"
	case NoResult:
		return "404"
	case TooLarge:
		return "413"
	case DeadlinePassed:
		return "504"
	case Overloaded, Stopping, Unavailable:
		return "503"
	case Answered, Unanswerable, Unsent:
		return ""
	}
	return ""
}

// header returns the headers of a refusal besides those of the service framework. The wait is rounded up to whole seconds.
func (c Code) header(after time.Duration) nats.Header {
	header := nats.Header{}
	if c.status() == "503" {
		after = min(max(after, leastRetryAfter), mostRetryAfter)
		header.Set(HeaderRetryAfter, strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
	return header
}
