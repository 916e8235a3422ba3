package deadletter

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Resealer stores a letter that died at a time once more on its subject, if the query's last letter has the sequence given, and returns its
// new sequence. It tries once and returns the broker's own error.
type Resealer interface {
	Reseal(ctx context.Context, key, subject string, event []byte, died time.Time, last uint64) (uint64, error)
}

// Unopened is the standing of a letter whose payload can't be opened with the keys at hand, so that it can't be sealed anew.
const Unopened Standing = "unopened"

// SealedTo counts letters by the key that their payloads are sealed to.
type SealedTo struct {
	// Target is the key that seals now.
	Target string `json:"target"`
	// Letters counts all letters by the id of their key; those whose key can't be told are counted as unreadable.
	Letters map[string]int `json:"letters"`
	// Left is how many of them are not sealed to the target.
	Left int `json:"left"`
	// Upto is the last sequence that was looked at.
	Upto uint64 `json:"upto"`
}

// Resealed is how far the letters are sealed anew.
type Resealed struct {
	// Seen counts the letters that were to be sealed anew and were dealt with, Of all of them. Done counts those that were sealed anew.
	Seen int `json:"seen"`
	Of   int `json:"of"`
	Done int `json:"done"`
	// LeftOut counts the others by their standing.
	LeftOut map[Standing]int `json:"leftOut,omitzero"`
}

// errReplaysOpen is a replay that is neither done nor cancelled.
var errReplaysOpen = errors.New("letters that a replay has yet to publish would not be found any more: resume it or cancel it first")

// errMoved tells that somebody else has written a letter of the same query.
var errMoved = errors.New("another letter of the query was written meanwhile")

// PlanReseal counts the letters by the key they are sealed to, and changes nothing.
func (l *Letters) PlanReseal(ctx context.Context) (SealedTo, error) {
	if l.Ring == nil {
		return SealedTo{}, errNoKeys
	}
	info, err := l.info(ctx)
	if err != nil {
		return SealedTo{}, err
	}
	counts := SealedTo{Target: l.Ring.Sealer().KeyID(), Letters: map[string]int{}, Upto: info.State.LastSeq}
	if counts.Upto == 0 {
		return counts, nil
	}
	err = l.each(ctx, Filter{}, 1, counts.Upto, func(letter *Letter) error {
		kid := letter.sealedTo()
		counts.Letters[kid]++
		if kid != counts.Target {
			counts.Left++
		}
		return nil
	})
	return counts, err
}

// sealedTo returns the id of the key that the letter's payload is sealed to, or "unreadable".
func (letter *Letter) sealedTo() string {
	kid, ok := card.SealedTo(letter.Payload)
	if !ok || letter.Unreadable {
		return unreadable
	}
	return kid
}

// Reseal seals the payloads of the plan's letters to the target, after having written that down, and tells how far it is. A letter keeps
// everything but its payload and its place in the stream. It can be called again after it was cut short, and by several at once: what is
// done twice ends as if it was done once.
//
// Whether any letter is left must be counted again afterwards: others may have died meanwhile.
func (l *Letters) Reseal(ctx context.Context, plan SealedTo, tell func(Resealed)) (Resealed, error) {
	progress := Resealed{Of: plan.Left, LeftOut: map[Standing]int{}}
	if plan.Left == 0 {
		return progress, nil
	}
	if err := l.noReplayOpen(ctx); err != nil {
		return progress, err
	}
	sealer := l.Ring.Sealer()
	if sealer.KeyID() != plan.Target {
		return progress, fmt.Errorf("another key seals now than %s: look again", plan.Target)
	}
	what := fmt.Sprintf("%d letters to key %s", plan.Left, plan.Target)
	if err := l.audit(ctx, query.AuditDeadReseal, fmt.Sprintf("letters up to %d", plan.Upto), what); err != nil {
		return progress, err
	}
	err := l.each(ctx, Filter{}, 1, plan.Upto, func(letter *Letter) error {
		if letter.sealedTo() == plan.Target {
			return nil
		}
		moved, standing, err := l.reseal(ctx, letter, sealer)
		if err != nil {
			return err
		}
		if standing == Ready {
			progress.Done += moved
			progress.Seen += moved
		} else {
			progress.LeftOut[standing]++
			progress.Seen++
		}
		tell(progress)
		return nil
	})
	return progress, err
}

// noReplayOpen returns an error if a replay is not at its end: it finds its letters by their places, which change here.
func (l *Letters) noReplayOpen(ctx context.Context) error {
	return l.Batches(ctx, func(batch Batch) error {
		if !batch.State.Ended() {
			return fmt.Errorf("replay %s is %s: %w", batch.ID, batch.State, errReplaysOpen)
		}
		return nil
	})
}

// reseal seals all letters of a letter's query anew, in their order. It returns Ready and how many were not sealed to the key, or why it did
// not seal them.
func (l *Letters) reseal(ctx context.Context, letter *Letter, sealer *card.Sealer) (moved int, standing Standing, err error) {
	if letter.sealedTo() == unreadable {
		return 0, Unserved, nil
	}
	for {
		editions, last, err := l.editionsOf(ctx, letter.Query.Key)
		if moved = outside(editions, sealer.KeyID()); err != nil || moved == 0 {
			return 0, Ready, err // They were dropped meanwhile, or sealed anew with an earlier letter of the query.
		}
		kept := inOrder(editions, sealer.KeyID())
		events, err := l.sealedAnew(editions[len(kept):], sealer)
		if err != nil {
			return 0, Unopened, nil //nolint:nilerr // That it can't be opened is all there is to say.
		}
		standing, err := l.mayMove(ctx, editions)
		if err != nil || standing != Ready {
			return 0, standing, err
		}
		if err = l.move(ctx, editions, kept, events, last); !errors.Is(err, errMoved) {
			return moved, Ready, err
		}
	}
}

// outside counts the letters that are not sealed to a key.
func outside(editions []edition, kid string) int {
	count := 0
	for _, one := range editions {
		for _, copied := range one.copies {
			if copied.sealedTo() != kid {
				count++
			}
		}
	}
	return count
}

// edition is one letter of a query: what it died of after so many replays. While it is sealed anew there are copies of it in the stream.
type edition struct {
	revision int
	copies   []*Letter
}

// editionsOf returns the letters of a query by their revisions, and the sequence of the last message.
func (l *Letters) editionsOf(ctx context.Context, key string) (editions []edition, last uint64, err error) {
	err = l.each(ctx, Filter{Key: key}, 1, 0, func(letter *Letter) error {
		last = letter.Sequence
		at := slices.IndexFunc(editions, func(one edition) bool { return one.revision == letter.Revision })
		if at < 0 {
			at, editions = len(editions), append(editions, edition{revision: letter.Revision})
		}
		editions[at].copies = append(editions[at].copies, letter)
		return nil
	})
	slices.SortFunc(editions, func(a, b edition) int { return cmp.Compare(a.revision, b.revision) })
	return editions, last, err
}

// mayMove claims the newest letter of a query, so that no replay takes it, and returns Ready, or why it can't be moved now. A replay that is
// under way names the letter's place, and so does the worker that has yet to write the query's result. The letter of a query that has its
// answer is claimed for good, from before that came, if nobody owns it.
func (l *Letters) mayMove(ctx context.Context, editions []edition) (Standing, error) {
	newest := editions[len(editions)-1].copies
	letter := newest[len(newest)-1]
	standing, _, err := l.standing(ctx, letter)
	if err != nil || standing == Unserved {
		return Ready, err
	}
	if standing == Answered {
		_, err := l.ledger.take(ctx, letter.Sequence, claim{Batch: answeredBatch, Run: answeredBatch, At: letter.Stored}, ofReseal)
		return Ready, err
	}
	if standing != Ready {
		return standing, nil
	}
	mine := claim{Batch: resealBatch, Run: resealBatch, At: time.Now().UTC()}
	owner, err := l.ledger.take(ctx, letter.Sequence, mine, func(owner claim) (bool, error) { return l.free(ctx, owner, letter.Sequence, false) })
	if err == nil && owner.Batch != resealBatch {
		return l.heldSince(owner.At), nil
	}
	return Ready, err
}

// Owners that are no batches.
const (
	// resealBatch owns the letters that are being sealed anew. They are gone when that is done.
	resealBatch = "reseal"
	// answeredBatch owns the letters that were found answered then, and have no other owner.
	answeredBatch = "answered"
)

// ofReseal tells that a claim holds a letter no longer than until it is sealed anew.
func ofReseal(owner claim) (bool, error) { return owner.Batch == resealBatch, nil }

// move stores the events of the letters once more that are not kept, which come after those that are, so that the order of their revisions
// stays, and then deletes the rest. errMoved means that the letters are not those that were read any more.
func (l *Letters) move(ctx context.Context, editions []edition, kept []uint64, events [][]byte, last uint64) error {
	places := slices.Clone(kept)
	for i, event := range events {
		var err error
		if last, err = l.store(ctx, editions[len(kept)+i].copies[0], event, last); err != nil {
			return err
		}
		places = append(places, last)
	}
	for i, one := range editions {
		if err := l.inherit(ctx, one.copies, places[i]); err != nil {
			return err
		}
	}
	for _, one := range editions {
		for _, copied := range one.copies {
			if slices.Contains(kept, copied.Sequence) {
				continue
			}
			if err := l.remove(ctx, copied.Sequence); err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit hands the claim of an edition's copies on to the place where it stays, so that what was replayed once is not taken for new there.
// The claim of reseal itself ends here.
func (l *Letters) inherit(ctx context.Context, copies []*Letter, place uint64) error {
	for _, copied := range copies {
		owner, err := l.ledger.owner(ctx, copied.Sequence)
		if err != nil {
			return err
		}
		if owner == nil || owner.Batch == resealBatch {
			continue
		}
		if _, err := l.ledger.take(ctx, place, *owner, ofReseal); err != nil {
			return err
		}
	}
	return l.ledger.release(ctx, place, resealBatch)
}

// inOrder returns the places of the first letters that can stay: those that are sealed to a key and lie in the order of their revisions.
func inOrder(editions []edition, kid string) []uint64 {
	var kept []uint64
	previous := uint64(0)
	for _, one := range editions {
		at := slices.IndexFunc(one.copies, func(c *Letter) bool { return c.Sequence > previous && c.sealedTo() == kid })
		if at < 0 {
			break
		}
		previous = one.copies[at].Sequence
		kept = append(kept, previous)
	}
	return kept
}

// sealedAnew returns the events of editions with their payloads sealed to another key.
func (l *Letters) sealedAnew(editions []edition, sealer *card.Sealer) ([][]byte, error) {
	var events [][]byte
	for _, one := range editions {
		event, err := l.sealAnew(one.copies[0], sealer)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// sealAnew returns the event of a letter with its payload sealed to another key. All else stays byte for byte.
func (l *Letters) sealAnew(letter *Letter, sealer *card.Sealer) ([]byte, error) {
	plaintext, err := l.Ring.Open(letter.Payload, len(letter.Payload))
	if err != nil {
		return nil, err
	}
	payload, err := sealer.Seal(plaintext)
	if err != nil {
		return nil, err
	}
	if bytes.Count(letter.event, []byte(letter.Payload)) != 1 {
		return nil, fault.New("seal anew", fault.Malformed, fault.BadSeal)
	}
	return bytes.Replace(letter.event, []byte(letter.Payload), []byte(payload), 1), nil
}

// store stores a letter's event as the last one of its query.
func (l *Letters) store(ctx context.Context, letter *Letter, event []byte, last uint64) (sequence uint64, err error) {
	q := letter.Query
	subject := l.Subjects.Dead(q.Key, q.Provider, q.Client, string(letter.Reason))
	err = l.steady(ctx, "store dead letter", func(ctx context.Context) error {
		sequence, err = l.Resealer.Reseal(ctx, q.Key, subject, event, letter.Stored, last)
		return err
	})
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence {
		return 0, errMoved
	}
	return sequence, err
}
