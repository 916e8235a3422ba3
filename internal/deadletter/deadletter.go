// Package deadletter is what operators do with dead letters: list, group, show, replay, edit, drop and export them. It reads the stream
// letter by letter and must never hold a whole backlog, print, ask or know a flag, or show card data.
package deadletter

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// Replayer publishes replays in the order given. It tries once and returns the broker's own error; then some may have been published.
type Replayer interface {
	Replay(ctx context.Context, replays []publish.Replay) error
}

// Auditor writes down what an operator does, before it is done.
type Auditor interface {
	Audit(ctx context.Context, id string, at time.Time, data query.AuditData) error
}

// Options are the parts of Letters.
type Options struct {
	JS       jetstream.JetStream
	Names    broker.Names
	Subjects query.Subjects
	// Providers are those that the site's workers serve. A letter of another one can't be asked again: no stream takes its replay.
	Providers []query.Provider
	Replayer  Replayer
	Auditor   Auditor
	// Resealer may be nil for those who do not seal letters anew.
	Resealer Resealer
	// Ring opens and seals payloads. It may be nil for those who neither reveal nor edit.
	Ring *card.Ring
	// Actor is who does what is done here, at most 128 bytes; Why is that one's own word for it, at most 256 bytes, or nothing.
	Actor string
	Why   string
	// Timeout bounds one exchange with the broker; Patience is how long a broker that does not answer is asked again.
	Timeout  time.Duration
	Patience time.Duration
}

// Letters are the dead letters of one broker. They may be used by many goroutines.
type Letters struct {
	Options

	dead    jetstream.Stream
	results jetstream.Stream
	ledger  *ledger
}

// Open binds to the streams and the bucket, and creates nothing. A broker that is away or starting is asked again until the patience is over.
// An error is Unavailable and says what to do: BrokerRefused if a stream or the bucket is missing, BrokerUnreachable if there is no answer or
// a right is missing.
func Open(ctx context.Context, options Options) (*Letters, error) {
	l := &Letters{Options: options}
	for _, one := range []struct {
		name string
		into *jetstream.Stream
	}{{options.Names.Dead(), &l.dead}, {options.Names.Results(), &l.results}} {
		if err := l.bind(ctx, "stream "+one.name, func(ctx context.Context) error {
			var err error
			*one.into, err = options.JS.Stream(ctx, one.name)
			return err
		}); err != nil {
			return nil, err
		}
	}
	var bucket jetstream.KeyValue
	if err := l.bind(ctx, "bucket "+options.Names.ReplaysBucket(), func(ctx context.Context) error {
		var err error
		bucket, err = options.JS.KeyValue(ctx, options.Names.ReplaysBucket())
		return err
	}); err != nil {
		return nil, err
	}
	l.ledger = &ledger{bucket: bucket, steady: l.steady}
	return l, nil
}

// audit writes down what is about to be done.
func (l *Letters) audit(ctx context.Context, action query.AuditAction, target, after string) error {
	return l.Auditor.Audit(ctx, rand.Text(), time.Now(), query.AuditData{
		Action: action, Actor: l.Actor, Target: target, Reason: l.Why, After: after,
	})
}
