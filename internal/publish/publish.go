// Package publish writes results, dead letters and scheduled retries. A write is done when the broker has confirmed it: nothing here
// is fire-and-forget, and nothing here ever acks a query.
package publish

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/crashpoint"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Codes of the server for a publish whose expected sequence did not hold (nats-server errors.json).
const (
	// wrongLastSequence is final: a message under the guard is stored.
	wrongLastSequence jetstream.ErrorCode = 10071
	// wrongLastSequenceInFlight is not: another publish under the guard is under way and may still fail.
	wrongLastSequenceInFlight jetstream.ErrorCode = 10164
)

// Options are the parts of a Publisher.
type Options struct {
	JS       jetstream.JetStream
	Subjects query.Subjects
	// ResultStream, DeadStream and RetryStream are the names of the streams written to. Naming them makes a publish fail that
	// would land elsewhere.
	ResultStream string
	DeadStream   string
	RetryStream  string
	// Timeout bounds one publish until it is confirmed.
	Timeout time.Duration
	// OnTrouble is told about each write that was not confirmed and will be tried again. It may be nil.
	OnTrouble func(what string, err error)
}

// Publisher writes to the worker's streams. It may be used by many goroutines.
type Publisher struct {
	Options

	results jetstream.Stream
}

// New returns a publisher. It binds to the result stream and never creates one.
func New(ctx context.Context, options Options) (*Publisher, error) {
	results, err := options.JS.Stream(ctx, options.ResultStream)
	if err != nil {
		return nil, fmt.Errorf("bind to stream %s: %w", options.ResultStream, err)
	}
	return &Publisher{Options: options, results: results}, nil
}

// StoreResult stores a result of q under the guard: the expected last sequence 0 over all results of its key. It tries until the
// broker has confirmed the write or ctx ends. A Duplicate fault means that the query has a result already, be it by another worker or
// by an earlier try of this call whose confirmation was lost.
func (p *Publisher) StoreResult(ctx context.Context, q *query.Query, status query.Status, event []byte) error {
	key := q.Key()
	message := eventMessage(p.Subjects.Result(key, q.Provider, q.Client, string(status)), event)
	return p.confirm(ctx, "store result", message,
		jetstream.WithExpectStream(p.ResultStream),
		jetstream.WithExpectLastSequenceForSubject(0, p.Subjects.ResultGuard(key)))
}

// StoreDead stores a dead letter of q, unless one with its key is stored already.
func (p *Publisher) StoreDead(ctx context.Context, q *query.Query, reason query.Reason, event []byte) error {
	key := q.Key()
	message := eventMessage(p.Subjects.Dead(key, q.Provider, q.Client, string(reason)), event)
	err := p.confirm(ctx, "store dead letter", message,
		jetstream.WithExpectStream(p.DeadStream),
		jetstream.WithExpectLastSequenceForSubject(0, p.Subjects.DeadGuard(key)))
	if fault.KindOf(err) == fault.Duplicate {
		return nil
	}
	return err
}

// ScheduleRetry stores a retry of q that the broker delivers on the due subject at the given time, rounded to its seconds.
func (p *Publisher) ScheduleRetry(ctx context.Context, q *query.Query, at time.Time, retry []byte) error {
	message := nats.NewMsg(p.Subjects.RetryAt(q.Key()))
	message.Data = retry
	return p.confirm(ctx, "schedule retry", message,
		jetstream.WithExpectStream(p.RetryStream),
		jetstream.WithScheduleAt(at.UTC()),
		jetstream.WithScheduleTarget(p.Subjects.RetryDue(q.Provider, q.Lane, q.Client)))
}

// Answered tells whether q has a result. It asks the stream's leader, never a replica that may lag, and tries until it is
// answered or ctx ends.
func (p *Publisher) Answered(ctx context.Context, q *query.Query) (bool, error) {
	answered := false
	err := p.persist(ctx, "look for result", func(ctx context.Context) error {
		_, err := p.results.GetLastMsgForSubject(ctx, p.Subjects.ResultGuard(q.Key()))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			answered = false
			return nil
		}
		answered = err == nil
		return err
	})
	return answered, err
}

// confirm publishes until the broker has confirmed the message or said that it holds one under the guard.
func (p *Publisher) confirm(ctx context.Context, what string, message *nats.Msg, options ...jetstream.PublishOpt) error {
	duplicate := false
	crashpoint.Here(crashpoint.BeforeStore)
	err := p.persist(ctx, what, func(ctx context.Context) error {
		_, err := p.JS.PublishMsg(ctx, message, options...)
		if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == wrongLastSequence {
			duplicate = true
			return nil
		}
		return err
	})
	crashpoint.Here(crashpoint.AfterStore)
	if err == nil && duplicate {
		return fault.New(what, fault.Duplicate, fault.AlreadyAnswered)
	}
	return err
}

// persist repeats one exchange with the broker until it succeeds or ctx ends. There is no other way out: a result that the broker
// can't take yet must not be lost, and its query must not be acked.
func (p *Publisher) persist(ctx context.Context, what string, exchange func(context.Context) error) error {
	attempt := func() error {
		within, cancel := context.WithTimeout(ctx, p.Timeout)
		defer cancel()
		err := exchange(within)
		if err != nil && ctx.Err() == nil {
			p.trouble(what, err)
		}
		return err
	}
	if attempt() == nil {
		return nil
	}
	policy := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(0))
	if err := backoff.Retry(attempt, backoff.WithContext(policy, ctx)); err != nil {
		return fault.Because(what, fault.Interrupted, fault.NotStored, err)
	}
	return nil
}

func (p *Publisher) trouble(what string, err error) {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == wrongLastSequenceInFlight {
		return // Two writers raced; the next try tells who won.
	}
	if p.OnTrouble != nil {
		p.OnTrouble(what, err)
	}
}

func eventMessage(subject string, event []byte) *nats.Msg {
	message := nats.NewMsg(subject)
	message.Header.Set("Content-Type", query.ContentTypeEvent)
	message.Data = event
	return message
}
