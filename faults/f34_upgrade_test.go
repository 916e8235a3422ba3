//go:build faults

package faults

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestF34Upgrade rolls two workers from one build to another and back, under load, one after the other: builds of both kinds run side by
// side. No query may be lost or answered twice, and none has to wait for its ack wait.
func TestF34Upgrade(t *testing.T) {
	t.Parallel()
	next, err := builtNext()
	require.NoError(t, err)
	builds := []string{workerBinary(t), next}
	versions := []string{versionOf(t, builds[0]), versionOf(t, builds[1])}
	require.NotEqual(t, versions[0], versions[1])
	s := newSite(t, siteOptions{unionPay: true, settings: scheduling(patient()...)})
	s.upstream.misbehave(t, "*:latency=10ms-300ms,easypay:code=E999@0.05,*:status=503@0.05")
	l := newLoad(s)
	var workers []*worker
	for range 2 {
		workers = append(workers, s.launchAs(t, exec.Command(builds[0], "run", "-c", s.config)))
	}
	publishing := l.run(t, 30)
	rolls := times(2, 5)
	for roll := range rolls {
		for i, old := range workers {
			old.awaitReady(t)
			pause(t.Context(), 300*time.Millisecond)
			workers[i] = s.launchAs(t, exec.Command(builds[(roll+1)%2], "run", "-c", s.config))
			workers[i].awaitReady(t)
			old.signal(t, syscall.SIGTERM)
			require.Zero(t, old.wait(t, soon).ExitStatus())
		}
	}
	publishing.stop()
	found := s.finish(t, l, soon, 20)
	s.requireNoneAgain(t, found)
	require.Equal(t, found.Queries, found.Completed+found.Reasons["rejected"])
	t.Logf("F34: %d rolls between %s, %d workers, %d queries, %d delivered again (target 0)", rolls, strings.Join(versions, " and "), s.started, found.Queries, found.Redelivered)
}

// versionOf returns what a build says that it is.
func versionOf(t *testing.T, binary string) string {
	t.Helper()
	output, err := exec.Command(binary, "version").Output()
	require.NoError(t, err)
	return strings.TrimSpace(string(output))
}
