package nodump

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Forbid keeps the kernel from writing the memory of this process to a disk, and the other processes of its user from reading it: the limit
// of core dumps becomes 0, soft and hard, and the process counts as one that can't be dumped (PR_SET_DUMPABLE in prctl(2)). It holds until the
// process ends. What the process starts inherits the limit and nothing else.
//
// Both are needed: the kernel ignores the limit where kernel.core_pattern is a pipe, as with systemd-coredump, and a process that executes
// another program can be dumped again.
func Forbid() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core dumps: set the limit of their size to 0: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid core dumps: PR_SET_DUMPABLE: %w", err)
	}
	return nil
}
