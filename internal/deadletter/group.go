package deadletter

import (
	"cmp"
	"context"
	"slices"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Group is all letters that died of one cause.
type Group struct {
	Cause    string         `json:"cause"`
	Provider query.Provider `json:"provider"`
	Reason   query.Reason   `json:"reason"`
	Kind     string         `json:"kind"`
	Code     fault.Code     `json:"code"`
	// Upstream is the upstream's own code, Status the HTTP status, where there were such.
	Upstream string `json:"upstreamCode,omitzero"`
	Status   int    `json:"httpStatus,omitzero"`
	Count    int    `json:"count"`
	// First and Last are when the first and the last of them were stored. Example is the sequence of the last, Key its query's key.
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Example uint64    `json:"example"`
	Key     string    `json:"key"`
	// Action is what to do about it, in one sentence.
	Action string `json:"action"`
}

// Groups returns the causes of the letters that are picked, the most frequent first.
func (l *Letters) Groups(ctx context.Context, filter Filter) ([]Group, error) {
	groups := tally{}
	err := l.Each(ctx, filter, func(letter Letter) error {
		groups.add(&letter)
		return nil
	})
	return groups.sorted(), err
}

// tally counts letters by cause.
type tally map[string]*Group

func (t tally) add(letter *Letter) {
	g := t[letter.Cause]
	if g == nil {
		g = &Group{
			Cause: letter.Cause, Provider: letter.Query.Provider, Reason: letter.Reason, Kind: letter.Kind, Code: letter.Code,
			Upstream: letter.Upstream.Code, Status: letter.Upstream.Status, First: letter.Stored, Action: action(letter),
		}
		t[letter.Cause] = g
	}
	g.Count++
	if letter.Stored.Before(g.First) {
		g.First = letter.Stored
	}
	if !letter.Stored.Before(g.Last) {
		g.Last, g.Example, g.Key = letter.Stored, letter.Sequence, letter.Query.Key
	}
}

func (t tally) sorted() []Group {
	groups := make([]Group, 0, len(t))
	for _, g := range t {
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Cause, b.Cause))
	})
	return groups
}
