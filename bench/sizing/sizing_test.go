package main

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// TestMeasure measures little of everything, with real processes. What the figures are is not its matter.
func TestMeasure(t *testing.T) {
	t.Parallel()
	p, err := flags([]string{"-rounds", "1", "-seconds", "0.1", "-workers", "2", "-latencies", "1ms", "-rates", "20", "-kept", "200", "-sync=false"})
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, measure(t.Context(), p, &out))
	for _, line := range []string{
		`(?m)^\| easypay \| 1 ms \| 2 \| \d+ \| 64000 \| \d+\.\d\d \| \d+\.\d\d \| [1-9]\d* MiB \|$`,
		`(?m)^\| unionpay \| 1 ms \| 2 \| \d+ \|`,
		`(?m)^\| 20/s \| [1-9][\d.]* \| [\d.]+ \| [\d.]+ \| [1-9]\d* MiB \|$`,
		`(?m)^\| query of easypay \| [1-9]\d\d+ \| [\d.]+ GiB \|$`,
		`(?m)^\| result of easypay \| [1-9]\d\d+ \| [\d.]+ GiB \|$`,
		`(?m)^\| result of unionpay \| [1-9]\d\d+ \|`,
		`(?m)^\| dead letter of easypay \| [1-9]\d\d+ \| [\d.]+ GiB \|$`,
		`(?m)^\| shared answer \| [1-9]\d\d+ \| [\d.]+ GiB \|$`,
		`(?m)^\| result, broker's memory \|`,
		`with 200 results\.\n$`,
	} {
		require.Regexp(t, line, out.String())
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	p, err := flags(nil)
	require.NoError(t, err)
	require.Len(t, p.backlogs(), 12)
	require.Len(t, p.steady(), 3)
	p, err = flags([]string{"-latencies", "1s,250ms", "-workers", "4"})
	require.NoError(t, err)
	require.Equal(t, []time.Duration{time.Second, 250 * time.Millisecond}, p.latencies)
	require.Equal(t, []int{4}, p.workers)
	for _, args := range [][]string{{"-rounds", "0"}, {"-latencies", "soon"}, {"-workers", ""}, {"more"}, {"-seconds", "-1"}} {
		_, err := flags(args)
		require.Error(t, err, args)
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	of := func(n float64) float64 { return n }
	require.InDelta(t, 2, median([]float64{3, 1, 2}, of), 0)
	require.InDelta(t, 3, median([]float64{4, 3, 2, 1}, of), 0)
}

func TestLoads(t *testing.T) {
	t.Parallel()
	p := plan{seconds: 1, slots: 10}
	slow := load{provider: query.EasyPay, latency: time.Second, workers: 2}
	require.InDelta(t, 26, slow.guess(p), 0.01)
	warm, lasts := slow.lasts(p)
	require.Equal(t, time.Second, warm)
	require.Equal(t, 4*time.Second, lasts)
	require.InDelta(t, 3000, load{provider: query.EasyPay, workers: 1}.guess(p), 0)
}

func TestFigure(t *testing.T) {
	t.Parallel()
	page := "# HELP a b\n# TYPE cpu counter\ncpu 1.5\ncpu_more 7\n"
	got, err := figure(page, "cpu")
	require.NoError(t, err)
	require.InDelta(t, 1.5, got, 0)
	_, err = figure(page, "none")
	require.Error(t, err)
}
