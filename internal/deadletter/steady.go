package deadletter

import (
	"context"
	"errors"
	"time"

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

// answered tells whether an error is the broker's last word.
func answered(err error) bool {
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		return true
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
