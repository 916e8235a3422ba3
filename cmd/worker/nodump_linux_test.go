package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/freeport"
)

// nobody is the user as whom the worker runs here if the tests run as root: of a process of root's it can't be seen from outside whether it
// can be dumped.
const nobody = 65534

// startAsNobody starts the worker as somebody who is not root.
func startAsNobody(t *testing.T, args ...string) (p *process, user uint32) {
	t.Helper()
	p = &process{cmd: exec.Command("/proc/self/exe", args...), output: &safeBuffer{}}
	p.cmd.Dir, p.cmd.Env = "/", append(os.Environ(), asProcess+"=worker")
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	user = uint32(os.Getuid())
	if user == 0 {
		user = nobody
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	})
	return p, user
}

// ownerOf returns the user to whom a file belongs.
func ownerOf(t *testing.T, name string) uint32 {
	t.Helper()
	info, err := os.Stat(name)
	require.NoError(t, err)
	status, ok := info.Sys().(*syscall.Stat_t)
	require.True(t, ok)
	return status.Uid
}

// TestNoCommandCanBeDumped looks at a process of the worker from outside. What forbids dumps is done before any command is.
func TestNoCommandCanBeDumped(t *testing.T) {
	t.Parallel()
	p, user := startAsNobody(t, "sandbox", "--easypay", freeport.Address(t), "--unionpay", "", "--admin", "")
	require.Eventually(t, func() bool { return strings.Contains(p.output.String(), "base_url") }, time.Minute, 20*time.Millisecond)
	folder := fmt.Sprintf("/proc/%d", p.cmd.Process.Pid)
	limits, err := os.ReadFile(folder + "/limits")
	require.NoError(t, err)
	require.Regexp(t, `(?m)^Max core file size +0 +0 +bytes`, string(limits))

	// The limit may be 0 for everybody here. The kernel gives the files of a process to root if it can't be dumped, and to its user otherwise:
	// proc(5).
	require.Equal(t, user, ownerOf(t, folder), "it runs as the user that it should")
	require.Zero(t, ownerOf(t, folder+"/mem"), "the process can be dumped")
	require.Zero(t, ownerOf(t, folder+"/environ"), "the process can be dumped")
}
