package app

import (
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
)

// newConcurrency returns the places for an account's calls, or nil if their number has no limit.
func (a *App) newConcurrency(one account) *upstream.Concurrency {
	bounds := callBounds(one.concurrency, one.connections)
	if bounds.Max == 0 {
		return nil
	}
	policy := upstream.ConcurrencyPolicy{Floor: bounds.Min, Ceiling: bounds.Max, BulkShare: a.Config.Lanes.Bulk.Share}
	return upstream.NewConcurrency(policy, a.tellLimit(one.Account, bounds))
}

// callBounds returns how many calls there may be under way on so many connections; 0 means as many as there are calls. A call without a connection
// of its own would wait for one with its permit in hand, and use it later than the pace meant.
func callBounds(bounds config.Concurrency, connections int) config.Concurrency {
	switch {
	case connections == 0:
		return bounds
	case bounds.Max == 0:
		return config.Concurrency{Min: connections, Max: connections}
	default:
		return config.Concurrency{Min: min(bounds.Min, connections), Max: min(bounds.Max, connections)}
	}
}

// noteworthy is the part by which a limit must have changed since it was last told, to be told to everybody.
const noteworthy = 0.25

// tellLimit returns what is called with each change of an account's limit, under its lock. All of them are logged for those who debug; what is
// told to everybody are large changes, and that a bound was met.
func (a *App) tellLimit(account quota.Account, bounds config.Concurrency) func(from, to int) {
	told := 0
	return func(from, to int) {
		a.metrics.ConcurrencyLimit(account.Provider, account.Name, to)
		level := zapcore.DebugLevel
		if far := float64(max(to-told, told-to)); far >= noteworthy*float64(told) || to == bounds.Min || to == bounds.Max {
			level, told = zapcore.InfoLevel, to
		}
		a.log.Log(level, "limit of calls under way changed", zap.String("account", accountName(account)),
			zap.Int("from", from), zap.Int("to", to), zap.Int("min", bounds.Min), zap.Int("max", bounds.Max))
	}
}
