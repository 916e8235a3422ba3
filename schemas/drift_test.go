package schemas_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// The Go types and the schemas name the same members, require the same ones and agree on their types.
func TestGoTypesAndSchemasAgree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for file, data := range map[string]reflect.Type{
		"query.completed.v1.json": reflect.TypeFor[query.CompletedData](),
		"query.failed.v1.json":    reflect.TypeFor[query.FailedData](),
		"query.dead.v1.json":      reflect.TypeFor[query.DeadData](),
		"ops.audit.v1.json":       reflect.TypeFor[query.AuditData](),
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			b.requireAgrees(t, data.Name(), data, file, b.schemas[file])
		})
	}
}

func (b bundle) requireAgrees(t *testing.T, place string, goType reflect.Type, file string, node map[string]any) {
	t.Helper()
	file, node = b.resolve(t, file, node)
	for goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	switch {
	case goType == reflect.TypeFor[time.Time]():
		require.Equal(t, "date-time", node["format"], place)
	case goType.Kind() == reflect.Slice:
		require.Equal(t, "array", node["type"], place)
		items, ok := node["items"].(map[string]any)
		require.True(t, ok, place)
		b.requireAgrees(t, place+"[]", goType.Elem(), file, items)
	case goType.Kind() == reflect.Struct:
		require.Equal(t, "object", node["type"], place)
		b.requireSameMembers(t, place, goType, file, node)
	default:
		require.Equal(t, jsonType(goType.Kind()), node["type"], place)
	}
}

func (b bundle) requireSameMembers(t *testing.T, place string, goType reflect.Type, file string, node map[string]any) {
	t.Helper()
	properties, ok := node["properties"].(map[string]any)
	require.True(t, ok, place)
	var names, required, described []string
	for _, field := range reflect.VisibleFields(goType) {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "-" {
			continue
		}
		require.NotEmpty(t, name, "%s.%s has no name", place, field.Name)
		names = append(names, name)
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
		schema, ok := properties[name].(map[string]any)
		require.True(t, ok, "%s: the schema does not describe %s", place, name)
		b.requireAgrees(t, place+"."+name, field.Type, file, schema)
	}
	for name := range properties {
		described = append(described, name)
	}
	require.ElementsMatch(t, names, described, place)
	require.ElementsMatch(t, required, texts(node["required"]), "%s: required", place)
}

func jsonType(kind reflect.Kind) string {
	switch kind {
	case reflect.String:
		return "string"
	case reflect.Bool:
		return "boolean"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "integer"
	default:
		return "unexpected kind " + kind.String()
	}
}

func TestEnvelopeDescribesEvent(t *testing.T) {
	t.Parallel()
	_, envelope := setup(t).at(t, "cloudevent.v1.json")
	properties, ok := envelope["properties"].(map[string]any)
	require.True(t, ok)
	described := map[string]bool{"expirytime": true, "maxage": true} // The attributes that only queries have.
	for _, field := range reflect.VisibleFields(reflect.TypeFor[query.Event]()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		described[name] = true
	}
	for name := range properties {
		require.True(t, described[name], "the worker never writes %s", name)
	}
	require.Len(t, properties, len(described))
}

// Events with every member set, and events with as few as there can be, are valid.
func TestGoValuesAreValid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	full, bare := query.Query{}, query.Query{ID: "1", Source: "shop", Client: "shop", Provider: query.UnionPay, Lane: query.Bulk}
	fill(reflect.ValueOf(&full.Time).Elem(), "")
	full.ID, full.Source, full.Client, full.Provider, full.Lane = "1", "urn:shop", "shop", query.EasyPay, query.Interactive
	full.Correlation, full.TraceParent, full.TraceState = "order", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a=b"
	for eventType, data := range map[string]any{
		query.TypeCompleted: query.CompletedData{}, query.TypeFailed: query.FailedData{}, query.TypeDead: query.DeadData{},
	} {
		t.Run(eventType, func(t *testing.T) {
			t.Parallel()
			value := reflect.New(reflect.TypeOf(data)).Elem()
			fill(value, "")
			b.requireValid(t, &full, eventType, value)
			least := reflect.New(reflect.TypeOf(data)).Elem()
			fillRequired(least, value)
			b.requireValid(t, &bare, eventType, least)
		})
	}
}

// While traces are off, a result repeats what the publisher sent for its own. The worker takes what is no trace context too (docs/tracing.md), and its
// results must be events all the same.
func TestResultsThatRepeatAnOddTraceAreValid(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, odd := range []string{"junk", "00-0-0-01", "4bf92f3577b34da6", " ", "é"} {
		q := decodeBroken(t, brokenQuery{event: true, text: toText(t, map[string]any{"traceparent": odd})})
		require.NoError(t, q.err, odd)
		require.Equal(t, odd, q.TraceParent)
		failed := reflect.New(reflect.TypeFor[query.FailedData]()).Elem()
		fill(failed, "")
		b.requireValid(t, q.Query, query.TypeFailed, failed)
	}
}

func (b bundle) requireValid(t *testing.T, q *query.Query, eventType string, data reflect.Value) {
	t.Helper()
	event, err := query.NewEvent(q, eventType, "result.0", time.Unix(1_800_000_000, 0), data.Interface()).Encode()
	require.NoError(t, err)
	require.NoError(t, b.set.Validate("cloudevent.v1.json", event), string(event))
	schema := strings.TrimPrefix(eventType, "discount.") + ".json"
	require.NoError(t, b.set.Validate(schema, dataOf(t, event)), string(event))
}

// wellFormed holds values for the members whose schema asks for a certain form.
var wellFormed = map[string]string{
	"key": "csbuu7xomafjihgdwkgzrrrmq4", "provider": "easypay", "lane": "bulk", "outcome": "ok", "reason": "exhausted",
	"kind": "unavailable", "code": "timeout", "verdict": "applicable", "type": "fixed", "currency": "KRW", "exhaustion": "12.03",
	"rate": "5", "lastFour": "0005", "cause": "c8ba100ac22b", "payload": compactJWE,
}

// fill sets every member of value to something that is not zero.
func fill(value reflect.Value, name string) {
	switch {
	case value.Type() == reflect.TypeFor[time.Time]():
		value.Set(reflect.ValueOf(time.Unix(1_800_000_000, 0).UTC()))
	case value.Kind() == reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fill(value.Elem(), name)
	case value.Kind() == reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 2, 2))
		fill(value.Index(0), name)
		fill(value.Index(1), name)
	case value.Kind() == reflect.Struct:
		for i := range value.NumField() {
			tag, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
			if tag != "-" {
				fill(value.Field(i), tag)
			}
		}
	case value.Kind() == reflect.String:
		if value.SetString(wellFormed[name]); value.Len() == 0 {
			value.SetString("text")
		}
	case value.Kind() == reflect.Bool:
		value.SetBool(true)
	case value.CanInt():
		value.SetInt(200)
	case value.CanUint():
		value.SetUint(1 << 63)
	}
}

// fillRequired copies the members that can't be left out, and lets the others be absent. Lists stay empty.
func fillRequired(value, from reflect.Value) {
	for i := range value.NumField() {
		_, options, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		field := value.Field(i)
		switch {
		case strings.Contains(options, "omit"), field.Kind() == reflect.Slice, field.Kind() == reflect.Pointer:
		case field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]():
			fillRequired(field, from.Field(i))
		default:
			field.Set(from.Field(i))
		}
	}
}

func TestClosedListsAgree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := func(file string, names ...string) []string {
		_, node := b.at(t, file, names...)
		return texts(node["enum"])
	}
	var kinds, reasons, deadReasons []string
	for _, kind := range fault.Kinds() {
		kinds = append(kinds, kind.String())
	}
	for _, reason := range query.Reasons() {
		reasons = append(reasons, string(reason))
		if reason != query.ReasonExpired {
			deadReasons = append(deadReasons, string(reason))
		}
	}
	require.ElementsMatch(t, kinds, list("common.v1.json", "$defs", "kind"))
	require.ElementsMatch(t, reasons, list("query.failed.v1.json", "properties", "reason"))
	require.ElementsMatch(t, deadReasons, list("query.dead.v1.json", "properties", "reason"))
	require.ElementsMatch(t, constants(t, "query", "Outcome"), list("query.completed.v1.json", "properties", "outcome"))
	require.ElementsMatch(t, constants(t, "query", "Verdict"), list("common.v1.json", "$defs", "offer", "properties", "verdict"))
	require.ElementsMatch(t, constants(t, "query", "DiscountType"), list("common.v1.json", "$defs", "offer", "properties", "type"))
	require.ElementsMatch(t, constants(t, "query", "Lane"), list("common.v1.json", "$defs", "asked", "properties", "lane"))
	require.ElementsMatch(t, append(constants(t, "query", "Provider"), "none"), list("common.v1.json", "$defs", "asked", "properties", "provider"))
	_, code := b.at(t, "common.v1.json", "$defs", "code")
	require.ElementsMatch(t, constants(t, "fault", "Code"), texts(code["examples"]))
}

// constants returns the values of every constant of a string type in one room. Only the source has the whole list.
func constants(t *testing.T, room, typeName string) []string {
	t.Helper()
	sources, err := filepath.Glob("../internal/" + room + "/*.go")
	require.NoError(t, err)
	var values []string
	for _, source := range sources {
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok && isType(spec.Type, typeName) {
				values = append(values, literal(t, spec))
			}
			return true
		})
	}
	require.NotEmpty(t, values)
	return values
}

func isType(expression ast.Expr, name string) bool {
	identifier, ok := expression.(*ast.Ident)
	return ok && identifier.Name == name
}

func literal(t *testing.T, spec *ast.ValueSpec) string {
	t.Helper()
	require.Len(t, spec.Values, 1)
	value, ok := spec.Values[0].(*ast.BasicLit)
	require.True(t, ok)
	text, err := strconv.Unquote(value.Value)
	require.NoError(t, err)
	return text
}
