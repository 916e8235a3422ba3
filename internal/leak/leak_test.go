package leak

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The marks of the tests, and secrets that begin with them.
const (
	number = "620123456"
	token  = "tokenOf"

	secretNumber = number + "0000009"
	secretToken  = token + "Somebody"
)

func newFinder(t testing.TB) *Finder {
	t.Helper()
	f, err := New(number, secretToken[:10])
	require.NoError(t, err)
	return f
}

// coded writes every byte of text in a format.
func coded(format, text string) string {
	var b strings.Builder
	for i := range len(text) {
		fmt.Fprintf(&b, format, text[i])
	}
	return b.String()
}

func TestEveryFormIsFound(t *testing.T) {
	t.Parallel()
	twice, err := json.Marshal(coded(`\u%04x`, secretNumber))
	require.NoError(t, err)
	for name, test := range map[string]struct {
		text, form string
	}{
		"plain":                    {secretNumber, "plain"},
		"in a line":                {`{"msg":"card ` + secretNumber + `"}`, "plain"},
		"among bytes":              {"\x00\xff\x01" + secretNumber + "\xfe", "plain"},
		"hexadecimal":              {hex.EncodeToString([]byte("x" + secretNumber)), "hexadecimal"},
		"hexadecimal in capitals":  {strings.ToUpper(hex.EncodeToString([]byte(secretToken))), "hexadecimal in capitals"},
		"with zero bytes":          {coded("%c\x00", secretNumber), "UTF-16"},
		"in groups":                {"6201 2345 6000 0009", "in groups"},
		"in groups with dashes":    {"6201-2345-6000-0009", "in groups with dashes"},
		"for a URL":                {coded("%%%02X", secretNumber), "plain, escaped"},
		"for a URL, in small":      {coded("%%%02x", secretToken), "plain, escaped"},
		"for a query string":       {url.QueryEscape("a=" + secretNumber + "&b"), "plain"},
		"for JSON":                 {coded(`\u%04x`, secretNumber), "plain, escaped"},
		"for JSON in JSON":         {string(twice), "plain, escaped"},
		"one digit escaped":        {secretNumber[:4] + `\u0032` + secretNumber[5:], "plain, escaped"},
		"for Go":                   {coded(`\x%02x`, secretNumber), "plain, escaped"},
		"hexadecimal, escaped":     {coded("%%%02x", hex.EncodeToString([]byte(secretNumber))), "hexadecimal, escaped"},
		"base64, shifted by none":  {base64.StdEncoding.EncodeToString([]byte(secretNumber)), "base64, shifted by 0"},
		"base64, shifted by one":   {base64.StdEncoding.EncodeToString([]byte("{" + secretNumber + "}")), "base64, shifted by 1"},
		"base64, shifted by two":   {base64.StdEncoding.EncodeToString([]byte(`{"` + secretNumber + `"}`)), "base64, shifted by 2"},
		"base64, shifted by three": {base64.RawURLEncoding.EncodeToString([]byte(`{"a` + secretNumber + `"}`)), "base64, shifted by 0"},
		"base64 at the end":        {base64.RawURLEncoding.EncodeToString([]byte("ab" + number)), "base64, shifted by 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := newFinder(t).Find([]byte(test.text))
			require.NotEmpty(t, found)
			forms := make([]string, 0, len(found))
			for _, f := range found {
				forms = append(forms, f.Form)
				require.NotContains(t, f.String(), number[:4])
				require.NotContains(t, f.String(), token)
			}
			require.Contains(t, forms, test.form)
		})
	}
}

func TestNothingElseIsFound(t *testing.T) {
	t.Parallel()
	f := newFinder(t)
	noise := make([]byte, 1<<20)
	_, err := rand.Read(noise)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"nothing":          "",
		"a mask":           "620123******0009",
		"the end":          "0009",
		"cut short":        number[:8],
		"another":          "6201234650000009",
		"noise":            string(noise),
		"noise in base64":  base64.StdEncoding.EncodeToString(noise),
		"noise as digits":  hex.EncodeToString(noise),
		"half an escape":   `%`,
		"a broken escape":  `\u00`,
		"no escape":        `\n%zz\xg0\u00g0\u1234`,
		"only backslashes": `\\\\`,
	} {
		require.Empty(t, f.Find([]byte(text)), name)
	}
}

func TestShortMarksAreRefused(t *testing.T) {
	t.Parallel()
	_, err := New(number, "1234567")
	require.EqualError(t, err, "mark 1 has 7 bytes: at least 8")
}

func TestFilesAreLookedThrough(t *testing.T) {
	t.Parallel()
	root := fstest.MapFS{
		"streams/a/1.blk": {Data: []byte("\x00sealed")},
		"streams/b/2.blk": {Data: []byte("\x00" + secretNumber)},
		"skipped/3.blk":   {Data: []byte(secretNumber)},
	}
	found, read, err := newFinder(t).FindIn(root, func(name string) bool { return strings.HasPrefix(name, "skipped/") })
	require.NoError(t, err)
	require.Equal(t, len("\x00sealed")+1+len(secretNumber), read)
	require.Equal(t, []Finding{{Where: "streams/b/2.blk", Form: "plain", Offset: 1}}, found)
	require.Equal(t, "streams/b/2.blk: mark 0, plain, at 1", found[0].String())

	_, _, err = newFinder(t).FindIn(os.DirFS(filepath.Join(t.TempDir(), "none")), func(string) bool { return false })
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// FuzzFind never panics, and finds a number wherever it stands.
func FuzzFind(f *testing.F) {
	f.Add([]byte(`{"a":"`), []byte(`"}`))
	f.Add([]byte(`\u00`), []byte(`%`))
	f.Add([]byte(`\\\`), []byte{0xff})
	finder := newFinder(f)
	f.Fuzz(func(t *testing.T, before, after []byte) {
		text := append(append(append([]byte(nil), before...), secretNumber...), after...)
		require.NotEmpty(t, finder.Find(text))
		require.NotEmpty(t, finder.Find([]byte(base64.StdEncoding.EncodeToString(text))))
		require.NotEmpty(t, finder.Find([]byte(hex.EncodeToString(text))))
	})
}
