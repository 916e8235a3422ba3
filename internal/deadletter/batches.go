package deadletter

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// Batches calls f with every batch, the one that was written longest ago first, until f returns an error.
func (l *Letters) Batches(ctx context.Context, f func(Batch) error) error {
	name := "KV_" + l.Names.ReplaysBucket()
	var stream jetstream.Stream
	err := l.bind(ctx, "stream "+name, func(ctx context.Context) (err error) {
		stream, err = l.JS.Stream(ctx, name)
		return err
	})
	if err != nil {
		return err
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
