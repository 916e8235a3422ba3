package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestNoCommandCanBeDumped looks at a process of the worker from outside. What forbids dumps is done before any command is.
func TestNoCommandCanBeDumped(t *testing.T) {
	t.Parallel()
	p := start(t, "worker", t.TempDir(), "sandbox", "--easypay", freeAddress(t), "--unionpay", "", "--admin", "")
	require.Eventually(t, func() bool { return strings.Contains(p.output.String(), "base_url") }, time.Minute, 20*time.Millisecond)
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^Max core file size +0 +0 +bytes`, string(limits))
}
