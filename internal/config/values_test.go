package config

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSizeText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "0B": 0, "512": 512, "512B": 512, "8KiB": 8192, "8 KiB": 8192, "256KiB": 262144, "1MiB": mib, "1GiB": gib, "2TiB": 2 * tib,
		"1KB": 1000, "1MB": 1e6, "1GB": 1e9, "1TB": 1e12, "9223372036854775807": math.MaxInt64, "8388607TiB": 8388607 * tib,
	} {
		var got Size
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "B", "KiB", "-1", "-1KiB", "+1KiB", "1.5GiB", "1K", "1G", "1kib", "1KIB", "1 0", " 1", "0x10", "1_000", "1e3",
		"8388608TiB", "9223372036854775808", "hunter2",
	} {
		got := Size(7)
		require.ErrorIs(t, got.UnmarshalText([]byte(text)), errSize, text)
		require.Equal(t, Size(7), got)
	}
}

func TestSizeRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := Size(rapid.Int64Range(0, math.MaxInt64).Draw(t, "bytes"))
		if rapid.Bool().Draw(t, "whole units") {
			want = want >> 40 << 30
		}
		var got Size
		require.NoError(t, got.UnmarshalText([]byte(want.String())))
		require.Equal(t, want, got)
	})
	require.Equal(t, "0B", Size(0).String())
	require.Equal(t, "1536MiB", (3 * gib / 2).String())
	require.Equal(t, "1000B", Size(1000).String())
}

func TestRateText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Rate{
		"10/s": {10, time.Second}, "300/m": {300, time.Minute}, "5000/h": {5000, time.Hour}, "1000000/s": {1_000_000, time.Second}, "1/h": {1, time.Hour},
	} {
		var got Rate
		require.NoError(t, got.UnmarshalText([]byte(text)), text)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{"", "10", "/s", "0/s", "-1/s", "+1/s", "1.5/s", "10/d", "10/S", "10/s/s", "10 /s", "1000001/s", "99999999999999999999/s", "hunter2"} {
		got := Rate{Calls: 7, Per: time.Second}
		require.ErrorIs(t, got.UnmarshalText([]byte(text)), errRate, text)
		require.Equal(t, 7, got.Calls)
	}
}

// At its interval a rate never makes more calls than it says.
func TestRateInterval(t *testing.T) {
	t.Parallel()
	require.Equal(t, 100*time.Millisecond, Rate{10, time.Second}.Interval())
	require.Equal(t, time.Duration(333_333_334), Rate{3, time.Second}.Interval())
	require.Equal(t, time.Microsecond, Rate{maxCalls, time.Second}.Interval())
	require.Zero(t, Rate{}.Interval())
	rapid.Check(t, func(t *rapid.T) {
		r := Rate{Calls: rapid.IntRange(1, maxCalls).Draw(t, "calls"), Per: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour}).Draw(t, "per")}
		require.GreaterOrEqual(t, r.Interval()*time.Duration(r.Calls), r.Per)
		require.Less(t, (r.Interval()-1)*time.Duration(r.Calls), r.Per)
	})
}

func TestProviderTimeout(t *testing.T) {
	t.Parallel()
	shared := HTTP{AttemptTimeout: 5 * time.Second}
	require.Equal(t, 5*time.Second, shared.Timeout(0))
	require.Equal(t, 9*time.Second, shared.Timeout(9*time.Second))
	require.Equal(t, time.Second, shared.Timeout(time.Second))
}

func TestEnabledProviders(t *testing.T) {
	t.Parallel()
	var p Providers
	require.Empty(t, p.Enabled())
	p.UnionPay.Enabled = true
	require.Equal(t, []string{"unionpay"}, p.Enabled())
	p.EasyPay.Enabled = true
	require.Equal(t, []string{"easypay", "unionpay"}, p.Enabled())
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"kitten", "sitting", 3}, {"slot", "slots", 1}, {"nats_url", "nats.url", 1}, {"ab", "ba", 2},
	} {
		require.Equal(t, test.want, distance(test.a, test.b), "%s %s", test.a, test.b)
	}
	word := rapid.StringMatching(`[ab]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c")
		require.Equal(t, distance(a, b), distance(b, a))
		require.LessOrEqual(t, distance(a, c), distance(a, b)+distance(b, c))
		require.Equal(t, a == b, distance(a, b) == 0)
	})
}
