package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// ErrNoBatch is a batch that is not there.
var ErrNoBatch = errors.New("no such replay")

// errTaken is a record that somebody else has written since it was read.
var errTaken = errors.New("somebody else has changed the replay's record")

// errUnheard is a claim that was there and can't be read: it was released, or a replica of the bucket has yet to hear of it.
var errUnheard = errors.New("the claim of the dead letter can't be read yet")

// ledger keeps the records of batches and who owns which letter. Every write is conditional: a read may be old.
type ledger struct {
	bucket jetstream.KeyValue
	steady func(ctx context.Context, what string, exchange func(context.Context) error) error
}

// claim is the ownership of one letter. It is made before the letter is published, and stays.
type claim struct {
	// Batch owns the letter. Run is the run of the batch that claimed it, of which there are several if the batch was resumed.
	Batch string    `json:"batch"`
	Run   string    `json:"run"`
	At    time.Time `json:"at"`

	// revision is the claim's place in the ledger, if it was read from there.
	revision uint64
}

func claimKey(sequence uint64) string { return "letter." + strconv.FormatUint(sequence, 10) }

func batchKey(id string) string { return "batch." + id }

// take claims a letter and returns who owns it, which may have been decided before. A letter that has another owner is taken from that one
// if free allows it.
func (l *ledger) take(ctx context.Context, sequence uint64, mine claim, free func(owner claim) (bool, error)) (claim, error) {
	value, err := json.Marshal(mine)
	if err != nil {
		return claim{}, fmt.Errorf("encode claim: %w", err)
	}
	var entry jetstream.KeyValueEntry
	err = l.steady(ctx, "claim dead letter", func(ctx context.Context) error {
		_, err := l.bucket.Create(ctx, claimKey(sequence), value)
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		entry, err = l.bucket.Get(ctx, claimKey(sequence))
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return errUnheard
		}
		return err
	})
	if err != nil || entry == nil {
		return mine, err
	}
	owner, err := readClaim(sequence, entry)
	if err != nil {
		return claim{}, err
	}
	if owner.Batch == mine.Batch {
		return *owner, nil
	}
	if may, err := free(*owner); err != nil || !may {
		return *owner, err
	}
	err = l.steady(ctx, "take dead letter over", func(ctx context.Context) error {
		_, err := l.bucket.Update(ctx, claimKey(sequence), value, owner.revision)
		return err
	})
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return mine, err
	}
	owner, err = l.owner(ctx, sequence) // Somebody was first, perhaps this very process: the confirmation got lost.
	switch {
	case err != nil:
		return claim{}, err
	case owner == nil:
		return l.take(ctx, sequence, mine, free) // It was released meanwhile.
	default:
		return *owner, nil
	}
}

// owner returns the claim of a letter, nil if there is none.
func (l *ledger) owner(ctx context.Context, sequence uint64) (*claim, error) {
	entry, err := l.get(ctx, claimKey(sequence))
	if entry == nil || err != nil {
		return nil, err
	}
	return readClaim(sequence, entry)
}

// readClaim reads the claim of a letter.
func readClaim(sequence uint64, entry jetstream.KeyValueEntry) (*claim, error) {
	owner := &claim{revision: entry.Revision()}
	if err := query.ReadStrict(entry.Value(), owner); err != nil {
		return nil, fmt.Errorf("claim of dead letter %d: %w", sequence, err)
	}
	return owner, nil
}

// release takes the claim of a letter back that a batch has made. One that was taken over meanwhile stays.
func (l *ledger) release(ctx context.Context, sequence uint64, batch string) error {
	owner, err := l.owner(ctx, sequence)
	if err != nil || owner == nil || owner.Batch != batch {
		return err
	}
	err = l.steady(ctx, "release dead letter", func(ctx context.Context) error {
		return l.bucket.Delete(ctx, claimKey(sequence), jetstream.LastRevision(owner.revision))
	})
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return nil // It was taken over, or this is the second try of a write that was carried out.
	}
	return err
}

// get returns an entry, nil if there is none.
func (l *ledger) get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	var entry jetstream.KeyValueEntry
	err := l.steady(ctx, "read ledger of replays", func(ctx context.Context) error {
		var err error
		entry, err = l.bucket.Get(ctx, key)
		return err
	})
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil //nolint:nilnil // No entry is an answer, and the callers ask for it at once.
	}
	return entry, err
}

// record is a batch as it was read or written last.
type record struct {
	Batch

	revision uint64
}

// read returns the record of a batch.
func (l *ledger) read(ctx context.Context, id string) (*record, error) {
	if !query.IsToken(id) {
		return nil, fmt.Errorf("replay of that id: %w", ErrNoBatch)
	}
	entry, err := l.get(ctx, batchKey(id))
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, fmt.Errorf("replay %s: %w", id, ErrNoBatch)
	}
	r := &record{revision: entry.Revision()}
	if err := query.ReadStrict(entry.Value(), &r.Batch); err != nil {
		return nil, fmt.Errorf("record of replay %s: %w", id, err)
	}
	return r, nil
}

// write stores the record if nobody else has since it was read, and otherwise returns errTaken.
func (l *ledger) write(ctx context.Context, r *record) error {
	r.Updated = time.Now().UTC()
	value, err := json.Marshal(r.Batch, json.Deterministic(true))
	if err != nil {
		return fmt.Errorf("encode record of replay: %w", err)
	}
	key := batchKey(r.ID)
	err = l.steady(ctx, "save replay", func(ctx context.Context) error {
		var revision uint64
		var err error
		if r.revision == 0 {
			revision, err = l.bucket.Create(ctx, key, value)
		} else {
			revision, err = l.bucket.Update(ctx, key, value, r.revision)
		}
		if err == nil {
			r.revision = revision
		}
		return err
	})
	refused, ok := errors.AsType[*jetstream.APIError](err)
	if !ok || refused.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
		return err
	}
	stored, err := l.get(ctx, key)
	if err == nil && stored != nil && bytes.Equal(stored.Value(), value) {
		r.revision = stored.Revision() // It was this very write: its confirmation got lost.
		return nil
	}
	if err != nil {
		return err
	}
	return errTaken
}
