package app

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/telemetry"
)

// limited returns an app that is no more than its log and its metrics.
func limited() (*App, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.DebugLevel)
	return &App{log: zap.New(core), metrics: telemetry.NewMetrics("test", []query.Provider{query.EasyPay})}, logs
}

// shownLimit returns the limit that the metrics show.
func shownLimit(t *testing.T, a *App) float64 {
	t.Helper()
	families, err := a.metrics.Registry().Gather()
	require.NoError(t, err)
	for _, family := range families {
		if family.GetName() == "discount_worker_concurrency_limit" {
			require.Len(t, family.GetMetric(), 1)
			return family.GetMetric()[0].GetGauge().GetValue()
		}
	}
	require.Fail(t, "there is no such metric")
	return 0
}

func TestLargeChangesOfTheLimitAreTold(t *testing.T) {
	t.Parallel()
	a, logs := limited()
	tell := a.tellLimit(quota.Account{Provider: query.EasyPay, Name: "outlet"}, config.Concurrency{Min: 4, Max: 64})
	from := 0
	for _, step := range []struct {
		to    int
		level zapcore.Level
	}{
		{32, zapcore.InfoLevel},  // The start.
		{25, zapcore.DebugLevel}, // Less than a quarter.
		{24, zapcore.InfoLevel},  // A quarter since it was told, in two steps.
		{29, zapcore.DebugLevel},
		{30, zapcore.InfoLevel},
		{5, zapcore.InfoLevel},
		{4, zapcore.InfoLevel}, // The floor.
		{5, zapcore.InfoLevel},
		{63, zapcore.InfoLevel},
		{64, zapcore.InfoLevel}, // The ceiling, however near.
		{63, zapcore.DebugLevel},
	} {
		tell(from, step.to)
		lines := logs.TakeAll()
		require.Len(t, lines, 1, "every change is a line")
		require.Equal(t, step.level, lines[0].Level, step.to)
		require.Equal(t, map[string]any{
			"account": "easypay/outlet", "from": int64(from), "to": int64(step.to), "min": int64(4), "max": int64(64),
		}, lines[0].ContextMap())
		require.InDelta(t, step.to, shownLimit(t, a), 0, "and a metric")
		from = step.to
	}
}

func TestWithoutACeilingThereIsNoLimit(t *testing.T) {
	t.Parallel()
	a, logs := limited()
	one := account{Account: quota.Account{Provider: query.EasyPay, Name: defaultAccount}, concurrency: config.Concurrency{Min: 4}}
	require.Nil(t, a.newConcurrency(one))
	require.Zero(t, logs.Len())
	one.concurrency.Max = 16
	require.Equal(t, 16, a.newConcurrency(one).Limit())
	require.InDelta(t, 16, shownLimit(t, a), 0, "from the start")
}
