package tail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/fault"
)

// mood says how a walk goes on.
type mood int

const (
	// onward expects another message at once.
	onward mood = iota
	// patient waits for as long as it takes.
	patient
	// enough ends the walk.
	enough
)

// visit takes a message, or none if there is nothing more for now. pending is how many messages follow that one.
type visit func(m *stored, pending uint64) (mood, error)

// How a consumer is used.
const (
	// inactive is how long the broker keeps a consumer that nobody asks. That is how ours end: only one room deletes consumers. Who reads no
	// further for so long gets another one, at the same place.
	inactive = 30 * time.Second
	// batch is how many messages are on their way at most.
	batch = 256
	// expiry and heartbeat are those of a pull.
	expiry    = 30 * time.Second
	heartbeat = 5 * time.Second
	// silence is how long a message that is pending may stay away before the consumer is made anew.
	silence = 10 * time.Second
	// pause is the wait before the broker is asked again.
	pause = 250 * time.Millisecond
	// unavailable is the code of a broker that can't serve yet, as one that elects a leader.
	unavailable = 503
)

// walk calls f with one message after the other from where the source stands, over as many consumers as it takes. It returns an error of f,
// or that of a broker which could not be read, or that of ctx.
func (s *source) walk(ctx context.Context, f visit) error {
	now := onward
	within := func(m *stored, pending uint64) (mood, error) {
		var err error
		now, err = f(m, pending)
		if err != nil {
			err = visitError{err}
		}
		return now, err
	}
	until := time.Now().Add(s.reader.Patience)
	for {
		before, line := s.at, s.reader.JS.Conn().Stats().Reconnects
		err := s.walkOn(ctx, within)
		if visited, ok := errors.AsType[visitError](err); ok {
			return visited.error
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if s.at != before || now == patient {
			until = time.Now().Add(s.reader.Patience)
		}
		if !s.reached && !s.reader.away(line, err) || time.Now().After(until) {
			return s.problem("read stream "+s.stream, err)
		}
		if err := rest(ctx, pause); err != nil {
			return err
		}
	}
}

// away tells whether an error came while the broker was away or coming back, and not over a line that held since it had been made anew so many
// times. Silence over such a line is what a missing right looks like.
func (r *Reader) away(reconnects uint64, err error) bool {
	conn := r.JS.Conn()
	refused, ok := errors.AsType[*jetstream.APIError](err)
	starting := errors.Is(err, nats.ErrNoResponders) || ok && refused.Code == unavailable
	return starting || !conn.IsConnected() || conn.Stats().Reconnects != reconnects
}

// visitError is an error of whoever looks at the messages.
type visitError struct{ error }

// walkOn is walk over one consumer. It returns nil when it is enough.
func (s *source) walkOn(ctx context.Context, f visit) error {
	consumer, err := s.consume(ctx)
	if err != nil {
		return err
	}
	s.reached = true
	ctx, done := s.reader.untilRenewed(ctx)
	defer done()
	messages, err := consumer.Messages(jetstream.PullMaxMessages(batch), jetstream.PullExpiry(expiry), jetstream.PullHeartbeat(heartbeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	now := onward
	if consumer.CachedInfo().NumPending == 0 {
		now, err = f(nil, 0)
	}
	for err == nil && now != enough {
		var m *stored
		var pending uint64
		if m, pending, err = receive(ctx, messages, now); err != nil {
			return err
		}
		s.at.sequence = m.sequence + 1
		now, err = f(m, pending)
	}
	return err
}

// untilRenewed returns a context that ends when the connection is made anew: whatever a broker knew of a consumer may be gone by then, so that
// another one is made. The function returned must be called in the end.
func (r *Reader) untilRenewed(ctx context.Context) (context.Context, func()) {
	ctx, renew := context.WithCancel(ctx)
	conn := r.JS.Conn()
	changes := conn.StatusChanged(nats.CONNECTED)
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-changes:
			renew()
		case <-ctx.Done():
		}
	})
	return ctx, func() {
		renew()
		watching.Wait()
		conn.RemoveStatusListener(changes)
	}
}

// receive returns the next message. One that is expected at once is not waited for without an end: the broker may have dropped it.
func receive(ctx context.Context, messages jetstream.MessagesContext, now mood) (*stored, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	if now == onward {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, silence)
		defer cancel()
	}
	message, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return nil, 0, err
	}
	meta, err := message.Metadata()
	if err != nil {
		return nil, 0, err
	}
	return &stored{subject: message.Subject(), data: message.Data(), sequence: meta.Sequence.Stream, at: meta.Timestamp}, meta.NumPending, nil
}

// consume makes an ordered consumer that begins where the source stands. It never asks for new messages only: if such a consumer were made
// anew, what came in between would be missed.
func (s *source) consume(ctx context.Context) (jetstream.Consumer, error) {
	config := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{s.subject}, InactiveThreshold: inactive, MaxResetAttempts: 1,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: s.at.sequence,
	}
	if s.at.sequence == 0 {
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &s.at.since
	}
	within, cancel := context.WithTimeout(ctx, s.reader.Timeout)
	defer cancel()
	return s.reader.JS.OrderedConsumer(within, s.stream, config)
}

// problem returns the error of a broker that could not be read.
func (s *source) problem(what string, err error) error {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return fmt.Errorf("%s: the broker refused it (%d): %w", what, refused.ErrorCode, fault.Because(what, fault.Unavailable, fault.BrokerRefused, err))
	}
	return fmt.Errorf("%s: no answer: the broker is away, or this user lacks a right: %w", what,
		fault.Because(what, fault.Unavailable, fault.BrokerUnreachable, err))
}

// stopped tells whether an error says only that a context has ended.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || fault.KindOf(err) == fault.Interrupted
}

// rest waits for a time or until ctx ends.
func rest(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
