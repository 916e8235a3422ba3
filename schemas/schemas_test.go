package schemas_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/schemas"
)

func TestSchemaFiles(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, document := range b.schemas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, "https://json-schema.org/draft/2020-12/schema", document["$schema"])
			require.Equal(t, schemas.BaseURI+name, document["$id"])
			require.NotEmpty(t, document["title"])
			require.NotEmpty(t, document["description"])
			eachProperty("", document, func(place string, property map[string]any) {
				description, _ := property["description"].(string)
				require.Greater(t, len(description), 10, "%s has no description", place)
				require.True(t, strings.HasSuffix(description, "."), "%s: description is no sentence", place)
			})
		})
	}
}

// Results may gain members, so that readers must accept unknown ones. Queries and lookups must refuse them.
func TestOnlyRequestsAreClosed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, document := range b.schemas {
		closed := strings.HasPrefix(name, "query.requested.") && name != "query.requested.v1.json" || name == "lookup.v1.json"
		if closed {
			require.Equal(t, false, document["additionalProperties"], name)
			_, data := b.at(t, "query.requested.unionpay.v1.json", "properties", "data")
			require.Equal(t, false, data["additionalProperties"])
			continue
		}
		require.NotContains(t, toText(t, document), `"additionalProperties":false`, name)
	}
}

func TestValidateKnowsEverySchema(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name := range b.schemas {
		if name != "common.v1.json" {
			require.Error(t, b.set.Validate(name, []byte(`[]`)), name)
		}
	}
	for _, name := range []string{"", "samples/query.dead.v1.json", "../schemas.go", "asyncapi.yaml", "query.completed.v2.json"} {
		require.Error(t, b.set.Validate(name, []byte(`{}`)), name)
	}
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const required = `"specversion":"1.0","id":"1","source":"urn:shop","type":"discount.query.requested.v1","data":{}`
	for name, c := range map[string]struct{ document, want string }{
		"least":                  {`{` + required + `}`, ""},
		"own extension":          {`{` + required + `,"shopid2":"x","retried":true,"count":3}`, ""},
		"upper-case extension":   {`{` + required + `,"shopId":"x"}`, "at '': propertyNames"},
		"underscore":             {`{` + required + `,"data_base64":"eA=="}`, "at '': propertyNames"},
		"object as extension":    {`{` + required + `,"shop":{}}`, "at '/*': type"},
		"card number as name":    {`{` + required + `,"6200000000000005":{}}`, "at '/*': type"},
		"no data":                {`{"specversion":"1.0","id":"1","source":"urn:shop","type":"discount.query.requested.v1"}`, "at '': required"},
		"other version":          {strings.Replace(`{`+required+`}`, `"1.0"`, `"0.3"`, 1), "at '/specversion': const"},
		"no id":                  {strings.Replace(`{`+required+`}`, `"id":"1"`, `"id":""`, 1), "at '/id': minLength"},
		"line end in id":         {strings.Replace(`{`+required+`}`, `"id":"1"`, `"id":"a\nb"`, 1), "at '/id': pattern"},
		"source is no reference": {strings.Replace(`{`+required+`}`, `urn:shop`, `%zz`, 1), "at '/source': format"},
		"type of others":         {strings.Replace(`{`+required+`}`, `discount.query`, `com.query`, 1), "at '/type': pattern"},
		"data is no object":      {strings.Replace(`{`+required+`}`, `{}`, `"text"`, 1), "at '/data': type"},
		"deadline":               {`{` + required + `,"expirytime":"2026-03-02T09:15:00+09:00"}`, ""},
		"deadline in words":      {`{` + required + `,"expirytime":"tomorrow"}`, "at '/expirytime': format"},
		"age":                    {`{` + required + `,"maxage":30}`, ""},
		"no age at all":          {`{` + required + `,"maxage":0}`, ""},
		"age of a day":           {`{` + required + `,"maxage":86400}`, ""},
		"age as text":            {`{` + required + `,"maxage":"86400"}`, ""},
		"age before zero":        {`{` + required + `,"maxage":-1}`, "at '/maxage': minimum"},
		"age of more than a day": {`{` + required + `,"maxage":86401}`, "at '/maxage': maximum"},
		"age too long as text":   {`{` + required + `,"maxage":"86401"}`, "at '/maxage': pattern"},
		"age with zeros":         {`{` + required + `,"maxage":"030"}`, "at '/maxage': pattern"},
		"age in part":            {`{` + required + `,"maxage":1.5}`, "at '/maxage': type"},
		"age in words":           {`{` + required + `,"maxage":"1m"}`, "at '/maxage': pattern"},
		"JSON with charset":      {`{` + required + `,"datacontenttype":"application/json; charset=utf-8"}`, ""},
		"XML":                    {`{` + required + `,"datacontenttype":"application/xml"}`, "at '/datacontenttype': pattern"},
		"trace context":          {`{` + required + `,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","tracestate":"a=b"}`, ""},
		"no trace context":       {`{` + required + `,"traceparent":"4bf92f3577b34da6"}`, ""},
		"line end in a trace":    {`{` + required + `,"traceparent":"a\nb"}`, "at '/traceparent': pattern"},
		"long trace context":     {`{` + required + `,"traceparent":"` + strings.Repeat("a", 257) + `"}`, "at '/traceparent': maxLength"},
		"long correlation":       {`{` + required + `,"correlationid":"` + strings.Repeat("x", 129) + `"}`, "at '/correlationid': maxLength"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := b.set.Validate("cloudevent.v1.json", []byte(c.document))
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.EqualError(t, err, c.want)
		})
	}
}

func TestQueryOfAnyProvider(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.set.Validate("query.requested.v1.json", []byte(`{"cardCd":"026"}`)))
	require.NoError(t, b.set.Validate("query.requested.v1.json", []byte(`{"data":"e30.e30.e30.e30.e30"}`)))
	require.EqualError(t, b.set.Validate("query.requested.v1.json", []byte(`{"cardCd":"026","data":"e30.e30.e30.e30.e30"}`)), "at '': oneOf")
}

// The published files are all there and nothing else is: no Go source, no test data.
func TestFiles(t *testing.T) {
	t.Parallel()
	var names []string
	require.NoError(t, fs.WalkDir(schemas.Files(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	}))
	require.Equal(t, []string{
		"README.md", "asyncapi.yaml", "cloudevent.v1.json", "common.v1.json", "keys.v1.json", "lookup.v1.json", "ops.audit.v1.json",
		"query.completed.v1.json", "query.dead.v1.json",
		"query.failed.v1.json", "query.requested.easypay.v1.json", "query.requested.unionpay.v1.json", "query.requested.v1.json",
		"samples/ops.audit.pace.v1.json", "samples/query.completed.easypay.v1.json", "samples/query.completed.shared.v1.json", "samples/query.completed.unionpay.v1.json",
		"samples/query.dead.v1.json", "samples/query.failed.expired.v1.json", "samples/query.failed.rejected.v1.json",
		"samples/query.requested.easypay.v1.json", "samples/query.requested.unionpay.v1.json",
	}, names)
}
