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
	"discountquery.example/worker/internal/mutant"
	"discountquery.example/worker/internal/query"
)

// Codes of the server for a publish whose expected sequence did not hold, or that it can't ever take (nats-server errors.json).
const (
	// wrongLastSequence is final: a message under the guard is stored.
	wrongLastSequence jetstream.ErrorCode = 10071
	// wrongLastSequenceInFlight is not: another publish under the guard is under way and may still fail.
	wrongLastSequenceInFlight jetstream.ErrorCode = 10164
	// messageTooLarge is final too: the stream takes no message of that size.
	messageTooLarge jetstream.ErrorCode = 10054
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
	dead    jetstream.Stream
}

// New returns a publisher. It binds to the streams it also reads and never creates one.
func New(ctx context.Context, options Options) (*Publisher, error) {
	results, err := options.JS.Stream(ctx, options.ResultStream)
	if err != nil {
		return nil, fmt.Errorf("bind to stream %s: %w", options.ResultStream, err)
	}
	dead, err := options.JS.Stream(ctx, options.DeadStream)
	if err != nil {
		return nil, fmt.Errorf("bind to stream %s: %w", options.DeadStream, err)
	}
	return &Publisher{Options: options, results: results, dead: dead}, nil
}

// StoreResult stores a result of q under the guard: no other result of its key is stored, but for the failed one that a replay supersedes.
// It tries until the broker has confirmed the write or ctx ends. A Duplicate fault means that the query has a result already, be it by
// another worker or by an earlier try of this call whose confirmation was lost. A fault with the code TooLarge means that the broker takes no
// message of that size; the other writes return it too.
func (p *Publisher) StoreResult(ctx context.Context, q *query.Query, status query.Status, event []byte) error {
	key := q.Key()
	message := eventMessage(p.Subjects.Result(key, q.Provider, q.Client, string(status)), event)
	g := guard{what: storeResult, stream: p.results, name: p.ResultStream, subject: p.Subjects.ResultGuard(key), after: supersedes(q).Result}
	err := p.guarded(ctx, message, g)
	if mutant.PublishTwice {
		err = p.confirm(ctx, g.what, eventMessage(message.Subject, event), jetstream.WithExpectStream(g.name))
	}
	return err
}

// StoreDead stores a dead letter of q, unless one is stored already that is not the one a replay supersedes.
func (p *Publisher) StoreDead(ctx context.Context, q *query.Query, reason query.Reason, event []byte) error {
	key := q.Key()
	message := eventMessage(p.Subjects.Dead(key, q.Provider, q.Client, string(reason)), event)
	err := p.guarded(ctx, message, guard{
		what: storeDead, stream: p.dead, name: p.DeadStream, subject: p.Subjects.DeadGuard(key), after: supersedes(q).Letter, droppable: true,
	})
	if fault.KindOf(err) == fault.Duplicate {
		return nil
	}
	return err
}

// guard is what must be true for a message to be stored: the last one below the subject has the sequence given, 0 for none.
type guard struct {
	what    string
	stream  jetstream.Stream
	name    string
	subject string
	after   uint64
	// droppable tells that the message with that sequence may have been deleted alone, so that an older one is the last again.
	droppable bool
}

func supersedes(q *query.Query) query.Replay {
	if q.Replay == nil {
		return query.Replay{}
	}
	return *q.Replay
}

// guarded stores a message under its guard. What a replay supersedes may have been dropped or grown too old meanwhile: then nothing is
// left to supersede, or what is left is older.
func (p *Publisher) guarded(ctx context.Context, message *nats.Msg, g guard) error {
	err := p.confirm(ctx, g.what, message, g.options()...)
	for fault.KindOf(err) == fault.Duplicate && g.after > 0 {
		last, _, missing := p.read(ctx, g.what, g.stream, g.subject)
		if missing != nil || last >= g.after || last > 0 && !g.droppable {
			return errors.Join(missing, err)
		}
		g.after = last
		err = p.confirm(ctx, g.what, message, g.options()...)
	}
	return err
}

func (g guard) options() []jetstream.PublishOpt {
	options := []jetstream.PublishOpt{jetstream.WithExpectStream(g.name)}
	if !mutant.NoGuard {
		options = append(options, jetstream.WithExpectLastSequenceForSubject(g.after, g.subject))
	}
	return options
}

// ScheduleRetry stores a retry of q that the broker delivers on the due subject at the given time, rounded to its seconds.
func (p *Publisher) ScheduleRetry(ctx context.Context, q *query.Query, at time.Time, retry []byte) error {
	message := nats.NewMsg(p.Subjects.RetryAt(q.Key()))
	message.Data = retry
	return p.confirm(ctx, scheduleRetry, message,
		jetstream.WithExpectStream(p.RetryStream),
		jetstream.WithScheduleAt(at.UTC()),
		jetstream.WithScheduleTarget(p.Subjects.RetryDue(q.Provider, q.Way(), q.Client)))
}

// Result returns the stored result of q, nil if it has none but the one that a replay supersedes. It asks the stream's leader, never a
// replica that may lag, and tries until it is answered or ctx ends.
func (p *Publisher) Result(ctx context.Context, q *query.Query) ([]byte, error) {
	sequence, event, err := p.read(ctx, lookForResult, p.results, p.Subjects.ResultGuard(q.Key()))
	if sequence == supersedes(q).Result {
		return nil, err
	}
	return event, err
}

// Lookup returns the last stored result of a key if it belongs to the client. It does not tell whether another client has one.
func (p *Publisher) Lookup(ctx context.Context, key, client string) (event []byte, found bool, err error) {
	_, event, err = p.read(ctx, lookUpResult, p.results, p.Subjects.ResultOf(key, client))
	return event, event != nil, err
}

// DeadLetter returns the stored dead letter of q, nil if it has none, as Result does. What is older than the letter that a replay supersedes
// is none either: that one may have been dropped.
func (p *Publisher) DeadLetter(ctx context.Context, q *query.Query) ([]byte, error) {
	sequence, event, err := p.read(ctx, lookForDead, p.dead, p.Subjects.DeadGuard(q.Key()))
	if sequence <= supersedes(q).Letter {
		return nil, err
	}
	return event, err
}

// read returns the last message of a subject and its sequence, 0 if there is none.
func (p *Publisher) read(ctx context.Context, what string, stream jetstream.Stream, subject string) (uint64, []byte, error) {
	var last jetstream.RawStreamMsg
	err := p.persist(ctx, what, func(ctx context.Context) error {
		last = jetstream.RawStreamMsg{}
		message, err := stream.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err == nil {
			last = *message
		}
		return err
	})
	return last.Sequence, last.Data, err
}

// confirm publishes until the broker has confirmed the message, said that it holds one under the guard, or that it takes none of that size.
func (p *Publisher) confirm(ctx context.Context, what string, message *nats.Msg, options ...jetstream.PublishOpt) error {
	var final error
	crashpoint.Here(crashpoint.BeforeStore)
	err := p.persist(ctx, what, func(ctx context.Context) error {
		_, err := p.JS.PublishMsg(ctx, message, options...)
		if final = refusal(what, err); final != nil {
			err = nil // There is nothing to try again.
		}
		return err
	})
	crashpoint.Here(crashpoint.AfterStore)
	if err == nil {
		err = final
	}
	return err
}

// refusal returns the fault of a publish that the broker will never take, nil for one that may succeed yet.
func refusal(what string, err error) error {
	refused, ok := errors.AsType[*jetstream.APIError](err)
	switch {
	case ok && refused.ErrorCode == wrongLastSequence:
		return fault.New(what, fault.Duplicate, fault.AlreadyAnswered)
	case ok && refused.ErrorCode == messageTooLarge, errors.Is(err, nats.ErrMaxPayload):
		return fault.New(what, fault.Rejected, fault.TooLarge)
	default:
		return nil
	}
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
