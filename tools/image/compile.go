package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// toolchain is what the Go toolchain says of itself.
type toolchain struct {
	// GOROOT is the folder of the Go distribution, GOMODCACHE that of the modules' sources.
	GOROOT, GOMODCACHE string
	GOVERSION          string
}

// readToolchain asks the toolchain that builds in root.
func readToolchain(ctx context.Context, root string) (toolchain, error) {
	command := exec.CommandContext(ctx, "go", "env", "-json", "GOROOT", "GOMODCACHE", "GOVERSION")
	command.Dir = root
	printed, err := command.Output()
	if err != nil {
		return toolchain{}, fmt.Errorf("go env in %s: %w", root, err)
	}
	var t toolchain
	if err := json.Unmarshal(printed, &t); err != nil {
		return toolchain{}, fmt.Errorf("read what go env printed: %w", err)
	}
	return t, nil
}

// linkerFlags leave out symbols and debugging information and stamp the version.
func linkerFlags(version string) string { return "-s -w -X main.version=" + version }

// buildFlags are the flags of go build. Nothing of the machine enters: no paths (-trimpath) and no state of a work tree, whose
// revision stands in the labels.
func buildFlags(version string) []string {
	return []string{"-trimpath", "-buildvcs=false", "-ldflags=" + linkerFlags(version)}
}

// buildEnvironment holds the variables that change what go build makes, each with the value that is used, wherever it runs.
func buildEnvironment(platform v1.Platform) []string {
	return []string{
		"CGO_ENABLED=0", "GOOS=" + platform.OS, "GOARCH=" + platform.Architecture,
		"GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=", "GOFIPS140=off", "GOWORK=off",
	}
}

// compile builds the worker for one platform and returns the program.
func compile(ctx context.Context, root, version string, platform v1.Platform) (program []byte, err error) {
	dir, err := os.MkdirTemp("", "worker-image-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if removed := os.RemoveAll(dir); err == nil {
			err = removed
		}
	}()
	name := filepath.Join(dir, "worker")
	args := append([]string{"build", "-o", name}, buildFlags(version)...)
	command := exec.CommandContext(ctx, "go", append(args, "./cmd/worker")...)
	command.Dir = root
	command.Env = append(os.Environ(), buildEnvironment(platform)...)
	var told bytes.Buffer
	command.Stderr = &told
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("go build for %s: %w: %s", platform, err, strings.TrimSpace(told.String()))
	}
	return os.ReadFile(name)
}
