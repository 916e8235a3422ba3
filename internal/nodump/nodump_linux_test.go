package nodump_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"discountquery.example/worker/internal/nodump"
)

// asProcess makes this test binary be another process: one that forbids dumps, one that does not, or one that looks at such a process. What
// can't be undone must not be done to the process of the tests.
const asProcess = "DISCOUNT_TEST_PROCESS"

// nobody is the user as whom processes run if the tests run as root, to whom nothing is forbidden.
const nobody = 65534

func TestMain(m *testing.M) {
	switch os.Getenv(asProcess) {
	case "forbidden":
		os.Exit(look(nodump.Forbid))
	case "as usual":
		os.Exit(look(func() error { return nil }))
	case "stranger":
		os.Exit(open(os.Args[1:]))
	default:
		goleak.VerifyTestMain(m)
	}
}

// report is what a process says about itself.
type report struct {
	Soft, Hard, HardBefore uint64
	Dumpable               int
	// Limits is its line of /proc/self/limits.
	Limits string
	// Metrics are the figures that the Prometheus client reads of this process, by name.
	Metrics map[string]float64
}

// look makes this a process that could be dumped, then does what is to be tested, prints what it is like now, and waits for the end of its
// input.
func look(prepare func() error) int {
	var r report
	err := errors.Join(becomeNobody(), unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0), raise(&r), prepare(), describe(&r))
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func becomeNobody() error {
	if os.Getuid() != 0 {
		return nil
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody))
}

// raise allows core dumps as far as it may.
func raise(r *report) error {
	var limit unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	limit.Cur, r.HardBefore = limit.Max, limit.Max
	return errors.Join(err, unix.Setrlimit(unix.RLIMIT_CORE, &limit))
}

func describe(r *report) error {
	var limit unix.Rlimit
	limitErr := unix.Getrlimit(unix.RLIMIT_CORE, &limit)
	r.Soft, r.Hard = limit.Cur, limit.Max
	dumpable, dumpableErr := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	r.Dumpable = dumpable
	limits, readErr := os.ReadFile("/proc/self/limits")
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") {
			r.Limits = strings.Join(strings.Fields(line), " ")
		}
	}
	metrics, gatherErr := gather()
	r.Metrics = metrics
	return errors.Join(limitErr, dumpableErr, readErr, gatherErr)
}

// gather returns the figures of this process as a worker shows them.
func gather() (map[string]float64, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{ReportErrors: true}))
	families, err := registry.Gather()
	metrics := map[string]float64{}
	for _, family := range families {
		metric := family.GetMetric()[0]
		metrics[family.GetName()] = metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
	}
	return metrics, err
}

// open opens files as nobody, and prints which it could.
func open(names []string) int {
	if err := becomeNobody(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, name := range names {
		file, err := os.Open(name)
		if err == nil {
			fmt.Println(name)
			_ = file.Close()
		}
	}
	return 0
}

// process is one that describes itself.
type process struct {
	report

	cmd *exec.Cmd
	dir string
}

// start starts this test binary as the named process, in a folder where anybody may write, and reads what it says.
func start(t *testing.T, as string, variables ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.Command(self), dir: t.TempDir()}
	require.NoError(t, os.Chmod(p.dir, 0o777))
	p.cmd.Dir, p.cmd.Env = p.dir, append(append(os.Environ(), asProcess+"="+as), variables...)
	var said strings.Builder
	p.cmd.Stderr = &said
	stdin, err := p.cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = p.cmd.Wait()
	})
	if err := json.NewDecoder(stdout).Decode(&p.report); err != nil {
		_ = p.cmd.Wait()
		require.NoError(t, err, said.String())
	}
	return p
}

func TestForbid(t *testing.T) {
	t.Parallel()
	forbidden, usual := start(t, "forbidden"), start(t, "as usual")
	require.Zero(t, forbidden.Soft)
	require.Zero(t, forbidden.Hard)
	require.Equal(t, "Max core file size 0 0 bytes", forbidden.Limits)
	require.Zero(t, forbidden.Dumpable)

	require.Equal(t, usual.HardBefore, usual.Soft, "what the test looks at is not so by itself")
	require.Equal(t, usual.HardBefore, usual.Hard)
	require.Equal(t, 1, usual.Dumpable)
}

// TestOthersCannotLookInside has another process of the same user look at both.
func TestOthersCannotLookInside(t *testing.T) {
	t.Parallel()
	files := func(as string) []string {
		folder := "/proc/" + strconv.Itoa(start(t, as).cmd.Process.Pid)
		return []string{folder + "/mem", folder + "/environ", folder + "/maps"}
	}
	opened := func(names []string) string {
		self, err := os.Executable()
		require.NoError(t, err)
		stranger := exec.Command(self, names...)
		stranger.Env = append(os.Environ(), asProcess+"=stranger")
		out, err := stranger.Output()
		require.NoError(t, err)
		return string(out)
	}
	require.Empty(t, opened(files("forbidden")))
	usual := files("as usual")
	require.Contains(t, opened(usual), usual[1], "what the test looks at is not so by itself")
}

// TestCrashLeavesNoCore ends a process in the way in which Go programs ask for a core dump.
func TestCrashLeavesNoCore(t *testing.T) {
	t.Parallel()
	p := start(t, "forbidden", "GOTRACEBACK=crash")
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGQUIT))
	done := make(chan error, 1)
	go func() { done <- p.cmd.Wait() }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		<-done
		require.FailNow(t, "the process did not end")
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	require.True(t, ok)
	require.Equal(t, syscall.SIGABRT, status.Signal(), "it did what GOTRACEBACK=crash says")
	require.False(t, status.CoreDump())
	left, err := filepath.Glob(filepath.Join(p.dir, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

// TestTheProcessStillKnowsItself: what makes a process unreadable for others must not take its own metrics away.
func TestTheProcessStillKnowsItself(t *testing.T) {
	t.Parallel()
	forbidden, usual := start(t, "forbidden"), start(t, "as usual")
	require.Len(t, forbidden.Metrics, len(usual.Metrics))
	for name := range usual.Metrics {
		require.Contains(t, forbidden.Metrics, name)
	}
	for _, name := range []string{"process_resident_memory_bytes", "process_open_fds", "process_max_fds", "process_start_time_seconds"} {
		require.Positive(t, forbidden.Metrics[name], name)
	}
}
