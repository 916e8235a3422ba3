package app

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/gauge"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/telemetry"
	"discountquery.example/worker/internal/worker"
)

// How the broker's figures are read.
const (
	figuresEvery = 15 * time.Second
	// figuresTimeout bounds one reading, which takes some dozens of requests.
	figuresTimeout = 10 * time.Second
)

// NewGauge returns a reader of what the broker holds. It needs no more rights than a worker has.
func NewGauge(js jetstream.JetStream, topology broker.Topology) *gauge.Reader {
	var reasons, states []string
	for _, reason := range query.Reasons() {
		if reason != query.ReasonExpired { // The only one that leaves no letter.
			reasons = append(reasons, string(reason))
		}
	}
	for _, state := range []deadletter.State{
		deadletter.Running, deadletter.Paused, deadletter.Stopped, deadletter.Done, deadletter.Cancelled,
	} {
		states = append(states, string(state))
	}
	return gauge.New(gauge.Options{JS: js, Topology: topology, Reasons: reasons, ReplayStates: states, Timeout: figuresTimeout})
}

// gauges read what the broker holds, again and again, and show it as metrics.
type gauges struct {
	*App

	every   time.Duration
	reader  *gauge.Reader
	rates   gauge.Rates
	holding *gauge.Holding
	takes   *takes
	// told is the trouble that was logged last, "" for none.
	told string
}

// newGauges returns the gauges, and shows what is known about the replica itself from the start.
func (a *App) newGauges(callers callers) *gauges {
	g := &gauges{
		App: a, every: figuresEvery, reader: NewGauge(a.broker.JS, a.topology), holding: gauge.NewHolding(),
		takes: newTakes(callers, paceSettings(a.Config)),
	}
	for account, settings := range paceSettings(a.Config) {
		a.metrics.PaceControl(account.Provider, account.Name, settings.Ceiling, false, time.Time{})
	}
	a.metrics.KeyAges(func() []telemetry.KeyAge {
		now := time.Now()
		return append(agesOfRing(a.ring.Keys(), now), agesOfUpstreams(a.Config.Providers, now)...)
	})
	return g
}

// showSlots shows how busy the consumers are that were bound to.
func (a *App) showSlots() {
	consumers := a.consumers
	a.metrics.Slots(func() []telemetry.ConsumerSlots {
		var all []telemetry.ConsumerSlots
		for _, c := range consumers {
			all = append(all, telemetry.ConsumerSlots{Consumer: c.Stream + "/" + c.Name, Slots: c.Slots, Held: c.Held()})
		}
		return all
	})
}

// observed is an observer that also learns how long queries hold their slots.
type observed struct {
	worker.Observer

	holding *gauge.Holding
}

// Observe implements worker.Observer. A query that somebody waits for beside the queue holds no slot, and a replay holds one of bulk.
func (o observed) Observe(outcome decide.Outcome) {
	if !outcome.Query.Direct {
		o.holding.Observe(string(outcome.Query.Provider), string(outcome.Query.Way()), outcome.Finished.Sub(outcome.Started), outcome.Waited)
	}
	o.Observer.Observe(outcome)
}

// run reads the figures until ctx ends. While the broker is out of reach nothing is asked: the figures stay and grow old.
func (g *gauges) run(ctx context.Context) {
	ticker := time.NewTicker(g.every)
	defer ticker.Stop()
	for {
		if g.broker.Conn.IsConnected() {
			figures, err := g.reader.Read(ctx)
			if ctx.Err() != nil {
				return
			}
			g.tell(err)
			g.show(figures, err == nil)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// tell logs a trouble that is another one than at the last time, and its end.
func (g *gauges) tell(err error) {
	if err == nil {
		if g.told != "" {
			g.log.Info("broker's figures are read again")
		}
		g.told = ""
		return
	}
	field := brokerError(err)
	if told := field.String + "/" + time.Duration(field.Integer).String(); told != g.told {
		g.told = told
		g.log.Warn("broker's figures not read in full: the metrics of what it holds grow old", field)
	}
}

// show shows what was read, and what it means for the number of replicas.
func (g *gauges) show(f gauge.Figures, full bool) {
	for _, letters := range f.Dead {
		g.metrics.HoldsDead(letters.Provider, letters.Reason, letters.Count)
	}
	for state, count := range f.Replays {
		g.metrics.HoldsReplays(state, count)
	}
	if f.Queues == nil {
		return
	}
	for _, q := range f.Queues {
		g.metrics.HoldsQueue(telemetry.Queue{
			Provider: q.Provider, Lane: q.Lane, Queue: q.Kind,
			Backlog: q.Backlog, AckPending: q.AckPending, AckFloorLag: q.AckFloorLag, OldestAge: q.OldestAge,
		})
	}
	for _, s := range f.Streams {
		g.metrics.HoldsStream(s.Name, s.Messages, s.Bytes, s.Full)
	}
	g.metrics.HoldsScheduled(f.Scheduled)
	g.metrics.HoldsAdvisories(f.Advisories)
	g.rates.Add(f)
	g.showDemand(f)
	if full {
		g.metrics.BrokerRead()
	}
}

// showDemand shows how many replicas could do useful work.
func (g *gauges) showDemand(f gauge.Figures) {
	var work []gauge.Work
	for _, q := range f.Queues {
		rate := g.rates.Of(q)
		hold, waited := g.holding.Mean(q.Provider, q.Lane)
		work = append(work, gauge.Work{
			Provider: q.Provider, Bulk: q.Lane == string(query.Bulk), Arrivals: rate.Arrivals, Handled: rate.Handled, Backlog: q.Backlog,
			Hold: hold, Waited: waited, Slots: g.workSlots(q),
		})
	}
	g.holding.Fade()
	takes := g.takes.now(time.Now())
	demand := gauge.Replicas(work, takes)
	g.metrics.Demand(demand.Replicas, string(demand.Limit), limits())
	g.log.Debug("replicas that could do useful work", zap.Int("replicas", demand.Replicas), zap.String("limit", string(demand.Limit)))
}

func limits() []string {
	var all []string
	for _, limit := range gauge.Limits() {
		all = append(all, string(limit))
	}
	return all
}

// workSlots returns how many messages of a queue this worker can work on at once, over all clients. Where accounts share a loop, the slots
// that are there for waiting do not count.
func (a *App) workSlots(q gauge.Queue) int {
	lane := a.Config.Lanes.Bulk.Lane
	if q.Lane == string(query.Interactive) {
		lane = a.Config.Lanes.Interactive
	}
	if provider := query.Provider(q.Provider); !a.alone(provider) {
		return lane.Slots * accountCount(a.Config.Providers, provider)
	}
	slots := 0
	for _, binding := range a.topology.Consumers() {
		retry := binding.Stream == a.topology.Names().Retries()
		if binding.Provider == q.Provider && binding.Lane == q.Lane && retry == (q.Kind == gauge.QueueRetry) {
			slots += a.slots(binding)
		}
	}
	return slots
}

// onlyFigures tells that a right is missing which nothing but the figures need: the worker is ready without it, and it is told where they are read.
func (a *App) onlyFigures(event broker.Event) bool {
	return event.Kind == broker.EventPublishDenied && event.Subject == "$JS.API.DIRECT.GET.KV_"+a.topology.Names().ReplaysBucket()
}
