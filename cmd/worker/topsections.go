package main

import (
	"fmt"
	"strings"
	"time"

	"discountquery.example/worker/internal/top"
)

// laneFormat lays out the columns of lanes: name, waiting, due retries, being asked, oldest, p50, p99, results per second.
const laneFormat = "%-20s %8s %7s %7s %7s %6s %6s %8s"

func laneSection(s top.Snapshot) section {
	one := section{heading: row{{fmt.Sprintf(laneFormat, "LANE", "WAITING", "RETRIES", "ASKING", "OLDEST", "P50", "P99", "RESULT/s"), faint}}}
	for _, l := range s.Lanes {
		waiting := plain
		if l.Waiting > 0 {
			waiting = yellow
		}
		oldest := "-"
		if l.Oldest > 0 {
			oldest = short(time.Duration(l.Oldest) * time.Millisecond)
		}
		count := grouped(int64(l.Waiting)) //nolint:gosec // Far below.
		one.rows = append(one.rows, row{
			{fmt.Sprintf("%-20s ", fit(l.Provider+" "+l.Lane, 20)), plain}, {fmt.Sprintf("%8s", count), waiting},
			{fmt.Sprintf(" %7d %7d %7s %6s %6s %8.1f", l.Due, l.InFlight, oldest, latency(l.P50), latency(l.P99), l.Completed+l.Failed), plain},
		})
	}
	return one
}

// deadSection has one line for the retries and the streams that become full, and one for the dead letters.
func deadSection(s top.Snapshot) section {
	scheduled := "?"
	if s.Scheduled != nil {
		scheduled = grouped(int64(*s.Scheduled)) //nolint:gosec // Far below.
	}
	retries := row{{"RETRIES ", faint}, {scheduled + " scheduled", plain}}
	for _, stream := range s.Streams {
		const nearlyFull = 0.8
		if stream.Full >= nearlyFull {
			retries = append(retries, segment{fmt.Sprintf("   %s %.0f %% full", stream.Name, 100*stream.Full), red})
		}
	}
	return section{rows: []row{retries, deadRow(s.Dead)}}
}

// deadRow counts dead letters by their reason, over all providers, each with what has changed since the start.
func deadRow(all []top.Dead) row {
	line := row{{"DEAD LETTERS ", faint}}
	if all == nil {
		return append(line, segment{"?", plain})
	}
	var reasons []string
	counts, changes := map[string]uint64{}, map[string]int64{}
	for _, d := range all {
		if _, known := counts[d.Reason]; !known {
			reasons = append(reasons, d.Reason)
		}
		counts[d.Reason] += d.Count
		changes[d.Reason] += d.Change
	}
	for _, reason := range reasons {
		if counts[reason] == 0 && changes[reason] == 0 {
			continue
		}
		if len(line) > 1 {
			line = append(line, segment{"   ", plain})
		}
		line = append(line, segment{reason + " " + grouped(int64(counts[reason])), plain}) //nolint:gosec // Far below.
		if changes[reason] != 0 {
			line = append(line, segment{fmt.Sprintf(" (%+d)", changes[reason]), red})
		}
	}
	if len(line) == 1 {
		line = append(line, segment{"none", plain})
	}
	return line
}

// replicaFormat lays out the columns of replicas: host, version, time since the start, held and slots, calls.
const replicaFormat = "%-24s %-14s %6s %11s %9s  "

func replicaSection(s top.Snapshot) section {
	ready := 0
	for _, r := range s.Replicas {
		if r.Ready {
			ready++
		}
	}
	title := fmt.Sprintf("REPLICAS %d of %d ready", ready, len(s.Replicas))
	one := section{heading: row{{fmt.Sprintf(replicaFormat, title, "VERSION", "UP", "HELD/SLOTS", "CALLS") + "STATE", faint}}}
	for _, r := range worstFirst(s.Replicas, func(r top.Replica) bool { return !r.Ready }) {
		state, c := "ready", green
		if !r.Ready {
			state, c = "not ready: "+strings.Join(r.NotReady, ", "), red
		}
		name := fit(r.Host, 17) + " " + r.ID[max(len(r.ID)-6, 0):] // The end of an id tells services of one process apart.
		one.rows = append(one.rows, row{
			{fmt.Sprintf(replicaFormat, strings.TrimSpace(name), fit(r.Build, 14), short(max(s.At.Sub(r.Started), 0).Truncate(time.Second)),
				fmt.Sprintf("%d/%d", r.Held, r.Slots), grouped(int64(r.Calls))), plain}, //nolint:gosec // Far below.
			{state, c},
		})
	}
	return one
}

// worstFirst returns what is in trouble before the rest, so that it is seen where there is little room.
func worstFirst[T any](all []T, trouble func(T) bool) []T {
	var worst, rest []T
	for _, one := range all {
		if trouble(one) {
			worst = append(worst, one)
		} else {
			rest = append(rest, one)
		}
	}
	return append(worst, rest...)
}

func replaySection(s top.Snapshot) section {
	if len(s.Replays) == 0 {
		return section{rows: []row{{{"REPLAYS ", faint}, {"none at work", plain}}}}
	}
	one := section{heading: row{{fmt.Sprintf("REPLAYS %d at work", len(s.Replays)), faint}}}
	for _, b := range s.Replays {
		share := 0
		if b.Total > 0 {
			share = 100 * b.Seen / b.Total
		}
		text := fmt.Sprintf("%s  %s of %s letters (%d %%) at %g/s by %s", b.ID, grouped(int64(b.Seen)), grouped(int64(b.Total)), share, b.Rate, b.Actor)
		c := plain
		if quiet := s.At.Sub(b.Updated); quiet > time.Minute {
			text, c = text+", quiet for "+short(quiet), yellow
		}
		one.rows = append(one.rows, row{{text, c}})
	}
	return one
}
