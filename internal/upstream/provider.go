// Package upstream makes calls to the upstreams: one deadline, short retries and the shared HTTP rules around one Provider.
// It decides nothing about a query's fate and must never know NATS.
package upstream

import (
	"net/http"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/query"
)

// Question is what a provider is asked: the query, and its card data where the provider needs any.
type Question struct {
	// Query is the query. Providers read their own question from it.
	Query *query.Query
	// Card is the unsealed card data, nil for providers that need none.
	Card *card.Details
}

// Provider knows one upstream's wire format: envelope, signature, fields and codes. It does no I/O.
type Provider interface {
	// Prepare checks the question against the upstream's field rules and builds the request of one attempt. Each attempt is
	// prepared anew, because reference, time and signature must not repeat. A question that breaks the rules is Rejected or
	// Malformed. The call's deadline is put on the request by the Client.
	Prepare(now time.Time, question Question) (Exchange, error)
}

// Exchange is one attempt: the request to send and the reader of its response.
type Exchange struct {
	// Request is complete but for its context. It must be a POST, because net/http repeats other requests by itself on a connection that
	// broke, and each call on the wire counts. Its ContentLength must be the length of its body, which would else be sent in chunks:
	// http.NewRequestWithContext sets it for a *bytes.Reader.
	Request *http.Request
	// Read turns the response to this very request into an answer or a *fault.Error. It checks that the response belongs to
	// the request. It gets every response that is not a redirect and whose body could be read within the limit, and those with another
	// status than 200 in any case: without their body if that could not be read.
	Read func(Response) (query.Answer, error)
}

// Response is a whole response, bounded and read.
type Response struct {
	// Status is the HTTP status.
	Status int
	// Header holds the response's headers.
	Header http.Header
	// Body is the body exactly as it was on the wire: signatures are over these bytes.
	Body []byte
	// At is when the response was complete.
	At time.Time
}
