package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/crashpoint"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/trace"
)

// Pacer gives out the upstream's rate: each call on the wire costs one permit.
type Pacer interface {
	// Wait returns when the next call for q may be made, or with an Interrupted fault when ctx ends first.
	Wait(ctx context.Context, q *query.Query) error
	// Throttled tells that a call for q that was sent at the given time was refused because there were too many. retryAfter is how long
	// the upstream wants to be left alone; 0 if it did not say.
	Throttled(q *query.Query, sentAt time.Time, retryAfter time.Duration)
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
	// Name stands in errors, and with Account, the name of who asks, in traces.
	Name     query.Provider
	Account  string
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
	// Breaker keeps calls from an upstream that is down; Budget bounds repeated attempts over all calls.
	Breaker *Breaker
	Budget  *Budget
	// Concurrency bounds how many calls may be under way at once. Nil means no bound.
	Concurrency *Concurrency
	// Hold bounds what the account may take of slots that it shares. The zero value is for an account that is alone.
	Hold Hold
	// OnAttempt is told about each attempt with its duration; err is nil for the one that was answered. It may be nil.
	// ctx leads to the trace of the query.
	OnAttempt func(ctx context.Context, provider query.Provider, took time.Duration, err error)
}

// Client asks one upstream. It may be used by many goroutines.
type Client struct {
	Options

	holder *holder
}

// New returns a client of the given parts.
func New(options Options) *Client { return &Client{Options: options, holder: newHolder(options.Hold)} }

// Call asks the upstream about q and retries for a short while what may pass: broken connections, timeouts, answers that can't be
// trusted, server errors. It returns every attempt it made. The error is the last real one, whatever ended the retries: an
// Interrupted fault is returned only if no attempt had failed before.
//
// A query that its account can't ask soon is put off: see Hold. The fault is then Unavailable with the code BreakerOpen or Throttled
// with the code Paced, says in After when to come back, and there is no attempt.
func (c *Client) Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
	leave, err := c.sit(ctx, q)
	if err != nil {
		return query.Answer{}, nil, err
	}
	defer leave()
	talk := &conversation{client: c, question: Question{Query: q, Card: details}}
	err = backoff.Retry(func() error { return talk.try(ctx) }, c.policy(ctx))
	if err == nil {
		return talk.answer, talk.attempts, nil
	}
	if talk.last != nil {
		err = talk.last
	}
	return query.Answer{}, talk.attempts, fault.From(string(c.Name), err)
}

// conversation is one call: what was asked, the attempts so far and the last real failure.
type conversation struct {
	client   *Client
	question Question
	answer   query.Answer
	attempts []query.Attempt
	last     error
	// place is what the attempt under way holds.
	place place
}

// errSilent tells a breaker and a place that a call says nothing about the upstream: it was not made after all, or cut short by us.
var errSilent = fault.New("breaker", fault.Interrupted, fault.Stopped)

// try makes one attempt: admitted to a place at the fleet's pace, prepared, sent, read.
func (t *conversation) try(ctx context.Context) error {
	asked := time.Now()
	defer t.place.leave()
	done, err := t.admit(ctx, asked)
	if err != nil {
		return backoff.Permanent(err)
	}
	if len(t.attempts) == 0 {
		t.client.Budget.Earn()
	}
	var outcome error = errSilent
	defer func() { done(outcome) }()
	crashpoint.Here(crashpoint.AfterPermit)
	began := time.Now()
	exchange, err := t.client.Provider.Prepare(began, t.question)
	if err != nil {
		t.last = err
		return backoff.Permanent(err) // No call was made: this is no attempt.
	}
	t.place.call()
	answer, failure := t.call(ctx, exchange)
	took := time.Since(began)
	outcome = t.client.judge(ctx, took, failure)
	t.place.answered(outcome)
	t.heed(began, failure)
	if t.client.OnAttempt != nil {
		t.client.OnAttempt(ctx, t.client.Name, took, failure)
	}
	if failure != nil && fault.KindOf(failure) == fault.Interrupted {
		return backoff.Permanent(failure) // This is no attempt either, and what failed before says more.
	}
	t.answer, t.last = answer, failure
	attempt := attemptOf(began, took, answer, failure)
	attempt.WaitedMS = began.Sub(asked).Milliseconds()
	t.attempts = append(t.attempts, attempt)
	if failure != nil && !worthRepeating(failure) {
		return backoff.Permanent(failure)
	}
	return failure
}

// admit waits for the attempt's turn since the time given.
func (t *conversation) admit(ctx context.Context, since time.Time) (done func(error), err error) {
	span := trace.Wait(ctx, t.next())
	done, err = t.client.admit(ctx, t.question.Query, len(t.attempts) == 0, &t.place)
	span.Waited(time.Since(since), err)
	return done, err
}

// call makes the attempt on the wire. Its span ends although the provider may panic.
func (t *conversation) call(ctx context.Context, exchange Exchange) (answer query.Answer, err error) {
	span := trace.Call(ctx, t.next(), exchange.Request.URL.Hostname())
	defer func() { span.Called(string(answer.Outcome), answer.Upstream.Status, err) }()
	return t.client.attempt(ctx, exchange)
}

// next names the attempt that comes after those that were made.
func (t *conversation) next() trace.Attempt {
	q := t.question.Query
	return trace.Attempt{Provider: string(q.Provider), Lane: string(q.Way()), Account: t.client.Account, Number: len(t.attempts) + 1}
}

// judge returns what the end of an attempt says about the upstream. One that the query's own deadline cut short says nothing: there may have been
// too little time for an answer. But an upstream that hangs must be found out by those who never have an attempt's whole time, so half of
// it is enough to have failed.
func (c *Client) judge(ctx context.Context, took time.Duration, failure error) error {
	if ctx.Err() != nil && fault.CodeOf(failure) == fault.Timeout && took < c.AttemptTimeout/2 {
		return errSilent
	}
	return failure
}

// heed tells the fleet that the upstream asks for fewer calls.
func (t *conversation) heed(sentAt time.Time, failure error) {
	if refused, ok := errors.AsType[*fault.Error](failure); ok && refused.Kind == fault.Throttled {
		t.client.Pacer.Throttled(t.question.Query, sentAt, refused.After)
	}
}

// admit lets an attempt begin. The first one waits until there is a place, the upstream is up and the pace allows a call, which costs the
// query nothing. A repeated one must fit into the budget and is not worth waiting for an upstream that went down: that is for the slower
// tier. Where the account may not hold its queries for so long, they are put off.
func (c *Client) admit(ctx context.Context, q *query.Query, first bool, p *place) (done func(error), err error) {
	if !first && !c.Budget.Spend() {
		return nil, fault.New(string(c.Name), fault.Unavailable, fault.RetryBudget)
	}
	if !c.putsOff(ctx, q) {
		return c.await(ctx, q, first, first, p)
	}
	if first && c.Breaker.UpIn() > c.Hold.AtMost {
		return nil, c.putOff(fault.Unavailable, fault.BreakerOpen)
	}
	within, cancel := context.WithTimeout(ctx, c.Hold.AtMost)
	defer cancel()
	done, err = c.await(within, q, first, false, p)
	switch {
	case err == nil || !first || ctx.Err() != nil || fault.KindOf(err) == fault.Interrupted:
		return done, err
	case fault.CodeOf(err) == fault.BreakerOpen:
		return nil, c.putOff(fault.Unavailable, fault.BreakerOpen)
	default:
		return nil, c.putOff(fault.Throttled, fault.Paced)
	}
}

// await waits for what an attempt needs: a place, an upstream that is up, if it is worth waiting for, and a permit. The place comes first: a
// permit that waited for one would be used too late, together with those of other times. The upstream may have gone down while the call
// waited for its turn: then its permit is lost, and it waits again if it is to stay.
func (c *Client) await(ctx context.Context, q *query.Query, up, stay bool, p *place) (done func(error), err error) {
	if err := c.Concurrency.enter(ctx, q, p); err != nil {
		return nil, err
	}
	for {
		done, paid, err := c.pay(ctx, q, up)
		if err == nil || !paid || !stay {
			return done, err
		}
	}
}

// pay waits until the upstream is up, if it is to, and takes a permit. paid tells that it was taken, whether the breaker allowed the call or not.
func (c *Client) pay(ctx context.Context, q *query.Query, up bool) (done func(error), paid bool, err error) {
	if up {
		leave, err := c.Breaker.WaitUp(ctx)
		if err != nil {
			return nil, false, err
		}
		defer leave()
	}
	if err := c.Pacer.Wait(ctx, q); err != nil {
		return nil, false, err
	}
	done, err = c.Breaker.Allow()
	return done, true, err
}

// policy returns the delays of one call. It is made anew for each, because it has a state.
func (c *Client) policy(ctx context.Context) backoff.BackOff {
	delays := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(c.Retry.Initial), backoff.WithMaxInterval(c.Retry.MaxInterval),
		backoff.WithMultiplier(c.Retry.Multiplier), backoff.WithRandomizationFactor(c.Retry.Jitter),
		backoff.WithMaxElapsedTime(c.Retry.Budget))
	return backoff.WithContext(backoff.WithMaxRetries(delays, uint64(max(c.Retry.MaxAttempts-1, 0))), ctx)
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
	var written, refused atomic.Bool
	steps := &httptrace.ClientTrace{
		WroteRequest: func(info httptrace.WroteRequestInfo) {
			if info.Err == nil {
				written.Store(true)
				crashpoint.Here(crashpoint.AfterRequestWritten)
			}
		},
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err != nil {
				refused.Store(true)
			}
		},
	}
	request = request.WithContext(httptrace.WithClientTrace(ctx, steps))
	request.Header.Set("User-Agent", c.UserAgent)
	reply, err := c.Transport.RoundTrip(request) //nolint:bodyclose // read closes it.
	if err != nil {
		return Response{}, transportFault(string(c.Name), err, written.Load(), refused.Load())
	}
	response, err := c.read(reply)
	if err != nil {
		return Response{}, err
	}
	crashpoint.Here(crashpoint.AfterResponseRead)
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
