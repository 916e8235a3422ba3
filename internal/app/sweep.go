package app

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/consumer"
	"discountquery.example/worker/internal/sweeper"
	"discountquery.example/worker/internal/worker"
)

// How the sweeper works. Its lease outlives a few of its passes, so that one slow answer of the broker does not move it.
const (
	sweepEvery = 15 * time.Second
	sweepLease = time.Minute
	// sweepGrace is how long after its limit a query is left to the workers, who may be busy with it.
	sweepGrace = 15 * time.Second
	// sweepBatch is how many waiting messages of one consumer, or of the schedule, are looked at in one pass.
	sweepBatch = 2000
)

// buildSweeper builds the net under the broker over all consumers, and over the retries whose time has not come.
func (a *App) buildSweeper(ctx context.Context, handler *worker.Worker) (*sweeper.Sweeper, error) {
	names := a.topology.Names()
	kv, err := a.broker.JS.KeyValue(ctx, names.PaceBucket())
	if err != nil {
		return nil, fmt.Errorf("bind to bucket %s: %w", names.PaceBucket(), err)
	}
	var bindings []sweeper.Binding
	for _, binding := range a.topology.Consumers() {
		bindings = append(bindings, sweeper.Binding{
			Stream: binding.Stream, Consumer: binding.Config.Name, Filter: binding.Config.FilterSubject,
		})
	}
	bindings = append(bindings, sweeper.Binding{Stream: names.Retries(), Filter: names.ScheduleFilter()})
	return sweeper.New(sweeper.Options{
		JS: a.broker.JS, Bindings: bindings, Every: sweepEvery, Grace: sweepGrace, Batch: sweepBatch, Handler: handler,
		Lease:     &sweeper.Lease{KV: kv, Key: "lease.sweeper", Holder: rand.Text(), TTL: sweepLease},
		Remove:    a.remove,
		OnFound:   a.swept,
		OnTrouble: func(err error) { a.log.Warn("sweep ended early", brokerError(err)) },
	}), nil
}

// remove takes a message that the broker gave up on out of its queue.
func (a *App) remove(ctx context.Context, binding sweeper.Binding, sequence uint64) error {
	ctx, cancel := context.WithTimeout(ctx, a.Config.NATS.RequestTimeout)
	defer cancel()
	return consumer.Remove(ctx, a.broker.JS, binding.Stream, binding.Consumer, sequence)
}

func (a *App) swept(why sweeper.Why, settled bool) {
	a.metrics.Swept(string(why), settled)
	a.log.Warn("query swept up", zap.String("why", string(why)), zap.Bool("settled", settled))
}
