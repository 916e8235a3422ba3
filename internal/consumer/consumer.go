// Package consumer pulls queries from one durable consumer, hands them to a handler and settles them. It is the only room that acks,
// and it must never know what a query is about.
package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/crashpoint"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/mutant"
	"discountquery.example/worker/internal/query"
)

// Handler takes one delivery to its end. What it returns says whether the message may be acked. It must not panic: nothing here
// recovers, because nobody here could say what becomes of the query. It may be called by many goroutines.
type Handler interface {
	Handle(ctx context.Context, delivery query.Delivery) decide.Settlement
}

// Options are the parts of a Consumer.
type Options struct {
	// JS, Stream and Name say which durable consumer to bind to. It is never created here.
	JS     jetstream.JetStream
	Stream string
	Name   string
	// Line is shared by all consumers on JS's connection. Nil gives the consumer one of its own.
	Line *Line
	// Slots is how many messages are held at once.
	Slots int
	// PullExpiry is how long one pull waits for messages. A heartbeat comes every second in the meantime, or twice if it is shorter
	// than two seconds. It is also how long a stop may have to wait.
	PullExpiry time.Duration
	// AckTimeout bounds the wait for the confirmation of an ack.
	AckTimeout time.Duration
	Handler    Handler
	// Capacity returns how many more messages are worth taking now; 0 means none, because nothing could be done with them. It is
	// asked again soon.
	Capacity func() int
	// OnEvent is told what happens, by many goroutines. It must be quick.
	OnEvent func(Event)
}

// Consumer is a bounded loop over one durable consumer.
type Consumer struct {
	Options

	consumer jetstream.Consumer
	slots    chan struct{}
	held     *held
	healthy  healthy
	seat     *seat
	// What follows belongs to the pull loop: how the durable consumer delivers, and whether a pull has failed since it was bound to.
	watch  watch
	failed bool
	// closed is when the gate was found closed first, as long as nothing was pulled; resting tells that this was reported.
	closed  time.Time
	resting bool
}

// Timing of the pull loop.
const (
	// pullHeartbeat is how often the server says that a waiting pull is alive: losing two of them ends the pull.
	pullHeartbeat = time.Second
	// firstPull bounds pulls until one has worked, so that an idle consumer is known to be healthy soon.
	firstPull = 2 * pullHeartbeat
	// pullPause is the wait after a pull that failed.
	pullPause = 250 * time.Millisecond
	// gatePause is the wait before the gate is asked again.
	gatePause = 100 * time.Millisecond
	// restPatience is how long a gate is closed before that is taken for the present state of things, and not for that of a start.
	restPatience = 5 * time.Second
)

// Bind returns a consumer bound to the durable consumer that the options name.
func Bind(ctx context.Context, options Options) (*Consumer, error) {
	bound, err := options.JS.Consumer(ctx, options.Stream, options.Name)
	if err != nil {
		return nil, fmt.Errorf("bind to consumer %s of stream %s: %w", options.Name, options.Stream, err)
	}
	c := &Consumer{Options: options, consumer: bound, slots: make(chan struct{}, options.Slots), watch: newWatch(options.PullExpiry)}
	if c.Line == nil {
		c.Line = NewLine(c.JS.Conn())
	}
	c.seat = c.Line.join()
	c.held = newHeld(bound.CachedInfo().Config.AckWait, func(err error) { c.report(HeartbeatFailed, err) })
	return c, nil
}

// Run pulls and handles messages until take ends, then waits until every message that is held is settled. work is the context of
// the handlers: ending it makes them give up.
func (c *Consumer) Run(take, work context.Context) {
	var background sync.WaitGroup
	beating, stopBeating := context.WithCancel(context.WithoutCancel(work))
	defer background.Wait()
	defer stopBeating()
	background.Go(func() { c.held.run(beating) })

	// Each slot is a goroutine that stays: its stack has grown to what a query needs after the first one.
	messages := make(chan jetstream.Msg, c.Slots)
	var handlers sync.WaitGroup
	for range c.Slots {
		handlers.Go(func() {
			for message := range messages {
				c.handle(work, message)
				c.release(1)
			}
		})
	}
	defer handlers.Wait()
	defer close(messages)

	for take.Err() == nil {
		slots := c.acquire(take)
		if slots == 0 {
			return
		}
		if slots = c.worthTaking(slots); slots == 0 {
			c.rests(time.Now())
			wait(take, gatePause)
			continue
		}
		began := time.Now()
		c.seat.begins()
		used, err := c.pull(slots, messages)
		c.release(slots - used)
		c.pulled(take, began, used, err)
	}
}

// acquire takes a slot, and with it all others that are free now. It returns 0 when take ends first.
func (c *Consumer) acquire(take context.Context) int {
	select {
	case c.slots <- struct{}{}:
	case <-take.Done():
		return 0
	}
	for count := 1; ; count++ {
		select {
		case c.slots <- struct{}{}:
		default:
			return count
		}
	}
}

func (c *Consumer) release(count int) {
	for range count {
		<-c.slots
	}
}

// worthTaking gives back the slots that the gate leaves no use for, and returns how many remain.
func (c *Consumer) worthTaking(slots int) int {
	capacity := min(slots, c.Capacity())
	c.release(slots - capacity)
	return capacity
}

// wait waits for a while, or until ctx ends.
func wait(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pull asks for as many messages as there are slots and hands over each that comes. It returns how many slots it used.
//
// A pull that waits is never cancelled: messages on their way to it would be lost until their ack wait is over, and would count
// as if their holder had crashed. A stopping worker waits for its pulls to expire instead.
func (c *Consumer) pull(slots int, messages chan<- jetstream.Msg) (int, error) {
	if !c.JS.Conn().IsConnected() {
		return 0, nats.ErrDisconnected // The client would leave a subscription behind at each try, and send them all when it is back.
	}
	expiry := c.PullExpiry
	if !c.Healthy() {
		expiry = min(expiry, firstPull)
	}
	before := c.JS.Conn().LastError()
	batch, err := c.consumer.Fetch(slots, jetstream.FetchMaxWait(expiry), jetstream.FetchHeartbeat(min(pullHeartbeat, expiry/2)))
	if err != nil {
		return 0, err
	}
	used := 0
	for message := range batch.Messages() {
		c.held.add(message)
		messages <- message
		used++
	}
	return used, c.explain(batch.Error(), before)
}

// explain adds to the error of a pull that a right was missing meanwhile: the server tells that aside, and the pull is only not answered.
func (c *Consumer) explain(err, before error) error {
	now := c.JS.Conn().LastError()
	news := now != before //nolint:errorlint // The question is whether it is the same one.
	if err != nil && news && errors.Is(now, nats.ErrPermissionViolation) {
		return fmt.Errorf("%w: %w", nats.ErrPermissionViolation, err)
	}
	return err
}

// handle takes one message from its delivery to its settlement. It is held meanwhile.
func (c *Consumer) handle(work context.Context, message jetstream.Msg) {
	crashpoint.Here(crashpoint.AfterFetch)
	if mutant.AckFirst {
		c.settle(message, decide.Settlement{Done: true})
	}
	delivery, err := deliveryOf(message)
	settlement := decide.Settlement{}
	if err == nil {
		settlement = c.Handler.Handle(work, delivery)
	}
	c.held.remove(message)
	c.settle(message, settlement)
}

// settle acks what is done and gives back the rest. The ack is confirmed by the server: an ack that got lost would make the query be
// delivered again.
func (c *Consumer) settle(message jetstream.Msg, settlement decide.Settlement) {
	var err error
	if settlement.Done {
		ctx, cancel := context.WithTimeout(context.Background(), c.AckTimeout)
		defer cancel()
		crashpoint.Here(crashpoint.BeforeAck)
		err = message.DoubleAck(ctx)
		crashpoint.Here(crashpoint.AfterAck)
	} else {
		err = message.NakWithDelay(max(settlement.After, time.Millisecond)) // A delay of zero would be a bare nak.
	}
	if err != nil {
		c.report(AckFailed, err)
	}
}

// gone tells whether a pull failed because the durable consumer does not exist. Only a pull that waits is told so; a later one finds
// that nobody listens, which can have other causes.
func (c *Consumer) gone(ctx context.Context, err error) bool {
	if errors.Is(err, nats.ErrNoResponders) {
		_, err = c.JS.Consumer(ctx, c.Stream, c.Name)
	}
	return errors.Is(err, jetstream.ErrConsumerDeleted) || errors.Is(err, jetstream.ErrConsumerNotFound) ||
		errors.Is(err, jetstream.ErrStreamNotFound)
}

// Healthy tells whether the last pull worked, and the durable consumer is not known to have stopped to deliver.
func (c *Consumer) Healthy() bool { return c.healthy.get() }

// Held returns how many messages the broker handed over that are not handled yet.
func (c *Consumer) Held() int { return c.held.count() }

// deliveryOf returns the message in the words of the domain.
func deliveryOf(message jetstream.Msg) (query.Delivery, error) {
	metadata, err := message.Metadata()
	if err != nil {
		return query.Delivery{}, fmt.Errorf("read delivery: %w", err)
	}
	return query.Delivery{
		Subject: message.Subject(), Header: message.Headers(), Data: message.Data(), Stream: metadata.Stream,
		Sequence: metadata.Sequence.Stream, Number: int(min(metadata.NumDelivered, 1<<20)), Stored: metadata.Timestamp,
	}, nil
}
