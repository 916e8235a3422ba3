package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/fault"
)

// unanswered makes an error of a broker that did not answer in time, or can't yet, one that says so and what to do. Such a start is worth
// another try, and the exit code tells it from one that is not. An error that says more already stays what it is.
func unanswered(err error) error {
	if err == nil || fault.CodeOf(err) != fault.Unclassified || !isUnanswered(err) {
		return err
	}
	return fmt.Errorf("the broker is connected but did not answer in time: it may be busy, restarting or without a leader, or this user may not "+
		"publish to the subject: try again, and run `worker check` if it stays: %w",
		fault.Because("app: start", fault.Unavailable, fault.BrokerUnreachable, err))
}

func isUnanswered(err error) bool {
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return refused.Code == unavailable
	}
	for _, known := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionClosed, nats.ErrConnectionReconnecting,
		jetstream.ErrNoStreamResponse,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// unavailable is the code of JetStream's answer while a cluster or a stream has no leader, and while a server starts.
const unavailable = 503
