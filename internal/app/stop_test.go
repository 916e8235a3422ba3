package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestStopKeepsItsGraceAndLosesNothing stops a worker whose upstream hangs. What it could not finish is answered by the next one, once.
func TestStopKeepsItsGraceAndLosesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// No attempt ends by itself before the grace does, however busy the machine is. A real configuration is not allowed to be so.
	s.Shutdown.Grace, s.HTTP.AttemptTimeout = 5*time.Second, time.Minute
	s.fail(t, sandbox.Fault{Provider: sandbox.Both, Kind: sandbox.KindHang})
	first := s.run(t)
	const asked = 24
	keys := make([]string, asked)
	for i := range keys {
		question := easyPay(fmt.Sprint(i), "008", query.Interactive)
		if i%3 == 0 {
			question = unionPay(t, fmt.Sprint(i), query.Bulk)
		}
		var err error
		keys[i], err = first.Publish(t.Context(), question)
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		stats := s.sandbox.Stats()
		return stats.Providers[sandbox.EasyPay].InFlight+stats.Providers[sandbox.UnionPay].InFlight == asked
	}, patience, 10*time.Millisecond)
	began := time.Now()
	first.stop()
	require.Eventually(t, func() bool { return first.Problems()["worker"] == "stopping" }, patience, time.Millisecond)
	require.Equal(t, 503, first.page("/readyz"), "who stops says so while it finishes")
	first.wait(t)
	require.Less(t, time.Since(began), s.Shutdown.Grace+2*time.Second, "the grace, and what a busy machine adds to it")
	require.Zero(t, first.page("/healthz"), "the admin pages are gone")
	require.Len(t, s.lines(`"msg":"query release"`, `"settled":true`), asked)

	s.fail(t)
	second := s.run(t)
	for _, key := range keys {
		require.Equal(t, "discount.query.completed.v1", second.resultOf(t, key).Type)
	}
	names := second.topology.Names()
	require.Equal(t, asked, second.count(t, names.Results()), "each query has one result")
	require.Zero(t, second.count(t, names.Dead()))
	require.Eventually(t, func() bool { return second.count(t, names.Queries())+second.count(t, names.Retries()) == 0 }, patience, 20*time.Millisecond)
}

// TestStopFinishesWhatIsUnderWay stops a worker whose upstream is slow, but not too slow.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fail(t, sandbox.Fault{Provider: sandbox.Both, Kind: sandbox.KindLatency, Param: "500ms"})
	r := s.run(t)
	key, err := r.Publish(t.Context(), easyPay("1", "008", query.Interactive))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return s.sandbox.Stats().Providers[sandbox.EasyPay].InFlight == 1 }, patience, time.Millisecond)
	r.stop()
	r.wait(t)
	require.Len(t, s.lines(`"msg":"query complete"`, key, `"settled":true`), 1)
	require.Empty(t, s.lines(`"level":"warn"`))
	require.Empty(t, s.lines(`"level":"error"`))

	stopping := strings.Index(s.log.String(), `"worker stopping"`)
	complete := strings.Index(s.log.String(), `"query complete"`)
	stopped := strings.Index(s.log.String(), `"worker stopped"`)
	require.True(t, 0 < stopping && stopping < complete && complete < stopped, "%d %d %d", stopping, complete, stopped)
}

func TestStopBeforeTheStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, built.Run(ctx))
	require.Len(t, s.lines(`"msg":"worker stopping"`), 1)
	require.Equal(t, "stopping", built.Problems()["worker"], "a worker that stopped is never ready")
}

func TestOrderOfShutdown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	var names []string
	for i, step := range slices.Backward(built.lifecycle.undos) {
		names = append(names, step.name)
		run := step.run
		built.lifecycle.undos[i].run = func(ctx context.Context) error {
			built.log.Info("taking down " + step.name)
			return run(ctx)
		}
	}
	require.Equal(t, []string{"unionpay/default connections", "easypay/default connections", "broker", "admin pages", "log"}, names)
	require.NoError(t, built.Close(t.Context()))
	last := 0
	for _, name := range names {
		at := strings.Index(s.log.String(), "taking down "+name)
		require.Greater(t, at, last, name)
		last = at
	}
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	var order []string
	var l lifecycle
	broken := errors.New("broken")
	for name, err := range map[string]error{"b": broken} {
		l.onStop("a", func(context.Context) error { order = append(order, "a"); return errors.New("worn out") })
		l.onStop(name, func(context.Context) error { order = append(order, name); return err })
		l.onStop("c", func(ctx context.Context) error { order = append(order, "c"); return ctx.Err() })
	}
	err := l.stop(t.Context())
	require.Equal(t, []string{"c", "b", "a"}, order, "the last first, and all of them")
	require.ErrorIs(t, err, broken)
	require.EqualError(t, err, "stop b: broken\nstop a: worn out")
	require.NoError(t, l.stop(t.Context()))
	require.Len(t, order, 3, "a second call does nothing")
}

func TestLogMayBeAnyWriter(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Admin.Listen, s.Log.Format = "", "console"
	var out bytes.Buffer // Without a lock: once the worker has ended, nobody writes any more.
	built, err := New(t.Context(), Options{Config: s.Config, Build: "v1", Log: &out})
	require.NoError(t, err)
	require.Empty(t, built.AdminAddr())
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- built.Run(ctx) }()
	require.Eventually(t, func() bool { return len(built.Problems()) == 0 }, patience, time.Millisecond)
	stop()
	require.NoError(t, <-ended)
	require.Contains(t, out.String(), "INFO\tworker started\t{\"build\": \"v1\"")
	require.Contains(t, out.String(), "worker stopped")
}
