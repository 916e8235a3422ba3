//go:build crashpoints && unix

package crashpoint

import (
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// asVictim makes this test binary pass every place three times and print nothing.
const asVictim = "CRASHPOINT_TEST_VICTIM"

func TestVictim(t *testing.T) { //nolint:paralleltest // It is the process that another test starts.
	if os.Getenv(asVictim) == "" {
		return
	}
	for range 3 {
		for _, label := range Labels() {
			Here(label)
		}
	}
}

// TestArmedPlaces starts this binary again with each way to end armed.
func TestArmedPlaces(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		environment string
		signal      syscall.Signal
		fails       bool
	}{
		"nothing armed":       {environment: "CRASHPOINT_KILL="},
		"the first passage":   {environment: "CRASHPOINT_KILL=before_ack", signal: syscall.SIGKILL},
		"the third passage":   {environment: "CRASHPOINT_KILL=after_fetch:3", signal: syscall.SIGKILL},
		"a passage too many":  {environment: "CRASHPOINT_KILL=after_fetch:4"},
		"every passage":       {environment: "CRASHPOINT_KILL=after_ack:every", signal: syscall.SIGKILL},
		"a place nobody has":  {environment: "CRASHPOINT_KILL=nowhere"},
		"a passage of letter": {environment: "CRASHPOINT_KILL=after_fetch:x"},
		"a panic":             {environment: "CRASHPOINT_PANIC=after_fetch:2", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			victim := exec.Command(os.Args[0], "-test.run=^TestVictim$")
			victim.Env = append(os.Environ(), asVictim+"=1", test.environment)
			err := victim.Run()
			status := victim.ProcessState.Sys().(syscall.WaitStatus)
			if test.signal != 0 {
				require.True(t, status.Signaled())
				require.Equal(t, test.signal, status.Signal())
				return
			}
			require.Equal(t, test.fails, err != nil)
		})
	}
}

// TestStop starts this binary stopped at a place and lets it go on.
func TestStop(t *testing.T) {
	t.Parallel()
	victim := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	victim.Env = append(os.Environ(), asVictim+"=1", "CRASHPOINT_STOP=after_store:2")
	require.NoError(t, victim.Start())
	var status syscall.WaitStatus
	_, err := syscall.Wait4(victim.Process.Pid, &status, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, status.Stopped())
	require.NoError(t, victim.Process.Signal(syscall.SIGCONT))
	require.NoError(t, victim.Wait())
}
