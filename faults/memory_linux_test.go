//go:build faults

package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostResident returns the most memory that a running process has ever had in the machine's, in bytes. What the system tells of a child that has
// ended is of no use: the child begins as a copy of its parent, whose size counts there.
func (p *process) mostResident(t *testing.T) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	require.NoError(t, err)
	_, after, found := strings.Cut(string(status), "VmHWM:")
	require.True(t, found)
	var kib int64
	_, err = fmt.Sscanf(after, "%d kB", &kib)
	require.NoError(t, err)
	return kib << 10
}
