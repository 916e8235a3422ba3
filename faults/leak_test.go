//go:build faults

package faults

import (
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// secrets are the card data of every load, or how it begins: it must lie nowhere, and nobody may tell it.
func secrets() []string { return []string{"6200000000000005", "6205500000000000004", "shopper1"} }

// untold are the words that no process may write: card data, and what a publisher writes freely, in which card data could be.
func untold() []string { return append(secrets(), source, "order-") }

// listener passes on what a process writes and remembers the words it must not hear, also those that come in two pieces.
type listener struct {
	to    io.Writer
	words []string
	heard map[string]bool
	last  []byte
}

func newListener(to io.Writer, words []string) *listener {
	return &listener{to: to, words: words, heard: map[string]bool{}}
}

// Write listens and passes on. It is called by one goroutine at a time.
func (l *listener) Write(p []byte) (int, error) {
	l.last = append(l.last, p...)
	longest := 0
	for _, word := range l.words {
		longest = max(longest, len(word))
		if bytes.Contains(l.last, []byte(word)) {
			l.heard[word] = true
		}
	}
	l.last = bytes.Clone(l.last[max(0, len(l.last)-longest+1):])
	return l.to.Write(p)
}

// listen returns a writer for all that a process writes. At the end of the test, when the process has ended, it must have told nothing.
func listen(t *testing.T, name string, to io.Writer) io.Writer {
	t.Helper()
	l := newListener(to, untold())
	t.Cleanup(func() {
		for word := range l.heard {
			t.Errorf("leak: %s wrote %q, which a publisher wrote", name, word)
		}
	})
	return l
}

// keepsNoSecrets looks through all files below dir at the end of the test, when the broker that has its store there has ended.
func keepsNoSecrets(t *testing.T, dir string) {
	t.Helper()
	t.Cleanup(func() {
		for _, found := range secretsIn(t, dir) {
			t.Errorf("leak: at rest, in the clear: %s", found)
		}
	})
}

// secretsIn returns which files below dir hold which secrets.
func secretsIn(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		for _, secret := range secrets() {
			if bytes.Contains(text, []byte(secret)) {
				found = append(found, entry.Name()+": "+secret)
			}
		}
		return err
	}))
	return found
}

// TestF00LeaksAreHeard tells the listener what it must hear, and what it must not.
func TestF00LeaksAreHeard(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		writes []string
		heard  bool
	}{
		"nothing":                     {},
		"a log line":                  {[]string{`{"level":"info","msg":"query completed","client":"shop","key":"aq4x"}`}, false},
		"a card number":               {[]string{`{"msg":"asked for 6200000000000005"}`}, true},
		"a user token":                {[]string{"token shopper100042\n"}, true},
		"a source":                    {[]string{`{"stack":"{\"source\":\"urn:shop\"}"}`}, true},
		"an id":                       {[]string{"order-100001"}, true},
		"a number in two pieces":      {[]string{"62000000", "00000005"}, true},
		"a number byte by byte":       {[]string{"6", "2", "0", "5", "5", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "0", "4"}, true},
		"pieces with a line between":  {[]string{"62000000", "\n", "00000005"}, false},
		"a word long before the end":  {[]string{"order-1", string(make([]byte, 100<<10))}, true},
		"what is shorter than a word": {[]string{"order", " ", "-"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var passed, all bytes.Buffer
			l := newListener(&passed, untold())
			for _, text := range test.writes {
				all.WriteString(text)
				n, err := l.Write([]byte(text))
				require.NoError(t, err)
				require.Equal(t, len(text), n)
			}
			require.Equal(t, test.heard, len(l.heard) > 0)
			require.Equal(t, all.String(), passed.String())
		})
	}
}

// TestF00SecretsAtRestAreSeen hides a secret among files.
func TestF00SecretsAtRestAreSeen(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "store", "messages")
	require.NoError(t, os.MkdirAll(deep, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(deep, "1.blk"), []byte("\x00\x01source urn:shop, sealed\xff"), 0o600))
	require.Empty(t, secretsIn(t, dir))
	require.NoError(t, os.WriteFile(filepath.Join(deep, "2.blk"), []byte("\x00\x016205500000000000004\xff"), 0o600))
	require.Equal(t, []string{"2.blk: 6205500000000000004"}, secretsIn(t, dir))
}
