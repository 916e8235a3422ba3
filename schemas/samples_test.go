package schemas_test

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/schemas"
)

// sampleTypes says for the beginning of a sample's name which type of event it shows and which schema its data has.
var sampleTypes = map[string]struct{ eventType, schema string }{
	"query.requested.easypay.":  {query.TypeRequested, "query.requested.easypay.v1.json"},
	"query.requested.unionpay.": {query.TypeRequested, "query.requested.unionpay.v1.json"},
	"query.completed.":          {query.TypeCompleted, "query.completed.v1.json"},
	"query.failed.":             {query.TypeFailed, "query.failed.v1.json"},
	"query.dead.":               {query.TypeDead, "query.dead.v1.json"},
	"ops.audit.":                {query.TypeAudit, "ops.audit.v1.json"},
}

func eachSample(t *testing.T, check func(t *testing.T, b bundle, eventType, schema string, sample []byte)) {
	t.Helper()
	b := setup(t)
	seen := map[string]bool{}
	for name, sample := range b.samples {
		for prefix, kind := range sampleTypes {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			seen[prefix] = true
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				check(t, b, kind.eventType, kind.schema, sample)
			})
		}
	}
	require.Len(t, seen, len(sampleTypes), "an event has no sample")
}

func dataOf(t *testing.T, sample []byte) []byte {
	t.Helper()
	var event struct {
		Data jsontext.Value `json:"data"`
	}
	require.NoError(t, json.Unmarshal(sample, &event))
	return event.Data
}

func TestSamplesFollowTheirSchemas(t *testing.T) {
	t.Parallel()
	eachSample(t, func(t *testing.T, b bundle, eventType, schema string, sample []byte) {
		require.NoError(t, b.set.Validate("cloudevent.v1.json", sample))
		require.NoError(t, b.set.Validate(schema, dataOf(t, sample)))
		if eventType == query.TypeRequested {
			require.NoError(t, b.set.Validate("query.requested.v1.json", dataOf(t, sample)))
			return
		}
		require.Contains(t, string(sample), `"type": "`+eventType+`"`)
		require.Contains(t, string(sample), `"dataschema": "`+query.SchemaURI(eventType)+`"`)
		require.Equal(t, schemas.BaseURI+schema, query.SchemaURI(eventType))
	})
}

// Readers accept unknown members, but a sample has none: each member that it shows is described.
func TestSamplesHaveNoUnknownMembers(t *testing.T) {
	t.Parallel()
	closed := compileClosed(t)
	eachSample(t, func(t *testing.T, _ bundle, _, schema string, sample []byte) {
		require.NoError(t, validateClosed(closed["cloudevent.v1.json"], sample))
		require.NoError(t, validateClosed(closed[schema], dataOf(t, sample)))
	})
	require.Error(t, validateClosed(closed["query.failed.v1.json"], []byte(`{"unheardof":1}`)))
}

func validateClosed(schema *jsonschema.Schema, document []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// compileClosed compiles a copy of the schemas in which every object is closed.
func compileClosed(t *testing.T) map[string]*jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	files := readFiles(t, "*.json")
	for name, text := range files {
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		require.NoError(t, err)
		closeObjects(document)
		require.NoError(t, compiler.AddResource(schemas.BaseURI+name, document))
	}
	compiled := map[string]*jsonschema.Schema{}
	for name := range files {
		schema, err := compiler.Compile(schemas.BaseURI + name)
		require.NoError(t, err)
		compiled[name] = schema
	}
	return compiled
}

func closeObjects(node any) {
	switch node := node.(type) {
	case map[string]any:
		for _, child := range node {
			closeObjects(child)
		}
		if _, ok := node["properties"].(map[string]any); ok {
			node["additionalProperties"] = false
		}
	case []any:
		for _, child := range node {
			closeObjects(child)
		}
	}
}

// What the samples show is what the worker reads and writes.
func TestSamplesRoundTrip(t *testing.T) {
	t.Parallel()
	eachSample(t, func(t *testing.T, b bundle, eventType, schema string, sample []byte) {
		switch eventType {
		case query.TypeRequested:
			requireDecodes(t, schema, sample)
		case query.TypeCompleted:
			requireRoundTrip[query.CompletedData](t, b, schema, sample)
		case query.TypeFailed:
			requireRoundTrip[query.FailedData](t, b, schema, sample)
		case query.TypeDead:
			requireRoundTrip[query.DeadData](t, b, schema, sample)
		}
	})
}

func requireRoundTrip[T any](t *testing.T, b bundle, schema string, sample []byte) {
	t.Helper()
	read := func(text []byte) (query.Event, T) {
		var event query.Event
		require.NoError(t, json.Unmarshal(text, &event, json.RejectUnknownMembers(true)))
		var data T
		require.NoError(t, json.Unmarshal(dataOf(t, text), &data, json.RejectUnknownMembers(true)))
		event.Data = data
		return event, data
	}
	event, data := read(sample)
	text, err := event.Encode()
	require.NoError(t, err)
	require.NoError(t, b.set.Validate("cloudevent.v1.json", text))
	require.NoError(t, b.set.Validate(schema, dataOf(t, text)))
	again, dataAgain := read(text)
	require.Equal(t, event, again)
	require.Equal(t, data, dataAgain)
}

func requireDecodes(t *testing.T, schema string, sample []byte) {
	t.Helper()
	subjects := query.NewSubjects("discount")
	decoder, err := query.NewDecoder(subjects)
	require.NoError(t, err)
	provider := query.Provider(strings.Split(schema, ".")[2])
	q, err := decoder.Decode(query.Delivery{Subject: subjects.Query(provider, query.Interactive, "shop"), Data: sample})
	require.NoError(t, err)
	require.NotEmpty(t, q.ID)
	require.NotEmpty(t, q.Source)
	require.NotEmpty(t, q.Correlation)
	require.NotEmpty(t, q.TraceParent)
	require.True(t, q.Expires.After(q.Time))
	if provider == query.UnionPay {
		require.NotEmpty(t, q.UnionPay.PID)
		require.NotEmpty(t, q.UnionPay.ScenID)
		require.NotEmpty(t, q.UnionPay.Data.Reveal())
		return
	}
	require.NotEmpty(t, q.EasyPay.MallID)
	require.NotEmpty(t, q.EasyPay.CardBin)
	require.NotNil(t, q.EasyPay.Amount)
}

// The samples of results belong to a query whose key they carry everywhere. Audit records belong to none, and the envelope says so.
func TestSamplesOfEventsCarryTheirKey(t *testing.T) {
	t.Parallel()
	eachSample(t, func(t *testing.T, b bundle, eventType, _ string, sample []byte) {
		var event struct {
			ID      string `json:"id"`
			Source  string `json:"source"`
			Subject string `json:"subject"`
			Data    struct {
				Query  query.Asked `json:"query"`
				Target string      `json:"target"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal(sample, &event))
		require.Equal(t, eventType != query.TypeRequested, event.Source == query.EventSource)
		switch eventType {
		case query.TypeRequested:
			return
		case query.TypeAudit:
			require.Equal(t, event.Data.Target, event.Subject)
			require.NotContains(t, event.ID, event.Subject)
			for member, words := range map[string]string{"id": "Of an audit record: a random text.", "subject": "Of an audit record: its target."} {
				described, _ := lookUp(t, b.schemas["cloudevent.v1.json"], "properties", member, "description").(string)
				require.Contains(t, described, "Of a result or a dead letter: the ")
				require.Contains(t, described, words)
			}
			return
		}
		asked := event.Data.Query
		key := query.Key(asked.Client, asked.Source, asked.ID)
		require.Equal(t, key, asked.Key)
		require.Equal(t, key, event.Subject)
		require.True(t, strings.HasPrefix(event.ID, key+"."))
	})
}

// No sample holds a run of digits that could be a card number, also not inside the sealed parts' headers.
func TestSamplesHoldNoCardNumber(t *testing.T) {
	t.Parallel()
	long := regexp.MustCompile(`[0-9]{12,}`)
	traces := regexp.MustCompile(`"traceparent": "[^"]*"|"reference": "[0-9]{15}"`)
	eachSample(t, func(t *testing.T, _ bundle, _, _ string, sample []byte) {
		require.Empty(t, long.FindAll(traces.ReplaceAll(sample, nil), -1))
		for _, jwe := range regexp.MustCompile(`"(eyJ[A-Za-z0-9_-]+)\.`).FindAllSubmatch(sample, -1) {
			header, err := base64.RawURLEncoding.DecodeString(string(jwe[1]))
			require.NoError(t, err)
			require.Contains(t, string(header), `"alg":"ECDH-ES+A256KW"`)
			require.Contains(t, string(header), `"enc":"A256GCM"`)
			require.Contains(t, string(header), `"kid":`)
			require.Empty(t, long.FindAll(header, -1))
		}
	})
}
