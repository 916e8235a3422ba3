package deadletter

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Decoder reads a message as a worker would.
type Decoder interface {
	Decode(delivery query.Delivery) (*query.Query, error)
}

// Draft is the query of one letter, open to be edited. It is a mask: card data stays where it was and is not in the text.
type Draft struct {
	letter   Letter
	original query.Original
	mask     mask
}

// Edit is a query that was edited, checked and sealed again.
type Edit struct {
	// Diff are the lines of both texts: "- " begins one that is gone, "+ " one that is new, two blanks one that stayed.
	Diff []string

	sequence uint64
	payload  string
}

// Draft opens a letter's query, after having written that down.
func (l *Letters) Draft(ctx context.Context, letter Letter) (*Draft, error) {
	if l.Ring == nil {
		return nil, errNoKeys
	}
	if err := l.audit(ctx, query.AuditDeadEdit, target(letter), "opened"); err != nil {
		return nil, err
	}
	original, err := l.unseal(letter)
	if err != nil {
		return nil, err
	}
	masked, err := hide(original.Data)
	if err != nil {
		return nil, fmt.Errorf("dead letter %d can't be edited: %w; have its publisher ask again", letter.Sequence, err)
	}
	return &Draft{letter: letter, original: original, mask: masked}, nil
}

// Text returns the text to be edited.
func (d *Draft) Text() string { return string(d.mask.text) + "\n" }

// ErrUnchanged is an edited text that says the same as before.
var ErrUnchanged = errors.New("nothing was changed")

// Accept takes an edited text: it must be a query that a worker can read, and the same one as before by its client, source and id.
func (l *Letters) Accept(draft *Draft, edited string, decoder Decoder) (*Edit, error) {
	body, err := draft.mask.restore([]byte(edited))
	if err != nil {
		return nil, fault.Because("read edited query", fault.Malformed, fault.BadJSON, err)
	}
	shown, err := hide(body)
	if err != nil {
		return nil, fault.Because("read edited query", fault.Malformed, fault.BadJSON, err)
	}
	if string(shown.text) == string(draft.mask.text) {
		return nil, ErrUnchanged
	}
	if err := body.Compact(); err != nil {
		return nil, fault.Because("read edited query", fault.Malformed, fault.BadJSON, err)
	}
	original := draft.original
	original.Data = body
	q, err := decoder.Decode(query.Delivery{
		Subject: original.Subject, Header: original.Header, Data: body, Stream: draft.letter.Origin.Stream, Sequence: draft.letter.Origin.Sequence,
	})
	if err != nil {
		return nil, err
	}
	if q.Key() != draft.letter.Query.Key {
		return nil, errors.New("an edited query must keep its id and source: another one would be another query, whose publisher waits for nothing")
	}
	plaintext, err := json.Marshal(original, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return nil, fmt.Errorf("encode edited query: %w", err)
	}
	payload, err := l.Ring.Seal(plaintext)
	if err != nil {
		return nil, err
	}
	return &Edit{Diff: diff(lines(draft.mask.text), lines(shown.text)), sequence: draft.letter.Sequence, payload: payload}, nil
}

func lines(text []byte) []string { return strings.Split(string(text), "\n") }

// maxDiff bounds the product of the lines of two texts that are compared line by line.
const maxDiff = 4_000_000

// diff returns the lines of both texts, by their longest common subsequence.
func diff(before, after []string) []string {
	if len(before)*len(after) > maxDiff {
		return []string{"- all of it", "+ another text"}
	}
	common := make([][]int, len(before)+1)
	for i := range common {
		common[i] = make([]int, len(after)+1)
	}
	for i := range slices.Backward(before) {
		for j := range slices.Backward(after) {
			if before[i] == after[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out []string
	for i, j := 0, 0; i < len(before) || j < len(after); {
		switch {
		case i < len(before) && j < len(after) && before[i] == after[j]:
			out = append(out, "  "+before[i])
			i, j = i+1, j+1
		case j == len(after) || i < len(before) && common[i+1][j] >= common[i][j+1]:
			out = append(out, "- "+before[i])
			i++
		default:
			out = append(out, "+ "+after[j])
			j++
		}
	}
	return out
}
