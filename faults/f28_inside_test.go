//go:build faults

package faults

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/crashpoint"
)

// TestF28Panic makes the handling of a query panic, every time. The worker survives, the query is set aside after a few rounds, and the
// queries behind it go on.
func TestF28Panic(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: patient()})
	l := newLoad(s)
	w := s.startWorker(t, "CRASHPOINT_PANIC="+string(crashpoint.AfterPermit)+":every")
	l.publish(t.Context(), 3)
	found := s.finish(t, l, soon, 0)
	require.Equal(t, map[string]int{"quarantined": 3}, found.Reasons)
	require.Equal(t, 3, found.Dead)
	require.False(t, w.ended())
	w.awaitReady(t)
	require.NotContains(t, w.output.String(), "a crash point was told to panic", "the value of a panic could hold card data")
	w.signal(t, syscall.SIGTERM)
	require.Zero(t, w.wait(t, soon).ExitStatus())
}

// TestF28PanicOnce makes one query's handling panic once. It is tried again and answered.
func TestF28PanicOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: patient()})
	l := newLoad(s)
	s.startWorker(t, "CRASHPOINT_PANIC="+string(crashpoint.AfterDecode)+":2")
	l.publish(t.Context(), 5)
	found := s.finish(t, l, soon, 1)
	require.Equal(t, 5, found.Completed)
}

// TestF37LogBlocked gives the worker a log that nobody reads. It must go on, and still stop in time.
func TestF37LogBlocked(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{settings: patient()})
	l := newLoad(s)
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _ = reader.Close() })
	cmd := exec.Command(workerBinary(t), "run", "-c", s.config)
	cmd.Stderr = writer
	w := s.launchAs(t, cmd)
	require.NoError(t, writer.Close())
	w.awaitReady(t)
	// Each query writes a line of about 350 bytes; the pipe holds 64 KiB and the worker's buffer 256 KiB.
	queries := times(1200, 1500)
	for range queries / 100 {
		l.publish(t.Context(), 100)
	}
	found := s.finish(t, l, soon, 1)
	require.Equal(t, queries, found.Completed)
	require.True(t, w.ready())
	w.signal(t, syscall.SIGTERM)
	require.Zero(t, w.wait(t, soon).ExitStatus(), "a log that is not read must not keep the worker from stopping")
}
