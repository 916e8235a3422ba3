//go:build replaybench

package main

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/deadletter"
)

// TestReplayOfTenThousand replays 10,000 letters at 500/s, kills the replaying process twice and restarts the broker once on the way. While
// nothing is killed the rate must hold within 5 %, hardly anything is published twice, and in the end each query has exactly one completed result.
func TestReplayOfTenThousand(t *testing.T) {
	t.Parallel()
	const letters, rate = 10_000, 500
	m := newMorgue(t)
	m.startWorker(t)
	began := time.Now()
	keys := m.die(t, "shop", letters)
	t.Logf("%d letters died in %s", letters, time.Since(began))

	var published atomic.Int64
	_, err := m.broker.Conn.Subscribe("discount.retry.due.easypay.bulk.shop", func(*nats.Msg) { published.Add(1) })
	require.NoError(t, err)
	reaches := func(count int64) {
		t.Helper()
		require.Eventually(t, func() bool { return published.Load() >= count }, 2*time.Minute, time.Millisecond)
	}
	// steady checks the rate between two counts.
	steady := func(from, to int64) {
		t.Helper()
		reaches(from)
		first, at := published.Load(), time.Now()
		reaches(to)
		got := float64(published.Load()-first) / time.Since(at).Seconds()
		t.Logf("from %d to %d: %.1f/s", from, to, got)
		require.InEpsilon(t, rate, got, 0.05)
	}

	replaying := start(t, "worker", m.dir, "dead", "replay", "--all", "--apply", "--yes", "--rate", "500", "-c", m.config)
	steady(500, 2500)
	replaying.kill(t)
	_, rest, _ := strings.Cut(replaying.output.String(), "\nreplay ")
	id, _, _ := strings.Cut(rest, "\n")
	resume := func() *process { return start(t, "worker", m.dir, "dead", "replay", "--resume", id, "-c", m.config) }
	replaying = resume()
	steady(3000, 5500)
	replaying.kill(t)
	replaying = resume()
	steady(6000, 8000)
	m.nats.kill(t)
	m.startNATS(t)
	replaying.done <- <-replaying.done
	require.Equal(t, exitOK, replaying.cmd.ProcessState.ExitCode(), replaying.output.String())

	m.answered(t, "shop", keys)
	var plan deadletter.Plan
	m.dead(t, exitOK, &plan, "replay", "--json")
	require.Equal(t, letters, plan.LeftOut[deadletter.Answered])
	t.Logf("%d messages were published for %d letters", published.Load(), letters)
	// Each of the three kills leaves the last handful in doubt, and no more is published again: ten letters at this rate. A handful is never larger
	// than 32, and the difference is for a broker that comes back so slowly that the same handful is sent to it once or twice more.
	require.LessOrEqual(t, published.Load(), int64(letters+3*32))
}
