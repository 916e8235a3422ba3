package trace

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTheTableOfTheDocumentIsTheAllowList compares docs/tracing.md to what spans may say, in both directions and in its order.
func TestTheTableOfTheDocumentIsTheAllowList(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "tracing.md"))
	require.NoError(t, err)
	var told []Attribute
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z._]+)` \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		told = append(told, Attribute{Key: row[1], Meaning: row[2]})
	}
	require.Equal(t, Attributes(), told)
}

func TestTheDocumentNamesEverySpan(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "tracing.md"))
	require.NoError(t, err)
	for _, name := range []string{"process easypay interactive", "wait for pace", "call easypay", "`ask`", string(Result), string(DeadLetter), string(Retry)} {
		require.Contains(t, string(text), name)
	}
}
