package unionpay

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/query"
)

func TestAmounts(t *testing.T) {
	t.Parallel()
	type want struct {
		minor    *int64
		currency string
	}
	for name, c := range map[string]struct {
		raw, currency string
		unit          AmountUnit
		want          want
	}{
		"yuan":                     {"12.34", "156", UnitMajor, want{ptr[int64](1234), "CNY"}},
		"whole yuan":               {"12", "156", UnitMajor, want{ptr[int64](1200), "CNY"}},
		"one digit":                {"0.1", "840", UnitMajor, want{ptr[int64](10), "USD"}},
		"zero":                     {"0", "156", UnitMajor, want{ptr[int64](0), "CNY"}},
		"leading zeros":            {"000000000012.34", "156", UnitMajor, want{ptr[int64](1234), "CNY"}},
		"negative":                 {"-12.34", "156", UnitMajor, want{ptr[int64](-1234), "CNY"}},
		"negative below one":       {"-0.05", "156", UnitMajor, want{ptr[int64](-5), "CNY"}},
		"plus":                     {"+1.00", "156", UnitMajor, want{ptr[int64](100), "CNY"}},
		"won":                      {"5000", "410", UnitMajor, want{ptr[int64](5000), "KRW"}},
		"won with zeros":           {"5000.00", "410", UnitMajor, want{ptr[int64](5000), "KRW"}},
		"won with a fraction":      {"5000.50", "410", UnitMajor, want{nil, "KRW"}},
		"dinar":                    {"1.234", "048", UnitMajor, want{ptr[int64](1234), "BHD"}},
		"four digits":              {"1.2345", "990", UnitMajor, want{ptr[int64](12345), "CLF"}},
		"too many fraction digits": {"1.234", "156", UnitMajor, want{nil, "CNY"}},
		"a zero too many":          {"1.230", "156", UnitMajor, want{ptr[int64](123), "CNY"}},
		"currency without zeros":   {"1.5", "36", UnitMajor, want{ptr[int64](150), "AUD"}},
		"currency of one digit":    {"1.5", "8", UnitMajor, want{ptr[int64](150), "ALL"}},
		"unknown currency":         {"1.5", "000", UnitMajor, want{nil, "000"}},
		"withdrawn currency":       {"1.5", "191", UnitMajor, want{nil, "191"}},
		"gold":                     {"1.5", "959", UnitMajor, want{nil, "XAU"}},
		"largest":                  {"999999999999999", "156", UnitMajor, want{ptr[int64](99999999999999900), "CNY"}},
		"overflow":                 {"999999999999999", "990", UnitMajor, want{nil, "CLF"}},
		"thousands":                {"1,234.50", "156", UnitMajor, want{nil, "CNY"}},
		"no whole part":            {".50", "156", UnitMajor, want{nil, "CNY"}},
		"no fraction":              {"1.", "156", UnitMajor, want{nil, "CNY"}},
		"two points":               {"1.2.3", "156", UnitMajor, want{nil, "CNY"}},
		"two signs":                {"--1", "156", UnitMajor, want{nil, "CNY"}},
		"sign behind":              {"1-", "156", UnitMajor, want{nil, "CNY"}},
		"space":                    {" 1", "156", UnitMajor, want{nil, "CNY"}},
		"minor":                    {"1234", "156", UnitMinor, want{ptr[int64](1234), "CNY"}},
		"minor won":                {"1234", "410", UnitMinor, want{ptr[int64](1234), "KRW"}},
		"minor with a fraction":    {"12.34", "156", UnitMinor, want{nil, "CNY"}},
		"minor of the unknown":     {"1234", "000", UnitMinor, want{nil, "000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *Options) { o.AmountUnit = c.unit })
			answer, err := b.read(t, map[string]any{"ttlAmt": c.raw, "discCurr": c.currency})
			require.NoError(t, err)
			require.Equal(t, &query.Money{Minor: c.want.minor, Currency: c.want.currency, Raw: c.raw}, answer.Usage.Total.Amount)
			require.Equal(t, c.want.currency, answer.Usage.Currency)
		})
	}
}

// TestDecimalsAreExact compares with big rational arithmetic.
func TestDecimalsAreExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[+-]?[0-9]{1,20}(\.[0-9]{1,5})?`).Draw(t, "text")
		exponent := rapid.IntRange(0, 4).Draw(t, "exponent")
		exact, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("no rational: %q", text)
		}
		exact.Mul(exact, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(exponent)), nil)))
		got := shifted(text, exponent)
		if !exact.IsInt() || !exact.Num().IsInt64() {
			require.Nil(t, got, text)
			return
		}
		require.NotNil(t, got, text)
		require.Equal(t, exact.Num().Int64(), *got)
	})
}

// TestDecimalRoundTrip writes any amount as a decimal and reads it back.
func TestDecimalRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		minor := rapid.Int64().Draw(t, "minor")
		exponent := rapid.IntRange(0, 4).Draw(t, "exponent")
		digits := new(big.Int).Abs(big.NewInt(minor)).String()
		digits = strings.Repeat("0", max(0, exponent+1-len(digits))) + digits
		text := digits[:len(digits)-exponent]
		if exponent > 0 {
			text += "." + digits[len(digits)-exponent:]
		}
		if minor < 0 {
			text = "-" + text
		}
		got := shifted(text, exponent)
		require.NotNil(t, got, text)
		require.Equal(t, minor, *got)
	})
}

func TestDecimalEdges(t *testing.T) {
	t.Parallel()
	require.Equal(t, int64(math.MaxInt64), *shifted("92233720368547758.07", 2))
	require.Nil(t, shifted("92233720368547758.08", 2))
	require.Equal(t, int64(math.MinInt64), *shifted("-92233720368547758.08", 2))
	require.Nil(t, shifted("-92233720368547758.09", 2))
	require.Nil(t, shifted("", 2))
	require.Nil(t, shifted("-", 2))
}

func FuzzShifted(f *testing.F) {
	for _, seed := range []string{"", "0", "-0", "12.34", "-1.2", "+5", "1e5", "0x1", "1_000", "９", "99999999999999999999", "."} {
		f.Add(seed, uint8(2))
	}
	f.Fuzz(func(t *testing.T, text string, digits uint8) {
		got := shifted(text, int(digits%5))
		if got == nil {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		require.True(t, ok, "%q was read as %d", text, *got)
		exact.Mul(exact, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(digits%5)), nil)))
		require.Equal(t, exact, new(big.Rat).SetInt64(*got))
	})
}

func TestCurrencies(t *testing.T) {
	t.Parallel()
	table := readCurrencies()
	require.Len(t, table, 178, "the whole list of active codes of 2026-01-01")
	codes := map[string]bool{}
	exponents := map[int]int{}
	for numeric, c := range table {
		require.Regexp(t, `^[0-9]{3}$`, numeric)
		require.Regexp(t, `^[A-Z]{3}$`, c.code)
		require.False(t, codes[c.code], c.code)
		codes[c.code] = true
		exponents[c.exponent]++
	}
	require.Equal(t, map[int]int{-1: 13, 0: 17, 2: 139, 3: 7, 4: 2}, exponents)
	for numeric, want := range map[string]currency{
		"156": {"CNY", 2}, "344": {"HKD", 2}, "446": {"MOP", 2}, "410": {"KRW", 0}, "392": {"JPY", 0}, "704": {"VND", 0}, "360": {"IDR", 2},
		"788": {"TND", 3}, "414": {"KWD", 3}, "927": {"UYW", 4}, "532": {"XCG", 2}, "924": {"ZWG", 2}, "925": {"SLE", 2}, "978": {"EUR", 2},
		"975": {"975", -1}, "963": {"XTS", -1}, "12": {"DZD", 2}, "000": {"000", -1},
	} {
		require.Equal(t, want, table.lookup(numeric), numeric)
	}
}

// TestListHasNothingOddInIt reads the shipped file line by line, so that a broken line can't hide behind the lenient reader.
func TestListHasNothingOddInIt(t *testing.T) {
	t.Parallel()
	last := -1
	for line := range strings.Lines(currencyList) {
		require.Regexp(t, `^[0-9]{3},[A-Z]{3},[0-4]?\n$`, line)
		numeric, err := strconv.Atoi(line[:3])
		require.NoError(t, err)
		require.Greater(t, numeric, last, "in order and no number twice")
		last = numeric
	}
}
