//go:build faults

package faults

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestMutants runs tests of this package against workers that are broken on purpose, to show that these tests find it. Each must fail, and
// for the right reason. Without a fault the same tests must pass.
func TestMutants(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// tag builds the worker with its fault, run says which test has to find it.
		tag, run string
		// want are the checks that find it. Without any, all must pass.
		want []string
		// short tells that it also runs in the short form.
		short bool
	}{
		"no fault": {run: "^(TestF00EverythingOnce|TestF12SameQuery)$"},
		"acks before it publishes": {
			tag: "mutant_ack_first", run: "^(TestF00EverythingOnce|TestF01Kill)$/^before_store$", short: true,
			want: []string{"I2: acks before their outcome", "I1: queries without a result"},
		},
		"stores results without the guard": {
			tag: "mutant_no_guard", run: "^TestF12SameQuery$", want: []string{"I1: queries with two results"},
		},
		"logs what a publisher wrote": {
			tag: "mutant_log_body", run: "^TestF00EverythingOnce$", want: []string{"leak: worker 1 wrote"}, short: true,
		},
		"publishes a result twice": {
			tag: "mutant_publish_twice", run: "^TestF00EverythingOnce$", want: []string{"I1: queries with two results"},
		},
		"schedules a retry and does not ack": {
			tag: "mutant_no_ack", run: "^TestF00EverythingOnce$", want: []string{"I7: nothing was broken, and yet a query was delivered again"},
		},
	} {
		if !test.short && !full() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			output, err := runAgainst(t, test.tag, test.run)
			t.Logf("%s: %s", name, time.Since(began).Round(100*time.Millisecond))
			if len(test.want) == 0 {
				require.NoError(t, err, output)
				return
			}
			ended, failed := errors.AsType[*exec.ExitError](err)
			require.True(t, failed && ended.Exited(), "nobody has noticed: %v\n%s", err, output)
			for _, want := range test.want {
				require.Contains(t, output, want)
			}
		})
	}
}

// TestTheLeakHuntFindsAMutant has the leak hunt look through a worker that logs what a publisher wrote.
func TestTheLeakHuntFindsAMutant(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	hunt := exec.CommandContext(ctx, "go", "test", "-count=1", "-tags", "mutant_log_body", "-run", "^TestLeakHunt$", "../internal/app")
	dieWithParent(hunt)
	output, err := hunt.CombinedOutput()
	_, failed := errors.AsType[*exec.ExitError](err)
	require.True(t, failed, "nobody has noticed: %v", err)
	require.Regexp(t, `Messages: +\tlog : mark`, string(output))
}

// runAgainst runs tests of this binary in the short form, with a worker built with a tag. It returns what they wrote.
func runAgainst(t *testing.T, tag, run string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 3*soon)
	defer cancel()
	tests := exec.CommandContext(ctx, self, "-test.v", "-test.count=1", "-test.run="+run, "-seed="+strconv.FormatUint(*seed, 10))
	tests.Env = append(os.Environ(), "FAULTS=", workerTags+"="+tag)
	dieWithParent(tests)
	output, err := tests.CombinedOutput()
	return string(output), err
}
