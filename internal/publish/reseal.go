package publish

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// Resealer stores dead letters once more, after their payloads were sealed to another key.
type Resealer struct {
	JS       jetstream.JetStream
	Subjects query.Subjects
	// Stream is the name of the stream of dead letters.
	Stream string
	// Timeout bounds one write until it is confirmed.
	Timeout time.Duration
}

// Reseal stores a letter of the query with key on the subject that it had, if the query's last letter has the sequence given, and returns its
// new sequence. died is when it was stored first, which goes with it. It tries once, and the error is the broker's own.
func (r *Resealer) Reseal(ctx context.Context, key, subject string, event []byte, died time.Time, last uint64) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	message := eventMessage(subject, event)
	message.Header.Set(query.HeaderDied, died.UTC().Format(time.RFC3339Nano))
	ack, err := r.JS.PublishMsg(ctx, message, jetstream.WithExpectStream(r.Stream),
		jetstream.WithExpectLastSequenceForSubject(last, r.Subjects.DeadGuard(key)))
	if err != nil {
		return 0, err //nolint:wrapcheck // The caller must tell refusals from answers that did not come.
	}
	return ack.Sequence, nil
}
