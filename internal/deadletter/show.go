package deadletter

import (
	"context"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/query"
)

// Shown is a letter with what became of its query since.
type Shown struct {
	Letter

	// Standing says whether a replay would ask it again; Batch names the replay that claimed it last, if one has.
	Standing Standing `json:"standing"`
	Batch    string   `json:"batch,omitzero"`
	// Action is what to do about it, in one sentence.
	Action string `json:"action"`
}

// Show returns a letter with its standing. Its payload stays sealed.
func (l *Letters) Show(ctx context.Context, letter Letter) (Shown, error) {
	shown := Shown{Letter: letter, Action: action(&letter)}
	standing, _, err := l.standing(ctx, &letter)
	if err != nil {
		return shown, err
	}
	shown.Standing = standing
	owner, err := l.ledger.owner(ctx, letter.Sequence)
	if owner == nil || err != nil {
		return shown, err
	}
	shown.Batch = owner.Batch
	if standing != Ready {
		return shown, nil
	}
	free, err := l.free(ctx, *owner, letter.Sequence, false)
	if !free {
		shown.Standing = l.heldSince(owner.At)
	}
	return shown, err
}

// Revealed is the message that a publisher wrote, less card data: that is not shown to anybody.
type Revealed struct {
	Subject string              `json:"subject"`
	Header  map[string][]string `json:"header,omitzero"`
	// Body is the message's JSON, Outline the shape of a body that is not JSON. In both, card data is hidden.
	Body    jsontext.Value `json:"body,omitzero"`
	Outline string         `json:"outline,omitzero"`
	// Hidden counts the values that are hidden.
	Hidden int `json:"hidden"`
}

// errNoKeys is a letter that can't be unsealed.
var errNoKeys = errors.New("this needs the workers' keys (cards.keys_dir)")

// Reveal unseals a letter's message, after having written that down.
func (l *Letters) Reveal(ctx context.Context, letter Letter) (Revealed, error) {
	if l.Ring == nil {
		return Revealed{}, errNoKeys
	}
	if err := l.audit(ctx, query.AuditDeadReveal, target(letter), ""); err != nil {
		return Revealed{}, err
	}
	original, err := l.unseal(letter)
	if err != nil {
		return Revealed{}, err
	}
	revealed := Revealed{Subject: original.Subject, Header: map[string][]string{}}
	for name, values := range original.Header {
		for _, value := range values {
			if isSecret(name, jsontext.Value(value)) || holdsCard(name) {
				name, value, revealed.Hidden = outline([]byte(name)), "[hidden]", revealed.Hidden+1
			}
			revealed.Header[name] = append(revealed.Header[name], value)
		}
	}
	masked, err := hide(original.Data)
	if err != nil {
		revealed.Outline = outline(original.Data)
		return revealed, nil //nolint:nilerr // Its outline is what there is to see.
	}
	revealed.Body = masked.text
	revealed.Hidden += len(masked.secrets)
	return revealed, nil
}

// unseal opens a letter's payload.
func (l *Letters) unseal(letter Letter) (query.Original, error) {
	var original query.Original
	plaintext, err := l.Ring.Open(letter.Payload, len(letter.Payload))
	if err != nil {
		return original, err
	}
	err = query.ReadStrict(plaintext, &original)
	return original, err
}

// target names a letter in an audit record.
func target(letter Letter) string { return "letter " + strconv.FormatUint(letter.Sequence, 10) }
