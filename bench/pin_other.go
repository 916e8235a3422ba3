//go:build !linux

package main

import "os/exec"

// startPinned starts a command; GOMAXPROCS=1 alone keeps it to one core at a time.
func startPinned(command *exec.Cmd) error { return command.Start() }
