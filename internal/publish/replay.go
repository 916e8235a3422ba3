package publish

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// Replayer hands queries of dead letters to the workers again.
type Replayer struct {
	JS       jetstream.JetStream
	Subjects query.Subjects
	// Stream is the name of the stream of retries.
	Stream string
	// Timeout bounds one call until all of its writes are confirmed.
	Timeout time.Duration
}

// Replay is the replay of one dead letter: a query.Retry that is due now.
type Replay struct {
	// ID tells it from all others. Within its window for duplicates the broker stores nothing for an id that it has seen.
	ID       string
	Provider query.Provider
	Client   string
	Body     []byte
}

// Replay stores replays behind everybody who waits, in the bulk lane, and in the order given: each is sent before the next, and all are
// confirmed when it returns. It tries once, and the error is the broker's own; then some may be stored, and the call can be repeated with
// the same ids. A second copy that the broker does not know for one is dropped by the workers, as soon as they see that what it supersedes
// is superseded.
func (r *Replayer) Replay(ctx context.Context, replays []Replay) error {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	sent := make([]jetstream.PubAckFuture, 0, len(replays))
	for _, replay := range replays {
		message := nats.NewMsg(r.Subjects.RetryDue(replay.Provider, query.Bulk, replay.Client))
		message.Data = replay.Body
		future, err := r.JS.PublishMsgAsync(message, jetstream.WithExpectStream(r.Stream), jetstream.WithMsgID(replay.ID))
		if err != nil {
			return err //nolint:wrapcheck // The caller must tell refusals from answers that did not come.
		}
		sent = append(sent, future)
	}
	for _, future := range sent {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
