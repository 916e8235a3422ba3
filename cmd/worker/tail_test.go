package main

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTailAtTheTerminal follows a worker with real processes: what dies and what is answered, through a restart of the broker.
func TestTailAtTheTerminal(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	keys := m.die(t, "shop", 3)
	m.askOne(t, "mall")

	all := m.do(t, "tail", "--no-follow")
	require.Equal(t, exitOK, all.code, all.stderr)
	require.Equal(t, 1+3+3+1, strings.Count(all.stdout, "\n"), "a heading, three results, three letters, one result")
	require.NotContains(t, all.stdout, "\x1b", "no colours but on a terminal")
	for name, test := range map[string]struct {
		flags []string
		lines int
		holds string
	}{
		"results":      {[]string{"--what", "results"}, 4, "failed rejected"},
		"dead letters": {[]string{"--what", "dead"}, 3, "dead rejected"},
		"client":       {[]string{"--client", "mall"}, 1, "completed ok"},
		"completed":    {[]string{"--outcome", "completed"}, 1, "mall"},
		"reason":       {[]string{"--reason", "rejected", "--provider", "easypay", "--lane", "bulk"}, 6, "upstream_broken/Z123"},
		"key":          {[]string{"--key", keys[1], "--wide"}, 2, keys[1]},
		"order":        {[]string{"--order-id", "order-2", "--since", "1h"}, 2, "dead rejected"},
		"id":           {[]string{"--query-id", "shop-0", "--last", "1", "--what", "results"}, 1, "failed rejected"},
		"code":         {[]string{"--code", "upstream_broken", "--last", "4"}, 4, "dead rejected"},
	} {
		got := m.do(t, append([]string{"tail", "--no-follow"}, test.flags...)...)
		require.Equal(t, exitOK, got.code, name+got.stderr)
		require.Equal(t, test.lines, strings.Count(got.stdout, "\n")-1, name+got.stdout)
		require.Contains(t, got.stdout, test.holds, name)
	}
	require.Contains(t, m.do(t, "tail", "--no-follow", "--client", "nobody").stderr, "no such events")
	m.tailJSON(t, keys[0])
	m.tailThroughARestart(t)
}

// askOne has one query answered.
func (m *morgue) askOne(t *testing.T, name string) {
	t.Helper()
	got := m.do(t, "ask", "easypay", "--client", name, "--card-cd", "008", "--amount", "151004", "--timeout", "1m")
	require.Equal(t, exitOK, got.code, got.stderr)
}

// tailJSON reads the lines that machines read.
func (m *morgue) tailJSON(t *testing.T, key string) {
	t.Helper()
	got := m.do(t, "tail", "--no-follow", "--json", "--key", key)
	require.Equal(t, exitOK, got.code, got.stderr)
	lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
	require.Len(t, lines, 2)
	for _, text := range lines {
		var line struct {
			Stream   string    `json:"stream"`
			Sequence uint64    `json:"sequence"`
			Stored   time.Time `json:"stored"`
			Subject  string    `json:"subject"`
			Event    struct {
				Type    string `json:"type"`
				Subject string `json:"subject"`
			} `json:"event"`
		}
		require.NoError(t, json.Unmarshal([]byte(text), &line))
		require.Contains(t, line.Subject, key)
		require.Equal(t, key, line.Event.Subject)
		require.Positive(t, line.Sequence)
		require.WithinDuration(t, time.Now(), line.Stored, 10*time.Minute)
		require.Equal(t, line.Stream == "DISCOUNT_DEAD", line.Event.Type == "discount.query.dead.v1")
	}
}

// tailThroughARestart follows while the broker is killed and started again, and while something that is no event is stored.
func (m *morgue) tailThroughARestart(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	stdout, stderr, ended := &safeBuffer{}, &safeBuffer{}, make(chan int, 1)
	go func() {
		ended <- run(ctx, []string{"tail", "--last", "1", "-c", m.config}, nil, strings.NewReader(""), stdout, stderr)
	}()
	require.Eventually(t, func() bool { return strings.Count(stdout.String(), "\n") == 2 }, time.Minute, 20*time.Millisecond)
	m.nats.kill(t)
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "Connection lost") }, time.Minute, 20*time.Millisecond)
	m.startNATS(t)
	require.Eventually(t, func() bool { return strings.Contains(stderr.String(), "connection back") }, time.Minute, 20*time.Millisecond)
	require.Eventually(t, func() bool {
		_, err := m.broker.JS.Publish(t.Context(), "discount.result.k.easypay.shop.completed", []byte("no event"))
		return err == nil
	}, time.Minute, 20*time.Millisecond)
	m.askOne(t, "after")
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("tail wrote:\n%s\n%s", stdout, stderr)
		}
	})
	require.Eventually(t, func() bool { return strings.Contains(stdout.String(), "  after  ") }, time.Minute, 20*time.Millisecond)
	require.Contains(t, stderr.String(), "can't be read (bad_json)")
	require.Equal(t, 1, strings.Count(stdout.String(), "after  "))
	stop()
	select {
	case code := <-ended:
		require.Equal(t, exitOK, code, stderr.String())
	case <-time.After(time.Minute):
		require.FailNow(t, "tail does not end")
	}
}

// TestTailIntoAPipeThatIsClosed is `worker tail | head -1`.
func TestTailIntoAPipeThatIsClosed(t *testing.T) {
	t.Parallel()
	s := newEmbedded(t, "")
	require.Equal(t, exitOK, s.do(t, "ask", "easypay", "--card-cd", "008", "--timeout", "1m").code)
	tailing := start(t, "worker", s.dir, "tail", "--no-follow", "-c", s.config)
	tailing.done <- <-tailing.done
	require.Equal(t, exitOK, tailing.cmd.ProcessState.ExitCode(), tailing.output.String())

	reader, writer := io.Pipe()
	require.NoError(t, reader.Close())
	var stderr safeBuffer
	require.Equal(t, exitNo, run(t.Context(), []string{"tail", "--no-follow", "-c", s.config}, nil, strings.NewReader(""), writer, &stderr))
	require.Contains(t, stderr.String(), "write output", "any other failure to write is told")
	code, output := intoClosedPipe(t, s.dir, "tail", "--last", "1", "-c", s.config)
	require.Equal(t, exitOK, code)
	require.Empty(t, output)
	code, output = intoClosedPipe(t, s.dir, "top", "--json", "-c", s.config)
	require.Equal(t, exitOK, code)
	require.Empty(t, output)
}

func TestTailOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags []string
		code  int
		says  string
	}{
		"unknown outcome":   {[]string{"--outcome", "maybe"}, exitUsage, "--outcome"},
		"no token":          {[]string{"--client", "a.b"}, exitUsage, "letters, digits"},
		"too many":          {[]string{"--last", "10001"}, exitUsage, "from 0 to 10000"},
		"negative time":     {[]string{"--since=-1m"}, exitUsage, "--since"},
		"dead and outcome":  {[]string{"--what", "dead", "--outcome", "failed"}, exitUsage, "no outcome"},
		"completed, reason": {[]string{"--outcome", "completed", "--reason", "rejected"}, exitUsage, "no reason"},
		"nobody there":      {[]string{"-c", "testdata/nobody.yaml"}, exitUnreachable, "no NATS server answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", append([]string{"tail"}, test.flags...)...)
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stderr, test.says)
		})
	}
	for _, words := range []string{"tail", "top"} {
		help := command(t, "", words, "--help")
		require.Equal(t, exitOK, help.code)
		require.Contains(t, help.stdout, "Example:\n")
		require.Contains(t, help.stdout, "worker "+words+" -")
	}
}
