package deadletter

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	// tidyAtOnce is how many claims are taken out of the ledger when a batch starts, besides as many as it may add itself.
	tidyAtOnce = 20_000
	// tidyWidth is how many of them are taken out at the same time.
	tidyWidth = 16
)

// tidy takes the claims of letters out of the ledger that are gone for good, so that the bucket can't fill up with them.
func (l *Letters) tidy(ctx context.Context, most int) error {
	info, err := l.info(ctx)
	if err != nil {
		return err
	}
	stream, err := l.JS.Stream(ctx, "KV_"+l.Names.ReplaysBucket())
	if err != nil {
		return err
	}
	purging, within := errgroup.WithContext(ctx)
	purging.SetLimit(tidyWidth)
	err = l.gone(within, stream, info.State.FirstSeq, most, func(subject string) {
		purging.Go(func() error { return stream.Purge(within, jetstream.WithPurgeSubject(subject)) })
	})
	return errors.Join(purging.Wait(), err)
}

// gone calls f with the subjects of claims whose letters lie before the first that is left. Claims are written in about the order of their
// letters, so the oldest come first; the look ends with more of those that are still needed than of the others.
func (l *Letters) gone(ctx context.Context, stream jetstream.Stream, first uint64, most int, f func(subject string)) error {
	prefix := "$KV." + l.Names.ReplaysBucket() + ".letter."
	needed, found := 0, 0
	for next := uint64(1); found < most && needed < maxHandful+found; {
		message, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(prefix+"*"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		next = message.Sequence + 1
		letter, err := strconv.ParseUint(strings.TrimPrefix(message.Subject, prefix), 10, 64)
		if err != nil || letter >= first {
			needed++
			continue
		}
		found++
		f(message.Subject)
	}
	return nil
}
