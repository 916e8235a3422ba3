package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBaseFilesAreWritten(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "image")
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-o", dir}, &out))
	require.Contains(t, out.String(), dir)
	users, err := os.ReadFile(filepath.Join(dir, "etc", "passwd"))
	require.NoError(t, err)
	require.Contains(t, string(users), "nonroot:x:65532:65532:")
	zone, err := os.ReadFile(filepath.Join(dir, "usr", "share", "zoneinfo", "Asia", "Seoul"))
	require.NoError(t, err)
	seoul, err := time.LoadLocationFromTZData("Asia/Seoul", zone)
	require.NoError(t, err)
	_, offset := time.Unix(0, 0).In(seoul).Zone()
	require.Equal(t, 9*60*60, offset)

	require.ErrorIs(t, run(t.Context(), []string{"-o", dir}, &out), os.ErrExist, "a second time")
}

func TestBadArgumentsAreRefused(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.ErrorContains(t, run(t.Context(), nil, &out), "say where to write")
	require.ErrorContains(t, run(t.Context(), []string{"-o", filepath.Join(t.TempDir(), "a"), "b"}, &out), "nothing else")
	require.ErrorContains(t, run(t.Context(), []string{"-x"}, &out), "-x")
	require.ErrorIs(t, run(t.Context(), []string{"-h"}, &out), flag.ErrHelp)
}
