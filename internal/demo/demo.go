// Package demo runs the whole thing on one machine: an embedded broker, both sandbox upstreams, workers and a sample publisher. It shows
// what the service does and must never be part of a running one.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// Options say what to show.
type Options struct {
	// Queries is how many queries the publisher asks.
	Queries int
	// Workers is how many workers share the queries and the rate; less than 1 means 1. They run in this process; the first has the broker.
	Workers int
	// Keep is a directory that holds the store, the keys and the log afterwards; "" means a temporary one.
	Keep string
	// WithFailures asks queries as well that die of different causes, and leaves their dead letters.
	WithFailures bool
	// Build names the worker's version.
	Build string
	// OnProgress is told the state of things every now and then. It may be nil.
	OnProgress func(Progress)
	// OnAsked is called when everything was asked, while broker, upstreams and workers still run: they do until it returns. From then on
	// the upstreams behave. It may be nil.
	OnAsked func(Summary) error
}

// Progress is how far a demo is.
type Progress struct {
	Sent      int
	Completed int
	Failed    int
	Of        int
}

// Summary is what a demo did.
type Summary struct {
	Sent          int     `json:"sent"`
	Completed     int     `json:"completed"`
	Failed        int     `json:"failed"`
	Dead          int     `json:"dead"`
	Duplicates    int     `json:"duplicates"`
	Missing       int     `json:"missing"`
	UpstreamCalls uint64  `json:"upstreamCalls"`
	P50           float64 `json:"p50Ms"`
	P99           float64 `json:"p99Ms"`
	Seconds       float64 `json:"seconds"`
	// Workers holds how many calls each worker made.
	Workers []uint64 `json:"callsPerWorker"`
	// Agreed is the rate that all workers keep together at each upstream, Burst how many calls it allows at once, MostInASecond how many
	// arrived at one upstream in any second, and TooMany how many arrived before the rate allowed them.
	Agreed        int `json:"agreedPerSecond"`
	Burst         int `json:"burst"`
	MostInASecond int `json:"mostInASecond"`
	TooMany       int `json:"tooMany"`
	// Kept is the directory that was kept, if one was asked for.
	Kept string `json:"kept,omitempty"`
	// Site is where things are while they run, if somebody is told of it.
	Site Site `json:"site,omitzero"`
}

// OK tells whether every query ended in exactly one result.
func (s Summary) OK() bool { return s.Missing == 0 && s.Duplicates == 0 }

// patience is how long a demo waits for the last results.
const patience = 90 * time.Second

// faults make the sandbox a little like the world: answers take their time and a few calls fail.
const faults = "*:latency=5ms-40ms,*:status=503@0.02,easypay:reset@0.01,unionpay:wrongecho@0.01"

// demo is one run.
type demo struct {
	Options

	dir      string
	upstream *sandbox.Running
	sandbox  *sandbox.Sandbox
	config   config.Config
	ring     *card.Ring
	// again tells that the directory is that of an earlier demo.
	again bool
	// pace is what the workers keep together at each upstream.
	pace config.Pace
}

// agreed is the rate of both upstreams, which all workers keep together.
func agreed() config.Pace {
	return config.Pace{Rate: config.Rate{Calls: 400, Per: time.Second}, Burst: 40}
}

// Run runs a demo and returns its summary. It leaves nothing behind but the directory asked for.
func Run(ctx context.Context, options Options) (summary Summary, err error) {
	d := &demo{Options: options, pace: agreed()}
	if err := d.makeDir(); err != nil {
		return Summary{}, err
	}
	if options.Keep == "" {
		defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	}
	return d.run(ctx)
}

// run starts the upstreams and the log, and has everything else run on them.
func (d *demo) run(ctx context.Context) (summary Summary, err error) {
	if err := d.startSandbox(ctx); err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, d.upstream.Close(context.WithoutCancel(ctx))) }()
	log, err := os.OpenFile(filepath.Join(d.dir, "worker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return Summary{}, fmt.Errorf("open log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	return d.serve(ctx, log)
}

// serve runs the workers while the publisher asks.
func (d *demo) serve(ctx context.Context, log io.Writer) (summary Summary, err error) {
	first, stop, err := d.startWorker(ctx, d.config, log)
	if err != nil {
		return Summary{}, err
	}
	workers, stops := []*app.App{first}, []func() error{stop}
	defer func() {
		for len(stops) > 0 { // The first one has the broker, so it goes last.
			err = errors.Join(err, stops[len(stops)-1]())
			stops = stops[:len(stops)-1]
		}
	}()
	for len(workers) < d.Workers {
		c := d.config
		c.NATS.URL = config.URL(first.ClientURL())
		another, stop, err := d.startWorker(ctx, c, log)
		if err != nil {
			return Summary{}, err
		}
		workers, stops = append(workers, another), append(stops, stop)
	}
	if !d.again {
		summary, err = d.ask(ctx, first.ClientURL())
	}
	for _, worker := range workers {
		summary.Workers = append(summary.Workers, worker.Calls())
	}
	d.count(&summary)
	summary.Kept = d.Keep
	if err == nil && d.OnAsked != nil {
		err = d.show(first.ClientURL(), &summary)
	}
	return summary, err
}

// startWorker runs a worker until it is stopped.
func (d *demo) startWorker(ctx context.Context, c config.Config, log io.Writer) (worker *app.App, stop func() error, err error) {
	worker, err = app.New(ctx, app.Options{Config: c, Build: d.Build, Log: log})
	if err != nil {
		return nil, nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(running) }()
	return worker, func() error {
		cancel()
		return <-ended
	}, nil
}

// count takes from the upstreams how they were called.
func (d *demo) count(summary *Summary) {
	summary.Agreed, summary.Burst = d.pace.Rate.Calls, d.pace.Burst
	for _, provider := range []sandbox.Provider{sandbox.EasyPay, sandbox.UnionPay} {
		summary.UpstreamCalls += d.sandbox.Stats().Providers[provider].Arrivals
		summary.MostInASecond = max(summary.MostInASecond, d.sandbox.MaxInWindow(provider, time.Second))
		summary.TooMany += d.sandbox.Violations(provider, float64(d.pace.Rate.Calls), d.pace.Burst)
	}
}

func (d *demo) makeDir() error {
	if d.Keep == "" {
		dir, err := os.MkdirTemp("", "discount-demo-")
		if err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		d.dir = dir
		return nil
	}
	entries, err := os.ReadDir(d.Keep)
	if err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: give --keep a new directory", d.Keep)
	}
	if err := os.MkdirAll(d.Keep, 0o700); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	dir, err := filepath.Abs(d.Keep)
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	d.dir = dir
	return nil
}

// startSandbox starts both upstreams and makes the configuration that reaches them.
func (d *demo) startSandbox(ctx context.Context) error {
	keys, err := d.upstreamKeys()
	if err != nil {
		return err
	}
	d.sandbox = sandbox.New(sandbox.Options{Seed: 1, UnionPay: keys.UnionPay()})
	plan, err := sandbox.ParseFaults(d.faults())
	if err != nil {
		return err
	}
	if err := d.sandbox.SetFaults(plan); err != nil {
		return err
	}
	listen := sandbox.Listen{EasyPay: "127.0.0.1:0", UnionPay: "127.0.0.1:0"}
	if d.OnAsked != nil {
		listen.Admin = "127.0.0.1:0"
	}
	if err := d.makeRing(); err != nil {
		return err
	}
	if d.upstream, err = d.sandbox.Start(ctx, listen); err != nil {
		return err
	}
	d.config = d.configure(keys)
	return nil
}

// upstreamKeys makes the keys of the simulated UnionPay, or loads those of the demo that is shown again.
func (d *demo) upstreamKeys() (sandbox.Keys, error) {
	dir := filepath.Join(d.dir, "upi")
	if d.again {
		return sandbox.LoadKeys(dir)
	}
	keys, err := sandbox.NewKeys()
	if err == nil {
		err = keys.WriteTo(dir)
	}
	return keys, err
}

// makeRing makes the workers' keys, or loads them.
func (d *demo) makeRing() (err error) {
	dir := filepath.Join(d.dir, "keys")
	if !d.again {
		if _, err := card.NewKeys(dir, time.Now()); err != nil {
			return err
		}
	}
	d.ring, err = card.LoadRing(dir)
	return err
}

// configure returns the configuration of the demo's worker.
func (d *demo) configure(keys sandbox.Keys) config.Config {
	dir, upstream := d.dir, d.upstream
	c := config.Default()
	c.DataDir = filepath.Join(dir, "store")
	c.Embedded.Listen, c.Embedded.SyncAlways = "127.0.0.1:0", false
	c.Cards.KeysDir = filepath.Join(dir, "keys")
	c.Admin.Listen = ""
	c.Log.Format = "console"
	c.Providers.EasyPay.BaseURL, c.Providers.EasyPay.Pace = config.URL(upstream.EasyPayURL()), d.pace
	c.Providers.EasyPay.MallID = demoMall
	UnionPay(&c.Providers.UnionPay, filepath.Join(dir, "upi"), keys, upstream.UnionPayURL())
	c.Providers.UnionPay.Pace = d.pace
	if d.WithFailures {
		c.Retry.Schedule.First = failuresGiveUp * 2
	}
	return c
}

// UnionPay sets a configuration to the sandbox at url, with the keys written to dir.
func UnionPay(c *config.UnionPay, dir string, keys sandbox.Keys, url string) {
	c.Enabled, c.BaseURL, c.Path = true, config.URL(url), sandbox.UnionPayPath
	c.ProcType, c.SignCertID, c.EncCertID, c.InsCode, c.AppID, c.PID = "01", "001", "002", "100120156", sandbox.DefaultAppID, "1234567890"
	c.JWS.KID, c.JWS.PrivateKeyFile = keys.ClientSignKid, filepath.Join(dir, "client-sign.key.pem")
	c.Response.KeyFiles = map[string]string{keys.UPISignKid: filepath.Join(dir, "upi-sign.pub.pem")}
	c.Encryption.KID, c.Encryption.PublicKeyFile = keys.UPIEncryptKid, filepath.Join(dir, "upi-encrypt.pub.pem")
}

// publisher returns the demo's publisher on its own connection.
func (d *demo) publisher(ctx context.Context, url string) (*app.Broker, *client.Client, error) {
	c := d.config
	c.NATS.URL, c.NATS.Name = config.URL(url), "demo-publisher"
	connected, err := app.OpenBroker(ctx, c, app.BrokerOptions{})
	if err != nil {
		return nil, nil, err
	}
	return connected, client.New(client.Options{
		Conn: connected.Conn, JS: connected.JS, Subjects: query.NewSubjects(c.Prefix), Name: "demo",
		ResultStream: app.Topology(c).Names().Results(), Sealer: d.ring.Sealer(),
	}), nil
}
