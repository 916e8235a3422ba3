package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/query"
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

// TestAReplayPrintsOneDocument interrupts a replay that prints JSON, and has another operator go on with it at another pace, who is written down.
func TestAReplayPrintsOneDocument(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	keys := m.die(t, "shop", 30)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	var stdout, stderr strings.Builder
	ended := make(chan int, 1)
	go func() {
		args := []string{"dead", "replay", "--client", "shop", "--apply", "--yes", "--rate", "5", "--canary", "0", "--json", "-c", m.config}
		ended <- run(ctx, args, nil, strings.NewReader(""), &stdout, &stderr)
	}()
	require.Eventually(t, func() bool { return strings.Count(fmt.Sprint(m.statuses(t, "shop")), "completed") >= 5 }, time.Minute, 20*time.Millisecond)
	interrupt()
	require.Equal(t, exitNo, <-ended, stderr.String())
	var paused deadletter.Batch
	require.NoError(t, json.Unmarshal([]byte(stdout.String()), &paused), stdout.String())
	require.Equal(t, deadletter.Paused, paused.State)
	require.Less(t, paused.Published, 30)
	require.Contains(t, stderr.String(), "--resume "+paused.ID)

	var done deadletter.Batch
	m.dead(t, exitOK, &done, "replay", "--resume", paused.ID, "--rate", "500", "--canary-wait", "7s", "--by", "lee", "--why", "case 2", "--json")
	require.Equal(t, deadletter.Done, done.State)
	require.InDelta(t, 500, done.Rate, 0)
	require.Equal(t, 7, done.CanaryWait)
	m.answered(t, "shop", keys)
	require.Contains(t, m.dead(t, exitOK, nil, "batches").stdout, "500/s")
	stream, err := m.broker.JS.Stream(t.Context(), "DISCOUNT_AUDIT")
	require.NoError(t, err)
	resumed, err := stream.GetLastMsgForSubject(t.Context(), "discount.audit.replay.resume")
	require.NoError(t, err)
	var event struct {
		Data query.AuditData `json:"data"`
	}
	require.NoError(t, query.ReadStrict(resumed.Data, &event))
	require.Equal(t, query.AuditData{
		Action: query.AuditReplayResume, Actor: "lee", Target: paused.ID, Reason: "case 2",
		After: fmt.Sprintf("resumed after %d published, at 500/s", paused.Published),
	}, event.Data)
}

// TestAnEditPrintsOneDocument has an edit's change beside the JSON, not in it.
func TestAnEditPrintsOneDocument(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	keys := m.die(t, "shop", 1)
	editor := m.editor(t, "s/12345678/87654321/")
	dry := m.edit(t, editor, "--seq", "1", "--json")
	require.Equal(t, exitOK, dry.code, dry.stderr)
	var plan deadletter.Plan
	require.NoError(t, json.Unmarshal([]byte(dry.stdout), &plan), dry.stdout)
	require.Equal(t, 1, plan.Ready)
	require.Contains(t, dry.stderr, `"cardBin": "87654321"`)
	applied := m.edit(t, editor, "--seq", "1", "--apply", "--yes", "--json")
	require.Equal(t, exitOK, applied.code, applied.stderr)
	var done deadletter.Batch
	require.NoError(t, json.Unmarshal([]byte(applied.stdout), &done), applied.stdout)
	require.Equal(t, deadletter.Done, done.State)
	m.answered(t, "shop", keys)
}

// TestReplayOfWhatGotLost loses the stream of retries with a replay in it. Its letters are left out from then on, until they are asked for by name.
func TestReplayOfWhatGotLost(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	worker := m.startWorker(t)
	keys := m.die(t, "shop", 3)
	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	worker.done <- <-worker.done
	var batch deadletter.Batch
	m.dead(t, exitOK, &batch, "replay", "--client", "shop", "--apply", "--yes", "--canary", "0", "--json")
	require.Equal(t, deadletter.Done, batch.State)
	require.Equal(t, 3, batch.Published)
	stream, err := m.broker.JS.Stream(t.Context(), "DISCOUNT_RETRIES")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))

	var plan, again deadletter.Plan
	m.dead(t, exitOK, &plan, "replay", "--client", "shop", "--json")
	require.Equal(t, map[deadletter.Standing]int{deadletter.Owned: 3}, plan.LeftOut)
	m.dead(t, exitOK, &again, "replay", "--client", "shop", "--again", "--json")
	require.Equal(t, 3, again.Ready)
	require.Contains(t, m.dead(t, exitUsage, nil, "replay", "--again", "--apply", "--yes").stderr, "--all", "it picks nothing by itself")
	editor := m.editor(t, "s/12345678/87654321/")
	require.Contains(t, m.edit(t, editor, "--seq", "1", "--apply", "--yes").stdout, "1 left out (1 owned)")
	edited := m.edit(t, editor, "--seq", "1", "--again", "--apply", "--yes")
	require.Equal(t, exitOK, edited.code, edited.stdout+edited.stderr)
	require.Contains(t, edited.stdout, "1 published")

	m.startWorker(t)
	require.Eventually(t, func() bool { return strings.Contains(fmt.Sprint(m.statuses(t, "shop")), "completed") }, time.Minute, 50*time.Millisecond)
	m.dead(t, exitOK, &batch, "replay", "--client", "shop", "--again", "--apply", "--yes", "--json")
	require.Equal(t, 2, batch.Published)
	require.Equal(t, map[deadletter.Standing]int{deadletter.Answered: 1}, batch.LeftOut)
	m.answered(t, "shop", keys)
}

// TestDeadLettersDoNothingToATerminal has a publisher and an operator write what would move the cursor or turn the direction of writing.
func TestDeadLettersDoNothingToATerminal(t *testing.T) {
	t.Parallel()
	const evil = "a\u009b31m\u202ekcatta\U000e0041"
	m := newMorgue(t)
	m.startWorker(t)
	m.misbehave(t, "easypay:code=Z123")
	_, err := m.publisher("shop").Publish(t.Context(), client.Question{
		Provider: query.EasyPay, Lane: query.Bulk, Source: "urn:shop", ID: evil, Correlation: "order-1" + evil,
		EasyPay: &query.EasyPayQuestion{CardBin: "12345678"},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(m.statuses(t, "shop")) == 1 }, time.Minute, 50*time.Millisecond)
	m.misbehave(t, "")
	onlyShown := func(got outcome) string {
		require.Equal(t, exitOK, got.code, got.stderr)
		require.NotContainsf(t, got.stdout, "\u009b", "%q", got.stdout)
		require.NotContainsf(t, got.stdout, "\u202e", "%q", got.stdout)
		require.NotContainsf(t, got.stdout, "\U000e0041", "%q", got.stdout)
		return got.stdout
	}

	require.Contains(t, onlyShown(m.do(t, "dead", "ls")), "a�31m�kcatta�")
	const escaped = `a\u009b31m\u202ekcatta\udb40\udc41`
	shown := onlyShown(m.do(t, "dead", "show", "--seq", "1", "--reveal"))
	require.Contains(t, shown, `"correlationid": "order-1`+escaped)
	require.JSONEq(t, m.dead(t, exitOK, nil, "show", "--seq", "1", "--reveal", "--json").stdout, shown, "it means the same")
	edited := onlyShown(m.edit(t, m.editor(t, "s/order-1/order-2/"), "--seq", "1", "--apply", "--yes", "--by", evil))
	require.Contains(t, edited, `+   "correlationid": "order-2`+escaped)
	require.Contains(t, onlyShown(m.do(t, "dead", "batches")), "a�31m�kcatta�")
	require.Contains(t, m.do(t, "dead", "ls", "--json").stdout, evil, "machines get what is stored")

	var groups strings.Builder
	require.NoError(t, (&terminal{stdout: &groups}).printGroups([]deadletter.Group{{Cause: "c", Upstream: evil}}))
	require.Contains(t, onlyShown(outcome{stdout: groups.String()}), "a�31m�kcatta�", "an upstream's code")
}
