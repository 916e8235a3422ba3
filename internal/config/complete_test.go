package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// example is the commented file that shows every key.
const example = "../../worker.example.yaml"

func TestExampleIsTheDefault(t *testing.T) {
	t.Parallel()
	cfg, err := Load(example, nil)
	require.NoError(t, err)
	want := Default()
	resolve(settings(&want), filepath.Dir(example))
	require.Equal(t, want, cfg)
	require.NoError(t, cfg.Validate())
}

// written is one key as it stands in the example.
type written struct {
	key  string
	line int
	leaf bool
}

func TestExampleHasEveryKeyInOrder(t *testing.T) {
	t.Parallel()
	var want, got []string
	cfg := Default()
	for _, one := range settings(&cfg) {
		want = append(want, one.key)
	}
	for _, key := range writtenKeys(t) {
		if key.leaf {
			got = append(got, key.key)
		}
	}
	require.Equal(t, want, got)
}

func TestExampleHasTheValueOfEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	var bare []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if line = strings.TrimRight(line, " "); line != "" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			bare = append(bare, line)
		}
	}
	require.Equal(t, strings.Split(strings.TrimSpace(printed(t, Default())), "\n"), unquoted(bare), "the example without its comments is what --print shows by default")
}

// unquoted adds the quotes with which a printed number-like text differs from the example's.
func unquoted(lines []string) []string {
	for i, line := range lines {
		lines[i] = strings.Replace(line, "nearly_exhausted: 95", `nearly_exhausted: "95"`, 1)
	}
	return lines
}

func TestExampleExplainsEveryKey(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	all := strings.Split(string(text), "\n")
	for _, key := range writtenKeys(t) {
		above := strings.TrimSpace(all[key.line-2])
		require.True(t, strings.HasPrefix(above, "# "), "%s has no comment above it", key.key)
		require.True(t, strings.HasSuffix(above, "."), "the comment of %s is not a sentence", key.key)
	}
}

// writtenKeys returns the example's keys, groups included, in its order.
func writtenKeys(t *testing.T) []written {
	t.Helper()
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	var document yaml.Node
	require.NoError(t, yaml.Unmarshal(text, &document))
	var keys []written
	var walk func(parent string, mapping *yaml.Node)
	walk = func(parent string, mapping *yaml.Node) {
		for i := 0; i < len(mapping.Content); i += 2 {
			name, value := mapping.Content[i], mapping.Content[i+1]
			leaf := value.Kind != yaml.MappingNode || len(value.Content) == 0
			keys = append(keys, written{parent + name.Value, name.Line, leaf})
			walk(parent+name.Value+".", value)
		}
	}
	walk("", document.Content[0])
	return keys
}

// TestEveryFieldHasAComment reads this package: a key without a comment is one that nobody can set.
func TestEveryFieldHasAComment(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	fields := 0
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if ok && field.Tag != nil {
				fields++
				require.True(t, strings.HasSuffix(strings.TrimSpace(field.Doc.Text()), "."), "%s: %v", file, field.Names)
			}
			return true
		})
	}
	require.Greater(t, fields, 100)
}
