package deadletter

import (
	"context"
	"errors"
	"slices"
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

// free tells whether another batch may have a letter that has an owner: the one that a cancelled batch may not have published any more, or,
// if the operator says so, any that a batch has published that has ended.
func (l *Letters) free(ctx context.Context, owner claim, sequence uint64, again bool) (bool, error) {
	r, err := l.ledger.read(ctx, owner.Batch)
	if errors.Is(err, ErrNoBatch) {
		return again, nil
	}
	if err != nil {
		return false, err
	}
	return r.State.Ended() && again || r.State == Cancelled && slices.Contains(r.Doubts, sequence), nil
}
