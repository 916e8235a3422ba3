package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestVersionNamesNoMutation keeps what is broken on purpose out of a normal build. A build with a mutation fails it, because it says so.
func TestVersionNamesNoMutation(t *testing.T) {
	t.Parallel()
	require.NotContains(t, command(t, "", "version").stdout, "mutant")
	require.NotContains(t, command(t, "", "version", "--json").stdout, "mutant")
}
