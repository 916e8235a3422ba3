package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/consumer"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
)

func TestConsumerThatIsDeletedIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.New)
	r := s.run(t)
	r.ready(t)
	require.NoError(t, server.JS.DeleteConsumer(t.Context(), "DISCOUNT_QUERIES", "easypay-bulk"))
	const part = "DISCOUNT_QUERIES/easypay-bulk"
	require.Eventually(t, func() bool { return r.page("/readyz") == http.StatusServiceUnavailable }, patience, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, r.page("/healthz"))
	require.Contains(t, r.Problems(), part)
	require.Eventually(t, func() bool { return len(s.lines(`"level":"warn"`, part, `"event":"gone"`)) > 0 }, patience, 10*time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := r.Ask(ctx, easyPay("1", "008", query.Interactive))
	require.NoError(t, err)
	require.Equal(t, query.Completed, result.Status, "the other lane goes on")

	server.Apply(t)
	r.ready(t)
}

func TestBrokerThatIsAwayIsTold(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.New)
	r := s.run(t)
	r.ready(t)
	server.Stop()
	require.Eventually(t, func() bool { return r.Problems()["broker"] != "" }, patience, 10*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, r.page("/readyz"))
	server.Resume(t)
	r.ready(t)
	r.connect(t, s)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := r.Ask(ctx, unionPay(t, "1", query.Interactive))
	require.NoError(t, err)
	require.Equal(t, query.Completed, result.Status)
	r.stop()
	r.wait(t)
	require.NotEmpty(t, s.lines(`"msg":"broker"`, `"event":"disconnected"`))
	require.NotEmpty(t, s.lines(`"msg":"broker"`, `"event":"reconnected"`))
}

func TestBrokerEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	defer func() { require.NoError(t, built.Close(t.Context())) }()
	built.health.Ready("worker")
	built.pull()
	for _, kind := range broker.EventKinds() {
		built.brokerEvent(broker.Event{Kind: kind, Subject: "discount.result.x"})
		want := map[string]string{}
		switch kind {
		case broker.EventDisconnected, broker.EventClosed, broker.EventReconnectFailed, broker.EventCredentialsRefused, broker.EventTLSFailed,
			broker.EventFilesUnusable:
			want["broker"] = string(kind)
		case broker.EventPublishDenied, broker.EventSubscribeDenied:
			want["permissions"] = string(kind) + ": discount.result.x"
		case broker.EventReconnected, broker.EventLameDuck, broker.EventSlowConsumer, broker.EventError: // The connection goes on.
		}
		require.Equal(t, want, built.Problems(), kind)
		built.brokerEvent(broker.Event{Kind: broker.EventReconnected})
		require.Empty(t, built.Problems(), "a new connection may have new rights; if not, that is told again")
	}
}

// TestRefusalsAreToldOnce lets the broker refuse a worker again and again: one line says so, and what to do.
func TestRefusalsAreToldOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	for range 2 {
		built.brokerEvent(broker.Event{Kind: broker.EventDisconnected})
		for range 10 {
			built.brokerEvent(broker.Event{Kind: broker.EventCredentialsRefused})
		}
		built.brokerEvent(broker.Event{Kind: broker.EventReconnected})
	}
	require.NoError(t, built.Close(t.Context()))
	require.Len(t, s.lines(`"level":"warn"`, `"event":"credentials_refused"`, "refuses our credentials", "read again"), 2, "once for each time")
	require.Len(t, s.lines(`"event":"disconnected"`), 2)
	require.Empty(t, s.lines(`"event":"disconnected"`, "advice"))
}

func TestConsumerEvents(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	built.health.Ready("worker")
	built.pull()
	for what, unready := range map[consumer.What]bool{
		consumer.PullFailed: true, consumer.Gone: true, consumer.Stalled: true, consumer.Paused: false, consumer.AckFailed: false,
		consumer.HeartbeatFailed: false, consumer.Left: false,
	} {
		built.consumerEvent(consumer.Event{Consumer: "S/c", What: what, Err: jetstream.ErrNoHeartbeat})
		require.Equal(t, unready, built.Problems()["S/c"] == string(what), what)
		built.consumerEvent(consumer.Event{Consumer: "S/c", What: consumer.Pulling})
		require.Empty(t, built.Problems())
	}
	built.consumerEvent(consumer.Event{Consumer: "S/c", What: consumer.Stalled})
	require.Equal(t, "stalled", built.Problems()["S/c"])
	built.consumerEvent(consumer.Event{Consumer: "S/c", What: consumer.Resting})
	require.Empty(t, built.Problems(), "what may not pull yet is as ready as it can be")
	families, err := built.metrics.Registry().Gather()
	require.NoError(t, err)
	for _, family := range families {
		switch family.GetName() {
		case "discount_worker_consumer_events_total":
			require.Len(t, family.GetMetric(), 8*len(consumerEvents())+len(consumerEvents()), "all are there before they happen")
		case "discount_worker_broker_events_total":
			require.Len(t, family.GetMetric(), len(broker.EventKinds()))
		}
	}
	built.storeTrouble("store result", context.DeadlineExceeded)
	require.NoError(t, built.Close(t.Context()))
	built.brokerEvent(broker.Event{Kind: broker.EventClosed})
	require.Empty(t, s.lines(`"msg":"broker"`), "a connection that we closed is no trouble")
	require.Len(t, s.lines(`"msg":"consumer"`, `"consumer":"S/c"`, jetstream.ErrNoHeartbeat.Error()), 7)
	require.Empty(t, s.lines(`"msg":"consumer"`, "nil"), "an event without an error tells none")
	require.Len(t, s.lines(`"write":"store result"`, `"error":"context deadline exceeded"`), 1)
}

// pull tells that each consumer's first pull has worked, and that requests are served.
func (a *App) pull() {
	a.health.Ready("requests")
	for _, binding := range a.topology.Consumers() {
		a.consumerEvent(consumer.Event{Consumer: binding.Stream + "/" + binding.Config.Name, What: consumer.Pulling})
	}
}

// TestNotReadyBeforeEachConsumerHasPulled looks at a worker that serves its pages and has not pulled, and at one that runs.
func TestNotReadyBeforeEachConsumerHasPulled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Providers.UnionPay.Enabled = false
	server := s.on(t, brokertest.New)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	built.health.Ready("worker")
	require.Equal(t, map[string]string{
		"DISCOUNT_QUERIES/easypay-interactive": "starting", "DISCOUNT_QUERIES/easypay-bulk": "starting",
		"DISCOUNT_RETRIES/easypay-interactive": "starting", "DISCOUNT_RETRIES/easypay-bulk": "starting",
		"requests": "starting",
	}, built.Problems())
	require.Equal(t, http.StatusServiceUnavailable, (&running{App: built}).page("/readyz"))
	built.pull()
	require.Equal(t, http.StatusOK, (&running{App: built}).page("/readyz"))
	require.NoError(t, built.Close(t.Context()))

	r := s.run(t)
	r.ready(t)
	for _, c := range r.consumers {
		require.True(t, c.Healthy())
	}
	require.Len(t, server.Topology.Consumers(), len(r.consumers))
}

func TestBrokersErrorsAreClosed(t *testing.T) {
	t.Parallel()
	const free = "what a publisher wrote"
	for name, test := range map[string]struct {
		err  error
		want any
	}{
		"server code": {fmt.Errorf("x: %w", &jetstream.APIError{ErrorCode: 10071, Description: free}), "10071"},
		"known":       {fmt.Errorf(free+": %w", jetstream.ErrConsumerDeleted), jetstream.ErrConsumerDeleted.Error()},
		"deadline":    {fmt.Errorf(free+": %w", context.DeadlineExceeded), "context deadline exceeded"},
		"foreign":     {errors.New(free), "*errors.errorString"},
		"ours":        {fault.Because("store", fault.Interrupted, fault.NotStored, errors.New(free)), "*fault.Error"},
		"none":        {nil, "<nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			field := brokerError(test.err)
			got := field.String
			if got == "" {
				got = fmt.Sprint(field.Integer)
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestTopologyFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Prefix, c.Streams.Replicas = "other", 3
	c.Consumer.AckWait, c.Consumer.MaxAckPending, c.Consumer.MaxDeliver = time.Minute, 7, 9
	c.Streams.Queries = config.QueryStream{MaxBytes: 1, MaxMsgSize: 2}
	c.Streams.Results = config.KeptStream{MaxAge: 3 * time.Hour, MaxBytes: 4}
	c.Streams.Dead = config.KeptStream{MaxAge: 5 * time.Hour, MaxBytes: 6}
	c.Streams.Advisories.MaxAge = 8 * time.Hour
	got := Topology(c)
	require.Equal(t, []string{"easypay"}, got.Providers, "a query for a provider that is off is refused at its publish")
	require.Equal(t, []string{"interactive", "bulk"}, got.Lanes)
	require.Equal(t, "other", got.Prefix)
	require.Equal(t, 3, got.Replicas)
	require.Equal(t, []any{time.Minute, 7, 9}, []any{got.AckWait, got.MaxAckPending, got.MaxDeliver})
	require.EqualValues(t, 1, got.Queries.MaxBytes)
	require.EqualValues(t, 2, got.Queries.MaxMsgSize)
	require.Equal(t, []any{3 * time.Hour, int64(4)}, []any{got.Results.MaxAge, got.Results.MaxBytes})
	require.Equal(t, []any{5 * time.Hour, int64(6)}, []any{got.Dead.MaxAge, got.Dead.MaxBytes})
	require.Equal(t, 8*time.Hour, got.Advisories.MaxAge)
}

func TestSlotsAndPolicies(t *testing.T) {
	t.Parallel()
	c := config.Default()
	c.Lanes.Interactive.Slots, c.Lanes.Bulk.Slots = 32, 3
	a := &App{Options: Options{Config: c}, topology: Topology(c)}
	got := map[string]int{}
	for _, binding := range a.topology.Consumers() {
		got[binding.Stream+"/"+binding.Config.Name] = a.slots(binding)
	}
	require.Equal(t, map[string]int{
		"DISCOUNT_QUERIES/easypay-interactive": 32, "DISCOUNT_QUERIES/easypay-bulk": 3,
		"DISCOUNT_RETRIES/easypay-interactive": 8, "DISCOUNT_RETRIES/easypay-bulk": 1,
	}, got)
	rules := policies(c)
	require.Equal(t, c.Lanes.Interactive.Horizon, rules[query.Interactive].Horizon)
	require.Equal(t, c.Lanes.Bulk.Horizon, rules[query.Bulk].Horizon)
	require.Equal(t, c.Consumer.QuarantineAfter, rules[query.Bulk].QuarantineAfter)
	require.Equal(t, c.Retry.Schedule.First, rules[query.Bulk].FirstRetry)
	require.Equal(t, c.Retry.Schedule.Max, rules[query.Interactive].MaxRetry)
	require.InDelta(t, 5.0/60, perSecond(config.Rate{Calls: 5, Per: time.Minute}), 1e-12)
}

// TestStartDuringAPauseIsReady starts a worker while its only account is paused: a fleet must be able to be rolled then.
func TestStartDuringAPauseIsReady(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Providers.UnionPay.Enabled = false
	server := s.on(t, brokertest.New)
	names := server.Topology.Names()
	s.hold(t, quota.Account{Provider: query.EasyPay, Name: defaultAccount}, &names, server.JS)
	r := s.run(t)
	r.ready(t)
	page, _ := r.scrape(t)
	require.Contains(t, page, `event="resting"} 1`)
}
