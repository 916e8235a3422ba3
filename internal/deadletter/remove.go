package deadletter

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// remove deletes one letter. One that is gone already is no error, and the broker has no word of its own for that.
func (l *Letters) remove(ctx context.Context, sequence uint64) error {
	err := l.steady(ctx, "drop dead letter", func(ctx context.Context) error {
		return l.dead.DeleteMsg(ctx, sequence)
	})
	if errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful) {
		if _, gone := l.Find(ctx, sequence); errors.Is(gone, ErrNoLetter) {
			return nil
		}
	}
	return err
}
