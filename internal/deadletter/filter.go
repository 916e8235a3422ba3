package deadletter

import (
	"errors"
	"slices"
	"time"

	"discountquery.example/worker/internal/query"
)

// Filter picks dead letters. Its zero value picks all. The broker picks by Key, Provider, Client and Reason, and passes only such letters
// on; what is left is picked while reading.
type Filter struct {
	Key      string         `json:"key,omitzero"`
	Provider query.Provider `json:"provider,omitzero"`
	Client   string         `json:"client,omitzero"`
	Reason   query.Reason   `json:"reason,omitzero"`
	// Sequence is the letter's own place in the stream of dead letters.
	Sequence uint64 `json:"sequence,omitzero"`
	// Cause and Code are those of the letter, ID the CloudEvents id of its query, Order the query's correlationid.
	Cause string `json:"cause,omitzero"`
	Code  string `json:"code,omitzero"`
	ID    string `json:"id,omitzero"`
	Order string `json:"order,omitzero"`
	// From and To bound when the letter was stored: From is the first such time, To the first one beyond. Zero is no bound.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// Again lets a replay take letters that another one has published, if that has ended and their queries have no outcome: for replays
	// that got lost with their stream.
	Again bool `json:"again,omitzero"`
}

// Validate says what is wrong with a filter that no letter could meet, or that would match more than it says.
func (f Filter) Validate() error {
	for name, token := range map[string]string{"key": f.Key, "provider": string(f.Provider), "client": f.Client} {
		if token != "" && !query.IsToken(token) {
			return errors.New("the " + name + " has at most 64 letters, digits, - or _")
		}
	}
	if f.Reason != "" && !slices.Contains(query.Reasons(), f.Reason) {
		return errors.New("there is no such reason")
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		return errors.New("the time ends before it begins")
	}
	return nil
}

// IsZero tells whether the filter picks everything.
func (f Filter) IsZero() bool { return f == Filter{Again: f.Again} }

// subject returns the subjects of the letters that can match, for the broker to pick by.
func (f Filter) subject(s query.Subjects) string {
	orAny := func(token string) string {
		if token == "" {
			return "*"
		}
		return token
	}
	return s.Dead(orAny(f.Key), query.Provider(orAny(string(f.Provider))), orAny(f.Client), orAny(string(f.Reason)))
}

// matches tells whether a letter whose subject matches is picked.
func (f Filter) matches(letter *Letter) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return (f.Sequence == 0 || f.Sequence == letter.Sequence) &&
		same(f.Cause, letter.Cause) && same(f.Code, string(letter.Code)) && same(f.ID, letter.Query.ID) && same(f.Order, letter.Order) &&
		!letter.Stored.Before(f.From) && (f.To.IsZero() || letter.Stored.Before(f.To))
}
