package tail

import (
	"errors"
	"iter"
	"slices"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/query"
)

// What is one of the two things that can be read.
type What string

// What can be read.
const (
	// Results are what queries ended in, completed or failed.
	Results What = "results"
	// DeadLetters are the dead letters of the queries that failed.
	DeadLetters What = "dead"
)

// Filter picks events. Its zero value picks all. The broker picks by What, Key, Provider, Client, Status and, of dead letters, Reason, and
// passes only such events on; what is left is picked while reading.
type Filter struct {
	// What is either of the two, or "" for both.
	What     What
	Key      string
	Provider query.Provider
	Client   string
	Lane     query.Lane
	// Status picks results. Dead letters have none, and are left out if it is set.
	Status query.Status
	// Reason and Code pick failed results and dead letters.
	Reason query.Reason
	Code   string
	// QueryID is the CloudEvents id of the query, Order its correlationid.
	QueryID string
	Order   string
}

// Validate says what is wrong with a filter that nothing could meet.
func (f Filter) Validate() error {
	for name, token := range map[string]string{"key": f.Key, "provider": string(f.Provider), "client": f.Client} {
		if token != "" && !query.IsToken(token) {
			return errors.New("the " + name + " has at most 64 letters, digits, - or _")
		}
	}
	switch {
	case f.Reason != "" && !slices.Contains(query.Reasons(), f.Reason):
		return errors.New("there is no such reason")
	case f.Status == query.Completed && (f.Reason != "" || f.Code != ""):
		return errors.New("a completed query has no reason and no code")
	case f.What == DeadLetters && f.Status != "":
		return errors.New("a dead letter has no outcome: it always belongs to a failed query")
	case f.What == DeadLetters && f.Reason == query.ReasonExpired:
		return errors.New("a query that expired leaves no dead letter")
	default:
		return nil
	}
}

// subjects returns the streams to read, each with the subject that the broker picks by.
func (f Filter) subjects(n broker.Names, s query.Subjects) iter.Seq2[string, string] {
	orAny := func(token string) string {
		if token == "" {
			return "*"
		}
		return token
	}
	key, provider, client := orAny(f.Key), query.Provider(orAny(string(f.Provider))), orAny(f.Client)
	status := f.Status
	if f.Reason != "" || f.Code != "" {
		status = query.Failed
	}
	return func(yield func(string, string) bool) {
		if f.What != DeadLetters && !yield(n.Results(), s.Result(key, provider, client, orAny(string(status)))) {
			return
		}
		if f.What != Results && f.Status == "" && f.Reason != query.ReasonExpired {
			yield(n.Dead(), s.Dead(key, provider, client, orAny(string(f.Reason))))
		}
	}
}

// matches tells whether an event whose subject matches is picked.
func (f Filter) matches(e *Event) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return same(string(f.Lane), string(e.Query.Lane)) && same(string(f.Reason), string(e.Reason)) && same(f.Code, string(e.Code)) &&
		same(f.QueryID, e.Query.ID) && same(f.Order, e.Order)
}
