package archtest

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// publicNumbers holds the card numbers that may stand in this repository, each with who published it for tests. No account is behind them.
func publicNumbers() map[string]string {
	return map[string]string{
		"6200000000000005":    "UnionPay, 16 digits: Stripe's page of test cards",
		"6205500000000000004": "UnionPay, 19 digits: Stripe's page of test cards",
		"4111111111111111":    "Visa: PayPal's list of test cards, and most others",
		"4222222222222":       "Visa, 13 digits: PayPal's list of test cards",
		"378282246310005":     "American Express: PayPal's list of test cards",
		"30569309025904":      "Diners Club: PayPal's list of test cards",
	}
}

// scheme is one range of card numbers: how they begin and how many digits they have (ISO/IEC 7812, as the schemes publish their ranges).
type scheme struct {
	name     string
	from, to int // the first digits, as many as `from` has
	shortest int
	longest  int
}

func schemes() []scheme {
	return []scheme{
		{"Visa", 4, 4, 13, 19},
		{"Mastercard", 51, 55, 16, 16},
		{"Mastercard", 2221, 2720, 16, 16},
		{"American Express", 34, 34, 15, 15},
		{"American Express", 37, 37, 15, 15},
		{"Mir", 2200, 2204, 16, 19},
		{"Diners Club", 300, 305, 14, 19},
		{"Diners Club", 36, 36, 14, 19},
		{"Diners Club", 38, 39, 14, 19},
		{"JCB", 3528, 3589, 16, 19},
		{"UnionPay", 62, 62, 13, 19},
		{"UnionPay", 8100, 8171, 16, 19},
		{"Discover or Maestro", 6, 6, 12, 19},
		{"Maestro", 50, 50, 12, 19},
		{"Maestro", 56, 58, 12, 19},
		{"a Korean domestic card", 9, 9, 16, 16},
	}
}

// schemeOf names the scheme that issues numbers like this one, or nothing.
func schemeOf(number string) string {
	for _, s := range schemes() {
		first, err := strconv.Atoi(number[:len(strconv.Itoa(s.from))])
		if err == nil && first >= s.from && first <= s.to && len(number) >= s.shortest && len(number) <= s.longest {
			return s.name
		}
	}
	return ""
}

// luhn tells whether the check digit is right.
func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		digit := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			digit *= 2
		}
		sum += digit/10 + digit%10
	}
	return sum%10 == 0
}

// cardNumbers finds card numbers that are not on the list of public ones, in every file that can be committed.
func cardNumbers(root fs.FS) (findings []string, read int, err error) {
	folders, err := ignoredFolders(root)
	if err != nil {
		return nil, 0, err
	}
	files, err := ignoredFiles(root)
	if err != nil {
		return nil, 0, err
	}
	s := newScanner()
	err = fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (name == ".git" || folders.has(name)):
			return fs.SkipDir
		case !entry.Type().IsRegular() || files.has(name) || path.Base(name) == "go.sum": // which holds checksums, kept by the go command
			return nil
		}
		text, err := fs.ReadFile(root, name)
		read += len(text)
		for _, f := range s.scan(text) {
			findings = append(findings, fmt.Sprintf("%s:%d: a number like one of %s that ends in %s%s; use a public test number",
				name, 1+bytes.Count(text[:f.at], []byte("\n")), f.scheme, f.number[len(f.number)-4:], f.how))
		}
		return err
	})
	return findings, read, err
}

// patterns are the lines of .gitignore that name files.
type patterns []string

func (p patterns) has(name string) bool {
	for _, pattern := range p {
		base := path.Base(name)
		if rooted, ok := strings.CutPrefix(pattern, "/"); ok {
			pattern, base = rooted, name
		}
		if matched, err := path.Match(pattern, base); matched && err == nil {
			return true
		}
	}
	return false
}

func ignoredFiles(root fs.FS) (patterns, error) {
	text, err := fs.ReadFile(root, ".gitignore")
	if err != nil {
		return nil, fmt.Errorf("read .gitignore: %w", err)
	}
	var found patterns
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && !strings.HasSuffix(line, "/") {
			found = append(found, line)
		}
	}
	return found, nil
}

func TestNoFileHoldsACardNumber(t *testing.T) {
	t.Parallel()
	findings, read, err := cardNumbers(thisTree(t).root)
	require.NoError(t, err)
	require.Greater(t, read, 1<<20, "the whole tree is read")
	t.Logf("%d bytes read", read)
	none(t, findings)
}

// private returns a number in a scheme's range that is on no list, with the right check digit. It is put together here, so that this file holds none.
func private(first string, length int) string {
	number := first + strings.Repeat("71", 10)[:length-1-len(first)]
	for digit := range 10 {
		if whole := number + strconv.Itoa(digit); luhn(whole) {
			return whole
		}
	}
	return ""
}

func TestCardNumbersAreFound(t *testing.T) {
	t.Parallel()
	number, visa, amex := private("620123", 16), private("4123", 16), private("3712", 15)
	escaped := func(format string) string {
		var b strings.Builder
		for _, digit := range number {
			fmt.Fprintf(&b, format, digit)
		}
		return b.String()
	}
	wrapped := func(before, after string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(before + number + after))
	}
	for name, test := range map[string]struct {
		text, want string
	}{
		"bare":                       {number, "a:1: a number like one of UnionPay that ends in " + number[12:] + "; use"},
		"in the third line":          {"one\ntwo\n\"" + visa + "\"\n", "a:3: a number like one of Visa"},
		"between letters":            {"card" + number + "x", "UnionPay"},
		"a name and an underscore":   {"card_" + visa, "Visa"},
		"13 digits":                  {private("4", 13), "Visa"},
		"12 digits":                  {private("50", 12), "Maestro"},
		"19 digits":                  {private("62", 19), "UnionPay"},
		"Mastercard":                 {private("52", 16), "Mastercard"},
		"Mastercard's second range":  {private("2345", 16), "Mastercard"},
		"JCB":                        {private("3530", 16), "JCB"},
		"a Korean card":              {private("94", 16), "Korean"},
		"in a path":                  {"https://example.org/cards/" + number + "/usage/of/a/long/path", "UnionPay"},
		"in groups":                  {number[:4] + " " + number[4:8] + " " + number[8:12] + " " + number[12:], "UnionPay"},
		"in groups with dashes":      {"no. " + number[:4] + "-" + number[4:8] + "-" + number[8:12] + "-" + number[12:] + ".", "UnionPay"},
		"embossed, American Express": {amex[:4] + " " + amex[4:10] + " " + amex[10:], "American Express"},
		"escaped for a URL":          {escaped("%%%02X"), "UnionPay that ends in " + number[12:] + ", escaped"},
		"escaped for JSON":           {escaped(`\u%04x`), "escaped"},
		"escaped for Go":             {escaped(`\x%02x`), "escaped"},
		"escaped for HTML":           {escaped("&#%d;"), "escaped"},
		"one digit escaped":          {number[:7] + "%3" + number[7:], "escaped"},
		"in hexadecimal":             {escaped("%02x"), "in hexadecimal"},
		"in hexadecimal, shifted":    {"6" + escaped("%02x"), "in hexadecimal"},
		"in base64":                  {wrapped("", ""), "in base64"},
		"in base64, shifted by one":  {wrapped(`{"a":"`, `"}`), "in base64"},
		"in base64, shifted by two":  {wrapped(`{"ab":"`, `","c":"d"}`), "in base64"},
		"in base64, shifted by more": {"x." + wrapped(`{"abc":"`, "\n") + ".y", "in base64"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, _, err := cardNumbers(fstest.MapFS{".gitignore": {}, "a": {Data: []byte(test.text)}})
			require.NoError(t, err)
			require.Len(t, got, 1)
			require.Contains(t, got[0], test.want)
			require.NotContains(t, got[0], number[:12])
		})
	}
}

func TestWhatIsNoCardNumberPasses(t *testing.T) {
	t.Parallel()
	number := private("620123", 16)
	for name, text := range map[string]string{
		"nothing":               "",
		"a wrong check digit":   number[:15] + strconv.Itoa((int(number[15]-'0')+1)%10),
		"a time in nanoseconds": "1732266000000000",
		"a day and a time":      "20261122091500",
		"no scheme's range":     private("1", 16),
		"11 digits":             private("50", 12)[1:],
		"20 digits":             number + "0000",
		"a commit":              "f5" + number + "c4a1bd9e0f5a77",
		"zeros":                 "0000000000000000",
		"digits apart":          number[:8] + "," + number[8:],
		"lines of numbers":      number[:4] + "\n" + number[4:8] + "\n" + number[8:12] + "\n" + number[12:],
		"other groups":          number[:6] + " " + number[6:],
		"part of a public one":  "620000000000000",
	} {
		require.Empty(t, newScanner().scan([]byte(text)), name)
	}
	for number, source := range publicNumbers() {
		require.True(t, luhn(number), number)
		require.NotEmpty(t, schemeOf(number), number)
		require.NotEmpty(t, source)
		require.Empty(t, newScanner().scan([]byte(number+" "+base64.StdEncoding.EncodeToString([]byte(number)))), number)
	}
}

func TestCardNumbersAreSoughtInEveryFileThatCanBeCommitted(t *testing.T) {
	t.Parallel()
	bad := &fstest.MapFile{Data: []byte("x\n" + private("62", 17))}
	got, read, err := cardNumbers(fstest.MapFS{
		".gitignore": {Data: []byte("# built\n/worker\n*.test\n\n/data/\n**/testdata/rapid/\n/coverage.*\n")},
		".git/x":     bad, "data/x": bad, "worker": bad, "p/p.test": bad, "p/testdata/rapid/x": bad, "coverage.out": bad, "bench/go.sum": bad,
		"p/testdata/a.json": bad, "cmd/worker/a.go": bad, ".ci/run": bad, "p/coverage.out": bad,
	})
	require.NoError(t, err)
	require.Len(t, got, 4)
	require.Greater(t, read, 4*len(bad.Data))
	for i, name := range []string{".ci/run:2", "cmd/worker/a.go:2", "p/coverage.out:2", "p/testdata/a.json:2"} {
		require.Contains(t, got[i], name)
	}

	_, _, err = cardNumbers(fstest.MapFS{"a": bad})
	require.ErrorContains(t, err, ".gitignore")
}
