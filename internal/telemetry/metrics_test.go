package telemetry

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func both() []query.Provider { return []query.Provider{query.EasyPay, query.UnionPay} }

// values returns every counter and every histogram's count of this worker as text, by name and labels.
func values(t *testing.T, m *Metrics) map[string]float64 {
	t.Helper()
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	all := map[string]float64{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "discount_worker_") {
			continue
		}
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			name := strings.TrimPrefix(family.GetName(), "discount_worker_") + "{" + strings.Join(labels, ",") + "}"
			all[name] = metric.GetCounter().GetValue() + float64(metric.GetHistogram().GetSampleCount()) + metric.GetGauge().GetValue()
		}
	}
	return all
}

func TestMetricsExistAtZeroFromTheStart(t *testing.T) {
	t.Parallel()
	m := NewMetrics("v1.2.3", both())
	m.ExpectBroker("disconnected", "reconnected")
	m.ExpectConsumer("S/c", "pulling", "gone")
	for _, account := range []string{"default", "bank"} {
		m.ExpectAccount(query.UnionPay, account)
	}
	m.ExpectReplies("lookup", "answered", "no_result")
	m.ExpectSwept("given_up", "overdue")
	m.ExpectStore("store result", "keep answer")
	m.ExpectPaceChanges(query.UnionPay, "bank", "begun", "throttled")
	want := map[string]float64{
		"replies_total{code=answered,endpoint=lookup}": 0, "replies_total{code=no_result,endpoint=lookup}": 0, "reply_seconds{endpoint=lookup}": 0,
		"swept_total{settled=false,why=given_up}": 0, "swept_total{settled=true,why=given_up}": 0,
		"swept_total{settled=false,why=overdue}": 0, "swept_total{settled=true,why=overdue}": 0,
		"store_troubles_total{write=store result}": 0, "store_troubles_total{write=keep answer}": 0,
		"pace_changes_total{account=bank,provider=unionpay,why=begun}": 0, "pace_changes_total{account=bank,provider=unionpay,why=throttled}": 0,
		"build_info{version=v1.2.3}": 1, "broker_events_total{event=disconnected}": 0, "broker_events_total{event=reconnected}": 0,
		"consumer_events_total{consumer=S/c,event=pulling}": 0, "consumer_events_total{consumer=S/c,event=gone}": 0,
	}
	for _, account := range []string{"default", "bank"} {
		want[fmt.Sprintf("upstream_attempt_seconds{account=%s,provider=unionpay}", account)] = 0
		want[fmt.Sprintf("upstream_attempts_total{account=%s,kind=answered,provider=unionpay}", account)] = 0
		want[fmt.Sprintf("breaker_open{account=%s,provider=unionpay}", account)] = 0
		want[fmt.Sprintf("pace_per_second{account=%s,provider=unionpay}", account)] = 0
		want[fmt.Sprintf("concurrency_limit{account=%s,provider=unionpay}", account)] = 0
		want[fmt.Sprintf("pace_troubles_total{account=%s,provider=unionpay}", account)] = 0
		for _, kind := range fault.Kinds() {
			want[fmt.Sprintf("upstream_attempts_total{account=%s,kind=%s,provider=unionpay}", account, kind)] = 0
		}
	}
	for _, provider := range both() {
		want[fmt.Sprintf("shared_answers_total{provider=%s}", provider)] = 0
		for _, lane := range []query.Lane{query.Interactive, query.Bulk} {
			want[fmt.Sprintf("query_age_seconds{lane=%s,provider=%s}", lane, provider)] = 0
			want[fmt.Sprintf("pace_wait_seconds{lane=%s,provider=%s}", lane, provider)] = 0
			want[fmt.Sprintf("redeliveries_total{lane=%s,provider=%s}", lane, provider)] = 0
			want[fmt.Sprintf("outcomes_total{lane=%s,outcome=completed,provider=%s}", lane, provider)] = 0
			want[fmt.Sprintf("outcomes_total{lane=%s,outcome=failed,provider=%s}", lane, provider)] = 0
			for _, action := range decide.Actions() {
				want[fmt.Sprintf("queries_total{action=%s,lane=%s,provider=%s}", action, lane, provider)] = 0
			}
		}
	}
	require.Equal(t, want, values(t, m))
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	before := values(t, m)
	recorder := NewRecorder(zap.NewNop(), m)
	for _, action := range decide.Actions() {
		recorder.Observe(outcome(action))
	}
	recorder.Observe(outcome(decide.Bury, failing(query.ReasonRejected, fault.Rejected, fault.BadField), func(o *decide.Outcome) { o.Waited = 0 }))
	m.Attempt(query.UnionPay, "bank", 30*time.Millisecond, nil, "")
	m.Attempt(query.UnionPay, "bank", time.Second, fault.New("call", fault.Throttled, fault.RateLimited), "")
	m.Attempt(query.UnionPay, "bank", time.Second, errors.New(canary), "")
	m.PaceChanged(query.UnionPay, "bank", "throttled", 12.5)
	m.PaceTrouble(query.UnionPay, "bank")
	m.Replied("lookup", "no_result", time.Millisecond)
	shared := outcome(decide.Complete)
	shared.Answer = &query.Answer{Shared: true}
	recorder.Observe(shared)
	m.ConsumerEvent("S/c", "gone")
	m.BrokerEvent("closed")
	m.StoreTrouble("store result")
	m.Breaker(query.UnionPay, "bank", 0.5)
	changed := map[string]float64{}
	for name, value := range values(t, m) {
		if was := before[name]; value != was {
			changed[name] = value - was
		}
	}
	require.Equal(t, map[string]float64{
		"outcomes_total{lane=interactive,outcome=completed,provider=easypay}":    2,
		"outcomes_total{lane=interactive,outcome=failed,provider=easypay}":       3,
		"redeliveries_total{lane=interactive,provider=easypay}":                  8,
		"queries_total{action=release,lane=interactive,provider=easypay}":        1,
		"queries_total{action=complete,lane=interactive,provider=easypay}":       2,
		"shared_answers_total{provider=easypay}":                                 1,
		"pace_changes_total{account=bank,provider=unionpay,why=throttled}":       1,
		"pace_per_second{account=bank,provider=unionpay}":                        12.5,
		"pace_troubles_total{account=bank,provider=unionpay}":                    1,
		"replies_total{code=no_result,endpoint=lookup}":                          1,
		"reply_seconds{endpoint=lookup}":                                         1,
		"queries_total{action=fail,lane=interactive,provider=easypay}":           1,
		"queries_total{action=bury,lane=interactive,provider=easypay}":           2,
		"queries_total{action=retry,lane=interactive,provider=easypay}":          1,
		"queries_total{action=skip,lane=interactive,provider=easypay}":           1,
		"failures_total{code=bad_field,kind=rejected,provider=easypay}":          1,
		"query_age_seconds{lane=interactive,provider=easypay}":                   5, // Only what ended has an age.
		"pace_wait_seconds{lane=interactive,provider=easypay}":                   7,
		"upstream_attempts_total{account=bank,kind=answered,provider=unionpay}":  1,
		"upstream_attempts_total{account=bank,kind=throttled,provider=unionpay}": 1,
		"upstream_attempts_total{account=bank,kind=unknown,provider=unionpay}":   1,
		"upstream_attempt_seconds{account=bank,provider=unionpay}":               3,
		"consumer_events_total{consumer=S/c,event=gone}":                         1,
		"broker_events_total{event=closed}":                                      1,
		"store_troubles_total{write=store result}":                               1,
		"breaker_open{account=bank,provider=unionpay}":                           0.5,
	}, changed)
}

// replayed makes an outcome that of a query which an operator has asked again.
func replayed(o *decide.Outcome) { o.Query.Replay = &query.Replay{} }

// TestAReplayCountsAsBulk shows that what an operator replays is no interactive query that came too late or failed.
func TestAReplayCountsAsBulk(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	recorder := NewRecorder(zap.NewNop(), m)
	recorder.Observe(outcome(decide.Complete, replayed))
	recorder.Observe(outcome(decide.Bury, failing(query.ReasonRejected, fault.Rejected, fault.BadField), replayed))
	counted := values(t, m)
	for name, value := range counted {
		if strings.Contains(name, "lane=interactive") {
			require.Zero(t, value, name)
		}
	}
	for name, want := range map[string]float64{
		"queries_total{action=complete,lane=bulk,provider=easypay}":    1,
		"queries_total{action=bury,lane=bulk,provider=easypay}":        1,
		"outcomes_total{lane=bulk,outcome=completed,provider=easypay}": 1,
		"outcomes_total{lane=bulk,outcome=failed,provider=easypay}":    1,
		"query_age_seconds{lane=bulk,provider=easypay}":                2,
		"pace_wait_seconds{lane=bulk,provider=easypay}":                2,
		"redeliveries_total{lane=bulk,provider=easypay}":               2,
	} {
		require.InDelta(t, want, counted[name], 0, name)
	}
}

func TestHistogramsHoldSeconds(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	NewRecorder(zap.NewNop(), m).Observe(outcome(decide.Complete))
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			histogram := metric.GetHistogram()
			if !strings.HasPrefix(family.GetName(), "discount_worker_") || histogram.GetSampleCount() == 0 {
				continue
			}
			want := map[string]float64{"discount_worker_query_age_seconds": 1.25, "discount_worker_pace_wait_seconds": 0.04}[family.GetName()]
			require.InDelta(t, want, histogram.GetSampleSum(), 1e-9, family.GetName())
			require.Len(t, histogram.GetBucket(), len(latencyBuckets), "classic buckets")
			require.NotEmpty(t, histogram.GetPositiveSpan(), "native buckets")
		}
	}
}

func TestNamesOfMetrics(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	NewRecorder(zap.NewNop(), m).Observe(outcome(decide.Bury, failing(query.ReasonRejected, fault.Rejected, fault.BadField)))
	m.ConsumerEvent("S/c", "gone")
	m.BrokerEvent("closed")
	m.StoreTrouble("store result")
	families, err := m.Registry().Gather()
	require.NoError(t, err)
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	require.NoError(t, err)
	require.Empty(t, problems)
}

func TestNothingOfAQueryIsALabel(t *testing.T) {
	t.Parallel()
	m := NewMetrics("test", both())
	log, sink, err := NewLog(io.Discard, "error", "json")
	require.NoError(t, err)
	defer sink.Close()
	NewRecorder(log, m).Observe(outcome(decide.Bury, failing(query.ReasonRejected, fault.Rejected, fault.BadField)))
	for name := range values(t, m) {
		requireClean(t, name)
		require.NotContains(t, name, "shop", "a client is no label: there may be thousands")
	}
}
