package deadletter

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// tidyAtOnce is how many claims are looked at when a batch starts.
const tidyAtOnce = 2000

// tidy takes the claims of letters out of the ledger that are gone for good, so that the bucket can't fill up with them. Claims are written
// in about the order of their letters, so the oldest come first; some that are still needed end the look.
func (l *Letters) tidy(ctx context.Context) error {
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	bucket := l.Names.ReplaysBucket()
	stream, err := l.JS.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return err
	}
	prefix := "$KV." + bucket + "."
	needed := 0
	for next, looked := uint64(1), 0; looked < tidyAtOnce && needed < maxHandful; looked++ {
		message, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(prefix+"letter.*"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		letter, err := strconv.ParseUint(strings.TrimPrefix(message.Subject, prefix+"letter."), 10, 64)
		next = message.Sequence + 1
		if err != nil || letter >= info.State.FirstSeq {
			needed++
			continue
		}
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(message.Subject)); err != nil {
			return err
		}
	}
	return nil
}
