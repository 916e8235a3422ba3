package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/fault"
)

// Causes that callers ask for with errors.Is.
var (
	// ErrInTheWay is a plan that can't be carried out without losing something or without somebody's hand.
	ErrInTheWay = errors.New("in the way")
	// ErrPlanStale is a plan made before the broker changed again.
	ErrPlanStale = errors.New("plan is stale")
	// ErrNoJetStream is a server, or an account on it, without JetStream.
	ErrNoJetStream = errors.New("no JetStream")
	// ErrServerTooOld is a server older than MinServerVersion.
	ErrServerTooOld = errors.New("server too old")
	// ErrStoreInUse is a store directory that another process holds.
	ErrStoreInUse = errors.New("store in use")
	// ErrAddressInUse is a listen address that another process holds.
	ErrAddressInUse = errors.New("address in use")
)

// requestTimeout bounds one request to the broker. A request that may not be made is never answered, so it is short.
const requestTimeout = 5 * time.Second

// problem returns an error whose text says what happened and what to do, and which answers errors.As for *fault.Error and
// errors.Is for cause. A cancelled context makes it Interrupted, everything else Unavailable: no query is at fault.
func problem(op string, code fault.Code, cause error, format string, args ...any) error {
	kind := fault.Unavailable
	if errors.Is(cause, context.Canceled) {
		kind = fault.Interrupted
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), fault.Because("broker: "+op, kind, code, cause))
}

// requestProblem explains a failed request to the JetStream API. The subject is what the user must be allowed to publish to.
func requestProblem(op, what, subject string, err error) error {
	apiErr := (*jetstream.APIError)(nil)
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount),
		errors.Is(err, nats.ErrNoResponders):
		return problem(op, fault.BrokerRefused, errors.Join(ErrNoJetStream, err),
			"%s: JetStream is not enabled for this user's account: enable it on the NATS server", what)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return problem(op, fault.BrokerUnreachable, err,
			"%s: no answer on %s: the server is busy or gone, or this user may not publish to that subject", what, subject)
	case errors.As(err, &apiErr):
		return problem(op, fault.BrokerRefused, err, "%s: the server refused it (%d, %s)", what, apiErr.ErrorCode, apiErr.Description)
	default:
		return problem(op, fault.BrokerUnreachable, err, "%s: the request failed: check the connection to the NATS server", what)
	}
}
