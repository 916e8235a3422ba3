package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// The rivals.
const (
	// rivalWorker is the worker with everything on.
	rivalWorker = "worker"
	// rivalBare is the least that moves a query: pull, call, publish, ack.
	rivalBare = "bare"
	// rivalCareful is the bare loop with the guard on results and confirmed acks: what exactly one result costs at least.
	rivalCareful = "careful"
)

// rivalOptions say what a rival drains.
type rivalOptions struct {
	nats        string
	stub        string
	queries     int
	concurrency int
	profile     string
}

// runRival drains the queries and prints the figures as one line of JSON.
func runRival(ctx context.Context, name string, o rivalOptions) error {
	conn, err := nats.Connect(o.nats)
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := func() error { return bare(ctx, js, o, name == rivalCareful) }
	if name == rivalWorker {
		if run, err = prepareWorker(ctx, cancel, js, o); err != nil {
			return err
		}
	}
	if o.profile != "" {
		file, err := os.Create(o.profile)
		if err != nil {
			return err
		}
		defer file.Close()
		if err := pprof.StartCPUProfile(file); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	cpu, began := cpuTime(), time.Now()
	if err := run(); err != nil {
		return err
	}
	took, used := time.Since(began), cpuTime()-cpu
	return json.NewEncoder(os.Stdout).Encode(figures{
		Rival: name, PerSecond: float64(o.queries) / took.Seconds(),
		CPUPer1000: used.Seconds() / float64(o.queries) * 1000, PeakMegabytes: peakMegabytes(),
	})
}

// prepareWorker builds a worker as it is by default, but for the pace, and returns what runs it until all results are stored.
func prepareWorker(ctx context.Context, stop context.CancelFunc, js jetstream.JetStream, o rivalOptions) (func() error, error) {
	keys, err := os.MkdirTemp("", "discount-bench-keys-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(keys)
	if _, err := card.NewKeys(keys, time.Now()); err != nil {
		return nil, err
	}
	c := config.Default()
	c.NATS.URL, c.Cards.KeysDir, c.Admin.Listen = config.URL(o.nats), keys, "127.0.0.1:0"
	c.Lanes.Interactive.Slots = o.concurrency
	c.Providers.EasyPay.BaseURL = config.URL(o.stub)
	// A pace that nobody meets, with room for all that is late, and no limit of what is under way but the slots.
	c.Providers.EasyPay.Pace = config.Pace{Rate: config.Rate{Calls: 100_000, Per: time.Second}, Burst: 100_000}
	c.Providers.EasyPay.Concurrency = config.Concurrency{Min: 1}
	log, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	service, err := app.New(ctx, app.Options{Config: c, Build: "bench", Log: log})
	if err != nil {
		return nil, err
	}
	results, err := js.Stream(ctx, app.Topology(c).Names().Results())
	if err != nil {
		return nil, err
	}
	return func() error {
		var running sync.WaitGroup
		var failed error
		running.Go(func() { failed = service.Run(ctx) })
		for ctx.Err() == nil {
			info, err := results.Info(ctx)
			if err != nil {
				return err
			}
			if info.State.Msgs >= uint64(o.queries) { //nolint:gosec // It is not negative.
				// What stopping costs is not part of draining: the process ends with its figures.
				return nil
			}
			time.Sleep(5 * time.Millisecond)
		}
		stop()
		running.Wait()
		return failed
	}, nil
}

// bare is the loop somebody writes in an afternoon.
func bare(ctx context.Context, js jetstream.JetStream, o rivalOptions, careful bool) error {
	names := app.Topology(config.Default()).Names()
	consumer, err := js.Consumer(ctx, names.Queries(), names.Consumer("easypay", "interactive"))
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: o.concurrency, MaxConnsPerHost: o.concurrency}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(o.concurrency))
	if err != nil {
		return err
	}
	defer messages.Stop()
	slots := make(chan struct{}, o.concurrency)
	var handlers sync.WaitGroup
	for range o.queries {
		slots <- struct{}{}
		message, err := messages.Next()
		if err != nil {
			return err
		}
		handlers.Go(func() {
			defer func() { <-slots }()
			if err := answerOne(ctx, js, client, o.stub, message, careful); err != nil {
				fmt.Fprintln(os.Stderr, "bare:", err)
			}
		})
	}
	handlers.Wait()
	return nil
}

func answerOne(ctx context.Context, js jetstream.JetStream, client *http.Client, stub string, message jetstream.Msg, careful bool) error {
	var event struct {
		ID     string          `json:"id"`
		Source string          `json:"source"`
		Data   json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(message.Data(), &event); err != nil {
		return err
	}
	response, err := client.Post(stub+"/api/etc/inquiryCoupon", "application/json", bytes.NewReader(event.Data))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(response.Body)
	if err := response.Body.Close(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	subjects := query.NewSubjects("discount")
	key := query.Key("bench", event.Source, event.ID)
	subject := subjects.Result(key, query.EasyPay, "bench", "completed")
	if !careful {
		if _, err := js.Publish(ctx, subject, body); err != nil {
			return err
		}
		return message.Ack()
	}
	if _, err := js.Publish(ctx, subject, body, jetstream.WithExpectLastSequenceForSubject(0, subjects.ResultGuard(key))); err != nil {
		return err
	}
	return message.DoubleAck(ctx)
}

// cpuTime returns the processor time this process has used.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func peakMegabytes() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Maxrss) / 1024
}
