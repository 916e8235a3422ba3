package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/top"
)

var update = flag.Bool("update", false, "write the golden files of top anew")

func ms(n float64) *float64 { return &n }

// busy is a snapshot with something of everything.
func busy() top.Snapshot {
	scheduled := uint64(1204)
	now := at()
	return top.Snapshot{
		At: now,
		Accounts: []top.Account{
			{
				Account: "easypay/default", Rates: top.Rates{Completed: 103.2, Failed: 0.5, P50: ms(12), P99: ms(98)},
				Pace: &top.Pace{Ceiling: 400, Now: 355.14}, Breakers: map[string]int{"closed": 3},
			},
			{
				Account: "easypay/outlet-with-a-long-name", Rates: top.Rates{Completed: 1, P50: ms(1200), P99: ms(61000)},
				Pace: &top.Pace{Ceiling: 7, Now: 7, BlockedUntil: now.Add(12 * time.Second)}, Breakers: map[string]int{"closed": 2, "half-open": 1},
			},
			{
				Account: "unionpay/default", Pace: &top.Pace{Ceiling: 50, Paused: true}, Breakers: map[string]int{"closed": 2, "open": 1},
			},
			{Account: "unionpay/other"},
		},
		Lanes: []top.Lane{
			{Provider: "easypay", Lane: "interactive", InFlight: 12, Oldest: 85, Rates: top.Rates{Completed: 3, Failed: 0.2, P50: ms(10), P99: ms(80)}},
			{Provider: "easypay", Lane: "bulk", Waiting: 1234567, Due: 17, InFlight: 60, Oldest: 7_500_000},
			{Provider: "unionpay", Lane: "interactive"},
			{Provider: "unionpay", Lane: "bulk"},
		},
		Scheduled: &scheduled,
		Dead: []top.Dead{
			{Provider: "easypay", Reason: "malformed", Count: 3}, {Provider: "easypay", Reason: "rejected", Count: 17, Change: 2},
			{Provider: "unionpay", Reason: "rejected", Count: 4, Change: -1}, {Provider: "unionpay", Reason: "exhausted", Count: 0},
		},
		Streams: []top.Stream{{Name: "RESULTS", Full: 0.2}, {Name: "QUERIES", Full: 0.93}},
		Replicas: []top.Replica{
			{
				ID: "VnH8OecAAAAfq7zgd", Started: now.Add(-3 * time.Hour),
				Replica: ask.Replica{Build: "v0.3.0", Host: "worker-7d9f8-abcde", Ready: true, Slots: 120, Held: 17, Calls: 1234567},
			},
			{ID: "x", Started: now.Add(-5 * time.Second), Replica: ask.Replica{Build: "v0.4.0-rc.1+build.77", Host: "b", NotReady: []string{"broker", "requests"}, Slots: 120}},
			{ID: "VnH8OecAAAAfq7zge", Started: now.Add(time.Second), Replica: ask.Replica{Build: "v0.3.0", Host: "c", Ready: true, Slots: 120}},
		},
		Replays: []top.Batch{
			{ID: "k3v7", Total: 10000, Seen: 1200, Rate: 50, Actor: "kim@desk", Updated: now},
			{ID: "q9x2", Total: 0, Rate: 0.5, Actor: "lee@desk", Updated: now.Add(-10 * time.Minute)},
		},
	}
}

// full is a snapshot that no small screen can hold.
func full() top.Snapshot {
	s := busy()
	s.Problems = []string{"connection lost, waiting for the broker", "the pace can't be read (broker_unreachable)"}
	for i := range 20 {
		s.Accounts = append(s.Accounts, top.Account{Account: fmt.Sprintf("easypay/mall-%02d", i)})
		s.Replicas = append(s.Replicas, top.Replica{ID: fmt.Sprintf("id-%04d", i), Started: s.At, Replica: ask.Replica{Host: "d", Ready: true}})
	}
	return s
}

func TestTopViewGolden(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		snapshot      top.Snapshot
		width, height int
	}{
		"busy-80x24":   {busy(), 80, 24},
		"busy-120x40":  {busy(), 120, 40},
		"full-80x24":   {full(), 80, 24},
		"full-120x40":  {full(), 120, 40},
		"empty-80x24":  {top.Snapshot{At: at(), Problems: []string{"no replica answers stats requests"}}, 80, 24},
		"busy-all":     {busy(), 0, 0},
		"full-40x10":   {full(), 40, 10},
		"busy-cramped": {busy(), 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			view := topView{address: "nats://127.0.0.1:4222", every: 2 * time.Second, width: test.width, height: test.height}
			lines := view.lines(test.snapshot)
			if test.height > 0 {
				require.LessOrEqual(t, len(lines), test.height)
			}
			for _, line := range lines {
				if test.width > 0 {
					require.LessOrEqual(t, utf8.RuneCountInString(line), test.width, line)
				}
			}
			view.pen.on = true
			require.Equal(t, lines, strings.Split(uncoloured(strings.Join(view.lines(test.snapshot), "\n")), "\n"), "colours change no column")
			path := filepath.Join("testdata", "top", name+".txt")
			got := strings.Join(lines, "\n") + "\n"
			if *update {
				require.NoError(t, os.WriteFile(path, []byte(got), 0o600))
			}
			want, err := os.ReadFile(path)
			require.NoError(t, err)
			require.Equal(t, string(want), got)
		})
	}
}

func TestEverySizeFits(t *testing.T) {
	t.Parallel()
	for _, s := range []top.Snapshot{busy(), full(), {}} {
		for height := 1; height < 60; height++ {
			view := topView{width: 80, height: height}
			lines := view.lines(s)
			require.LessOrEqual(t, len(lines), height)
			if height > 22 {
				require.Contains(t, strings.Join(lines, "\n"), "REPLAYS", "every part is there at %d lines", height)
			}
		}
	}
}

func TestTopViewIsHarmless(t *testing.T) {
	t.Parallel()
	s := top.Snapshot{
		Replicas: []top.Replica{{ID: "\x1b[2J", Replica: ask.Replica{Host: "\x1b]0;x\a", Build: "\n\n", NotReady: []string{"\x9b"}}}},
		Replays:  []top.Batch{{ID: "\x1b[A", Actor: "\u202e"}},
	}
	text := strings.Join(topView{}.lines(s), "")
	for _, c := range text {
		require.True(t, c >= ' ' && c != '\u202e', "%q", c)
	}
}

func TestPaceInAFewCharacters(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]*top.Pace{
		"?": nil, "broken": {Broken: true, Paused: true}, "paused": {Paused: true, Now: 3}, "blocked 12s": {BlockedUntil: at().Add(12 * time.Second)},
		"355.1/400": {Now: 355.14, Ceiling: 400}, "-/400": {Ceiling: 400}, "7/-": {Now: 7}, "-/-": {}, "0.5/1": {Now: 0.5, Ceiling: 1, BlockedUntil: at()},
	} {
		require.Equal(t, want, paceOf(p, at()))
	}
	for want, states := range map[string]map[string]int{
		"?": nil, "closed": {"closed": 2}, "open": {"open": 2}, "half-open 1 of 2": {"half-open": 1, "closed": 1},
		"open 1 of 3": {"open": 1, "half-open": 1, "closed": 1},
	} {
		got, _ := breakersOf(states)
		require.Equal(t, want, got)
	}
}
