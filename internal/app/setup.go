package app

import (
	"context"
	"strings"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/config"
)

// Setup plans and applies the broker's objects.
type Setup struct {
	broker   *Broker
	topology broker.Topology
}

// OpenSetup connects to the configured broker for setting it up.
func OpenSetup(ctx context.Context, c config.Config) (*Setup, error) {
	connected, err := OpenBroker(ctx, c, BrokerOptions{Name: "discount-setup"})
	if err != nil {
		return nil, err
	}
	s := &Setup{broker: connected, topology: Topology(c)}
	if err := broker.CheckServer(connected.Conn); err != nil {
		s.Close(ctx)
		return nil, err
	}
	return s, nil
}

// Plan returns what there is to do.
func (s *Setup) Plan(ctx context.Context) (broker.Plan, error) {
	return broker.MakePlan(ctx, s.broker.JS, s.topology)
}

// Apply carries the plan out and tells each step as a line once it is done.
func (s *Setup) Apply(ctx context.Context, plan broker.Plan, progress func(step string)) error {
	return broker.Apply(ctx, s.broker.JS, plan, func(step broker.Step) {
		if step.Action != broker.ActionKeep {
			line, _, _ := strings.Cut(step.String(), "\n")
			progress(line)
		}
	})
}

// Close ends the connection.
func (s *Setup) Close(ctx context.Context) {
	_ = s.broker.Close(context.WithoutCancel(ctx)) // Nothing is under way any more: all requests were answered.
}
