package ask

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/schemas"
)

// refusalSchema compiles the headers of a refusal as schemas/asyncapi.yaml describes them.
func refusalSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := fs.ReadFile(schemas.Files(), "asyncapi.yaml")
	require.NoError(t, err)
	var document struct {
		Components struct {
			Messages map[string]struct {
				Headers map[string]any `yaml:"headers"`
			} `yaml:"messages"`
		} `yaml:"components"`
	}
	require.NoError(t, yaml.Unmarshal(text, &document))
	headers := document.Components.Messages["refusal"].Headers
	require.NotEmpty(t, headers)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("urn:refusal", asJSON(t, headers)))
	schema, err := compiler.Compile("urn:refusal")
	require.NoError(t, err)
	return schema
}

func asJSON(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	require.NoError(t, err)
	read, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	return read
}

// What clients are told about refusals is what they get: every word with its status, and no word more.
func TestRefusalsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	schema := refusalSchema(t)
	answers, err := os.ReadFile("../../docs/answers.md")
	require.NoError(t, err)
	_, section, _ := strings.Cut(string(answers), "## Refusals\n")
	table, _, _ := strings.Cut(section, "\n## ")
	rows := 0
	for _, code := range Codes() {
		headers := map[string]any{micro.ErrorCodeHeader: code.status(), micro.ErrorHeader: string(code)}
		for name, values := range code.header(1500 * time.Millisecond) {
			headers[name] = values[0]
		}
		if code.status() == "" {
			require.Error(t, schema.Validate(asJSON(t, headers)), code)
			require.NotContains(t, table, "| `"+string(code)+"` |")
			continue
		}
		rows++
		require.NoError(t, schema.Validate(asJSON(t, headers)), code)
		require.Contains(t, table, "| "+code.status()+" | `"+string(code)+"` |")
		for _, name := range []string{micro.ErrorCodeHeader, micro.ErrorHeader, HeaderRetryAfter} {
			if _, has := headers[name]; !has {
				continue
			}
			less := maps.Clone(headers)
			delete(less, name)
			require.Error(t, schema.Validate(asJSON(t, less)), "%s without %s", code, name)
			less[name] = "0"
			require.Error(t, schema.Validate(asJSON(t, less)), "%s with another %s", code, name)
		}
	}
	require.Equal(t, rows, strings.Count(table, "\n| ")-1, "the table has a word that no worker replies")
	for _, header := range []string{micro.ErrorCodeHeader, micro.ErrorHeader, HeaderRetryAfter} {
		require.Contains(t, section, "`"+header, "the document names every header")
	}
}

// The documents tell the deadlines in words, as they are unless somebody configures others.
func TestDeadlinesAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	defaults := config.Default().Ask
	options := Options{Patience: defaults.Timeout, MaxPatience: defaults.MaxTimeout}
	options.fill()
	text, err := fs.ReadFile(schemas.Files(), "asyncapi.yaml")
	require.NoError(t, err)
	words := strings.Join(strings.Fields(string(text)), " ")
	require.Contains(t, words, fmt.Sprintf("at most %.0f seconds after the request, and after %.0f seconds if there is none",
		options.MaxPatience.Seconds(), options.Patience.Seconds()))
	require.Contains(t, words, fmt.Sprintf("within %.0f seconds", options.LookupTimeout.Seconds()))
	answers, err := os.ReadFile("../../docs/answers.md")
	require.NoError(t, err)
	require.Contains(t, string(answers), fmt.Sprintf("| deadline | `expirytime`, else the horizon of the lane | `expirytime`, at most %.0f s; %.0f s without one | %.0f s |",
		options.MaxPatience.Seconds(), options.Patience.Seconds(), options.LookupTimeout.Seconds()))
}

// A lookup that the schema describes is one that is read, and the other way round.
func TestLookupsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	set, err := schemas.Compile()
	require.NoError(t, err)
	key, long := query.Key("shop", "urn:shop", "1"), strings.Repeat("a", maxAttribute)
	for _, data := range []string{
		`{"key":"` + key + `"}`, `{"source":"urn:shop","id":"1"}`, `{"id":"1","source":"é"}`, `{"source":"` + long + `","id":"` + long + `"}`,
		`{}`, `null`, ``, `[]`, `"` + key + `"`, `{"key":""}`, `{"key":1}`, `{"key":"` + key + `a"}`, `{"key":"` + strings.ToUpper(key) + `"}`,
		`{"key":"` + key + `","id":"1"}`, `{"key":"` + key + `","source":"urn:shop","id":"1"}`, `{"source":"urn:shop"}`, `{"id":"1"}`,
		`{"source":"","id":"1"}`, `{"source":"a\n","id":"1"}`, `{"source":"urn:shop","id":"\u007f"}`, `{"source":"` + long + `a","id":"1"}`,
		`{"source":"urn:shop","id":1}`, `{"Source":"urn:shop","id":"1"}`, `{"source":"urn:shop","id":"1","client":"office"}`,
		`{"source":"urn:shop","id":"1","id":"1"}`, `{"source":"urn:shop","id":"1"}{}`, "{\"source\":\"\xff\",\"id\":\"1\"}",
	} {
		_, err := readLookup([]byte(data), "shop")
		described := set.Validate("lookup.v1.json", []byte(data))
		require.Equal(t, err == nil, described == nil, "%q: %v, %v", data, err, described)
	}
	for _, data := range []string{`{"key":"` + key + `"}`, `{"source":"urn:shop","id":"1"}`} {
		got, err := readLookup([]byte(data), "shop")
		require.NoError(t, err)
		require.Equal(t, key, got)
	}
}

// The examples of docs/answers.md are lookups of one query, the one whose key schemas/README.md works out.
func TestLookupsOfTheDocumentAreRead(t *testing.T) {
	t.Parallel()
	answers, err := os.ReadFile("../../docs/answers.md")
	require.NoError(t, err)
	examples := 0
	for line := range strings.Lines(string(answers)) {
		data, ok := strings.CutPrefix(line, "nats request discount.lookup.shop '")
		if !ok {
			continue
		}
		examples++
		key, err := readLookup([]byte(strings.TrimSuffix(data, "'\n")), "shop")
		require.NoError(t, err, line)
		require.Equal(t, query.Key("shop", "urn:shop:checkout", "order-2026-000042"), key)
	}
	require.Equal(t, 2, examples, "both forms are shown")
}
