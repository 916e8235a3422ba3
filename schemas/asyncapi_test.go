package schemas_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"discountquery.example/worker/internal/query"
)

func asyncapi(t *testing.T) map[string]any {
	t.Helper()
	var document map[string]any
	require.NoError(t, yaml.Unmarshal(readFile(t, "asyncapi.yaml"), &document))
	return document
}

// lookUp returns the value at a path of names in a document.
func lookUp(t *testing.T, document any, names ...string) any {
	t.Helper()
	for _, name := range names {
		object, ok := document.(map[string]any)
		require.True(t, ok, "%v", names)
		require.Contains(t, object, name, "%v", names)
		document = object[name]
	}
	return document
}

// deref returns what a value refers to within its document, or the value itself.
func deref(t *testing.T, document map[string]any, value any) map[string]any {
	t.Helper()
	object, ok := value.(map[string]any)
	require.True(t, ok)
	if reference, ok := object["$ref"].(string); ok {
		path := strings.Split(strings.TrimPrefix(reference, "#/"), "/")
		return deref(t, document, lookUp(t, document, path...))
	}
	return object
}

func eachReference(node any, visit func(reference string)) {
	switch node := node.(type) {
	case map[string]any:
		if reference, ok := node["$ref"].(string); ok {
			visit(reference)
		}
		for _, child := range node {
			eachReference(child, visit)
		}
	case []any:
		for _, child := range node {
			eachReference(child, visit)
		}
	}
}

func TestAsyncAPIReferencesResolve(t *testing.T) {
	t.Parallel()
	document := asyncapi(t)
	require.Equal(t, "3.0.0", document["asyncapi"])
	files := readFiles(t, "*.json")
	used := map[string]bool{}
	eachReference(document, func(reference string) {
		if path, ok := strings.CutPrefix(reference, "#/"); ok {
			require.NotEmpty(t, lookUp(t, document, strings.Split(path, "/")...))
			return
		}
		require.Contains(t, files, reference)
		used[reference] = true
	})
	for name := range files {
		if name != "common.v1.json" && name != "query.requested.v1.json" {
			require.True(t, used[name], "%s is not part of the document", name)
		}
	}
}

// Every address is the one that the worker builds, and every parameter has the words that it knows.
func TestAsyncAPIAddressesAreSubjects(t *testing.T) {
	t.Parallel()
	document := asyncapi(t)
	subjects := query.NewSubjects("discount")
	channels, ok := document["channels"].(map[string]any)
	require.True(t, ok)
	want := map[string]string{
		"query":  subjects.Query("{provider}", "{lane}", "{client}"),
		"result": subjects.Result("{key}", "{provider}", "{client}", "{status}"),
		"dead":   subjects.Dead("{key}", "{provider}", "{client}", "{reason}"),
		"audit":  subjects.Audit("{action}"),
	}
	require.Len(t, channels, len(want))
	for name, address := range want {
		require.Equal(t, address, lookUp(t, channels, name, "address"))
		parameters, ok := lookUp(t, channels, name, "parameters").(map[string]any)
		require.True(t, ok)
		require.Len(t, parameters, strings.Count(address, "{"), name)
		for parameter := range parameters {
			require.Contains(t, address, "{"+parameter+"}")
		}
	}
	enum := func(channel, parameter string) []string {
		return texts(deref(t, document, lookUp(t, channels, channel, "parameters", parameter))["enum"])
	}
	require.ElementsMatch(t, constants(t, "query", "Provider"), enum("query", "provider"))
	require.ElementsMatch(t, constants(t, "query", "Provider"), enum("result", "provider"))
	require.ElementsMatch(t, constants(t, "query", "Lane"), enum("query", "lane"))
	require.ElementsMatch(t, constants(t, "query", "Status"), enum("result", "status"))
	_, dead := setup(t).at(t, "query.dead.v1.json", "properties", "reason")
	require.ElementsMatch(t, texts(dead["enum"]), enum("dead", "reason"))
	description, _ := lookUp(t, channels, "result", "description").(string)
	require.Contains(t, description, "`"+subjects.ResultOf("<key>", "<client>")+"`")
	info, _ := lookUp(t, document, "info", "description").(string)
	require.Contains(t, strings.Join(strings.Fields(info), " "), subjects.ResultGuard("<key>"))
}

// Each channel's messages are events that exist, each with the envelope and the data of its own name.
func TestAsyncAPIMessages(t *testing.T) {
	t.Parallel()
	document := asyncapi(t)
	want := map[string]struct{ eventType, data string }{
		"easypayQuery":  {query.TypeRequested, "query.requested.easypay.v1.json"},
		"unionpayQuery": {query.TypeRequested, "query.requested.unionpay.v1.json"},
		"completed":     {query.TypeCompleted, "query.completed.v1.json"},
		"failed":        {query.TypeFailed, "query.failed.v1.json"},
		"dead":          {query.TypeDead, "query.dead.v1.json"},
		"audit":         {query.TypeAudit, "ops.audit.v1.json"},
	}
	messages, ok := lookUp(t, document, "components", "messages").(map[string]any)
	require.True(t, ok)
	require.Len(t, messages, len(want))
	for name, c := range want {
		message := deref(t, document, messages[name])
		require.Equal(t, c.eventType, message["name"], name)
		require.Equal(t, query.ContentTypeEvent, message["contentType"], name)
		parts, ok := lookUp(t, message, "payload", "schema", "allOf").([]any)
		require.True(t, ok)
		require.Len(t, parts, 2)
		require.Equal(t, "cloudevent.v1.json", lookUp(t, parts[0], "$ref"))
		require.Equal(t, c.eventType, lookUp(t, parts[1], "properties", "type", "const"))
		require.Equal(t, c.data, lookUp(t, parts[1], "properties", "data", "$ref"))
	}
	operations, ok := document["operations"].(map[string]any)
	require.True(t, ok)
	for name := range operations {
		action := lookUp(t, operations, name, "action")
		channel := deref(t, document, lookUp(t, operations, name, "channel"))
		require.Equal(t, strings.Contains(channel["address"].(string), ".query."), action == "receive", name)
	}
}
