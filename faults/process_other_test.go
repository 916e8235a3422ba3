//go:build faults && !linux

package faults

import (
	"bytes"
	"os/exec"
	"strconv"
)

// dieWithParent does nothing where the system knows no such thing: the tests end what they start.
func dieWithParent(*exec.Cmd) {}

// stopped tells whether the process is stopped, as by SIGSTOP.
func (p *process) stopped() bool {
	state, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(p.cmd.Process.Pid)).Output()
	return err == nil && bytes.HasPrefix(bytes.TrimSpace(state), []byte("T"))
}
