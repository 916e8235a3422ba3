package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tea "github.com/charmbracelet/bubbletea"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/top"
)

// looking is a looker that counts how often it looked.
type looking struct{ times atomic.Int64 }

// Snapshot implements looker.
func (l *looking) Snapshot(context.Context) top.Snapshot {
	s := busy()
	s.Problems = []string{fmt.Sprintf("look %d.", l.times.Add(1))}
	return s
}

// screen is a program that draws on a terminal of a test.
type screen struct {
	t     *testing.T
	keys  io.Writer
	drawn *safeBuffer
	ended chan error
	looks *looking
}

func newScreen(t *testing.T, ctx context.Context, width, height int) *screen {
	t.Helper()
	reader, writer := io.Pipe()
	s := &screen{t: t, keys: writer, drawn: &safeBuffer{}, ended: make(chan error, 1), looks: &looking{}}
	t.Cleanup(func() { _ = writer.Close() })
	model := newTopModel(ctx, s.looks, 20*time.Millisecond, topView{address: "nats://x", every: time.Second})
	model.view.width, model.view.height = width, height
	go func() { s.ended <- model.run(tea.WithInput(reader), tea.WithOutput(s.drawn)) }()
	return s
}

// shows waits until a snapshot has been drawn that is not older than the one of the given number. Not every one is drawn.
func (s *screen) shows(number int64) {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		_, rest, _ := cutLast(s.drawn.String(), "look ")
		digits, _, _ := strings.Cut(rest, ".")
		shown, err := strconv.ParseInt(digits, 10, 64)
		return err == nil && shown >= number
	}, time.Minute, 5*time.Millisecond)
	require.Contains(s.t, s.drawn.String(), "easypay/default")
}

func cutLast(text, at string) (before, after string, found bool) {
	i := strings.LastIndex(text, at)
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+len(at):], true
}

// end waits until the program has ended and checks that the terminal is as it was.
func (s *screen) end() {
	s.t.Helper()
	select {
	case err := <-s.ended:
		require.NoError(s.t, err)
	case <-time.After(time.Minute):
		require.FailNow(s.t, "top does not end")
	}
	drawn := s.drawn.String()
	require.Greater(s.t, strings.LastIndex(drawn, "\x1b[?1049l"), strings.LastIndex(drawn, "\x1b[?1049h"), "the other screen is back")
	require.Greater(s.t, strings.LastIndex(drawn, "\x1b[?25h"), strings.LastIndex(drawn, "\x1b[?25l"), "and the cursor")
}

func TestTopLooksAgainUntilSomebodyQuits(t *testing.T) {
	t.Parallel()
	for name, key := range map[string]string{"q": "q", "Q": "Q", "Ctrl-C": "\x03", "Esc": "\x1b"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScreen(t, t.Context(), 80, 24)
			s.shows(3)
			_, err := io.WriteString(s.keys, "x")
			require.NoError(t, err)
			s.shows(s.looks.times.Load() + 1)
			_, err = io.WriteString(s.keys, key)
			require.NoError(t, err)
			s.end()
		})
	}
}

func TestTopEndsWithItsCommand(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := newScreen(t, ctx, 80, 24)
	s.shows(1)
	cancel()
	s.end()
}

func TestTopFollowsTheSizeOfTheTerminal(t *testing.T) {
	t.Parallel()
	model := newTopModel(t.Context(), &looking{}, time.Second, topView{})
	require.Equal(t, "Looking ...", model.View())
	changed, command := model.Update(tea.WindowSizeMsg{Width: 40, Height: 10})
	require.Nil(t, command)
	changed, command = changed.Update(looked{full()})
	require.NotNil(t, command, "it looks again")
	lines := strings.Split(changed.View(), "\n")
	require.LessOrEqual(t, len(lines), 10)
	changed, _ = changed.Update(tea.WindowSizeMsg{Width: 120, Height: 60})
	require.Greater(t, len(strings.Split(changed.View(), "\n")), 30)
	_, command = changed.Update(lookAgain{})
	require.IsType(t, looked{}, command())
}

// TestTopOfAWorker runs the command against a worker whose upstream goes down.
func TestTopOfAWorker(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	m.die(t, "shop", 3)
	for i := range 5 {
		m.askOne(t, fmt.Sprintf("mall%d", i))
	}
	once := m.do(t, "top", "--once")
	require.Equal(t, exitOK, once.code, once.stderr)
	for _, text := range []string{
		"worker top", "easypay/default", "easypay interactive", "DEAD LETTERS rejected 3", "REPLICAS 1 of 1 ready", "REPLAYS none at work", "/5000  closed",
	} {
		require.Contains(t, once.stdout, text)
	}
	require.NotContains(t, once.stdout, "\x1b")
	require.Equal(t, exitOK, m.do(t, "top").code, "without a terminal it shows itself once")

	m.misbehave(t, "easypay:status=503")
	for i := range 12 { // As many as it takes for the breaker, and they get no answer.
		m.do(t, "ask", "easypay", "--client", fmt.Sprintf("down%d", i), "--card-cd", "008", "--timeout", "300ms")
	}
	lines := m.topLines(t)
	var s top.Snapshot
	require.Eventually(t, func() bool {
		s = <-lines
		return s.Accounts[0].Breakers["open"] == 1
	}, time.Minute, time.Millisecond, "the breaker is shown open")
	require.Equal(t, "easypay/default", s.Accounts[0].Account)
	require.InDelta(t, 5000, s.Accounts[0].Pace.Ceiling, 0)
	require.Positive(t, *s.Accounts[0].P99)
	require.Len(t, s.Replicas, 1)
	require.Positive(t, s.Replicas[0].Calls)
	require.Len(t, s.Lanes, 2)
}

// topLines runs `worker top --json` until the test ends and returns its snapshots.
func (m *morgue) topLines(t *testing.T) <-chan top.Snapshot {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	ended, lines := make(chan int, 1), make(chan top.Snapshot, 1000)
	go func() {
		ended <- run(ctx, []string{"top", "--json", "--interval", "500ms", "-c", m.config}, nil, strings.NewReader(""), writer, io.Discard)
		_ = writer.Close()
	}()
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(reader); scanner.Scan(); {
			var s top.Snapshot
			if json.Unmarshal(scanner.Bytes(), &s) == nil {
				lines <- s
			}
		}
	}()
	t.Cleanup(func() {
		stop()
		require.Equal(t, exitOK, <-ended)
	})
	return lines
}

func TestTopOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flags []string
		code  int
		says  string
	}{
		"too often":    {[]string{"--interval", "100ms"}, exitUsage, "from 500ms to 1h"},
		"too seldom":   {[]string{"--interval", "2h"}, exitUsage, "from 500ms to 1h"},
		"nobody there": {[]string{"--once", "-c", "testdata/nobody.yaml"}, exitUnreachable, "no NATS server answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", append([]string{"top"}, test.flags...)...)
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stderr, test.says)
		})
	}
}
