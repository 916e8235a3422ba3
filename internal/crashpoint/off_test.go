//go:build !crashpoints || !unix

package crashpoint_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/crashpoint"
)

// TestNothingHappensInANormalBuild must be alone with its process: it sets the variables that arm the places.
func TestNothingHappensInANormalBuild(t *testing.T) { //nolint:paralleltest // It sets the environment.
	for _, variable := range []string{"CRASHPOINT_KILL", "CRASHPOINT_STOP", "CRASHPOINT_PANIC"} {
		t.Setenv(variable, string(crashpoint.AfterFetch)+":every")
	}
	require.NotPanics(t, func() { crashpoint.Here(crashpoint.AfterFetch) })
	require.Zero(t, testing.AllocsPerRun(100, func() { crashpoint.Here(crashpoint.AfterFetch) }))
}
