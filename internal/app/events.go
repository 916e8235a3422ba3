package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/consumer"
)

func (a *App) brokerEvent(event broker.Event) {
	if a.leaving.Load() || a.onlyFigures(event) {
		return // That a connection which we close is closed is no news, and who reads the figures tells of them.
	}
	a.metrics.BrokerEvent(string(event.Kind))
	fields := []zap.Field{zap.String("event", string(event.Kind)), zap.String("subject", event.Subject), zap.String("server", event.Server)}
	switch event.Kind {
	case broker.EventReconnected:
		a.health.Ready("broker")
		a.health.Ready("permissions") // A new connection may have new rights. If it has not, that is told again.
		a.log.Info("broker", fields...)
		return
	case broker.EventDisconnected, broker.EventClosed, broker.EventReconnectFailed, broker.EventCredentialsRefused, broker.EventTLSFailed,
		broker.EventFilesUnusable:
		if !a.health.Unready("broker", string(event.Kind)) {
			return // Attempts come several times a second; one line says so.
		}
	case broker.EventPublishDenied, broker.EventSubscribeDenied:
		a.health.Unready("permissions", string(event.Kind)+": "+event.Subject)
		// The broker tells when a right is missing, but not when it is given back.
		a.denied.later(denialMemory, func() { a.health.Ready("permissions") })
		a.renewLater(event)
	case broker.EventLameDuck, broker.EventSlowConsumer, broker.EventError:
	}
	if advice := event.Kind.Advice(); advice != "" {
		fields = append(fields, zap.String("advice", advice))
	}
	a.log.Warn("broker", fields...)
}

// denialMemory is how long a denied right, or a missing stream, keeps the worker unready if it is not told again. What needs it is tried again
// more often.
const denialMemory = 15 * time.Second

// renewal is when what was denied is subscribed anew: soon enough for a right that is still missing to be told again before it is forgotten.
const renewal = 10 * time.Second

// renewLater subscribes anew a while after a subject was denied last: a server that takes this right away drops the subscription, and the client
// does not subscribe again on the same connection when the right is back. For the inbox the connection is renewed: without it nothing is under way
// that could be lost.
func (a *App) renewLater(event broker.Event) {
	if event.Kind != broker.EventSubscribeDenied {
		return
	}
	if asks := a.asks.Load(); asks != nil && asks.Serves(event.Subject) {
		a.unasked.later(renewal, asks.Renew)
		return
	}
	if !strings.HasPrefix(event.Subject, cmp.Or(a.Config.NATS.InboxPrefix, "_INBOX")+".") {
		return
	}
	a.deaf.later(renewal, func() {
		if a.leaving.Load() {
			return
		}
		if err := a.broker.Conn.ForceReconnect(); err != nil {
			a.log.Warn("connection not renewed", brokerError(err)) // It reconnects already, or is closed.
		}
	})
}

// consumerEvents returns what a pull loop can report.
func consumerEvents() []string {
	return []string{
		string(consumer.Pulling), string(consumer.Resting), string(consumer.PullFailed), string(consumer.Gone), string(consumer.Left),
		string(consumer.Stalled),
		string(consumer.Paused), string(consumer.AckFailed), string(consumer.HeartbeatFailed),
	}
}

func (a *App) consumerEvent(event consumer.Event) {
	a.metrics.ConsumerEvent(event.Consumer, string(event.What))
	fields := []zap.Field{zap.String("consumer", event.Consumer), zap.String("event", string(event.What))}
	if event.Err != nil {
		fields = append(fields, brokerError(event.Err))
	}
	switch event.What {
	case consumer.Pulling, consumer.Resting:
		if a.health.Ready(event.Consumer) {
			a.log.Info("consumer", fields...)
		}
	case consumer.PullFailed, consumer.Gone, consumer.Stalled:
		if !a.health.Unready(event.Consumer, string(event.What)) {
			return // It fails several times a second; one line says so.
		}
		a.log.Warn("consumer", fields...)
	case consumer.Left, consumer.Paused, consumer.AckFailed, consumer.HeartbeatFailed: // A pause is somebody's wish, and no fault of the worker.
		a.log.Warn("consumer", fields...)
	}
}

func (a *App) storeTrouble(what string, err error) {
	a.metrics.StoreTrouble(what)
	if noStream(err) {
		a.health.Unready(storage, what+": no such stream")
		a.streamless.later(denialMemory, func() { a.health.Ready(storage) })
	}
	a.log.Warn("write not confirmed, trying again", zap.String("write", what), brokerError(err))
}

// brokerError returns the log field of an error of the broker: the server's code where there is one, else one of the client's own
// words. The server's descriptions can repeat what a publisher wrote.
func brokerError(err error) zap.Field {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return zap.Uint16("server_code", uint16(refused.ErrorCode))
	}
	for _, known := range []error{
		context.DeadlineExceeded, jetstream.ErrNoHeartbeat, jetstream.ErrConsumerDeleted, jetstream.ErrConsumerNotFound,
		jetstream.ErrNoStreamResponse, jetstream.ErrConsumerLeadershipChanged, jetstream.ErrConnectionClosed,
	} {
		if errors.Is(err, known) {
			return zap.String("error", known.Error())
		}
	}
	return zap.String("error", fmt.Sprintf("%T", err))
}
