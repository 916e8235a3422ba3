//go:build crashpoints && unix

package crashpoint

import (
	"os"
	"sync"
	"syscall"
)

// The variables of the environment that arm a place. They do not start as the settings do, which refuse a name they do not know. Each
// holds "label", "label:n" for its n-th passage, or "label:every".
const (
	killAt  = "CRASHPOINT_KILL"
	stopAt  = "CRASHPOINT_STOP"
	panicAt = "CRASHPOINT_PANIC"
)

// armed returns what the environment arms. It is read once.
var armed = sync.OnceValue(func() []*trap {
	var traps []*trap
	for _, way := range []struct {
		variable string
		spring   func()
	}{
		{killAt, func() { signalSelf(syscall.SIGKILL); select {} }}, // Nothing runs between the signal and the end.
		{stopAt, func() { signalSelf(syscall.SIGSTOP) }},
		{panicAt, func() { panic("a crash point was told to panic") }}, //nolint:forbidigo // A panic in the product is what a test asked for.
	} {
		if t := newTrap(os.Getenv(way.variable), way.spring); t != nil { //nolint:forbidigo // A build for tests only: no setting may lead here.
			traps = append(traps, t)
		}
	}
	return traps
})

// Here dies, stops or panics if the environment armed the label for this passage.
func Here(label Label) {
	for _, t := range armed() {
		t.pass(label)
	}
}

func signalSelf(signal syscall.Signal) { _ = syscall.Kill(os.Getpid(), signal) }
