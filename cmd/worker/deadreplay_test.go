package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/deadletter"
)

// howFar is the progress of a replay of 60 letters of which some were dealt with, all of them published.
func howFar(seen int, eta time.Duration) deadletter.Progress {
	return deadletter.Progress{Batch: deadletter.Batch{Total: 60, Seen: seen, Published: seen}, Left: 60 - seen, ETA: eta}
}

func TestProgressLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		progress deadletter.Progress
		says     string
	}{
		"at the start":         {howFar(0, 6*time.Second), "published 0, left 60 of 60, about 6s to go"},
		"midway":               {howFar(20, 4*time.Second+400*time.Millisecond), "published 20, left 40 of 60, about 4s to go"},
		"in hours":             {howFar(20, 3*time.Hour+25*time.Minute+45*time.Second), "published 20, left 40 of 60, about 3h25m45s to go"},
		"at the end":           {howFar(60, 0), "published 60, left 0 of 60, about 0s to go"},
		"less than a second":   {howFar(58, 200*time.Millisecond), "published 58, left 2 of 60, about 0s to go"},
		"some were left out":   {deadletter.Progress{Batch: deadletter.Batch{Total: 9, Seen: 5, Published: 3}, Left: 4, ETA: time.Second}, "published 3, left 4 of 9, about 1s to go"},
		"while canaries prove": {deadletter.Progress{Batch: deadletter.Batch{Total: 9, Seen: 5, Published: 5}, Left: 4, ETA: time.Second, Waiting: true}, "published 5, left 4 of 9, about 1s to go, waiting for the first ones"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.says, progressLine(test.progress))
		})
	}
}

// TestProgressElsewhere is what a log of a job gets: a line for each change.
func TestProgressElsewhere(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	show, done := replayProgress(&out)
	for _, seen := range []int{0, 0, 30, 30, 60} {
		show(howFar(seen, time.Duration(60-seen)*time.Second))
	}
	done()
	require.Equal(t, "published 0, left 60 of 60, about 1m0s to go\npublished 30, left 30 of 60, about 30s to go\n"+
		"published 60, left 0 of 60, about 0s to go\n", out.String())
}

// TestProgressBar is what a person at a terminal gets: each look is drawn over the last one, and what follows begins on a line of its own.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		show, done := replayBar(&out)
		for _, look := range []struct {
			seen int
			bar  string
		}{
			{0, "   0% |                              | (0/60)"}, {30, "  50% |███████████████               | (30/60)"},
			{60, " 100% |██████████████████████████████| (60/60)"},
		} {
			time.Sleep(time.Second)
			out.Reset()
			p := howFar(look.seen, time.Duration(60-look.seen)*time.Second)
			show(p)
			drawn := strings.Split(out.String(), "\r")
			require.Contains(t, drawn[len(drawn)-1], progressLine(p)+look.bar, "what is drawn last, and so stays")
			require.NotContains(t, out.String(), "\n")
		}
		out.Reset()
		done()
		require.Equal(t, "\n", out.String())
	})
}

// TestInterruptedReplay presses Ctrl-C in the middle of a replay: it ends by itself, says how to go on, and that goes on.
func TestInterruptedReplay(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	keys := m.die(t, "shop", 40)
	replaying := start(t, "worker", m.dir, "dead", "replay", "--client", "shop", "--apply", "--yes", "--rate", "5", "--canary", "2", "-c", m.config)
	require.Eventually(t, func() bool {
		return strings.Count(fmt.Sprint(m.statuses(t, "shop")), "completed") >= 8
	}, time.Minute, 20*time.Millisecond)
	require.NoError(t, replaying.cmd.Process.Signal(os.Interrupt))
	replaying.done <- <-replaying.done
	said := replaying.output.String()
	require.Equal(t, exitNo, replaying.cmd.ProcessState.ExitCode(), said)
	require.Regexp(t, `published \d+, left \d+ of 40, about \d+s to go\n`, said)
	_, rest, found := strings.Cut(said, "Go on with: worker dead replay --resume ")
	require.True(t, found, said)
	id, _, _ := strings.Cut(rest, "\n")
	require.Contains(t, said, "\nreplay "+id+"\n")

	var batches []deadletter.Batch
	m.dead(t, exitOK, &batches, "batches", "--json")
	require.Len(t, batches, 1)
	require.Equal(t, id, batches[0].ID)
	require.Equal(t, deadletter.Paused, batches[0].State)
	require.GreaterOrEqual(t, batches[0].Published, 8, "what it has done is on record")
	require.Less(t, batches[0].Published, 40)
	var done deadletter.Batch
	m.dead(t, exitOK, &done, "replay", "--resume", id, "--json")
	require.Equal(t, deadletter.Done, done.State)
	require.Equal(t, 40, done.Published)
	m.answered(t, "shop", keys)
}
