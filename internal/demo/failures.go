package demo

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/go-json-experiment/json"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
)

// What the upstreams refuse on purpose: offers and cards that no other query of the demo asks about.
const (
	unknownCodeBin = "40000001"
	outageBin      = "40000002"
	refusedOffer   = "4040404040"
	failureFaults  = "easypay:code=Z123[cardBin=" + unknownCodeBin + "],easypay:status=503[cardBin=" + outageBin + "]," +
		"unionpay:code=99[pid=" + refusedOffer + "]"
)

// failuresGiveUp is the deadline of the queries that get no answer. Their first scheduled retry would come after it, so that they die as
// soon as the short retries are used up.
const failuresGiveUp = 10 * time.Second

// failureSource is the source of all queries that fail on purpose.
const failureSource = "urn:demo:failures"

// faults returns how the upstreams misbehave. Of several faults the first in the list shows.
func (d *demo) faults() string {
	switch {
	case d.again:
		return ""
	case d.WithFailures:
		return failureFaults + "," + faults
	default:
		return faults
	}
}

// failure is one way in which queries die.
type failure struct {
	name     string
	count    int
	provider query.Provider
	// spoil changes an event that would have been answered.
	spoil func(event *failingEvent) error
}

// failingEvent is a query as its publisher would write it.
type failingEvent struct {
	SpecVersion string         `json:"specversion"`
	ID          string         `json:"id"`
	Source      string         `json:"source"`
	Type        string         `json:"type"`
	Expires     time.Time      `json:"expirytime,omitzero"`
	Correlation string         `json:"correlationid"`
	Data        map[string]any `json:"data"`
}

// failures returns what dies in the demo and how often, nothing unless that is wanted. Every one keeps its identity, so that whoever
// asked is told of the failure.
func (d *demo) failures() []failure {
	if !d.WithFailures {
		return nil
	}
	easypay := func(name string, count int, spoil func(e *failingEvent)) failure {
		return failure{name: name, count: count, provider: query.EasyPay, spoil: func(e *failingEvent) error { spoil(e); return nil }}
	}
	return []failure{
		easypay("unknown-code", 5, func(e *failingEvent) { e.Data["cardBin"] = unknownCodeBin }),
		easypay("wrong-envelope", 3, func(e *failingEvent) { e.SpecVersion = "0.3" }),
		easypay("later-version", 2, func(e *failingEvent) { e.Type = "discount.query.requested.v9" }),
		easypay("two-cards", 2, func(e *failingEvent) { e.Data["cardCd"] = "008" }),
		easypay("forbidden-data", 2, func(e *failingEvent) { e.Data["cvv"] = "000" }),
		easypay("outage", 2, func(e *failingEvent) {
			e.Data["cardBin"], e.Expires = outageBin, time.Now().Add(failuresGiveUp).UTC()
		}),
		{name: "lost-key", count: 3, provider: query.UnionPay, spoil: d.sealToLostKey},
		{name: "moved-card", count: 1, provider: query.UnionPay, spoil: func(e *failingEvent) error {
			return e.seal(d.ring.Sealer(), "another-order")
		}},
		{name: "refused-offer", count: 1, provider: query.UnionPay, spoil: func(e *failingEvent) error {
			e.Data["pid"] = refusedOffer
			return nil
		}},
	}
}

// fail publishes the queries that die.
func (d *demo) fail(ctx context.Context, publisher *client.Client, t *tally) error {
	for _, f := range d.failures() {
		for i := range f.count {
			event, err := d.failing(f, fmt.Sprintf("%s-%d", f.name, i))
			if err != nil {
				return err
			}
			body, err := json.Marshal(event, json.Deterministic(true))
			if err != nil {
				return fmt.Errorf("encode query: %w", err)
			}
			t.send(query.Key(publisher.Name, event.Source, event.ID))
			question := client.Question{Provider: f.provider, Lane: query.Interactive, Source: event.Source, ID: event.ID}
			if err := publisher.PublishEvent(ctx, question, body); err != nil {
				return err
			}
		}
	}
	return nil
}

// failing returns a query that was spoilt.
func (d *demo) failing(f failure, id string) (*failingEvent, error) {
	event := &failingEvent{
		SpecVersion: "1.0", ID: id, Source: failureSource, Type: query.TypeRequested, Correlation: id, Data: map[string]any{},
	}
	if f.provider == query.EasyPay {
		event.Data["mallId"], event.Data["cardBin"], event.Data["amount"] = demoMall, "12345678", 51004
		return event, f.spoil(event)
	}
	if err := event.seal(d.ring.Sealer(), id); err != nil {
		return nil, err
	}
	return event, f.spoil(event)
}

// seal seals a card to the query with the id given.
func (e *failingEvent) seal(to *card.Sealer, id string) error {
	number, err := card.ParseNumber(testCards[0])
	if err != nil {
		return err
	}
	details := card.Details{UserToken: card.NewSecret("demofailures"), Number: number}
	e.Data["data"], err = to.SealDetails(details, card.Binding{ID: id, Source: e.Source, Type: query.TypeRequested})
	return err
}

// sealToLostKey seals a card to a key that the workers do not have. It lies beside theirs and is a year old, so that whoever gives it back
// to them makes those queries answerable and changes nothing else.
func (d *demo) sealToLostKey(e *failingEvent) error {
	dir := filepath.Join(d.dir, lostKeys)
	found, err := filepath.Glob(filepath.Join(dir, "*.public.jwk"))
	if err != nil {
		return fmt.Errorf("find the lost key: %w", err)
	}
	if len(found) == 0 {
		made, err := card.NewKeys(dir, time.Now().AddDate(-1, 0, 0))
		if err != nil {
			return err
		}
		found = made[1:2]
	}
	lost, err := card.LoadSealer(found[0])
	if err != nil {
		return err
	}
	return e.seal(lost, e.ID)
}

// lostKeys is the directory of the key that the workers do not have.
const lostKeys = "lost-keys"
