package easypay

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseDecimal(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0": "0", "0.0": "0", "0e9": "0", "00": "0", "1": "1", "100000": "100000", "0100": "100", "12.03": "12.03", "60.55": "60.55",
		"12.50": "12.5", "100.00": "100", "0.05": "0.05", "1.0E7": "10000000", "1e3": "1000", "1e+3": "1000", "1200e-2": "12",
		"1.5e1": "15", "125e-1": "12.5", "12.030000000000001": "12.030000000000001", "0.30000000000000004": "0.30000000000000004",
		"999999999999999999": "999999999999999999", "0.00000000000000001": "0.00000000000000001", "1e17": "100000000000000000",
		"1.0000000000000000000000000000": "1", "000000000000000000000000000001": "1",
	} {
		d, ok := parseDecimal(text)
		require.True(t, ok, text)
		require.True(t, d.told, text)
		require.Equal(t, want, d.String(), text)
	}
}

func TestParseDecimalRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", " ", "-1", "-0", "+1", "1.", ".5", ".", "1e", "e1", "1e+", "1e99", "1e-99", "1e99999999999999999999", "1e18", "1e-18",
		"1000000000000000000", "0.000000000000000001", "1.2.3", "1,000", "1 000", "0x10", "NaN", "Infinity", "1e1.5", "12%", "일", "１２", "1_0",
	} {
		_, ok := parseDecimal(text)
		require.False(t, ok, "%q", text)
	}
}

func TestAbsentDecimalIsNotZero(t *testing.T) {
	t.Parallel()
	zero, ok := parseDecimal("0")
	require.True(t, ok)
	require.NotEqual(t, decimal{}, zero)
	require.Empty(t, decimal{}.String())
	require.Equal(t, "0", zero.String())
}

// rational reads a decimal by math/big, which shares nothing with this room.
func rational(t require.TestingT, text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	require.True(t, ok, text)
	return r
}

// drawDecimal draws the text of a decimal within the limits.
func drawDecimal(t *rapid.T, label string) string {
	scale := rapid.IntRange(0, maxScale).Draw(t, label+" scale")
	whole := rapid.Uint64Range(0, powers[maxDigits-scale]-1).Draw(t, label+" whole")
	if scale == 0 {
		return fmt.Sprint(whole)
	}
	return fmt.Sprintf("%d.%0*d", whole, scale, rapid.Uint64Range(0, powers[scale]-1).Draw(t, label+" fraction"))
}

func TestDecimalIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, other := drawDecimal(t, "a"), drawDecimal(t, "b")
		a, ok := parseDecimal(text)
		require.True(t, ok, text)
		b, ok := parseDecimal(other)
		require.True(t, ok, other)
		require.Zero(t, rational(t, text).Cmp(rational(t, a.String())))
		require.Equal(t, rational(t, text).Cmp(rational(t, other)), a.compare(b))
		if strings.Contains(a.String(), ".") {
			require.NotEqual(t, byte('0'), a.String()[len(a.String())-1])
		}
		again, ok := parseDecimal(a.String())
		require.True(t, ok)
		require.Equal(t, a, again)
	})
}

func TestDecimalExponentIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := fmt.Sprintf("%se%d", drawDecimal(t, "a"), rapid.IntRange(-45, 45).Draw(t, "exponent"))
		d, ok := parseDecimal(text)
		if ok {
			require.Zero(t, rational(t, text).Cmp(rational(t, d.String())), text)
		}
	})
}

func FuzzParseDecimal(f *testing.F) {
	for _, text := range []string{"12.03", "1.0E7", "-1", "0.30000000000000004", "1e-18", "99999999999999999999", "", "."} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, ok := parseDecimal(text)
		if !ok {
			return
		}
		require.Zero(t, rational(t, text).Cmp(rational(t, d.String())))
		_, whole := d.won()
		require.Equal(t, rational(t, text).IsInt(), whole)
	})
}
