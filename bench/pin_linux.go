package main

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// startPinned starts a command on the first core this process may use, so that each rival has exactly one. A process inherits the core of
// the thread that starts it.
func startPinned(command *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, first unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return fmt.Errorf("read affinity: %w", err)
	}
	for core := range 1024 {
		if all.IsSet(core) {
			first.Set(core)
			break
		}
	}
	if err := unix.SchedSetaffinity(0, &first); err != nil {
		return fmt.Errorf("set affinity: %w", err)
	}
	startErr := command.Start()
	if err := unix.SchedSetaffinity(0, &all); err != nil {
		return fmt.Errorf("restore affinity: %w", err)
	}
	return startErr
}
