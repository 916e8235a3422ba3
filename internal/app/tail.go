package app

import (
	"context"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
)

// Tail reads the results and dead letters of the configured broker.
type Tail struct {
	*tail.Reader

	broker *Broker
}

// OpenTail connects to the configured broker.
func OpenTail(ctx context.Context, c config.Config) (*Tail, error) {
	connected, err := OpenBroker(ctx, c, BrokerOptions{Name: "discount-tail"})
	if err != nil {
		return nil, err
	}
	return &Tail{Reader: newTail(c, connected), broker: connected}, nil
}

// newTail returns a reader on a connection.
func newTail(c config.Config, connected *Broker) *tail.Reader {
	return tail.New(tail.Options{
		JS: connected.JS, Names: Topology(c).Names(), Subjects: query.NewSubjects(c.Prefix), Timeout: c.NATS.RequestTimeout, Patience: brokerPatience,
	})
}

// Close ends the connection.
func (t *Tail) Close(ctx context.Context) {
	_ = t.broker.Close(context.WithoutCancel(ctx)) // Nothing is under way any more: reading has ended.
}
