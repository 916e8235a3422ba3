package schemas_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/card"
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
	want := publicAddresses(t, subjects)
	require.Len(t, channels, len(want)+1)
	require.Nil(t, lookUp(t, channels, "reply", "address"), "each request names its own")
	for name, address := range want {
		require.Equal(t, address, lookUp(t, channels, name, "address"))
		parameters, _ := deref(t, document, channels[name])["parameters"].(map[string]any)
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
	require.ElementsMatch(t, constants(t, "query", "Provider"), enum("ask", "provider"))
	require.ElementsMatch(t, constants(t, "query", "Lane"), enum("query", "lane"))
	require.ElementsMatch(t, constants(t, "query", "Status"), enum("result", "status"))
	_, dead := setup(t).at(t, "query.dead.v1.json", "properties", "reason")
	require.ElementsMatch(t, texts(dead["enum"]), enum("dead", "reason"))
	description, _ := lookUp(t, channels, "result", "description").(string)
	require.Contains(t, description, "`"+subjects.ResultOf("<key>", "<client>")+"`")
	info, _ := lookUp(t, document, "info", "description").(string)
	require.Contains(t, strings.Join(strings.Fields(info), " "), subjects.ResultGuard("<key>"))
}

// publicAddresses returns the subjects that others than workers publish or read, by the name of their channel. Every subject that the worker can
// build must be among them or be known as none of anybody else's business.
func publicAddresses(t *testing.T, subjects query.Subjects) map[string]string {
	t.Helper()
	public := map[string]string{
		"Query":  subjects.Query("{provider}", "{lane}", "{client}"),
		"Ask":    subjects.Ask("{provider}", "{client}"),
		"Lookup": subjects.Lookup("{client}"),
		"Keys":   subjects.Keys(),
		"Result": subjects.Result("{key}", "{provider}", "{client}", "{status}"),
		"Dead":   subjects.Dead("{key}", "{provider}", "{client}", "{reason}"),
		"Audit":  subjects.Audit("{action}"),
	}
	// Retries are the workers' own; the others are wildcards over addresses that are here.
	others := []string{"RetryAt", "RetryDue", "ResultGuard", "ResultOf", "DeadGuard"}
	var builders []string
	for method := range reflect.TypeFor[query.Subjects]().Methods() {
		if method.Type.NumOut() == 1 && method.Type.Out(0).Kind() == reflect.String {
			builders = append(builders, method.Name)
		}
	}
	require.ElementsMatch(t, builders, slices.AppendSeq(others, maps.Keys(public)), "a subject that this document does not know of")
	addresses := map[string]string{}
	for name, address := range public {
		addresses[strings.ToLower(name)] = address
	}
	return addresses
}

// A dead letter comes after the result that announces it: docs/message.md and the worker say so.
func TestAsyncAPITellsTheOrderOfADeadLetter(t *testing.T) {
	t.Parallel()
	description, _ := lookUp(t, asyncapi(t), "operations", "sendDead", "description").(string)
	require.Contains(t, description, "after the failed result of the same query, whose `deadLetter` says that it comes")
	require.NotContains(t, description, "before")
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
	for _, name := range []string{"lookup", "keysRequest", "keySet", "refusal"} { // These are no events.
		require.Contains(t, messages, name)
		delete(messages, name)
	}
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
		kind := strings.Split(channel["address"].(string), ".")[1]
		require.Equal(t, slices.Contains([]string{"query", "ask", "lookup", "keys"}, kind), action == "receive", name)
	}
}

// A request is replied to on its inbox, with what the worker replies and nothing else.
func TestAsyncAPIRequests(t *testing.T) {
	t.Parallel()
	document := asyncapi(t)
	operations, ok := document["operations"].(map[string]any)
	require.True(t, ok)
	want := map[string]struct{ channel, requests, replies []string }{
		"receiveAsk":         {[]string{"ask"}, []string{"easypay", "unionpay"}, []string{"completed", "failed", "refusal"}},
		"receiveLookup":      {[]string{"lookup"}, []string{"lookup"}, []string{"completed", "failed", "refusal"}},
		"receiveKeysRequest": {[]string{"keys"}, []string{"keysRequest"}, []string{"keySet", "refusal"}},
	}
	for name := range operations {
		operation := deref(t, document, operations[name])
		c, isRequest := want[name]
		require.Equal(t, isRequest, operation["reply"] != nil, name)
		if !isRequest {
			continue
		}
		require.Equal(t, c.channel, namesOf("#/channels/", []any{operation["channel"]}), name)
		require.Equal(t, c.requests, namesOf("#/channels/"+c.channel[0]+"/messages/", operation["messages"]), name)
		require.Equal(t, []string{"reply"}, namesOf("#/channels/", []any{lookUp(t, operation, "reply", "channel")}), name)
		require.Equal(t, c.replies, namesOf("#/channels/reply/messages/", lookUp(t, operation, "reply", "messages")), name)
		address := deref(t, document, lookUp(t, operation, "reply", "address"))
		require.Equal(t, "$message.header#/reply-to", address["location"], name)
	}
	messages := lookUp(t, document, "components", "messages")
	require.Equal(t, "lookup.v1.json", lookUp(t, messages, "lookup", "payload", "schema", "$ref"))
	require.Equal(t, "keys.v1.json", lookUp(t, messages, "keySet", "payload", "schema", "$ref"))
	require.Equal(t, ask.ContentTypeKeys, lookUp(t, messages, "keySet", "contentType"))
}

// namesOf returns the last parts of references that all begin in the same way.
func namesOf(prefix string, references any) []string {
	var names []string
	list, _ := references.([]any)
	for _, reference := range list {
		object, _ := reference.(map[string]any)
		text, _ := object["$ref"].(string)
		name, ok := strings.CutPrefix(text, prefix)
		if !ok {
			name = "elsewhere: " + text
		}
		names = append(names, name)
	}
	return names
}

// The set that workers give out is the one described, also of keys whose time is still to come, and holds nothing of the private keys.
func TestPublicKeysFollowTheirSchema(t *testing.T) {
	t.Parallel()
	b, dir, now := setup(t), t.TempDir(), time.Now()
	_, err := card.NewKeys(dir, now.Add(-time.Hour))
	require.NoError(t, err)
	_, err = card.NewKeyPair(dir, now, now.Add(time.Hour))
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	set, err := ring.PublicSet()
	require.NoError(t, err)
	require.NoError(t, b.set.Validate("keys.v1.json", set))
	require.Equal(t, 2, strings.Count(string(set), `"kid"`))
	require.NoError(t, validateClosed(compileClosed(t)["keys.v1.json"], set), "each member is described")
	require.EqualError(t, b.set.Validate("keys.v1.json", []byte(`{"keys":[]}`)), "at '/keys': minItems")
	for member, wrong := range map[string]string{`"crv": "P-256"`: `"crv": "P-384"`, `"use": "enc"`: `"use": "sig"`, `"kid"`: `"id"`} {
		changed := strings.ReplaceAll(string(set), member, wrong)
		require.NotEqual(t, string(set), changed)
		require.Error(t, b.set.Validate("keys.v1.json", []byte(changed)), wrong)
	}
}
