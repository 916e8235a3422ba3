package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
)

// at is when the events of these tests were stored.
func at() time.Time { return time.Date(2026, 3, 2, 9, 15, 4, 250e6, time.UTC) }

func minor(n int64) *int64 { return &n }

func TestTailLines(t *testing.T) {
	t.Parallel()
	shop := query.Asked{Provider: query.EasyPay, Lane: query.Interactive, Client: "shop", Key: "csbuu7xomafjihgdwkgzrrrmq4", ID: "order-42"}
	card := &query.CardRef{LastFour: "0005"}
	for name, test := range map[string]struct {
		event tail.Event
		want  string
	}{
		"coupon": {
			tail.Event{
				What: tail.Results, Status: query.Completed, Outcome: query.OutcomeOK, Query: shop, Took: 176 * time.Millisecond, Attempts: 1, Offers: 3,
				Best: &query.Offer{ID: "CP87654321", Discount: &query.Money{Minor: minor(10000), Currency: "KRW"}},
			},
			"09:15:04.250  easypay   interactive  shop          completed ok        -                      176ms      1  -      10,000 KRW off with CP87654321",
		},
		"no coupon": {
			tail.Event{What: tail.Results, Status: query.Completed, Outcome: query.OutcomeOK, Query: shop, Took: 12345 * time.Millisecond, Offers: 2, Shared: true},
			"09:15:04.250  easypay   interactive  shop          completed ok        -                      12.3s      0  -      2 offers, none applies, shared",
		},
		"empty": {
			tail.Event{What: tail.Results, Status: query.Completed, Outcome: query.OutcomeEmpty, Query: shop},
			"09:15:04.250  easypay   interactive  shop          completed empty     -                        0ms      0  -      -",
		},
		"usage": {
			tail.Event{What: tail.Results, Status: query.Completed, Outcome: query.OutcomeOK, Query: shop, Card: card, Usage: &query.Usage{
				Day: &query.Used{Count: minor(2)}, Total: &query.Used{Amount: &query.Money{Minor: minor(8000), Raw: "80.00", Currency: "HKD"}},
			}},
			"09:15:04.250  easypay   interactive  shop          completed ok        -                        0ms      0  *0005  used day 2x, total 80.00 HKD",
		},
		"failed": {
			tail.Event{
				What: tail.Results, Status: query.Failed, Reason: query.ReasonExhausted, Code: fault.Timeout, Query: shop, Took: 3 * time.Hour, Attempts: 12, Card: card,
			},
			"09:15:04.250  easypay   interactive  shop          failed exhausted    timeout                3h00m     12  *0005  -",
		},
		"dead": {
			tail.Event{
				What: tail.DeadLetters, Reason: query.ReasonRejected, Code: fault.UpstreamBroken, Upstream: query.Response{Code: "R102"}, Query: shop,
				Revision: 2, Raw: []byte("sealed"),
			},
			"09:15:04.250  easypay   interactive  shop          dead rejected       upstream_broken/R102     0ms      0  -      replay 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test.event.Stored = at()
			require.Equal(t, test.want, tailLine(ink{}, test.event, false, at()))
			wide := tailLine(ink{}, test.event, true, at())
			require.Equal(t, test.want+"  csbuu7xomafjihgdwkgzrrrmq4  order-42  -", wide)
			require.Equal(t, wide, uncoloured(tailLine(ink{on: true}, test.event, true, at())), "colours change no column")
			require.True(t, strings.HasPrefix(tailLine(ink{}, test.event, false, at().Add(25*time.Hour)), "Mar 02 09:15  easypay"), "the day is told of what is older")
			require.Equal(t, strings.Index(tailHeading(false), "ANSWER"), strings.LastIndex(tailHeading(true), "ANSWER"))
		})
	}
	require.Equal(t, strings.Index(tailHeading(false), "OUTCOME"), strings.Index(tailLine(ink{}, tail.Event{Status: query.Failed}, false, at()), "failed"))
}

// uncoloured returns a text without what colours it.
func uncoloured(text string) string {
	var b strings.Builder
	for text != "" {
		before, rest, found := strings.Cut(text, "\x1b[")
		b.WriteString(before)
		if !found {
			break
		}
		_, text, _ = strings.Cut(rest, "m")
	}
	return b.String()
}

// TestTailLinesAreHarmless has what others wrote try to move the cursor.
func TestTailLinesAreHarmless(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b[2J\u009b31m\u202ekcatta\nb\tc"
	e := tail.Event{
		What: tail.Results, Status: query.Completed, Outcome: evil, Order: evil, Card: &query.CardRef{LastFour: "\x1b[1"},
		Query:    query.Asked{Provider: evil, Lane: evil, Client: evil, ID: evil, Key: "k"},
		Upstream: query.Response{Code: evil}, Code: "x", Best: &query.Offer{ID: evil, Discount: &query.Money{Raw: evil, Currency: evil}},
	}
	for _, c := range tailLine(ink{}, e, true, at()) {
		require.True(t, c >= ' ' && c != '\u009b' && c != '\u202e' && c != 0x7f, "%q", c)
	}
}

func TestInk(t *testing.T) {
	t.Parallel()
	require.Equal(t, "\x1b[31mx\x1b[0m", ink{on: true}.paint(red, "x"))
	require.Equal(t, "x", ink{}.paint(red, "x"))
	require.Equal(t, "x", ink{on: true}.paint(plain, "x"))
	require.Equal(t, "  ", ink{on: true}.paint(red, "  "))
	file, err := os.CreateTemp(t.TempDir(), "out")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	require.False(t, newInk(file, nil).on, "a file is no terminal")
	require.False(t, newInk(&strings.Builder{}, nil).on)
}

func TestShortDurations(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0ms", 85 * time.Millisecond: "85ms", 1250 * time.Millisecond: "1.25s", 12300 * time.Millisecond: "12.3s", 50 * time.Second: "50s", 250 * time.Second: "4m10s",
		185 * time.Minute: "3h05m", 47*time.Hour + 59*time.Minute: "47h59m", 12 * 24 * time.Hour: "12d",
	} {
		require.Equal(t, want, short(d))
		require.LessOrEqual(t, len(short(d)), 6)
	}
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1234567: "-1,234,567", 12: "12"} {
		require.Equal(t, want, grouped(n))
	}
	for text, want := range map[string]string{"": "", "abc": "abc", "abcd": "ab…", "기가나다": "기가…"} {
		require.Equal(t, want, fit(text, 3))
	}
	require.Empty(t, fit("abc", 0))
	require.Equal(t, "80.00 HKD", money(query.Money{Raw: "80.00", Currency: "HKD"}))
	require.Equal(t, "8,000 minor units of USD", money(query.Money{Minor: minor(8000), Currency: "USD"}))
	require.Equal(t, "no usage", usedOf(query.Usage{}))
	require.Equal(t, "X", bestOf(query.Offer{ID: "X"}))
}
