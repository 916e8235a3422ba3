// Package sweeper is the net under the broker: it finds queries that the broker gave up on, and queries that should have had their
// result by now, by reading the streams. It hands them to the same handler as everybody else, has those removed that were given up on and
// are settled, and must never ack, delete or decide itself.
package sweeper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// Handler takes a query to its end.
type Handler interface {
	Handle(ctx context.Context, delivery query.Delivery) decide.Settlement
	// Overdue tells whether the query should have had its result at the given time.
	Overdue(delivery query.Delivery, at time.Time) bool
}

// Binding names one durable consumer and the messages it is to read. Without a consumer it names messages that wait for the broker's own
// schedule: nobody gets them, so that they can only be overdue, and each counts as if it had come to its target.
type Binding struct {
	Stream   string
	Consumer string
	Filter   string
}

// Why says why a query was swept up.
type Why string

// Why queries are swept up.
const (
	// GivenUp is a message that the broker delivered as often as it may and will not deliver again.
	GivenUp Why = "given_up"
	// Overdue is a query that nobody has answered in its time, because nobody takes its provider's queries now or its retry never came due.
	Overdue Why = "overdue"
)

// Whys returns every Why, so that metrics can exist at zero from the start.
func Whys() []Why { return []Why{GivenUp, Overdue} }

// Options are the parts of a Sweeper.
type Options struct {
	JS       jetstream.JetStream
	Bindings []Binding
	Lease    *Lease
	// Every is the time between two passes.
	Every time.Duration
	// Grace is how long after its limit a query is left to the workers.
	Grace time.Duration
	// Batch is how many waiting messages of one binding are looked at in one pass.
	Batch   int
	Handler Handler
	// Remove takes a message that was given up on and is settled out of its stream. It may be called again for one that is gone.
	Remove func(ctx context.Context, binding Binding, sequence uint64) error
	// OnFound is told each query that was swept up, OnTrouble each pass that ended early. Both must be quick.
	OnFound   func(why Why, settled bool)
	OnTrouble func(err error)
}

// Sweeper makes passes over the streams while it holds the lease.
type Sweeper struct {
	Options

	// settled holds the overdue queries that were swept up already. Their messages wait for the consumer or their schedule, so each pass meets
	// them again.
	settled map[place]bool
	// cursors say where the next look for overdue queries begins.
	cursors map[Binding]uint64
	// marks say up to where nothing was pending at the last pass.
	marks map[Binding]uint64
	// renewed is when the lease was written last.
	renewed time.Time
}

type place struct {
	stream   string
	sequence uint64
}

// New returns a sweeper of the given parts.
func New(options Options) *Sweeper {
	return &Sweeper{Options: options, settled: map[place]bool{}, cursors: map[Binding]uint64{}, marks: map[Binding]uint64{}}
}

// Run makes a pass every now and then until ctx ends.
func (s *Sweeper) Run(ctx context.Context) {
	ticker := time.NewTicker(s.Every)
	defer ticker.Stop()
	for {
		if err := s.passIfHeld(ctx); err != nil && ctx.Err() == nil {
			s.OnTrouble(err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Sweeper) passIfHeld(ctx context.Context) error {
	err := s.hold(ctx)
	if err == nil {
		err = s.Pass(ctx)
	}
	if errors.Is(err, errNotOurs) {
		return nil
	}
	return err
}

// errNotOurs ends a pass: another worker has the lease.
var errNotOurs = errors.New("another worker sweeps")

// hold gets or renews the lease.
func (s *Sweeper) hold(ctx context.Context) error {
	held, err := s.Lease.Hold(ctx)
	if err != nil {
		return err
	}
	if !held {
		return errNotOurs
	}
	s.renewed = time.Now()
	return nil
}

// keep renews the lease in the midst of a pass, which can take longer than a lease holds.
func (s *Sweeper) keep(ctx context.Context) error {
	if time.Since(s.renewed) < s.Lease.TTL/3 {
		return nil
	}
	return s.hold(ctx)
}

// Pass looks through all bindings once. It ends early if it lasts so long that another worker has got the lease.
func (s *Sweeper) Pass(ctx context.Context) error {
	var failed []error
	for _, binding := range s.Bindings {
		err := s.sweep(ctx, binding)
		if errors.Is(err, errNotOurs) {
			return err
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("sweep %s of %s: %w", cmp.Or(binding.Consumer, binding.Filter), binding.Stream, err))
		}
	}
	return errors.Join(failed...)
}

// sweep looks through the messages of one binding.
func (s *Sweeper) sweep(ctx context.Context, binding Binding) error {
	stream, err := s.JS.Stream(ctx, binding.Stream)
	if err != nil {
		return err
	}
	if binding.Consumer != "" {
		if err := s.sweepDelivered(ctx, stream, binding); err != nil {
			return err
		}
	}
	return s.sweepOverdue(ctx, stream, binding)
}

// sweepDelivered looks for what the broker gave up on. On a work queue every settled message is gone, so what was delivered, is still
// stored and is not pending was given up on. The broker does not tell which messages are pending: settledTo says up to where none can be.
// What was given up on beyond that is found when it is overdue, as a message that waits or is held would be.
//
// The mark is a pass old: a cluster forgets that a message is pending when it gets the ack, and keeps the message for a moment more. And
// it counts a message that it gave up on as redelivered until that leaves the stream: without any there is nothing to find.
func (s *Sweeper) sweepDelivered(ctx context.Context, stream jetstream.Stream, binding Binding) error {
	bound, err := s.JS.Consumer(ctx, binding.Stream, binding.Consumer)
	if err != nil {
		return err
	}
	info := bound.CachedInfo()
	earlier, now := s.marks[binding], settledTo(info)
	s.marks[binding] = now
	if info.NumRedelivered == 0 {
		return nil
	}
	// An earlier mark alone proves nothing: a broker that crashed, or a consumer made anew, delivers again what lies below it.
	return s.sweepGivenUp(ctx, stream, binding, min(earlier, now))
}

// settledTo returns the sequence up to which no message is pending. If nothing is pending, that is all that was
// delivered. Otherwise it is the ack floor, which stops at a message that was given up on until an ack leaves nothing pending
// (nats-server 2.15.2, UpdateDelivered and UpdateAcks of consumerFileStore). So it remembers the last moment with nothing pending, and
// many of those lie between two passes, though none may be met by one.
func settledTo(info *jetstream.ConsumerInfo) uint64 {
	if info.NumAckPending == 0 {
		return info.Delivered.Stream
	}
	return info.AckFloor.Stream
}

func (s *Sweeper) sweepGivenUp(ctx context.Context, stream jetstream.Stream, binding Binding, last uint64) error {
	for next := uint64(1); next <= last; {
		if err := s.keep(ctx); err != nil {
			return err
		}
		message, err := read(ctx, stream, binding, next)
		if err != nil || message == nil || message.Sequence > last {
			return err
		}
		if s.settle(ctx, binding, message, GivenUp) {
			if err := s.Remove(ctx, binding, message.Sequence); err != nil {
				return err
			}
		}
		next = message.Sequence + 1
	}
	return nil
}

func (s *Sweeper) sweepOverdue(ctx context.Context, stream jetstream.Stream, binding Binding) error {
	next := max(s.cursors[binding], 1)
	for range s.Batch {
		if err := s.keep(ctx); err != nil {
			return err
		}
		message, err := read(ctx, stream, binding, next)
		if err != nil {
			return err
		}
		if message == nil {
			next = 0 // The next pass begins at the front again.
			break
		}
		if s.Handler.Overdue(deliveryOf(binding, message, 1), time.Now().Add(-s.Grace)) {
			s.settleOverdue(ctx, binding, message)
		}
		next = message.Sequence + 1
	}
	s.cursors[binding] = next
	return nil
}

// read returns the first message of the binding at or after a sequence, nil if there is none.
func read(ctx context.Context, stream jetstream.Stream, binding Binding, sequence uint64) (*jetstream.RawStreamMsg, error) {
	message, err := stream.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(binding.Filter))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // No message is an answer, and the two callers ask for it at once.
	}
	return message, err
}

// settleOverdue settles an overdue query once. Its message stays: it may be on its way to a worker, or its schedule come due after all, and
// whoever gets it will find the result and ack it.
func (s *Sweeper) settleOverdue(ctx context.Context, binding Binding, message *jetstream.RawStreamMsg) {
	at := place{stream: binding.Stream, sequence: message.Sequence}
	if s.settled[at] || !s.settle(ctx, binding, message, Overdue) {
		return
	}
	if len(s.settled) >= maxSettled {
		clear(s.settled) // Looking a few results up again costs less than remembering for ever.
	}
	s.settled[at] = true
}

// settle hands a message to the handler as one that was delivered before, so that the handler looks for its result first; one that was
// given up on counts as delivered more often than any policy allows. It tells whether the query has its result now.
func (s *Sweeper) settle(ctx context.Context, binding Binding, message *jetstream.RawStreamMsg, why Why) bool {
	deliveries := 2
	if why == GivenUp {
		deliveries = givenUpDeliveries
	}
	ctx, cancel := context.WithTimeout(ctx, settleWithin)
	defer cancel()
	settlement := s.Handler.Handle(ctx, deliveryOf(binding, message, deliveries))
	s.OnFound(why, settlement.Done)
	return settlement.Done
}

// maxSettled bounds what is remembered of earlier passes.
const maxSettled = 1 << 16

// settleWithin is how long a message is tried to be settled in one pass: less than the lease holds, so that one that can't be stored, because
// a stream is full, keeps nobody else from it.
const settleWithin = 20 * time.Second

// givenUpDeliveries stands for "too often".
const givenUpDeliveries = 1 << 20

func deliveryOf(binding Binding, message *jetstream.RawStreamMsg, deliveries int) query.Delivery {
	subject := message.Subject
	if binding.Consumer == "" {
		subject = message.Header.Get(jetstream.ScheduleTargetHeader)
	}
	return query.Delivery{
		Subject: subject, Header: message.Header, Data: message.Data, Stream: binding.Stream,
		Sequence: message.Sequence, Number: deliveries, Stored: message.Time,
	}
}
