package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"
)

// intoClosedPipe runs the worker as a process whose standard output nobody reads, and returns its exit code and what it says about that.
func intoClosedPipe(t *testing.T, dir string, args ...string) (code int, stderr string) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, reader.Close())
	var said bytes.Buffer
	process := exec.CommandContext(t.Context(), self, args...)
	process.Dir, process.Stdout, process.Stderr = dir, writer, &said
	process.Env = append(os.Environ(), asProcess+"=worker")
	require.NoError(t, process.Start())
	require.NoError(t, writer.Close())
	_ = process.Wait() // Its exit code is what is asked for.
	return process.ProcessState.ExitCode(), said.String()
}
