package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// origin says what is built: it enters the program, the labels and the provenance.
type origin struct {
	version  string
	revision string
	// modified tells that the files are not those of the revision.
	modified bool
	source   string
	// created is the time that everything in the image carries: never that of the build.
	created time.Time
}

// versionForm is what a version may look like: it becomes the image's tag, and is handed to the linker.
var versionForm = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$`)

// revisionForm is what a commit looks like.
var revisionForm = regexp.MustCompile(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// readOrigin returns what is built, and asks git for what the settings do not say.
func readOrigin(ctx context.Context, s settings) (origin, error) {
	o := origin{version: s.version, revision: s.revision, source: s.source}
	var err error
	if o.version == "" {
		if o.version, err = git(ctx, s.root, "-version", "describe", "--tags", "--always", "--dirty"); err != nil {
			return origin{}, err
		}
	}
	if !versionForm.MatchString(o.version) {
		return origin{}, fmt.Errorf("-version: %q can't be the tag of an image: use letters, digits, dots, hyphens and underscores", o.version)
	}
	if o.revision == "" {
		if o.revision, err = git(ctx, s.root, "-revision", "rev-parse", "HEAD"); err != nil {
			return origin{}, err
		}
		changes, err := git(ctx, s.root, "-revision", "status", "--porcelain")
		if err != nil {
			return origin{}, err
		}
		o.modified = changes != ""
	}
	if !revisionForm.MatchString(o.revision) {
		return origin{}, fmt.Errorf("-revision: %q is no commit: write all of its 40 digits", o.revision)
	}
	o.created, err = creation(ctx, s)
	return o, err
}

// creation returns the time of SOURCE_DATE_EPOCH or, if there is none, that of the commit.
func creation(ctx context.Context, s settings) (time.Time, error) {
	seconds := s.epoch
	if seconds == "" {
		var err error
		if seconds, err = git(ctx, s.root, "SOURCE_DATE_EPOCH", "show", "--no-patch", "--format=%ct", "HEAD"); err != nil {
			return time.Time{}, err
		}
	}
	since, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil || since < 0 {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH must be seconds since 1970, not %q", seconds)
	}
	return time.Unix(since, 0).UTC(), nil
}

// git returns what a git command prints. The error says what to set where git can't answer.
func git(ctx context.Context, root, instead string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", args...)
	command.Dir = root
	var told bytes.Buffer
	command.Stderr = &told
	printed, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s\nwithout git, set %s", args[0], err, strings.TrimSpace(told.String()), instead)
	}
	return strings.TrimSpace(string(printed)), nil
}
