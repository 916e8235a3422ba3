package schemas_test

import (
	"cmp"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// workedKey is what the shell, Python and JavaScript lines of the README print, run once by hand.
const workedKey = "csbuu7xomafjihgdwkgzrrrmq4"

func TestWorkedKey(t *testing.T) {
	t.Parallel()
	require.Equal(t, workedKey, query.Key("shop", "urn:shop:checkout", "order-2026-000042"))
	readme := string(readFile(t, "README.md"))
	require.Contains(t, readme, "`"+workedKey+"`")
	require.Contains(t, readme, "`"+query.NewSubjects("discount").ResultOf("<key>", "<client>")+"`")
	require.Contains(t, readme, "printf '%s\\n%s\\n%s' shop urn:shop:checkout order-2026-000042 |")
	require.Equal(t, 2, strings.Count(readme, `"shop", "urn:shop:checkout", "order-2026-000042"`)+
		strings.Count(readme, `'shop', 'urn:shop:checkout', 'order-2026-000042'`))
	require.Contains(t, string(readFile(t, "asyncapi.yaml")), workedKey)
}

func TestReadmeNamesEveryFile(t *testing.T) {
	t.Parallel()
	readme := string(readFile(t, "README.md"))
	for name := range readFiles(t, "*.json") {
		require.Contains(t, readme, "| `"+name+"` |")
	}
	require.Contains(t, readme, "| `asyncapi.yaml` |")
}

// brokenQuery is an example of the README: bare data, or the members of an event in place of a good one's own.
type brokenQuery struct {
	event, nameless bool
	text            string
}

// decoded is what the worker made of one.
type decoded struct {
	*query.Query

	err error
}

func decodeBroken(t *testing.T, broken brokenQuery) decoded {
	t.Helper()
	subjects := query.NewSubjects("discount")
	decoder, err := query.NewDecoder(subjects)
	require.NoError(t, err)
	delivery := query.Delivery{Subject: subjects.Query(query.EasyPay, query.Interactive, "shop"), Data: []byte(broken.text)}
	switch {
	case broken.event:
		delivery.Header = map[string][]string{"Content-Type": {query.ContentTypeEvent}}
		delivery.Data = withMembers(t, readFile(t, "samples/query.requested.easypay.v1.json"), broken.text)
	case !broken.nameless:
		delivery.Header = map[string][]string{"Nats-Msg-Id": {"order-1"}}
	}
	q, err := decoder.Decode(delivery)
	return decoded{Query: q, err: err}
}

// withMembers returns an event with other members. Their values stay as they are written.
func withMembers(t *testing.T, event []byte, others string) []byte {
	t.Helper()
	members := map[string]jsontext.Value{}
	require.NoError(t, json.Unmarshal(event, &members))
	require.NoError(t, json.Unmarshal([]byte(others), &members))
	text, err := json.Marshal(members)
	require.NoError(t, err)
	return text
}

// Every example gets the code of its line, or of the last one that names a code, and whoever sent it can be told unless it has no name.
func TestReadmeTellsTheCodesOfBrokenQueries(t *testing.T) {
	t.Parallel()
	_, section, found := strings.Cut(string(readFile(t, "README.md")), "## Where a query is broken\n")
	require.True(t, found)
	require.NoError(t, decodeBroken(t, brokenQuery{event: true, text: `{}`}).err, "the event is good before it is broken")
	row := regexp.MustCompile("(?m)^\\| (?:`([a-z_]+)`)? ?\\| .* \\| (?:(event with|bare data|bare data without an id) `(\\{.*\\})`)? ?\\|$")
	rows := row.FindAllStringSubmatch(section, -1)
	require.Len(t, rows, strings.Count(section, "\n| ")-1, "a line of the table can't be read")
	code, named, shown := "", map[string]bool{}, map[string]bool{}
	for _, row := range rows {
		code = cmp.Or(row[1], code)
		if named[code] = true; row[2] == "" {
			continue
		}
		shown[code] = true
		broken := brokenQuery{event: row[2] == "event with", nameless: row[2] == "bare data without an id", text: row[3]}
		got := decodeBroken(t, broken)
		require.Equal(t, fault.Malformed, fault.KindOf(got.err), row[0])
		require.Equal(t, code, string(fault.CodeOf(got.err)), row[0])
		require.Equal(t, broken.nameless, got.ID == "", row[0])
	}
	require.ElementsMatch(t, codesUsedIn(t, "query/decode.go", "query/strict.go", "query/won.go"), slices.Collect(maps.Keys(shown)))
	used := codesUsedIn(t, "query/decode.go", "query/strict.go", "query/won.go", "query/subject.go", "card/seal.go", "card/unseal.go", "card/secret.go")
	own := []string{string(fault.SigningFailed)} // Of what the worker seals itself.
	require.ElementsMatch(t, used, slices.AppendSeq(own, maps.Keys(named)))
}

// codesUsedIn returns the codes of failures that stand in files of other rooms.
func codesUsedIn(t *testing.T, names ...string) []string {
	t.Helper()
	declared := regexp.MustCompile(`(?m)^\t(\w+) Code = "(\w+)"$`)
	list, err := os.ReadFile("../internal/fault/code.go")
	require.NoError(t, err)
	codes := map[string]string{}
	for _, match := range declared.FindAllStringSubmatch(string(list), -1) {
		codes["fault."+match[1]] = match[2]
	}
	used := map[string]bool{}
	for _, name := range names {
		source, err := os.ReadFile("../internal/" + name)
		require.NoError(t, err)
		for _, word := range regexp.MustCompile(`fault\.\w+`).FindAllString(string(source), -1) {
			if code, ok := codes[word]; ok {
				used[code] = true
			}
		}
	}
	require.NotEmpty(t, used)
	return slices.Collect(maps.Keys(used))
}

// The worker overlooks some of what the envelope's schema refuses, and is stricter in two things.
func TestReadmeTellsWhereTheWorkerDiffersFromTheEnvelope(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sample := readFile(t, "samples/query.requested.easypay.v1.json")
	for members, overlooked := range map[string]bool{
		`{"shopId":"x"}`:                            true,
		`{"shop":{"a":1}}`:                          true,
		`{"subject":""}`:                            true,
		`{"dataschema":"a b"}`:                      true,
		`{"source":"%zz"}`:                          true,
		`{"id":"` + strings.Repeat("é", 200) + `"}`: false,
		`{"expirytime":"2200-01-01T00:00:00Z"}`:     false,
		`{"expirytime":"1999-12-31T00:00:00Z"}`:     false,
	} {
		schema := b.set.Validate("cloudevent.v1.json", withMembers(t, sample, members))
		worker := decodeBroken(t, brokenQuery{event: true, text: members}).err
		require.Equal(t, overlooked, schema != nil, members)
		require.Equal(t, overlooked, worker == nil, members)
	}
}
