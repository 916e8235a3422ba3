package query

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCleanMessage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                 "",
		"   ":                              "",
		"  성공  ":                           "성공",
		"No record":                        "No record",
		"code 1234567":                     "code 1234567",
		"code 12345678":                    "code ***",
		"6200000000000005":                 "***",
		"card 6200000000000005 declined":   "card *** declined",
		"card 6200 0000 0000 0005 refused": "card *** refused",
		"card 6200-0000-0000-0005, again":  "card ***, again",
		"card 6200 - 0000 -- 0000 0005.":   "card ***.",
		"a 1234 567 b":                     "a 1234 567 b",
		"a 1234 5678  b":                   "a ***  b",
		"a 1234567- b":                     "a 1234567- b",
		"a 12345678- b":                    "a ***- b",
		"12345678 x 1234567 y 99999999":    "*** x 1234567 y ***",
		"card 6200\u00a00000\u20090000\u20280005":              "card ***",
		"card 6200\u20110000\u20130000\u20140005":              "card ***",
		"card 6200\u200b0000\ufeff0000\u20600005":              "card ***",
		"card 6200\x000000\x1b0000\u00850005":                  "card ***",
		"card 6200\r\n0000\t0000\v0005":                        "card ***",
		"card 6200\xff0000\xfe0000\xc30005":                    "card ***",
		"card 6\n2\n0\n0\n0\n0\n0\n0":                          "card ***",
		"카드 ６２００００００００００００００５":                                 "카드 ***",
		"card ٦٢٠٠٠٠٠٠٠٠٠٠٠٠٠٥ x":                              "card *** x",
		"card 62٠٠00００0005":                                    "card ***",
		"12:34:56 on 12/34/5678":                               "12:34:56 on 12/34/5678",
		"line\r\nend\ttab\x00zero\x7fdelete\u0085next":         "lineendtabzerodeletenext",
		"bad \xff bytes \xc3":                                  "bad  bytes",
		"1\u200b2":                                             "1\u200b2",
		strings.Repeat("a", 200):                               strings.Repeat("a", 200),
		strings.Repeat("a", 201):                               strings.Repeat("a", 200),
		strings.Repeat("a", 199) + "é":                         strings.Repeat("a", 199),
		strings.Repeat("가", 67):                                strings.Repeat("가", 66),
		strings.Repeat("a", 198) + "😀":                         strings.Repeat("a", 198),
		strings.Repeat("a", 190) + " 6200000000000005":         strings.Repeat("a", 190) + " ***",
		strings.Repeat("9", 100_000) + strings.Repeat(" 9", 9): "***",
	} {
		require.Equal(t, want, CleanMessage(text), "%q", text)
	}
}

// cardLike finds 8 digits with nothing but spaces, dashes and invisible characters between them.
var cardLike = regexp.MustCompile(`\p{Nd}([\p{Z}\p{Pd}\p{Cf}\p{Cc}]*\p{Nd}){7}`)

// requireClean checks what CleanMessage promises, whatever the text was.
func requireClean(t require.TestingT, text string) {
	got := CleanMessage(text)
	require.True(t, utf8.ValidString(got))
	require.LessOrEqual(t, len(got), 200)
	require.False(t, strings.ContainsFunc(got, unicode.IsControl), "%q", got)
	require.NotRegexp(t, cardLike, got)
	require.Equal(t, strings.TrimLeftFunc(got, unicode.IsSpace), got)
}

func TestCleanMessageKeepsNoCardNumber(t *testing.T) {
	t.Parallel()
	alphabet := []rune("0123456789012345678901234567890123456789 --\n\x00\u00a0\u200b\u2011٣６ab가.😀\ufffd")
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.SampledFrom(alphabet), 0, 260).Draw(t, "text"))
		requireClean(t, text)
		requireClean(t, text+string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))+text)
	})
}

func TestCleanMessageLeavesHarmlessTextAlone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`([a-z가-힣]{1,4} ?([0-9]{1,7})?[.,:/]){0,9}[a-z]`).Draw(t, "text")
		require.Equal(t, text, CleanMessage(text))
	})
}

func FuzzCleanMessage(f *testing.F) {
	for _, seed := range []string{"", "6200-0000 0000\n0005", "６２００00\u200b00", "a\xff1234\xff5678", strings.Repeat("가1", 80)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) { requireClean(t, text) })
}

func BenchmarkCleanMessage(b *testing.B) {
	text := "승인거절: card 6200-0000-0000-0005 (문의 1588-4954), code R102"
	b.ReportAllocs()
	for b.Loop() {
		CleanMessage(text)
	}
}
