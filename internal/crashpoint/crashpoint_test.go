package crashpoint_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/crashpoint"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLabelsAreAllOfTheConstants(t *testing.T) {
	t.Parallel()
	parsed, err := parser.ParseFile(token.NewFileSet(), "crashpoint.go", nil, 0)
	require.NoError(t, err)
	var declared []string
	ast.Inspect(parsed, func(node ast.Node) bool {
		if spec, ok := node.(*ast.ValueSpec); ok {
			declared = append(declared, strings.Trim(spec.Values[0].(*ast.BasicLit).Value, `"`))
		}
		return true
	})
	var listed []string
	for _, label := range crashpoint.Labels() {
		listed = append(listed, string(label))
	}
	require.Equal(t, declared, listed)
	require.Len(t, listed, 9)
}

// TestEveryLabelIsPassedInOnePlace keeps the labels and the product together: one that nobody passes would make a fault run kill nobody.
func TestEveryLabelIsPassedInOnePlace(t *testing.T) {
	t.Parallel()
	calls := regexp.MustCompile(`crashpoint\.Here\(crashpoint\.(\w+)\)`)
	passed := map[string]int{}
	err := filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, call := range calls.FindAllStringSubmatch(string(text), -1) {
			passed[call[1]]++
		}
		return err
	})
	require.NoError(t, err)
	require.Equal(t, map[string]int{
		"AfterFetch": 1, "AfterDecode": 1, "AfterPermit": 1, "AfterRequestWritten": 1, "AfterResponseRead": 1,
		"BeforeStore": 1, "AfterStore": 1, "BeforeAck": 1, "AfterAck": 1,
	}, passed)
}
