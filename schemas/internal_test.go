package schemas

import (
	"bytes"
	"io"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestOnlyEmbeddedSchemasAreLoaded(t *testing.T) {
	t.Parallel()
	for _, uri := range []string{
		"https://example.com/other.json", "file:///etc/passwd", "https://discountquery.example/other/query.dead.v1.json",
		BaseURI, BaseURI + "absent.json", BaseURI + "../schemas.go", BaseURI + "samples/query.dead.v1.json", BaseURI + "asyncapi.yaml",
	} {
		_, err := embedded{}.Load(uri)
		require.Error(t, err, uri)
	}
	_, err := embedded{}.Load(BaseURI + "query.dead.v1.json")
	require.NoError(t, err)
}

func TestRemoteReferenceDoesNotCompile(t *testing.T) {
	t.Parallel()
	compiler := jsonschema.NewCompiler()
	compiler.UseLoader(embedded{})
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(`{"$ref":"https://example.com/other.json"}`))
	require.NoError(t, err)
	require.NoError(t, compiler.AddResource("urn:test", document))
	_, err = compiler.Compile("urn:test")
	require.ErrorContains(t, err, "only the embedded schemas")
}

// patternsOf returns every pattern of the embedded schemas whose names match.
func patternsOf(t *testing.T, glob string) []string {
	t.Helper()
	names, err := fs.Glob(files, glob)
	require.NoError(t, err)
	var all []string
	for _, name := range names {
		document, err := embedded{}.Load(BaseURI + name)
		require.NoError(t, err)
		all = collectPatterns(document, all)
	}
	require.NotEmpty(t, all)
	slices.Sort(all)
	return slices.Compact(all)
}

func collectPatterns(node any, patterns []string) []string {
	switch node := node.(type) {
	case map[string]any:
		if pattern, ok := node["pattern"].(string); ok {
			patterns = append(patterns, pattern)
		}
		for _, child := range node {
			patterns = collectPatterns(child, patterns)
		}
	case []any:
		for _, child := range node {
			patterns = collectPatterns(child, patterns)
		}
	}
	return patterns
}

// Runs must give the verdict of package regexp on every text, be it one that matches or one that nearly does.
func TestRunsAgreeWithRegexp(t *testing.T) {
	t.Parallel()
	patterns := append(patternsOf(t, "*.json"), `^a*b+c?$`, `^a{2,3}$`, `^ab{0,2}[c-e]{1,}f$`, `^[^\x00-\x7f]$`, `^a?a$`, `^a*a{2}$`, `^(ab)+$`, `^é{2}$`, `^(?i)ab$`,
		`^[ab]?[bc]$`, `^[ab]*[bc]{2}$`, `^[ab]*[cd]?[ab]$`, `^[ab]{1,2}b$`, `^[ab]*c[ab]*$`, `^[ab]{2}[ab]{0,3}$`)
	for _, pattern := range patterns {
		t.Run(pattern, func(t *testing.T) {
			t.Parallel()
			expression := regexp.MustCompile(pattern)
			compiled, err := compilePattern(pattern)
			require.NoError(t, err)
			require.Equal(t, pattern, compiled.String())
			rapid.Check(t, func(t *rapid.T) {
				text := drawNear(t, pattern)
				require.Equal(t, expression.MatchString(text), compiled.MatchString(text), "%q", text)
			})
		})
	}
}

// drawNear draws a text that matches the pattern, often with a byte changed, removed or added.
func drawNear(t *rapid.T, pattern string) string {
	text := []byte(rapid.OneOf(rapid.StringMatching(strings.ReplaceAll(pattern, "(?i)", "")), rapid.String()).Draw(t, "text"))
	at := rapid.IntRange(0, len(text)).Draw(t, "at")
	other := rapid.Byte().Draw(t, "other")
	switch rapid.IntRange(0, 4).Draw(t, "edit") {
	case 0:
		text = append(text[:at:at], append([]byte{other}, text[at:]...)...)
	case 1:
		if at < len(text) {
			text[at] = other
		}
	case 2:
		text = append(text, '\n')
	case 3:
		if at < len(text) {
			text = append(text[:at:at], text[at+1:]...)
		}
	}
	return string(text)
}

// The patterns of queries are on the hot path: none of them may fall back to a regular expression unnoticed.
func TestQueryPatternsAreRuns(t *testing.T) {
	t.Parallel()
	for _, pattern := range patternsOf(t, "query.requested.*.json") {
		compiled, err := compilePattern(pattern)
		require.NoError(t, err)
		require.IsType(t, &runs{}, compiled, pattern)
	}
	set, err := Compile()
	require.NoError(t, err)
	require.IsType(t, &runs{}, set.byQuery["easypay"].Properties["cardBin"].Pattern)
	require.IsType(t, &runs{}, set.byQuery["unionpay"].Properties["data"].Pattern)
}

func TestWhatIsNoRun(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{
		`^a?a$`, `^a*b?$`, `^a*a{2}$`, `^(a|b1)$`, `[0-9]{8}`, `^[0-9]{8}`, `^é$`, `^[^a]$`, `^(?i)ab$`, `^$`, `^(ab){2}$`,
		`^[ab]?[bc]$`, `^[ab]*[bc]{2}$`, `^[ab]*[cd]?[ab]$`, `^[ab]{1,2}b$`,
	} {
		compiled, err := compilePattern(pattern)
		require.NoError(t, err)
		require.IsType(t, &regexp.Regexp{}, compiled, pattern)
	}
	_, err := compilePattern(`(`)
	require.Error(t, err)
}

// A decoder that waits for its next document must not hold on to the last one: it may be card data.
func TestDecoderForgetsDocument(t *testing.T) {
	t.Parallel()
	set, err := Compile()
	require.NoError(t, err)
	decoder := jsontext.NewDecoder(bytes.NewBufferString(`{"cardNo":"6200000000000005"}`))
	_, err = decoder.ReadToken()
	require.NoError(t, err)
	require.NotEmpty(t, decoder.UnreadBuffer())
	set.release(decoder)
	require.Empty(t, decoder.UnreadBuffer())
	_, err = decoder.ReadToken()
	require.ErrorIs(t, err, io.EOF)
}

func TestPointer(t *testing.T) {
	t.Parallel()
	set := &Set{names: map[string]bool{"data": true, "a/b~c": true}}
	require.Empty(t, set.pointer(nil))
	require.Equal(t, "/data/12/*/a~1b~0c", set.pointer([]string{"data", "12", "6200000000000005", "a/b~c"}))
	require.Equal(t, "/*/*", set.pointer([]string{"123456", ""}))
}
