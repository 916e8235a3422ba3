package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Pacer gives out the upstream's rate to attempts after the first: each call on the wire costs one permit.
type Pacer interface {
	// Wait returns when the next call for q may be made, or with an Interrupted fault when ctx ends first.
	Wait(ctx context.Context, q *query.Query) error
}

// RetryPolicy bounds the short retries inside one call.
type RetryPolicy struct {
	// MaxAttempts is how many attempts one call makes at most.
	MaxAttempts int
	// Initial is the delay before the second attempt. Each further one is longer by Multiplier, up to MaxInterval, and Jitter, from
	// 0 to 1, is the part of it by which it is spread to both sides.
	Initial     time.Duration
	MaxInterval time.Duration
	Multiplier  float64
	Jitter      float64
	// Budget is how long after its start a call may still begin an attempt.
	Budget time.Duration
}

// Options are the parts of a Client.
type Options struct {
	// Name stands in errors.
	Name     query.Provider
	Provider Provider
	// Transport sends requests; it must neither follow redirects nor retry. See NewTransport.
	Transport http.RoundTripper
	// AttemptTimeout bounds one attempt from its start to the last byte of the response's body.
	AttemptTimeout time.Duration
	// MaxResponse is the largest body that is read, in bytes.
	MaxResponse int64
	UserAgent   string
	Retry       RetryPolicy
	Pacer       Pacer
	// OnAttempt is told about each attempt with its duration; err is nil for the one that was answered. It may be nil.
	OnAttempt func(provider query.Provider, took time.Duration, err error)
}

// Client asks one upstream. It may be used by many goroutines.
type Client struct {
	Options
}

// New returns a client of the given parts.
func New(options Options) *Client { return &Client{Options: options} }

// Call asks the upstream about q and retries for a short while what may pass: broken connections, timeouts, answers that can't be
// trusted, server errors. It returns every attempt it made. The error is the last real one, whatever ended the retries: an
// Interrupted fault is returned only if no attempt had failed before.
func (c *Client) Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
	var (
		answer   query.Answer
		attempts []query.Attempt
		last     error
	)
	question := Question{Query: q, Card: details}
	operation := func() error {
		if len(attempts) > 0 {
			if err := c.Pacer.Wait(ctx, q); err != nil {
				return backoff.Permanent(err)
			}
		}
		began := time.Now()
		exchange, err := c.Provider.Prepare(began, question)
		if err != nil {
			last = err
			return backoff.Permanent(err) // No call was made: this is no attempt.
		}
		answer, last = c.attempt(ctx, exchange)
		took := time.Since(began)
		if last == nil || fault.KindOf(last) != fault.Interrupted {
			attempts = append(attempts, attemptOf(began, took, answer, last))
		}
		if c.OnAttempt != nil {
			c.OnAttempt(c.Name, took, last)
		}
		if last != nil && !worthRepeating(last) {
			return backoff.Permanent(last)
		}
		return last
	}
	err := backoff.Retry(operation, c.policy(ctx))
	if err == nil {
		return answer, attempts, nil
	}
	if last == nil {
		last = err
	}
	return query.Answer{}, attempts, fault.From(string(c.Name), last)
}

// policy returns the delays of one call. It is made anew for each, because it has a state.
func (c *Client) policy(ctx context.Context) backoff.BackOff {
	delays := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(c.Retry.Initial), backoff.WithMaxInterval(c.Retry.MaxInterval),
		backoff.WithMultiplier(c.Retry.Multiplier), backoff.WithRandomizationFactor(c.Retry.Jitter),
		backoff.WithMaxElapsedTime(c.Retry.Budget))
	return backoff.WithContext(backoff.WithMaxRetries(delays, uint64(max(c.Retry.MaxAttempts-1, 0))), ctx) //nolint:gosec // It is not negative.
}

// worthRepeating tells whether another attempt within seconds can help. Being throttled or refused is for the slower tier.
func worthRepeating(err error) bool {
	kind := fault.KindOf(err)
	return kind == fault.Unavailable || kind == fault.Unknown
}

// attempt makes one call on the wire. Its timeout covers the whole attempt, the body included.
func (c *Client) attempt(ctx context.Context, exchange Exchange) (query.Answer, error) {
	within, cancel := context.WithTimeout(ctx, c.AttemptTimeout)
	defer cancel()
	response, err := c.send(within, exchange.Request)
	if errors.Is(ctx.Err(), context.Canceled) {
		return query.Answer{}, fault.Because(string(c.Name), fault.Interrupted, fault.Stopped, ctx.Err())
	}
	if err != nil {
		return query.Answer{}, err
	}
	return exchange.Read(response)
}

// send writes the request and reads the response whole.
func (c *Client) send(ctx context.Context, request *http.Request) (Response, error) {
	var written atomic.Bool
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) {
		if info.Err == nil {
			written.Store(true)
		}
	}}
	request = request.WithContext(httptrace.WithClientTrace(ctx, trace))
	request.Header.Set("User-Agent", c.UserAgent)
	reply, err := c.Transport.RoundTrip(request)
	if err != nil {
		return Response{}, transportFault(string(c.Name), err, written.Load())
	}
	response, err := c.read(reply)
	if err != nil {
		return Response{}, err
	}
	if response.Status >= 300 && response.Status < 400 {
		refused := fault.New(string(c.Name), fault.Unavailable, fault.Redirect)
		refused.Status, refused.Sent = response.Status, true
		return Response{}, refused
	}
	return response, nil
}

func attemptOf(began time.Time, took time.Duration, answer query.Answer, err error) query.Attempt {
	attempt := query.Attempt{At: began.UTC(), Milliseconds: took.Milliseconds()}
	if err == nil {
		attempt.Status, attempt.Upstream = answer.Upstream.Status, answer.Upstream.Code
		return attempt
	}
	failure := fault.From("attempt", err)
	attempt.Kind, attempt.Code = failure.Kind.String(), failure.Code
	attempt.Status, attempt.Upstream = failure.Status, failure.Upstream
	return attempt
}
