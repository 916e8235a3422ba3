package telemetry

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// Metrics holds the worker's metrics. All labels come from closed lists. They exist at zero from the start but for the pairs of kind and
// code, which appear with their first event. It may be used by many goroutines.
type Metrics struct {
	registry *prometheus.Registry
	queries  *prometheus.CounterVec
	failures *prometheus.CounterVec
	age      *prometheus.HistogramVec
	waited   *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	took     *prometheus.HistogramVec
	consumer *prometheus.CounterVec
	broker   *prometheus.CounterVec
	troubles *prometheus.CounterVec
	swept    *prometheus.CounterVec
	breaker  *prometheus.GaugeVec
	pace     *prometheus.GaugeVec
	limit    *prometheus.GaugeVec
	changes  *prometheus.CounterVec
	lost     *prometheus.CounterVec
	replies  *prometheus.CounterVec
	replied  *prometheus.HistogramVec
	shared   *prometheus.CounterVec
	outcomes *prometheus.CounterVec
	again    *prometheus.CounterVec
	control  control
	holds    holds
}

// latencyBuckets reach from a loopback call to a query that spent minutes in retries, in seconds.
var latencyBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}

// NewMetrics returns metrics for the given providers. version is the build's.
func NewMetrics(version string, providers []query.Provider) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		queries: counter("queries_total", "Deliveries handled, by what became of the query.",
			"provider", "lane", "action"),
		failures: counter("failures_total", "Faults that decided a query's round, by kind and closed code.",
			"provider", "kind", "code"),
		age:      histogram("query_age_seconds", "Time from the broker storing a query to its result.", "provider", "lane"),
		waited:   histogram("pace_wait_seconds", "Time a query waited for the upstream's pace.", "provider", "lane"),
		attempts: counter("upstream_attempts_total", "Calls made to the upstream, by how they ended.", "provider", "account", "kind"),
		took:     histogram("upstream_attempt_seconds", "Duration of one call to the upstream.", "provider", "account"),
		consumer: counter("consumer_events_total", "What the pull loops report.", "consumer", "event"),
		broker:   counter("broker_events_total", "What the broker's connection reports.", "event"),
		troubles: counter("store_troubles_total", "Exchanges with streams and buckets that did not work at once.", "write"),
		breaker: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "discount_worker_breaker_open", Help: "Whether the upstream counts as down: 1 for open, 0.5 for trying again, 0 for up.",
		}, []string{"provider", "account"}),
		pace: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "discount_worker_pace_per_second", Help: "The fleet's present rate of calls, as this worker knows it; 0 for no limit or not known.",
		}, []string{"provider", "account"}),
		limit: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "discount_worker_concurrency_limit", Help: "How many calls this worker may have under way at once; 0 for no limit.",
		}, []string{"provider", "account"}),
		changes: counter("pace_changes_total", "Changes of the fleet's pace that this worker heard of.", "provider", "account", "why"),
		lost:    counter("pace_troubles_total", "Times the fleet's pace could not be read or written.", "provider", "account"),
		replies: counter("replies_total", "Requests that were done with, by their reply.", "endpoint", "code"),
		replied: histogram("reply_seconds", "Time from a request to its reply.", "endpoint"),
		shared:  counter("shared_answers_total", "Queries answered with another query's answer.", "provider"),
		swept:   counter("swept_total", "Queries that the sweeper took up, by why and whether they were settled.", "why", "settled"),
		outcomes: counter("outcomes_total", "Queries whose result is stored, by whether they have an answer.",
			"provider", "lane", "outcome"),
		again:   counter("redeliveries_total", "Deliveries that were not their message's first.", "provider", "lane"),
		control: newControl(),
		holds:   newHolds(),
	}
	build := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "discount_worker_build_info", Help: "The worker's build; always 1.",
	}, []string{"version"})
	build.WithLabelValues(version).Set(1)
	m.registry.MustRegister(m.queries, m.failures, m.age, m.waited, m.attempts, m.took, m.consumer, m.broker, m.troubles, m.swept, m.breaker,
		m.pace, m.limit, m.changes, m.lost, m.replies, m.replied, m.shared, m.outcomes, m.again, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.control.register(m.registry)
	m.holds.register(m.registry)
	m.initialize(providers)
	return m
}

// initialize makes the label sets that are known in advance exist at zero, so that a rate is there from the first event on.
func (m *Metrics) initialize(providers []query.Provider) {
	for _, provider := range providers {
		m.shared.WithLabelValues(string(provider))
		for _, lane := range []query.Lane{query.Interactive, query.Bulk} {
			m.age.WithLabelValues(string(provider), string(lane))
			m.waited.WithLabelValues(string(provider), string(lane))
			m.again.WithLabelValues(string(provider), string(lane))
			for _, status := range []query.Status{query.Completed, query.Failed} {
				m.outcomes.WithLabelValues(string(provider), string(lane), string(status))
			}
			for _, action := range decide.Actions() {
				m.queries.WithLabelValues(string(provider), string(lane), action.String())
			}
		}
	}
}

// LogDrops counts the log lines that a sink dropped.
func (m *Metrics) LogDrops(sink *Sink) {
	m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "discount_worker_log_lines_dropped_total", Help: "Log lines dropped because nobody read the log fast enough.",
	}, func() float64 { return float64(sink.Dropped()) }))
}

// Registry returns the registry to serve.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// observe counts an outcome. A replay counts in the lane in which it is handled: the objectives of interactive queries are not judged by it.
func (m *Metrics) observe(o decide.Outcome) {
	provider, lane := string(o.Query.Provider), string(o.Query.Way())
	m.queries.WithLabelValues(provider, lane, o.Verdict.Action.String()).Inc()
	if o.Waited > 0 {
		timed(m.waited.WithLabelValues(provider, lane), o.Waited, o.Trace)
	}
	if failure := o.Verdict.Fault; failure != nil {
		m.failures.WithLabelValues(provider, failure.Kind.String(), string(failure.Code)).Inc()
	}
	if o.Answer != nil && o.Answer.Shared {
		m.shared.WithLabelValues(provider).Inc()
	}
	if o.Deliveries > 1 {
		m.again.WithLabelValues(provider, lane).Inc()
	}
	if status := statusOf(o); status != "" {
		m.outcomes.WithLabelValues(provider, lane, string(status)).Inc()
	}
	switch o.Verdict.Action {
	case decide.Complete, decide.Fail, decide.Bury:
		timed(m.age.WithLabelValues(provider, lane), o.Finished.Sub(o.Received), o.Trace)
	case decide.Release, decide.Retry, decide.Skip:
	}
}

// statusOf returns the status of the result that an outcome left, "" if it left none.
func statusOf(o decide.Outcome) query.Status {
	switch {
	case !o.Settled:
		return ""
	case o.Verdict.Action == decide.Complete:
		return query.Completed
	case o.Verdict.Action == decide.Fail || o.Verdict.Action == decide.Bury:
		return query.Failed
	default:
		return ""
	}
}

// ExpectReplies makes the counts of an endpoint's replies exist at zero.
func (m *Metrics) ExpectReplies(endpoint string, codes ...string) {
	for _, code := range codes {
		m.replies.WithLabelValues(endpoint, code)
	}
	m.replied.WithLabelValues(endpoint)
}

// Replied counts a request that was done with. Its time has no exemplar: when the reply is sent the span has ended, if there was any.
func (m *Metrics) Replied(endpoint, code string, took time.Duration) {
	m.replies.WithLabelValues(endpoint, code).Inc()
	m.replied.WithLabelValues(endpoint).Observe(took.Seconds())
}

// ExpectConsumer makes the counts of a pull loop's events exist at zero.
func (m *Metrics) ExpectConsumer(consumer string, events ...string) {
	for _, event := range events {
		m.consumer.WithLabelValues(consumer, event)
	}
}

// ExpectBroker makes the counts of the connection's events exist at zero.
func (m *Metrics) ExpectBroker(events ...string) {
	for _, event := range events {
		m.broker.WithLabelValues(event)
	}
}

// ExpectSwept makes the counts of what the sweeper takes up exist at zero.
func (m *Metrics) ExpectSwept(whys ...string) {
	for _, why := range whys {
		m.swept.WithLabelValues(why, "true")
		m.swept.WithLabelValues(why, "false")
	}
}

// ExpectStore makes the counts of exchanges that are not confirmed at once exist at zero.
func (m *Metrics) ExpectStore(exchanges ...string) {
	for _, exchange := range exchanges {
		m.troubles.WithLabelValues(exchange)
	}
}

// ConsumerEvent counts what a pull loop reports.
func (m *Metrics) ConsumerEvent(consumer, event string) {
	m.consumer.WithLabelValues(consumer, event).Inc()
}

// BrokerEvent counts what the broker's connection reports.
func (m *Metrics) BrokerEvent(event string) { m.broker.WithLabelValues(event).Inc() }

// StoreTrouble counts an exchange with a stream or a bucket that did not work at once.
func (m *Metrics) StoreTrouble(write string) { m.troubles.WithLabelValues(write).Inc() }

// Swept counts a query that the sweeper took up.
func (m *Metrics) Swept(why string, settled bool) {
	m.swept.WithLabelValues(why, strconv.FormatBool(settled)).Inc()
}

func counter(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "discount_worker_" + name, Help: help}, labels)
}

// histogram returns a histogram in both forms: native buckets for servers that know them, classic ones for the rest.
func histogram(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "discount_worker_" + name, Help: help, Buckets: latencyBuckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
	}, labels)
}
