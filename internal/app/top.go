package app

import (
	"context"
	"time"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
	"discountquery.example/worker/internal/top"
)

// Top gathers snapshots of the configured broker, its workers and their upstream accounts.
type Top struct {
	*top.Top

	config config.Config
	broker *Broker
	// pace and letters are opened when they are asked for first, so that a right that is missing costs only what needs it.
	pace    *Pace
	letters *deadletter.Letters
}

// listen is how long workers have to tell their state.
const listen = 300 * time.Millisecond

// OpenTop connects to the configured broker.
func OpenTop(ctx context.Context, c config.Config) (*Top, error) {
	connected, err := OpenBroker(ctx, c, BrokerOptions{Name: "discount-top"})
	if err != nil {
		return nil, err
	}
	t := &Top{config: c, broker: connected}
	subjects, accounts := query.NewSubjects(c.Prefix), newDirectory(c.Providers)
	t.Top = top.New(top.Options{
		Events: newTail(c, connected), Figures: NewGauge(connected.JS, Topology(c)), Paces: t.paces, Batches: t.batches,
		Replicas: func(ctx context.Context) ([]ask.Found, error) {
			return ask.Replicas(ctx, connected.Conn, subjects, listen)
		},
		Accounts: AccountNames(c),
		AccountOf: func(e tail.Event) string {
			return accountName(accounts.of(&query.Query{Provider: e.Query.Provider, EasyPay: e.Query.EasyPay, UnionPay: e.Query.UnionPay}))
		},
	})
	return t, nil
}

// Address returns the broker's address without user and password.
func (t *Top) Address() string { return t.broker.ClientURL() }

// Close ends the connection.
func (t *Top) Close(ctx context.Context) {
	_ = t.broker.Close(context.WithoutCancel(ctx)) // Nothing is under way any more: all requests were answered.
}

func (t *Top) paces(ctx context.Context) ([]top.Pace, error) {
	if t.pace == nil {
		pace, err := newPaceControl(ctx, t.config, t.broker)
		if err != nil {
			return nil, err
		}
		t.pace = pace
	}
	shown, err := t.pace.Show(ctx)
	if err != nil {
		return nil, err
	}
	var all []top.Pace
	for _, status := range shown {
		ceiling := status.Configured
		if status.Override > 0 {
			ceiling = status.Override
		}
		all = append(all, top.Pace{
			Account: status.Account, Ceiling: ceiling, Now: status.Rate, Paused: status.Paused, BlockedUntil: status.BlockedUntil, Broken: status.Broken,
		})
	}
	return all, nil
}

// batches returns the replays that are at work.
func (t *Top) batches(ctx context.Context) ([]top.Batch, error) {
	if t.letters == nil {
		letters, err := deadletter.Open(ctx, deadletter.Options{
			JS: t.broker.JS, Names: Topology(t.config).Names(), Subjects: query.NewSubjects(t.config.Prefix),
			Timeout: t.config.NATS.RequestTimeout, Patience: t.config.NATS.RequestTimeout,
		})
		if err != nil {
			return nil, err
		}
		t.letters = letters
	}
	var all []top.Batch
	err := t.letters.Batches(ctx, func(b deadletter.Batch) error {
		if b.State == deadletter.Running {
			all = append(all, top.Batch{
				ID: b.ID, Total: b.Total, Seen: b.Seen, Published: b.Published, Rate: b.Rate, Actor: b.Actor, Updated: b.Updated,
			})
		}
		return nil
	})
	return all, err
}
