package app

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/keywatch"
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

// A call that waits for a connection has used its permit already: so there are no more calls than connections.
func TestConnectionsBoundTheCalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		connections      int
		bounds           config.Concurrency
		start, least, at int
	}{
		"fewer than the floor":     {2, config.Concurrency{Min: 4, Max: 256}, 2, 2, 2},
		"fewer than the ceiling":   {16, config.Concurrency{Min: 4, Max: 256}, 16, 4, 16},
		"more than the ceiling":    {300, config.Concurrency{Min: 4, Max: 256}, 32, 4, 256},
		"and no other limit":       {64, config.Concurrency{Min: 4}, 64, 64, 64},
		"as many as calls need":    {0, config.Concurrency{Min: 4, Max: 256}, 32, 4, 256},
		"one, and no other limit":  {1, config.Concurrency{Min: 4}, 1, 1, 1},
		"one, and a limit of more": {1, config.Concurrency{Min: 1, Max: 2}, 1, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, logs := limited()
			one := account{Account: quota.Account{Provider: query.EasyPay, Name: defaultAccount}, concurrency: test.bounds, connections: test.connections}
			require.Equal(t, test.start, a.newConcurrency(one).Limit())
			lines := logs.TakeAll()
			require.Len(t, lines, 1)
			require.EqualValues(t, test.least, lines[0].ContextMap()["min"])
			require.EqualValues(t, test.at, lines[0].ContextMap()["max"])
		})
	}
}

// tally is a pace without a bound. It notes how many permits there were at most whose calls had not come to an end.
type tally struct {
	ended func() uint64

	mu          sync.Mutex
	given, most uint64
}

// Wait implements upstream.Pacer.
func (p *tally) Wait(context.Context, *query.Query) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given++
	p.most = max(p.most, p.given-p.ended())
	return nil
}

// Throttled implements upstream.Pacer.
func (p *tally) Throttled(*query.Query, time.Time, time.Duration) {}

func TestNoPermitWaitsForAConnection(t *testing.T) {
	t.Parallel()
	for name, bounds := range map[string]config.Concurrency{"with a limit of calls": {Min: 4, Max: 256}, "without one": {Min: 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const askers = 8
			arrived := make(chan struct{}, askers)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				arrived <- struct{}{}
				time.Sleep(20 * time.Millisecond) // It is slow, so that the others come while it works.
				w.WriteHeader(http.StatusBadRequest)
			}))
			t.Cleanup(server.Close)
			a, _ := limited()
			a.Config, a.keys = config.Default(), keywatch.New(keywatch.Options{})
			easy := &a.Config.Providers.EasyPay
			easy.BaseURL, easy.MallID, easy.MaxConnections, easy.Concurrency = config.URL(server.URL), "T5102001", 1, bounds
			permits := &tally{ended: a.Calls}
			client, err := a.newClient(accounts(a.Config.Providers)[0], permits)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, a.lifecycle.stop(context.Background())) })

			var asking sync.WaitGroup
			for range askers {
				asking.Go(func() {
					q := &query.Query{Provider: query.EasyPay, Lane: query.Interactive, EasyPay: &query.EasyPayQuestion{CardCd: "008"}}
					_, _, _ = client.Call(t.Context(), q, nil)
				})
			}
			asking.Wait()
			require.Len(t, arrived, askers)
			require.EqualValues(t, askers, permits.given)
			require.EqualValues(t, 1, permits.most, "permits that waited for the connection")
		})
	}
}
