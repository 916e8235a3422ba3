// Command bench drains a prefilled stream of EasyPay queries with the worker and with a bare loop in turn, each alone on one core, and
// prints the ratio of the two. The broker and the upstream, a stub that answers after a set time, run on the other cores.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"text/tabwriter"
	"time"
)

// plan is what one call of the command measures.
type plan struct {
	queries     int
	rounds      int
	concurrency int
	latency     time.Duration
	rivals      []string
	json        bool
	profile     string
}

// figures are what one run of one rival came to.
type figures struct {
	Rival         string  `json:"rival"`
	PerSecond     float64 `json:"queriesPerSecond"`
	CPUPer1000    float64 `json:"cpuSecondsPer1000"`
	PeakMegabytes float64 `json:"peakMegabytes"`
}

func main() {
	p := plan{rivals: []string{rivalWorker, rivalBare, rivalCareful}}
	flag.IntVar(&p.queries, "queries", 20_000, "queries to drain in each run")
	flag.IntVar(&p.rounds, "rounds", 5, "runs of each rival, in turn")
	flag.IntVar(&p.concurrency, "concurrency", 256, "queries under way at once")
	flag.DurationVar(&p.latency, "latency", 0, "time the stub takes for an answer")
	flag.BoolVar(&p.json, "json", false, "print JSON")
	flag.StringVar(&p.profile, "cpuprofile", "", "write the worker's CPU profile of the last round to this file")
	rival := flag.String("rival", "", "internal: run as this rival")
	url := flag.String("nats", "", "internal: the broker's URL")
	stub := flag.String("stub", "", "internal: the stub's URL")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *rival != "" {
		err = runRival(ctx, *rival, rivalOptions{nats: *url, stub: *stub, queries: p.queries, concurrency: p.concurrency, profile: p.profile})
	} else {
		err = compare(ctx, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// compare runs the rivals in turn and prints medians and ratios.
func compare(ctx context.Context, p plan) error {
	all := map[string][]figures{}
	for round := range p.rounds {
		for _, rival := range p.rivals {
			measured, err := measure(ctx, rival, p)
			if err != nil {
				return fmt.Errorf("round %d, %s: %w", round+1, rival, err)
			}
			all[rival] = append(all[rival], measured)
			fmt.Fprintf(os.Stderr, "round %d  %-8s %8.0f queries/s  %.4f CPU-s per 1,000\n", round+1, rival, measured.PerSecond, measured.CPUPer1000)
		}
	}
	return report(p, all)
}

// summary is what compare prints.
type summary struct {
	Queries     int                `json:"queries"`
	Rounds      int                `json:"rounds"`
	Concurrency int                `json:"concurrency"`
	Latency     string             `json:"latency"`
	Medians     []figures          `json:"medians"`
	Ratios      map[string]float64 `json:"ratios"`
}

func report(p plan, all map[string][]figures) error {
	s := summary{Queries: p.queries, Rounds: p.rounds, Concurrency: p.concurrency, Latency: p.latency.String(), Ratios: map[string]float64{}}
	for _, rival := range p.rivals {
		s.Medians = append(s.Medians, median(rival, all[rival]))
	}
	// The ratio is taken round by round, because the machine's speed drifts between rounds more than within one.
	for _, rival := range p.rivals[1:] {
		s.Ratios["worker/"+rival+" queries/s"] = medianOf(ratios(all[rivalWorker], all[rival], func(f figures) float64 { return f.PerSecond }))
		s.Ratios["worker/"+rival+" CPU"] = medianOf(ratios(all[rivalWorker], all[rival], func(f figures) float64 { return f.CPUPer1000 }))
	}
	if p.json {
		return json.NewEncoder(os.Stdout).Encode(s)
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "median of %d rounds\tqueries/s\tCPU-s per 1,000\tpeak MB\t\n", p.rounds)
	for _, f := range s.Medians {
		fmt.Fprintf(table, "%s\t%.0f\t%.4f\t%.0f\t\n", f.Rival, f.PerSecond, f.CPUPer1000, f.PeakMegabytes)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, rival := range p.rivals[1:] {
		fmt.Printf("worker/%s: %.2f of its queries/s, %.2f of its CPU\n", rival, s.Ratios["worker/"+rival+" queries/s"], s.Ratios["worker/"+rival+" CPU"])
	}
	return nil
}

func median(rival string, runs []figures) figures {
	of := func(field func(figures) float64) float64 {
		values := make([]float64, len(runs))
		for i, run := range runs {
			values[i] = field(run)
		}
		return medianOf(values)
	}
	return figures{
		Rival: rival, PerSecond: of(func(f figures) float64 { return f.PerSecond }),
		CPUPer1000:    of(func(f figures) float64 { return f.CPUPer1000 }),
		PeakMegabytes: of(func(f figures) float64 { return f.PeakMegabytes }),
	}
}

func ratios(a, b []figures, field func(figures) float64) []float64 {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = field(a[i]) / field(b[i])
	}
	return values
}

func medianOf(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

var errLost = errors.New("the rival ended before all results were there")
