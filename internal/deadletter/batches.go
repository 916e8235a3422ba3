package deadletter

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// Batches calls f with every batch, the one that was written longest ago first, until f returns an error.
func (l *Letters) Batches(ctx context.Context, f func(Batch) error) error {
	name := "KV_" + l.Names.ReplaysBucket()
	stream, err := l.JS.Stream(ctx, name)
	if err != nil {
		return fmt.Errorf("bind to stream %s: %w", name, err)
	}
	for next := uint64(1); ; {
		var message *jetstream.RawStreamMsg
		err := l.steady(ctx, "read replay", func(ctx context.Context) error {
			var err error
			message, err = stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject("$KV."+l.Names.ReplaysBucket()+"."+batchKey("*")))
			return err
		})
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		var batch Batch
		if query.ReadStrict(message.Data, &batch) == nil && batch.ID != "" {
			if err := f(batch); err != nil {
				return err
			}
		}
		next = message.Sequence + 1
	}
}
