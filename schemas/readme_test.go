package schemas_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// workedKey is what the shell, Python and JavaScript lines of the README print, run once by hand.
const workedKey = "csbuu7xomafjihgdwkgzrrrmq4"

func TestWorkedKey(t *testing.T) {
	t.Parallel()
	require.Equal(t, workedKey, query.Key("shop", "urn:shop:checkout", "order-2026-000042"))
	readme := string(readFile(t, "README.md"))
	require.Contains(t, readme, "`"+workedKey+"`")
	require.Contains(t, readme, "`"+query.NewSubjects("discount").ResultOf("<key>", "<client>")+"`")
	require.Contains(t, readme, "printf '%s\\n%s\\n%s' shop urn:shop:checkout order-2026-000042 |")
	require.Equal(t, 2, strings.Count(readme, `"shop", "urn:shop:checkout", "order-2026-000042"`)+
		strings.Count(readme, `'shop', 'urn:shop:checkout', 'order-2026-000042'`))
	require.Contains(t, string(readFile(t, "asyncapi.yaml")), workedKey)
}

func TestReadmeNamesEveryFile(t *testing.T) {
	t.Parallel()
	readme := string(readFile(t, "README.md"))
	for name := range readFiles(t, "*.json") {
		require.Contains(t, readme, "| `"+name+"` |")
	}
	require.Contains(t, readme, "| `asyncapi.yaml` |")
}
