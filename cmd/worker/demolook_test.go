package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// paste runs a printed command line as somebody does who pastes it into a shell.
func paste(t *testing.T, line string) string {
	t.Helper()
	shell := exec.CommandContext(t.Context(), "sh", "-c", line)
	shell.Env = append(os.Environ(), asProcess+"=worker")
	output, err := shell.CombinedOutput()
	require.NoError(t, err, "%s\n%s", line, output)
	require.NotContains(t, string(output), "6200000000000005")
	return string(output)
}

// pasteLine starts a printed command line that stays.
func pasteLine(t *testing.T, line string) *process {
	t.Helper()
	args := strings.Fields(line)
	require.Equal(t, self(), args[0])
	for i, word := range args {
		args[i] = strings.Trim(word, "'")
	}
	return start(t, "worker", t.TempDir(), args[1:]...)
}

// requireWork pastes the commands that look around and sees that each of them works, and that the replay is answered.
func requireWork(t *testing.T, lines []string) {
	t.Helper()
	said := map[string]string{}
	for _, line := range lines {
		said[strings.Join(strings.Fields(strings.TrimPrefix(line, self()))[:2], " ")] += paste(t, line)
	}
	require.Contains(t, said["dead groups"], "forbidden_card_data")
	require.Contains(t, said["dead ls"], "unknown-code-0")
	require.Contains(t, said["dead show"], `"upstream_broken"`)
	require.Contains(t, said["dead replay"], "5 of 5 letters would be replayed")
	require.Contains(t, said["dead replay"], "is done: 5 published")
	require.Contains(t, said["dead batches"], "done")
	dryRun := lines[3]
	require.Contains(t, dryRun, "dead replay --cause ")
	require.Eventually(t, func() bool { return strings.Contains(paste(t, dryRun), "5 answered") }, time.Minute, 200*time.Millisecond,
		"the upstream behaves now")
}

// TestDemoWithFailuresThatStays runs the demo and, while it stays, exactly the commands that it printed.
func TestDemoWithFailuresThatStays(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "a place with 'quotes'")
	p := start(t, "worker", t.TempDir(), "demo", "--with-failures", "--stay", "--queries", "20", "--keep", kept)
	require.Eventually(t, func() bool { return strings.Contains(p.output.String(), " dead batches ") }, time.Minute, 50*time.Millisecond)
	printed := p.output.String()
	require.Contains(t, printed, "completed              20")
	require.Contains(t, printed, "dead letters           21")
	require.Contains(t, printed, "Dead letters of 9 causes:")
	require.Contains(t, printed, "Every query ended in exactly one result.")
	require.Regexp(t, `the broker at nats://127\.0\.0\.1:\d+`, printed)
	_, after, found := strings.Cut(printed, "in another terminal:\n")
	require.True(t, found)
	var lines []string
	for _, line := range regexp.MustCompile(`(?m)^  (.+)$`).FindAllStringSubmatch(after, -1) {
		lines = append(lines, line[1])
	}
	requireWork(t, lines)
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, <-p.done, "Ctrl-C ends it, and that is no failure")
	p.done <- nil
}

// TestDemoWithFailuresAsData runs the demo to its end, and then what it says: open it again, look around.
func TestDemoWithFailuresAsData(t *testing.T) {
	t.Parallel()
	got := command(t, "", "demo", "--with-failures", "--queries", "8", "--json")
	require.Equal(t, exitOK, got.code, got.stderr)
	var shown struct {
		Kept     string
		Sent     int
		Missing  int
		Causes   []struct{ Code string }
		Commands []string
	}
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &shown), got.stdout)
	t.Cleanup(func() { _ = os.RemoveAll(shown.Kept) })
	require.Equal(t, 29, shown.Sent)
	require.Zero(t, shown.Missing)
	require.GreaterOrEqual(t, len(shown.Causes), 5)
	require.DirExists(t, shown.Kept, "its letters are left")
	reopened := pasteLine(t, shown.Commands[0])
	require.Eventually(t, func() bool { return strings.Contains(reopened.output.String(), " dead batches ") }, time.Minute, 50*time.Millisecond)
	requireWork(t, shown.Commands[1:])
	require.NoError(t, reopened.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, <-reopened.done)
	reopened.done <- nil
}

func TestDemoThatStaysWithoutFailures(t *testing.T) {
	t.Parallel()
	p := start(t, "worker", t.TempDir(), "demo", "--stay", "--queries", "4")
	require.Eventually(t, func() bool { return strings.Contains(p.output.String(), " pace show ") }, time.Minute, 50*time.Millisecond)
	printed := p.output.String()
	require.NotContains(t, printed, "Dead letters of")
	for _, line := range regexp.MustCompile(`(?m)^  (.+)$`).FindAllStringSubmatch(printed[strings.Index(printed, "another terminal"):], -1) {
		require.NotEmpty(t, paste(t, line[1]))
	}
	config := regexp.MustCompile(`-c (\S+)`).FindStringSubmatch(printed)[1]
	require.NoError(t, p.cmd.Process.Signal(os.Interrupt))
	require.NoError(t, <-p.done)
	p.done <- nil
	require.NoDirExists(t, filepath.Dir(config), "without --keep nothing is left")
}

func TestDemoUsage(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"reopen and stay":     {"--reopen", "x", "--stay"},
		"reopen and keep":     {"--reopen", "x", "--keep", "y"},
		"reopen and failures": {"--reopen", "x", "--with-failures"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", append([]string{"demo"}, args...)...)
			require.Equal(t, exitUsage, got.code)
			require.Contains(t, got.stderr, "--reopen goes with none")
		})
	}
	got := command(t, "", "demo", "--reopen", t.TempDir())
	require.Equal(t, exitNo, got.code)
	require.Contains(t, got.stderr, "holds no demo")
}

func TestShellWord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/usr/bin/worker": "/usr/bin/worker", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "~x": "'~x'",
	} {
		require.Equal(t, want, shellWord(text))
		output, err := exec.CommandContext(t.Context(), "sh", "-c", "printf %s "+shellWord(text)).Output()
		require.NoError(t, err)
		require.Equal(t, text, string(output))
	}
}
