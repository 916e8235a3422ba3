package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"discountquery.example/worker/internal/query"
)

// measure measures everything and prints the tables.
func measure(ctx context.Context, p plan, out io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "discount-sizing-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	u, err := startUpstreams(ctx, dir, p)
	if err != nil {
		return err
	}
	defer func() { _ = u.running.Close(context.WithoutCancel(ctx)) }()
	began, others := time.Now(), loadAverage()
	backlogs, rates := p.backlogs(), p.steady()
	busy, err := inRounds(p, backlogs, func(l load) (took, error) { return endless(ctx, u, p, l) })
	if err != nil {
		return err
	}
	idle, err := inRounds(p, rates, func(l load) (took, error) { return steady(ctx, u, p, l) })
	if err != nil {
		return err
	}
	kept, err := stored(ctx, u, p)
	if err != nil {
		return err
	}
	head := fmt.Sprintf("%d cores, %s %s/%s, load %s before and %s after; medians of %d rounds of %.1f s; %d slots; sync always: %t; took %s.\n\n",
		runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, others, loadAverage(), p.rounds, p.seconds, p.slots, p.sync,
		time.Since(began).Round(time.Second))
	_, err = io.WriteString(out, head+throughput(p, backlogs, busy)+atRates(rates, idle)+perMessage(p, kept))
	return err
}

// backlogs returns the rows with more queries than the workers can answer.
func (p plan) backlogs() []load {
	var rows []load
	for _, provider := range p.providers {
		for _, latency := range p.latencies {
			for _, workers := range p.workers {
				rows = append(rows, load{provider: provider, latency: latency, workers: workers, rate: -1})
			}
		}
	}
	return rows
}

// steady returns the rows with one worker and a rate that it can follow.
func (p plan) steady() []load {
	var rows []load
	for _, rate := range p.rates {
		rows = append(rows, load{provider: query.EasyPay, latency: 100 * time.Millisecond, workers: 1, rate: rate})
	}
	return rows
}

// inRounds measures all rows in turn, and again in each round, because a machine's speed drifts. It returns the medians.
func inRounds(p plan, rows []load, run func(load) (took, error)) ([]took, error) {
	all := make([][]took, len(rows))
	for round := range p.rounds {
		for i, row := range rows {
			measured, err := run(row)
			if err != nil {
				return nil, fmt.Errorf("round %d, %+v: %w", round+1, row, err)
			}
			all[i] = append(all[i], measured)
			fmt.Fprintf(os.Stderr, "round %d  %-8s %5s  %d workers  rate %4d: %7.1f queries/s, %.2f cores\n",
				round+1, row.provider, row.latency, row.workers, row.rate, measured.perSecond, measured.cores)
		}
	}
	medians := make([]took, len(rows))
	for i, runs := range all {
		of := func(field func(took) float64) float64 { return median(runs, field) }
		medians[i] = took{
			perSecond: of(func(t took) float64 { return t.perSecond }), cores: of(func(t took) float64 { return t.cores }),
			cpu: of(func(t took) float64 { return t.cpu }), resident: of(func(t took) float64 { return t.resident }),
		}
	}
	return medians, nil
}

// median returns the middle value of a field.
func median[T any](all []T, field func(T) float64) float64 {
	values := make([]float64, len(all))
	for i, one := range all {
		values[i] = field(one)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

const (
	kib = 1 << 10
	mib = 1 << 20
	gib = 1 << 30
)

// throughput returns the table of rows with an endless backlog, each with the most that its slots allow.
func throughput(p plan, rows []load, all []took) string {
	var b strings.Builder
	b.WriteString("| upstream | answers in | workers | queries/s | slots / latency | CPU-s per 1,000 | cores, all workers | memory of one |\n|---|---|---|---|---|---|---|---|\n")
	for i, row := range rows {
		bound := "-"
		if row.latency > 0 {
			bound = fmt.Sprintf("%.0f", float64(row.workers*p.slots)/row.latency.Seconds())
		}
		fmt.Fprintf(&b, "| %s | %d ms | %d | %.0f | %s | %.2f | %.2f | %.0f MiB |\n", row.provider, row.latency.Milliseconds(), row.workers,
			all[i].perSecond, bound, all[i].cpu, all[i].cores, all[i].resident/mib)
	}
	return b.String() + "\n"
}

// atRates returns the table of rows with a rate.
func atRates(rows []load, all []took) string {
	var b strings.Builder
	b.WriteString("| published to one worker | queries/s | cores | CPU-s per 1,000 | memory |\n|---|---|---|---|---|\n")
	for i, row := range rows {
		fmt.Fprintf(&b, "| %d/s | %.1f | %.3f | %.2f | %.0f MiB |\n", row.rate, all[i].perSecond, all[i].cores, all[i].cpu, all[i].resident/mib)
	}
	return b.String() + "\n"
}

// perMessage returns the table of what the broker needs.
func perMessage(p plan, s *store) string {
	var b strings.Builder
	b.WriteString("| in the broker's store | bytes each | for 1,000,000 |\n|---|---|---|\n")
	for _, name := range s.names {
		fmt.Fprintf(&b, "| %s | %.0f | %.2f GiB |\n", name, s.bytes[name], s.bytes[name]*1e6/gib)
	}
	fmt.Fprintf(&b, "| result, with all files of %d of them | %.0f | %.2f GiB |\n", p.kept, s.disk, s.disk*1e6/gib)
	fmt.Fprintf(&b, "| result, broker's memory | %.0f | %.2f GiB |\n", s.heap, s.heap*1e6/gib)
	fmt.Fprintf(&b, "| all paces | | %.1f KiB in all |\n", float64(s.pace)/kib)
	fmt.Fprintf(&b, "\nThe broker's process: %.0f MiB without messages, %.0f MiB with %d results.\n", s.empty/mib, s.full/mib, p.kept)
	return b.String()
}

// loadAverage returns how busy the machine has been in the last minute, where the system tells.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(text), " ")
	return first
}
