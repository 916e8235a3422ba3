// Package app builds the worker out of its rooms, starts it and stops it in reverse order. It decides nothing about a query.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/consumer"
	"discountquery.example/worker/internal/keywatch"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/sweeper"
	"discountquery.example/worker/internal/telemetry"
	"discountquery.example/worker/internal/trace"
	"discountquery.example/worker/internal/worker"
)

// Options say what to build.
type Options struct {
	// Config must be valid.
	Config config.Config
	// Build names the version, for dead letters and metrics.
	Build string
	// Log is where log lines go.
	Log io.Writer
	// Tracing says whether and how spans are exported. Its zero value exports none.
	Tracing Tracing
}

// App is a worker that was built and can run once.
type App struct {
	Options

	lifecycle lifecycle
	log       *zap.Logger
	metrics   *telemetry.Metrics
	tracer    *trace.Tracer
	health    *telemetry.Health
	subjects  query.Subjects
	topology  broker.Topology
	broker    *Broker
	consumers []*consumer.Consumer
	sweeper   *sweeper.Sweeper
	pace      pace
	gauges    *gauges
	ring      *card.Ring
	keys      *keywatch.Watcher
	keysSeen  *telemetry.KeyMetrics
	asks      atomic.Pointer[ask.Service]
	// denied and streamless forget that a right or a stream was missing; deaf renews the connection when its inbox was denied, unasked the
	// requests when they were.
	denied, streamless, deaf, unasked memory
	admin                             net.Listener
	// leaving tells that the connection to the broker is being closed by us.
	leaving atomic.Bool
	calls   atomic.Uint64
}

// New builds a worker: it connects, checks the broker, reads the keys and binds to the consumers. With an empty nats.url it starts the
// embedded server and applies the topology there. What it has started is stopped again if a later step fails.
//
// The long list of steps is the order in which a worker comes up, and that is why it stands in one place.
func New(ctx context.Context, options Options) (*App, error) {
	a := &App{Options: options, subjects: query.NewSubjects(options.Config.Prefix), topology: Topology(options.Config)}
	steps := []struct {
		name string
		run  func(context.Context) error
	}{
		{"log", a.startLog},
		{"keys", a.startKeys},
		{"traces", a.startTraces},
		{"admin listener", a.listenAdmin},
		{"broker", a.connectBroker},
		{"consumers", a.buildConsumers},
	}
	for _, step := range steps {
		if err := unanswered(step.run(ctx)); err != nil {
			return nil, errors.Join(fmt.Errorf("start %s: %w", step.name, err), a.lifecycle.stop(context.WithoutCancel(ctx)))
		}
	}
	return a, nil
}

// ClientURL returns the URL at which publishers reach the broker.
func (a *App) ClientURL() string { return a.broker.ClientURL() }

// AdminAddr returns the address of the admin pages, "" if they are off.
func (a *App) AdminAddr() string {
	if a.admin == nil {
		return ""
	}
	return a.admin.Addr().String()
}

// Calls returns how many calls to upstreams this worker has made.
func (a *App) Calls() uint64 { return a.calls.Load() }

// Problems returns what keeps the worker from being ready, by part.
func (a *App) Problems() map[string]string { return a.health.Problems() }

// Run serves until ctx ends, then stops in order: it takes no more queries, finishes those it holds within the configured grace, and
// takes the rest down. Queries that are not finished by then are scheduled for another worker.
func (a *App) Run(ctx context.Context) error {
	a.log.Info("worker started", zap.String("build", a.Build), zap.String("nats", broker.RedactURL(a.broker.ClientURL())),
		zap.Strings("accounts", AccountNames(a.Config)), zap.String("admin", a.AdminAddr()))
	if os.Getenv("GOGC") == "" { //nolint:forbidigo // It belongs to Go's runtime, which obeys it wherever a worker runs, cmd/worker or not.
		debug.SetGCPercent(gcPercent)
	}
	grace := a.Config.Shutdown.Grace
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	a.health.Ready("worker")
	var running sync.WaitGroup
	running.Go(func() {
		<-ctx.Done()
		a.log.Info("worker stopping", zap.Duration("grace", grace))
		a.health.Unready("worker", "stopping")
		time.AfterFunc(grace*workShare/100, giveUp)
	})
	for _, c := range a.consumers {
		running.Go(func() { c.Run(ctx, work) })
	}
	running.Go(func() { a.serveAsks(ctx, work) })
	running.Go(func() { a.sweeper.Run(ctx) })
	running.Go(func() { a.gauges.run(ctx) })
	running.Go(func() { a.keys.Run(ctx) })
	stopPace := a.keepPace(ctx)
	running.Wait()
	stopPace()
	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace*(100-workShare)/100)
	defer cancel()
	a.log.Info("worker stopped")
	return a.lifecycle.stop(down)
}

// gcPercent lets garbage grow to four times what is in use before it is collected, unless GOGC says otherwise. A worker has little in use
// and makes much garbage: a tenth of its time went into looking through the stacks of its many waiting goroutines.
const gcPercent = 400

// workShare is the part of the grace, in percent, that queries under way get to finish. The rest is for scheduling what did not finish
// and for closing the connections.
const workShare = 80

// Close takes down a worker that was built and never run.
func (a *App) Close(ctx context.Context) error { return a.lifecycle.stop(ctx) }

func (a *App) startLog(context.Context) error {
	log, sink, err := telemetry.NewLog(a.Options.Log, a.Config.Log.Level, a.Config.Log.Format)
	if err != nil {
		return err
	}
	a.log = log
	a.lifecycle.onStop("log", func(context.Context) error { sink.Close(); return nil })
	var providers []query.Provider
	for _, name := range a.Config.Providers.Enabled() {
		providers = append(providers, query.Provider(name))
	}
	a.metrics = telemetry.NewMetrics(a.Build, providers)
	a.metrics.LogDrops(sink)
	for _, kind := range broker.EventKinds() {
		a.metrics.ExpectBroker(string(kind))
	}
	a.expectFigures()
	a.health = telemetry.NewHealth("worker", "broker")
	a.metrics.Readiness(a.health)
	return nil
}

func (a *App) listenAdmin(ctx context.Context) error {
	if a.Config.Admin.Listen == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.Config.Admin.Listen)
	if err != nil {
		return fmt.Errorf("%w (change admin.listen, or set it to \"\" for none)", err)
	}
	a.admin = listener
	server := telemetry.NewAdmin(a.health, a.metrics.Registry())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("admin pages ended", zap.Error(err))
		}
	})
	a.lifecycle.onStop("admin pages", func(ctx context.Context) error {
		defer serving.Wait()
		return errors.Join(server.Shutdown(ctx), server.Close())
	})
	return nil
}

// connectBroker connects and checks that the broker is what the worker needs.
func (a *App) connectBroker(ctx context.Context) error {
	connected, err := OpenBroker(ctx, a.Config, BrokerOptions{
		Serve:   true,
		OnEvent: a.brokerEvent,
		OnLog: func(level, text string) {
			a.log.Debug("embedded server", zap.String("level", level), zap.String("text", text))
		},
	})
	if err != nil {
		return err
	}
	a.broker = connected
	a.lifecycle.onStop("broker", func(ctx context.Context) error {
		a.leaving.Store(true)
		return connected.Close(ctx)
	})
	if err := connected.Prepare(ctx, a.topology); err != nil {
		return err
	}
	a.health.Ready("broker")
	return nil
}

// buildConsumers builds the way of a query and binds it to the durable consumers.
func (a *App) buildConsumers(ctx context.Context) error {
	var err error
	if a.pace, err = a.newPace(ctx); err != nil {
		return err
	}
	callers, err := a.buildCallers(a.pace)
	if err != nil {
		return err
	}
	a.gauges = a.newGauges(callers)
	handler, err := a.buildWorker(ctx, callers)
	if err != nil {
		return err
	}
	if a.sweeper, err = a.buildSweeper(ctx, handler); err != nil {
		return err
	}
	line := consumer.NewLine(a.broker.Conn)
	for _, binding := range a.topology.Consumers() {
		bound, err := consumer.Bind(ctx, consumer.Options{
			Line: line,
			JS:   a.broker.JS, Stream: binding.Stream, Name: binding.Config.Name, Slots: a.slots(binding),
			PullExpiry: a.Config.Consumer.PullExpiry, AckTimeout: a.Config.NATS.RequestTimeout,
			Handler: handler, OnEvent: a.consumerEvent, Capacity: a.capacity(callers, binding),
		})
		if err != nil {
			return err
		}
		a.consumers = append(a.consumers, bound)
		part := binding.Stream + "/" + binding.Config.Name
		a.metrics.ExpectConsumer(part, consumerEvents()...)
		a.health.Unready(part, "starting") // Until its first pull has worked.
	}
	a.showSlots()
	return nil
}

// capacity returns how many more messages of a loop are worth taking: none of an upstream that is down, and no more than its pace lets
// through soon.
func (a *App) capacity(callers callers, binding broker.Binding) func() int {
	provider, lane := query.Provider(binding.Provider), query.Lane(binding.Lane)
	up := callers.capacity(provider)
	return func() int { return min(up(), a.pace.Capacity(provider, lane)) }
}

// slots returns how many messages one loop holds. Retries get a quarter of their lane's slots for themselves, so that a fresh backlog
// can't keep them waiting, nor they it.
func (a *App) slots(binding broker.Binding) int {
	lane := a.Config.Lanes.Bulk.Lane
	if binding.Lane == string(query.Interactive) {
		lane = a.Config.Lanes.Interactive
	}
	if provider := query.Provider(binding.Provider); !a.alone(provider) {
		return a.sharedSlots(provider, lane) // What an account puts off comes back as a retry, so that both loops need room for all.
	}
	if binding.Stream == a.topology.Names().Retries() {
		return max(lane.Slots/4, 1)
	}
	if binding.Client != "" {
		return max(lane.Slots/len(a.topology.Clients), min(lane.Slots, leastSlots))
	}
	return lane.Slots
}

// leastSlots is what each of many named clients has at least, so that a single one that asks has more than one call under way.
const leastSlots = 4

func (a *App) buildWorker(ctx context.Context, callers callers) (*worker.Worker, error) {
	ring, err := a.keepRing()
	if err != nil {
		return nil, err
	}
	decoder, err := query.NewDecoder(a.subjects)
	if err != nil {
		return nil, err
	}
	names := a.topology.Names()
	publisher, err := publish.New(ctx, publish.Options{
		JS: a.broker.JS, Subjects: a.subjects, ResultStream: names.Results(), DeadStream: names.Dead(), RetryStream: names.Retries(),
		Timeout: a.Config.NATS.RequestTimeout, OnTrouble: a.storeTrouble,
	})
	if err != nil {
		return nil, err
	}
	cache, err := a.newAnswers(ctx, callers, ring)
	if err != nil {
		return nil, err
	}
	handler := worker.New(worker.Options{
		Decoder:  decoder,
		Unsealer: &card.Unsealer{Ring: ring, AcceptPlain: a.Config.Cards.AcceptPlain, MaxSealed: int(a.Config.Cards.MaxSealedBytes)},
		Policies: policies(a.Config), Caller: cache, Results: publisher, Aside: publisher,
		Observer: observed{telemetry.NewRecorder(a.log, a.metrics), a.gauges.holding}, Tracer: a.tracer, Build: a.Build,
	})
	a.asks.Store(a.newAsks(decoder, handler, publisher, callers))
	return handler, nil
}
