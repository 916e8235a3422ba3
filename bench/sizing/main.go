// Command sizing measures what a worker and its broker need: queries a second, processor time and memory of workers by latency and rate, and
// the broker's bytes for each query, result and dead letter. It prints the tables of docs/deploy.md.
//
// Broker and workers are processes of their own, as the shipped program has them; this process publishes and is both upstreams.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"discountquery.example/worker/internal/query"
)

// plan is what one call of the command measures.
type plan struct {
	rounds    int
	seconds   float64
	slots     int
	workers   []int
	latencies []time.Duration
	rates     []int
	providers []query.Provider
	kept      int
	sync      bool
}

// asProcess is the variable that makes this program be a broker or a worker.
const asProcess = "DISCOUNT_SIZING_PROCESS"

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	switch os.Getenv(asProcess) {
	case processBroker:
		err = serveBroker(ctx)
	case processWorker:
		err = serveWorker(ctx)
	default:
		var p plan
		if p, err = flags(os.Args[1:]); err == nil {
			err = measure(ctx, p, os.Stdout)
		}
	}
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "sizing:", err)
	return 1
}

// flags reads the command line.
func flags(args []string) (plan, error) {
	p := plan{workers: []int{1, 3}, latencies: []time.Duration{0, 100 * time.Millisecond, 500 * time.Millisecond}, rates: []int{0, 10, 100}}
	p.providers = []query.Provider{query.EasyPay, query.UnionPay}
	set := flag.NewFlagSet("sizing", flag.ContinueOnError)
	set.IntVar(&p.rounds, "rounds", 3, "how often each row is measured; the median is shown")
	set.Float64Var(&p.seconds, "seconds", 1.2, "how long each row is measured")
	set.IntVar(&p.slots, "slots", 32, "lanes.interactive.slots of each worker")
	set.IntVar(&p.kept, "kept", 200_000, "results that are stored to see what the broker needs for each")
	set.BoolVar(&p.sync, "sync", true, "sync_interval: always, as the documents ask for")
	list(set, "workers", "how many workers share the queries", &p.workers, strconv.Atoi)
	list(set, "latencies", "what the upstreams take", &p.latencies, time.ParseDuration)
	list(set, "rates", "queries a second that are published to one worker", &p.rates, strconv.Atoi)
	err := set.Parse(args)
	if err == nil && (p.rounds < 1 || p.seconds <= 0 || p.slots < 1 || p.kept < 1 || set.NArg() > 0) {
		err = errors.New("rounds, seconds, slots and kept are above 0, and there are no arguments but flags")
	}
	return p, err
}

// list adds a flag that holds several values with commas between them.
func list[T any](set *flag.FlagSet, name, usage string, to *[]T, read func(string) (T, error)) {
	set.Func(name, fmt.Sprintf("%s, with commas (default %v)", usage, *to), func(text string) error {
		var values []T
		for part := range strings.SplitSeq(text, ",") {
			value, err := read(part)
			if err != nil {
				return err
			}
			values = append(values, value)
		}
		*to = values
		return nil
	})
}
