//go:build faults && !linux

package faults

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostResident returns how much memory a running process has in the machine's now, in bytes: not every system tells the most that it was.
func (p *process) mostResident(t *testing.T) int64 {
	t.Helper()
	output, err := exec.Command("ps", "-o", "rss=", "-p", strconv.Itoa(p.cmd.Process.Pid)).Output()
	require.NoError(t, err)
	kib, err := strconv.ParseInt(strings.TrimSpace(string(output)), 10, 64)
	require.NoError(t, err)
	return kib << 10
}
