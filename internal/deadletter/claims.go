package deadletter

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// errEnough ends a look at letters.
var errEnough = errors.New("enough")

// rest calls f with the letters that a batch has not dealt with.
func (l *Letters) rest(ctx context.Context, r *record, f func(*Letter) error) error {
	if r.Cursor >= r.Upto {
		return nil
	}
	return l.each(ctx, r.Filter, r.Cursor+1, r.Upto, f)
}

// claimed returns the letters that a batch has claimed since its record was saved, in their order.
func (l *Letters) claimed(ctx context.Context, r *record) ([]uint64, error) {
	var own []uint64
	looked := 0
	err := l.rest(ctx, r, func(letter *Letter) error {
		owner, err := l.ledger.owner(ctx, letter.Sequence)
		if err != nil {
			return err
		}
		if owner != nil && owner.Batch == r.ID {
			own = append(own, letter.Sequence)
		}
		looked++
		if looked >= saveEvery+maxPending {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return own, err
}

// handful returns how many letters of the batch are claimed and published together: one if it is slow, more if it must not wait for each
// answer of the broker to keep its rate.
func (b Batch) handful() int { return min(max(int(b.Rate/50), 1), maxHandful) }

// atHand returns those of the letters that a batch has claimed that may not be published. A handful is published before the next is claimed,
// so that they are among the last ones.
func (b Batch) atHand(own []uint64) []uint64 { return own[max(len(own)-b.handful(), 0):] }

// doubted writes into a record which letters its batch may have claimed and not published: the last ones that are claimed now, and those that
// a process which lives claims later.
func (l *Letters) doubted(ctx context.Context, r *record) error {
	var looked *jetstream.StreamInfo
	err := l.steady(ctx, "look at the ledger of replays", func(ctx context.Context) error {
		stream, err := l.JS.Stream(ctx, "KV_"+l.Names.ReplaysBucket())
		if err == nil {
			looked = stream.CachedInfo()
		}
		return err
	})
	if err != nil {
		return err
	}
	own, err := l.claimed(ctx, r)
	r.Doubts, r.Looked = r.atHand(own), looked.State.LastSeq
	return err
}

// mayDoubt tells whether a cancelled batch may not have published a letter that it has claimed.
func (b Batch) mayDoubt(owner claim, sequence uint64) bool {
	return b.State == Cancelled && (slices.Contains(b.Doubts, sequence) || b.Looked > 0 && owner.revision > b.Looked)
}

// free tells whether another batch may have a letter that has an owner: the one that a cancelled batch may not have published any more, or,
// if the operator says so, any that a batch has published that has ended. None may, if an answer could have come and gone since.
func (l *Letters) free(ctx context.Context, owner claim, sequence uint64, again bool) (bool, error) {
	if l.resultsForget(owner.At) {
		return false, nil
	}
	r, err := l.ledger.read(ctx, owner.Batch)
	if errors.Is(err, ErrNoBatch) {
		return again, nil
	}
	if err != nil {
		return false, err
	}
	return r.State.Ended() && again || r.mayDoubt(owner, sequence), nil
}

// heldSince returns the standing of a letter that was claimed at a time and stays with its owner.
func (l *Letters) heldSince(at time.Time) Standing {
	if l.resultsForget(at) {
		return Doubtful
	}
	return Owned
}
