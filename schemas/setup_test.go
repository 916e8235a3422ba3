package schemas_test

import (
	"io/fs"
	"path"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/schemas"
)

// bundle is what most tests of this package need: the compiled set and the schema files as documents.
type bundle struct {
	set     *schemas.Set
	schemas map[string]map[string]any
	samples map[string][]byte
}

func setup(t testing.TB) bundle {
	t.Helper()
	set, err := schemas.Compile()
	require.NoError(t, err)
	b := bundle{set: set, schemas: map[string]map[string]any{}, samples: map[string][]byte{}}
	for name, text := range readFiles(t, "*.json") {
		var document map[string]any
		require.NoError(t, json.Unmarshal(text, &document), name)
		b.schemas[name] = document
	}
	for name, text := range readFiles(t, "samples/*.json") {
		b.samples[path.Base(name)] = text
	}
	return b
}

func readFiles(t testing.TB, pattern string) map[string][]byte {
	t.Helper()
	names, err := fs.Glob(schemas.Files(), pattern)
	require.NoError(t, err)
	require.NotEmpty(t, names)
	contents := map[string][]byte{}
	for _, name := range names {
		contents[name] = readFile(t, name)
	}
	return contents
}

func readFile(t testing.TB, name string) []byte {
	t.Helper()
	text, err := fs.ReadFile(schemas.Files(), name)
	require.NoError(t, err)
	return text
}

// at returns the part of a schema file at a path of names, following references.
func (b bundle) at(t testing.TB, file string, names ...string) (string, map[string]any) {
	t.Helper()
	file, node := b.resolve(t, file, b.schemas[file])
	for _, name := range names {
		child, ok := node[name].(map[string]any)
		require.True(t, ok, "%s has no %s", file, name)
		file, node = b.resolve(t, file, child)
	}
	return file, node
}

// resolve follows the reference of a schema, if it is one.
func (b bundle) resolve(t testing.TB, file string, node map[string]any) (string, map[string]any) {
	t.Helper()
	reference, ok := node["$ref"].(string)
	if !ok {
		return file, node
	}
	target, fragment, _ := strings.Cut(reference, "#")
	if target == "" {
		target = file
	}
	require.Contains(t, b.schemas, target)
	if fragment == "" {
		return b.at(t, target)
	}
	return b.at(t, target, strings.Split(strings.TrimPrefix(fragment, "/"), "/")...)
}

// eachProperty calls visit for every property of a schema document, with the property's place.
func eachProperty(place string, node any, visit func(place string, property map[string]any)) {
	switch node := node.(type) {
	case map[string]any:
		for name, child := range node {
			eachProperty(place+"/"+name, child, visit)
			properties, ok := child.(map[string]any)
			if name != "properties" || !ok {
				continue
			}
			for property, schema := range properties {
				if schema, ok := schema.(map[string]any); ok {
					visit(place+"/"+property, schema)
				}
			}
		}
	case []any:
		for _, child := range node {
			eachProperty(place, child, visit)
		}
	}
}

func texts(list any) []string {
	var all []string
	items, _ := list.([]any)
	for _, item := range items {
		text, _ := item.(string)
		all = append(all, text)
	}
	return all
}

func toText(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value, json.Deterministic(true))
	require.NoError(t, err)
	return string(text)
}
