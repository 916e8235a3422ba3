package app

import (
	"context"
	"errors"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// brokerPatience is how long operators' commands ask a broker that does not answer.
const brokerPatience = time.Minute

// DeadLetters are the dead letters of the configured broker.
type DeadLetters struct {
	*deadletter.Letters

	broker  *Broker
	decoder *query.Decoder
}

// DeadLettersOptions say who works with dead letters.
type DeadLettersOptions struct {
	// Actor is who it is, Why that one's own word for it.
	Actor string
	Why   string
	// Keys reads the workers' keys, for those who reveal or edit.
	Keys bool
}

// OpenDeadLetters connects to the configured broker.
func OpenDeadLetters(ctx context.Context, c config.Config, options DeadLettersOptions) (*DeadLetters, error) {
	var ring *card.Ring
	if options.Keys {
		var err error
		if ring, err = card.LoadRing(c.Cards.KeysDir); err != nil {
			return nil, err
		}
	}
	connected, err := OpenBroker(ctx, c, BrokerOptions{Name: "discount-dead"})
	if err != nil {
		return nil, err
	}
	names, subjects := Topology(c).Names(), query.NewSubjects(c.Prefix)
	letters, err := deadletter.Open(ctx, deadletter.Options{
		JS: connected.JS, Names: names, Subjects: subjects, Providers: served(c), Ring: ring, Actor: options.Actor, Why: options.Why,
		Replayer: &publish.Replayer{JS: connected.JS, Subjects: subjects, Stream: names.Retries(), Timeout: c.NATS.RequestTimeout},
		Auditor:  &publish.Auditor{JS: connected.JS, Subjects: subjects, Stream: names.Audit(), Timeout: c.NATS.RequestTimeout},
		Resealer: &publish.Resealer{JS: connected.JS, Subjects: subjects, Stream: names.Dead(), Timeout: c.NATS.RequestTimeout},
		Timeout:  c.NATS.RequestTimeout, Patience: brokerPatience,
	})
	if err != nil {
		return nil, errors.Join(err, connected.Close(ctx))
	}
	decoder, err := query.NewDecoder(subjects)
	if err != nil {
		return nil, errors.Join(err, connected.Close(ctx))
	}
	return &DeadLetters{Letters: letters, broker: connected, decoder: decoder}, nil
}

// served returns the providers that are switched on.
func served(c config.Config) []query.Provider {
	var all []query.Provider
	for _, name := range c.Providers.Enabled() {
		all = append(all, query.Provider(name))
	}
	return all
}

// AcceptEdit takes the text of an edited query as a worker would.
func (d *DeadLetters) AcceptEdit(draft *deadletter.Draft, text string) (*deadletter.Edit, error) {
	return d.Accept(draft, text, d.decoder)
}

// Close ends the connection.
func (d *DeadLetters) Close(ctx context.Context) {
	_ = d.broker.Close(context.WithoutCancel(ctx)) // Nothing is under way any more: all requests were answered.
}
