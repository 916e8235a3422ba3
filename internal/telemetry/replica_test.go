package telemetry

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// starting returns the values whose names start with one of the prefixes given.
func starting(t *testing.T, m *Metrics, prefixes ...string) map[string]float64 {
	t.Helper()
	found := map[string]float64{}
	for name, value := range values(t, m) {
		for _, prefix := range prefixes {
			if strings.HasPrefix(name, prefix) {
				found[name] = value
			}
		}
	}
	return found
}

func TestOutcomesAreResultsThatAreStored(t *testing.T) {
	t.Parallel()
	unsettled := func(o *decide.Outcome) { o.Settled = false }
	first := func(o *decide.Outcome) { o.Deliveries = 1 }
	for name, test := range map[string]struct {
		outcome           decide.Outcome
		completed, failed float64
		again             float64
	}{
		"completed":              {outcome(decide.Complete), 1, 0, 1},
		"completed at once":      {outcome(decide.Complete, first), 1, 0, 0},
		"failed":                 {outcome(decide.Fail, first), 0, 1, 0},
		"buried":                 {outcome(decide.Bury, first), 0, 1, 0},
		"completed, not stored":  {outcome(decide.Complete, unsettled, first), 0, 0, 0},
		"buried, not stored":     {outcome(decide.Bury, unsettled), 0, 0, 1},
		"scheduled":              {outcome(decide.Retry, first), 0, 0, 0},
		"skipped":                {outcome(decide.Skip), 0, 0, 1},
		"released":               {outcome(decide.Release, first), 0, 0, 0},
		"asked beside the queue": {outcome(decide.Complete, func(o *decide.Outcome) { o.Deliveries = 0 }), 1, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMetrics("test", []query.Provider{query.EasyPay})
			NewRecorder(zap.NewNop(), m).Observe(test.outcome)
			require.Equal(t, map[string]float64{
				"outcomes_total{lane=interactive,outcome=completed,provider=easypay}": test.completed,
				"outcomes_total{lane=interactive,outcome=failed,provider=easypay}":    test.failed,
				"outcomes_total{lane=bulk,outcome=completed,provider=easypay}":        0,
				"outcomes_total{lane=bulk,outcome=failed,provider=easypay}":           0,
				"redeliveries_total{lane=interactive,provider=easypay}":               test.again,
				"redeliveries_total{lane=bulk,provider=easypay}":                      0,
			}, starting(t, m, "outcomes_total", "redeliveries_total"))
		})
	}
}

func TestPaceThatIsStopped(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, test := range map[string]struct {
		paused bool
		until  time.Time
		want   float64
	}{
		"neither":        {false, time.Time{}, 0},
		"paused":         {true, time.Time{}, 1},
		"blocked":        {false, now.Add(time.Hour), 1},
		"blocked before": {false, now.Add(-time.Second), 0},
		"both":           {true, now.Add(-time.Second), 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMetrics("test", both())
			require.Empty(t, starting(t, m, "pace_paused", "pace_ceiling"), "before an account is known")
			m.PaceControl(query.UnionPay, "bank", 12.5, test.paused, test.until)
			require.Equal(t, map[string]float64{
				"pace_paused{account=bank,provider=unionpay}":             test.want,
				"pace_ceiling_per_second{account=bank,provider=unionpay}": 12.5,
			}, starting(t, m, "pace_paused", "pace_ceiling"))
		})
	}
}

func TestBlockEndsByItself(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	now := time.Now()
	m.PaceControl(query.EasyPay, "default", 0, false, now.Add(time.Minute))
	require.InDelta(t, 1, m.control.stops.samples(now)[0].value, 0)
	require.InDelta(t, 0, m.control.stops.samples(now.Add(time.Minute))[0].value, 0)
}

func TestFiguresOfTheReplica(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	health := NewHealth("worker")
	m.Readiness(health)
	slots := []ConsumerSlots{{Consumer: "S/a", Slots: 8, Held: 3}, {Consumer: "S/b", Slots: 2}}
	m.Slots(func() []ConsumerSlots { return slots })
	ages := []KeyAge{{Use: "seal", KID: "2026", Age: time.Hour}}
	m.KeyAges(func() []KeyAge { return ages })
	names := []string{"slots", "ready", "key_age"}
	require.Equal(t, map[string]float64{
		"slots{consumer=S/a}": 8, "slots_held{consumer=S/a}": 3, "slots{consumer=S/b}": 2, "slots_held{consumer=S/b}": 0,
		"ready{}": 0, "key_age_seconds{kid=2026,use=seal}": 3600,
	}, starting(t, m, names...))

	health.Ready("worker")
	slots, ages = slots[:1], []KeyAge{{Use: "seal", KID: "2027", Age: time.Second}}
	require.Equal(t, map[string]float64{
		"slots{consumer=S/a}": 8, "slots_held{consumer=S/a}": 3, "ready{}": 1, "key_age_seconds{kid=2027,use=seal}": 1,
	}, starting(t, m, names...), "all are read at each look")
	health.Unready("broker", "disconnected")
	require.Equal(t, map[string]float64{"ready{}": 0}, starting(t, m, "ready"))
}

// TestNamesOfFilesSpoilNothing gives labels that a registry refuses: the whole page would be an error.
func TestNamesOfFilesSpoilNothing(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	m.KeyAges(func() []KeyAge {
		return []KeyAge{
			{Use: "seal", KID: "twice", Age: time.Second}, {Use: "seal", KID: "twice", Age: time.Hour}, {Use: "unseal", KID: "twice", Age: time.Hour},
			{Use: "seal", KID: "a\xffb", Age: time.Minute}, {Use: "seal", KID: "a\xfeb", Age: time.Hour},
		}
	})
	require.Equal(t, map[string]float64{
		"key_age_seconds{kid=twice,use=seal}": 1, "key_age_seconds{kid=twice,use=unseal}": 3600, "key_age_seconds{kid=a\uFFFDb,use=seal}": 60,
	}, starting(t, m, "key_age"))
}

func TestFiguresOfTheBroker(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	names := []string{
		"backlog", "ack_", "oldest", "scheduled", "advisories", "dead_letters", "replays", "stream_", "broker_read", "demand_",
	}
	require.Empty(t, starting(t, m, names...), "what was not read yet is absent, not zero")
	holdAll(m)
	got := starting(t, m, names...)
	require.InDelta(t, 0, got["broker_read_age_seconds{}"], 3600)
	require.Contains(t, got, "broker_read_age_seconds{}")
	delete(got, "broker_read_age_seconds{}")
	require.Equal(t, map[string]float64{
		"backlog{lane=bulk,provider=easypay,queue=retry}": 1, "ack_pending{lane=bulk,provider=easypay,queue=retry}": 2,
		"ack_floor_lag{lane=bulk,provider=easypay,queue=retry}": 3, "oldest_age_seconds{lane=bulk,provider=easypay,queue=retry}": 4.5,
		"scheduled{}": 5, "advisories{}": 6, "dead_letters{provider=easypay,reason=rejected}": 7, "replays{state=done}": 8,
		"stream_messages{stream=DEAD}": 9, "stream_bytes{stream=DEAD}": 10, "stream_full_ratio{stream=DEAD}": 0.5,
		"demand_replicas{}": 11, "demand_limited_by{limit=none}": 0, "demand_limited_by{limit=workers}": 1,
	}, got)
	m.Demand(1, "none", []string{"none", "workers"})
	require.Equal(t, map[string]float64{
		"demand_replicas{}": 1, "demand_limited_by{limit=none}": 1, "demand_limited_by{limit=workers}": 0,
	}, starting(t, m, "demand_"))
}

// holdAll gives each figure of the broker a value.
func holdAll(m *Metrics) {
	m.HoldsQueue(Queue{
		Provider: "easypay", Lane: "bulk", Queue: "retry", Backlog: 1, AckPending: 2, AckFloorLag: 3, OldestAge: 4500 * time.Millisecond,
	})
	m.HoldsScheduled(5)
	m.HoldsAdvisories(6)
	m.HoldsDead("easypay", "rejected", 7)
	m.HoldsReplays("done", 8)
	m.HoldsStream("DEAD", 9, 10, 0.5)
	m.BrokerRead()
	m.Demand(11, "workers", []string{"none", "workers"})
}

func TestNamesOfNewMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	holdAll(m)
	m.PaceControl(query.EasyPay, "default", 1, true, time.Time{})
	m.Slots(func() []ConsumerSlots { return []ConsumerSlots{{Consumer: "S/a"}} })
	m.KeyAges(func() []KeyAge { return []KeyAge{{Use: "seal"}} })
	m.Readiness(NewHealth())
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

// TestOpenMetrics asks for the format that can carry exemplars.
func TestOpenMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	holdAll(m)
	recorder := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	NewAdmin(NewHealth(), m.Registry()).Handler.ServeHTTP(recorder, request)
	body, err := io.ReadAll(recorder.Body)
	require.NoError(t, err)
	require.Contains(t, recorder.Header().Get("Content-Type"), "application/openmetrics-text")
	require.True(t, strings.HasSuffix(string(body), "# EOF\n"))
	require.Contains(t, string(body), "discount_worker_demand_replicas 11")
}

func TestFiguresChangeWhileTheyAreRead(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	var changing sync.WaitGroup
	failed := make(chan error, 4*50)
	for i := range 4 {
		changing.Go(func() {
			for range 50 {
				holdAll(m)
				m.PaceControl(query.EasyPay, "default", float64(i), i%2 == 0, time.Now())
				_, err := m.Registry().Gather()
				failed <- err
			}
		})
	}
	changing.Wait()
	close(failed)
	for err := range failed {
		require.NoError(t, err)
	}
}
