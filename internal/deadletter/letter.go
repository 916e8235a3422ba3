package deadletter

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
)

// ErrNoLetter is a dead letter that is not there, or not any more.
var ErrNoLetter = errors.New("no such dead letter")

// unreadable is the cause of letters that can't be read.
const unreadable = "unreadable"

// Letter is one dead letter. It holds no secrets but for its sealed payload.
type Letter struct {
	// Sequence is its place in the stream and names it, until it is sealed anew. Stored is when the broker stored it first.
	Sequence uint64    `json:"sequence"`
	Stored   time.Time `json:"stored"`
	// Order is the query's correlationid, TraceParent its trace.
	Order       string `json:"order,omitzero"`
	TraceParent string `json:"traceparent,omitzero"`
	// Unreadable tells that the event can't be read: only what its subject says is known.
	Unreadable bool `json:"unreadable,omitzero"`

	query.DeadData

	event jsontext.Value
	// placed is when the broker stored it at its present place: later than Stored for a letter that was sealed anew.
	placed time.Time
}

// Each calls f with the letters that are picked, in the order in which they were stored, until f returns an error. It holds a few at a time.
//
// It reads by requests for single messages, with no consumer: the right to read messages of one stream is all it takes.
func (l *Letters) Each(ctx context.Context, filter Filter, f func(Letter) error) error {
	return l.each(ctx, filter, 1, 0, func(letter *Letter) error { return f(*letter) })
}

// each is Each over the sequences from the first to the last one given; 0 is no last one.
func (l *Letters) each(ctx context.Context, filter Filter, first, last uint64, f func(*Letter) error) error {
	if err := filter.Validate(); err != nil {
		return err
	}
	if filter.Sequence > 0 {
		first, last = max(first, filter.Sequence), filter.Sequence
	}
	if !filter.From.IsZero() {
		begin, err := l.firstSince(ctx, filter.From)
		if err != nil {
			return err
		}
		first = max(first, begin)
	}
	ahead := window{letters: l, subject: filter.subject(l.Subjects), next: first, width: 1}
	for last == 0 || ahead.next <= last {
		found, err := ahead.read(ctx)
		if err != nil || len(found) == 0 {
			return err
		}
		for _, letter := range found {
			if last > 0 && letter.Sequence > last {
				return nil
			}
			if !filter.matches(letter) {
				continue
			}
			if err := f(letter); err != nil {
				return err
			}
		}
	}
	return nil
}

// next returns the first letter at or after a sequence whose subject matches, nil if there is none.
func (l *Letters) next(ctx context.Context, sequence uint64, subject string) (*Letter, error) {
	var letter *Letter
	err := l.steady(ctx, "read dead letter", func(ctx context.Context) error {
		message, err := l.dead.GetMsg(ctx, sequence, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			letter = nil
			return nil
		}
		if err != nil {
			return err
		}
		letter = readLetter(message)
		return nil
	})
	return letter, err
}

// firstSince returns a sequence before which no letter was stored at or after the given time, found by halving. Letters that were sealed anew
// lie behind others that died later, but never before it.
func (l *Letters) firstSince(ctx context.Context, from time.Time) (uint64, error) {
	info, err := l.info(ctx)
	if err != nil {
		return 0, err
	}
	low, high := max(info.State.FirstSeq, 1), info.State.LastSeq+1
	for low < high {
		middle := low + (high-low)/2
		letter, err := l.next(ctx, middle, Filter{}.subject(l.Subjects))
		if err != nil {
			return 0, err
		}
		if letter == nil || !letter.placed.Before(from) {
			high = middle
		} else {
			low = letter.Sequence + 1
		}
	}
	return low, nil
}

// info returns what the stream of dead letters holds now.
func (l *Letters) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var info *jetstream.StreamInfo
	err := l.steady(ctx, "look at dead letters", func(ctx context.Context) error {
		var err error
		info, err = l.dead.Info(ctx)
		return err
	})
	return info, err
}

// Find returns one letter by its sequence.
func (l *Letters) Find(ctx context.Context, sequence uint64) (Letter, error) {
	var found *Letter
	if sequence > 0 {
		err := l.each(ctx, Filter{Sequence: sequence}, sequence, sequence, func(letter *Letter) error {
			found = letter
			return nil
		})
		if err != nil {
			return Letter{}, err
		}
	}
	if found == nil {
		return Letter{}, fmt.Errorf("dead letter %d: %w", sequence, ErrNoLetter)
	}
	return *found, nil
}

// Last returns the newest letter of a query by the query's key.
func (l *Letters) Last(ctx context.Context, key string) (Letter, error) {
	if !query.IsToken(key) {
		return Letter{}, fmt.Errorf("dead letter of that key: %w", ErrNoLetter)
	}
	letter, err := l.lastOf(ctx, key)
	if err == nil && letter == nil {
		err = fmt.Errorf("dead letter of query %s: %w", key, ErrNoLetter)
	}
	if err != nil {
		return Letter{}, err
	}
	return *letter, nil
}

// lastOf returns the newest letter of a query, nil if there is none.
func (l *Letters) lastOf(ctx context.Context, key string) (*Letter, error) {
	message, err := l.last(ctx, l.dead, l.Subjects.DeadGuard(key))
	if message == nil {
		return nil, err
	}
	return readLetter(message), nil
}

// last returns the last message of a subject, nil if there is none.
func (l *Letters) last(ctx context.Context, stream jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
	var message *jetstream.RawStreamMsg
	err := l.steady(ctx, "read last message", func(ctx context.Context) error {
		var err error
		message, err = stream.GetLastMsgForSubject(ctx, subject)
		return err
	})
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil //nolint:nilnil // No message is an answer, and the callers ask for it at once.
	}
	return message, err
}

// readLetter reads a message of the stream of dead letters. What can't be read is a letter all the same: somebody must see it.
func readLetter(message *jetstream.RawStreamMsg) *Letter {
	letter := &Letter{Sequence: message.Sequence, Stored: message.Time.UTC(), event: message.Data, placed: message.Time.UTC()}
	if died, err := time.Parse(time.RFC3339Nano, message.Header.Get(query.HeaderDied)); err == nil && died.Before(letter.Stored) {
		letter.Stored = died.UTC()
	}
	var event struct {
		Order       string `json:"correlationid"`
		TraceParent string `json:"traceparent"`
	}
	data, err := query.ReadDead(message.Data)
	if err == nil {
		err = query.ReadStrict(message.Data, &event)
	}
	tokens := strings.Split(message.Subject, ".")
	tail := tokens[max(len(tokens)-letterTokens, 0):]
	if err != nil || len(tail) < letterTokens || data.Query.Key != tail[0] {
		letter.Unreadable, letter.Cause = true, unreadable
		if len(tail) == letterTokens {
			letter.Query.Key, letter.Query.Provider, letter.Query.Client = tail[0], query.Provider(tail[1]), tail[2]
			letter.Reason = query.Reason(tail[3])
		}
		return letter
	}
	letter.DeadData, letter.Order, letter.TraceParent = data, event.Order, event.TraceParent
	return letter
}

// letterTokens is how many tokens a dead letter's subject has from its key on: key, provider, client, reason.
const letterTokens = 4

// nameless tells whether the letter's message could not be told apart but by its place in a stream: no result was ever addressed to anybody.
func (letter *Letter) nameless() bool {
	return strings.HasPrefix(letter.Query.Source, namelessSource)
}

// namelessSource begins the source of queries without an identity of their own.
const namelessSource = "urn:discountquery:stream:"
