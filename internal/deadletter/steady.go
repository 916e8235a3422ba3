package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/fault"
)

// How long is waited before a broker that did not answer is asked again.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// wrongLastSequenceInFlight is the server's code for a write under a guard while another one is under way that may still fail.
const wrongLastSequenceInFlight jetstream.ErrorCode = 10164

// steady repeats one exchange with the broker until it is answered, be the answer a refusal. A broker that does not answer for as long as
// the patience lasts is unreachable: it may be away, or the user lacks a right, which looks the same from here.
func (l *Letters) steady(ctx context.Context, what string, exchange func(context.Context) error) error {
	until := time.Now().Add(l.Patience)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		within, cancel := context.WithTimeout(ctx, l.Timeout)
		err := exchange(within)
		cancel()
		switch {
		case err == nil || answered(err):
			return err
		case ctx.Err() != nil:
			return fault.Because(what, fault.Interrupted, fault.Stopped, ctx.Err())
		case time.Now().Add(pause).After(until):
			return fault.Because(what, fault.Unavailable, fault.BrokerUnreachable, err)
		}
		if err := rest(ctx, pause); err != nil {
			return fault.Because(what, fault.Interrupted, fault.Stopped, err)
		}
	}
}

// bind is steady for what must be there. The broker tells that a right is missing beside the exchange, which is only not answered; once it did,
// nothing is asked again.
func (l *Letters) bind(ctx context.Context, what string, exchange func(context.Context) error) error {
	operation, conn := "bind to "+what, l.JS.Conn()
	err := l.steady(ctx, operation, func(ctx context.Context) error {
		before := conn.LastError()
		err := exchange(ctx)
		now := conn.LastError()
		news := now != before //nolint:errorlint // The question is whether it is the same one.
		if err != nil && news && errors.Is(now, nats.ErrPermissionViolation) {
			return fault.Because(operation, fault.Unavailable, fault.BrokerUnreachable, now)
		}
		return err
	})
	switch refused, ok := errors.AsType[*jetstream.APIError](err); {
	case err == nil || fault.KindOf(err) == fault.Interrupted:
		return err
	case fault.CodeOf(err) == fault.BrokerUnreachable:
		return fmt.Errorf("no answer: the broker is away, or this user lacks a right: %w", err)
	case ok && refused.ErrorCode != jetstream.JSErrCodeStreamNotFound:
		err = fault.Because(operation, fault.Unavailable, fault.BrokerRefused, err)
		return fmt.Errorf("the broker refused it (%d): %w", refused.ErrorCode, err)
	default: // A stream or a bucket that is not there.
		err = fault.Because(operation, fault.Unavailable, fault.BrokerRefused, err)
		return fmt.Errorf("the broker has no %s, see what is missing with `worker setup`: %w", what, err)
	}
}

// answered tells whether an error is the broker's last word.
func answered(err error) bool {
	for _, word := range []error{
		jetstream.ErrKeyNotFound, jetstream.ErrMsgDeleteUnsuccessful, jetstream.ErrBucketNotFound, nats.ErrPermissionViolation,
	} {
		if errors.Is(err, word) {
			return true
		}
	}
	refused, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refused.Code < 500 && refused.ErrorCode != wrongLastSequenceInFlight
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
