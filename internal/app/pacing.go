package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
)

// pace is the fleet's pace as the clients of the upstreams know it: by query.
type pace struct {
	*quota.Fleet
	directory
}

// Throttled tells the fleet that the upstream refused a call for q, because there were too many.
func (p pace) Throttled(q *query.Query, sentAt time.Time, retryAfter time.Duration) {
	p.Fleet.Throttled(p.of(q), sentAt, retryAfter)
}

// delay estimates how long a query whose asker waits would wait for its turn.
func (p pace) delay(q *query.Query) time.Duration { return p.Delay(p.of(q), quota.Ask) }

// keepPace keeps the pace until it is stopped, which must not be before the last query is done.
func (a *App) keepPace(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	keeping.Go(func() { a.pace.Run(ctx) })
	keeping.Go(func() { a.watchPace(ctx) })
	return func() {
		cancel()
		keeping.Wait()
	}
}

// newPace returns the pace of all accounts, kept with all other workers in the bucket.
func (a *App) newPace(ctx context.Context) (pace, error) {
	name := a.topology.Names().PaceBucket()
	bucket, err := a.broker.JS.KeyValue(ctx, name)
	if err != nil {
		return pace{}, fmt.Errorf("bind to bucket %s: %w", name, err)
	}
	directory := newDirectory(a.Config.Providers)
	return pace{directory: directory, Fleet: quota.New(quota.Options{
		Store: quota.NewKV(bucket), Accounts: paceSettings(a.Config), AccountOf: directory.of, ClassOf: classOf,
		BulkShare: a.Config.Lanes.Bulk.Share, AckWait: a.Config.Consumer.AckWait, OnChange: a.paceChanged, OnTrouble: a.paceTrouble,
	})}, nil
}

// classOf returns whose turn it is before whom. What an operator replays never goes before what a client asks.
func classOf(q *query.Query) quota.Class {
	switch {
	case q.Direct:
		return quota.Ask
	case q.Way() == query.Bulk:
		return quota.Bulk
	default:
		return quota.Interactive
	}
}

// paceChanged tells each change of the pace that this worker hears of.
func (a *App) paceChanged(change quota.Change) {
	a.metrics.PaceChanged(change.Account.Provider, change.Account.Name, string(change.Why), change.To)
	ceiling, held := a.gauges.takes.hear(change), change.Control
	a.metrics.PaceControl(change.Account.Provider, change.Account.Name, ceiling, held.Paused, held.BlockedUntil)
	fields := []zap.Field{
		zap.String("account", accountName(change.Account)), zap.String("why", string(change.Why)),
		zap.Float64("from_per_s", change.From), zap.Float64("to_per_s", change.To),
	}
	if change.Why == quota.Controlled {
		fields = append(fields, zap.Bool("paused", change.Control.Paused), zap.String("by", change.Control.By), zap.String("reason", change.Control.Why))
		if until := change.Control.BlockedUntil; !until.IsZero() {
			fields = append(fields, zap.Time("blocked_until", until))
		}
	}
	a.log.Info("pace changed", fields...)
}

// paceTrouble tells that the pace could not be read or written. Without it nobody calls.
func (a *App) paceTrouble(account quota.Account, err error) {
	a.metrics.PaceTrouble(account.Provider, account.Name)
	a.log.Warn("pace not known, so nothing is asked", zap.String("account", accountName(account)), brokerError(err))
}
