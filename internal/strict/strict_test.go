package strict

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// target is a struct like those that messages are read into.
type target struct {
	ID     string         `json:"id"`
	Count  int64          `json:"count"`
	Flag   bool           `json:"flag"`
	List   []string       `json:"list"`
	Raw    jsontext.Value `json:"raw"`
	Inside struct {
		Task string `json:"task"`
	} `json:"inside"`
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func TestRead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data string
		want target
	}{
		"nothing in it":     {`{}`, target{}},
		"null":              {`null`, target{}},
		"space around":      {" \t\r\n{ \"id\" : \"a\" } \n", target{ID: "a"}},
		"escapes":           {`{"id":"\u00e9\n\"\\\ud83d\ude00"}`, target{ID: "é\n\"\\😀"}},
		"an escaped name":   {`{"\u0069d":"a"}`, target{ID: "a"}},
		"another case":      {`{"ID":"a","Id":"b","iD":"c"}`, target{}},
		"a long s":          {"{\"inside\":{\"ta\u017fk\":\"a\"},\"li\u017ft\":[\"a\"]}", target{}},
		"unknown names":     {`{"id":"a","extra":{"id":[1,2.5e3,null,true]}}`, target{ID: "a"}},
		"the greatest":      {`{"count":9223372036854775807}`, target{Count: 1<<63 - 1}},
		"brackets in texts": {`{"id":"` + strings.Repeat(`[{`, 40) + `"}`, target{ID: strings.Repeat(`[{`, 40)}},
		"behind a quote":    {`{"id":"\"` + strings.Repeat(`[`, 40) + `\\"}`, target{ID: `"` + strings.Repeat(`[`, 40) + `\`}},
		"16 levels":         {`{"raw":` + nested(MaxDepth-1) + `}`, target{Raw: jsontext.Value(nested(MaxDepth - 1))}},
		"wide":              {`{"raw":[` + strings.Repeat(`[],`, 999) + `[]]}`, target{Raw: jsontext.Value(`[` + strings.Repeat(`[],`, 999) + `[]]`)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got target
			require.NoError(t, Read([]byte(c.data), &got))
			require.Equal(t, c.want, got)
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"nothing":               ``,
		"space":                 ` `,
		"a name twice":          `{"id":"a","id":"b"}`,
		"an unknown name twice": `{"x":1,"x":1}`,
		"twice by escapes":      `{"id":"a","\u0069d":"b"}`,
		"twice deep inside":     `{"raw":[{"a":{"b":1,"b":2}}]}`,
		"invalid UTF-8":         "{\"id\":\"\xff\"}",
		"invalid in a name":     "{\"\xc3\x28\":1}",
		"invalid and unknown":   "{\"x\":\"\xed\xa0\x80\"}",
		"overlong UTF-8":        "{\"id\":\"\xc0\xaf\"}",
		"a lone surrogate":      `{"id":"\ud800"}`,
		"a byte order mark":     "\xef\xbb\xbf{}",
		"UTF-16":                "{\x00}\x00",
		"EUC-KR":                "{\"id\":\"\xc4\xab\xb5\xe5\"}",
		"a second value":        `{}{}`,
		"trailing bytes":        `{"id":"a"}x`,
		"a trailing zero byte":  "{}\x00",
		"a trailing comma":      `{"id":"a",}`,
		"a comment":             `{/* a */}`,
		"single quotes":         `{'id':'a'}`,
		"no end":                `{"id":"a"`,
		"an open text":          `{"id":"a`,
		"a wrong type":          `{"id":1}`,
		"a number in a text":    `{"count":"1"}`,
		"a text for a flag":     `{"flag":"true"}`,
		"a list for an object":  `[]`,
		"an object for a list":  `{"list":{}}`,
		"one too many":          `{"count":9223372036854775808}`,
		"a huge number":         `{"count":1e999999999}`,
		"a long number":         `{"count":` + strings.Repeat("9", 5000) + `}`,
		"a fraction":            `{"count":1.5}`,
		"a power":               `{"count":1e3}`,
		"NaN":                   `{"count":NaN}`,
		"Infinity":              `{"raw":-Infinity}`,
		"a leading zero":        `{"count":01}`,
		"a plus":                `{"count":+1}`,
		"a control character":   "{\"id\":\"a\nb\"}",
		"a page":                `<html><body>Service Unavailable</body></html>`,
		"17 levels":             `{"raw":` + nested(MaxDepth) + `}`,
		"17 levels of objects":  strings.Repeat(`{"raw":`, MaxDepth+1) + `1` + strings.Repeat(`}`, MaxDepth+1),
		"17 levels, unknown":    `{"x":` + nested(MaxDepth) + `}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got target
			err := Read([]byte(data), &got)
			require.Equal(t, ErrJSON, err)
			require.Equal(t, ErrJSON, ReadExactly([]byte(data), &got))
		})
	}
}

func TestReadOverflowsNoFloat(t *testing.T) {
	t.Parallel()
	var f float64
	require.Equal(t, ErrJSON, Read([]byte(`1e999`), &f))
	require.NoError(t, Read([]byte(`1e300`), &f))
}

func TestReadExactly(t *testing.T) {
	t.Parallel()
	for data, ok := range map[string]bool{
		`{}`:                       true,
		`{"id":"a","count":1}`:     true,
		`{"inside":{"task":"a"}}`:  true,
		`{"raw":{"any":"thing"}}`:  true,
		`{"ID":"a"}`:               false,
		`{"extra":null}`:           false,
		`{"inside":{"tasks":"a"}}`: false,
		`{"":1}`:                   false,
		"{\"li\u017ft\":[]}":       false,
	} {
		err := ReadExactly([]byte(data), new(target))
		if ok {
			require.NoError(t, err, data)
			continue
		}
		require.Equal(t, ErrJSON, err, data)
	}
}

func TestDeepInputIsRefusedFast(t *testing.T) {
	t.Parallel()
	const many = 10_000
	for name, data := range map[string]string{
		"lists":       nested(many),
		"only opened": strings.Repeat("[", 1<<20),
		"objects":     strings.Repeat(`{"a":`, many) + `1` + strings.Repeat(`}`, many),
	} {
		began := time.Now()
		var v any
		require.Equal(t, ErrJSON, Read([]byte(data), &v), name)
		require.Less(t, time.Since(began), time.Second, name)
		require.True(t, tooDeep([]byte(data[:100])), "%s: known from its first bytes", name)
	}
}

// referenceDepth returns how deep data nests before its first fault, as the JSON reader itself counts.
func referenceDepth(data []byte) (deepest int, valid bool) {
	decoder := jsontext.NewDecoder(bytes.NewReader(data), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	for {
		_, err := decoder.ReadToken()
		if err != nil {
			return deepest, errors.Is(err, io.EOF)
		}
		deepest = max(deepest, decoder.StackDepth())
	}
}

// requireSameDepth checks tooDeep against the reader: always right for JSON, and never too lenient for anything else.
func requireSameDepth(t require.TestingT, data []byte) {
	deepest, valid := referenceDepth(data)
	if valid {
		require.Equal(t, deepest > MaxDepth, tooDeep(data), "%q", data)
		return
	}
	require.True(t, deepest <= MaxDepth || tooDeep(data), "%q", data)
}

// drawJSON draws JSON that nests up to levels deep, with texts that try to fool whoever counts brackets.
func drawJSON(t *rapid.T, levels int) string {
	text := rapid.SampledFrom([]string{`""`, `"[[[["`, `"\""`, `"\\"`, `"\\\"{"`, `"]]}"`, `"\u005b{"`, `"é["`})
	shape := rapid.IntRange(0, 3).Draw(t, "shape")
	switch {
	case levels == 0 || shape == 3:
		return rapid.OneOf(text, rapid.SampledFrom([]string{`1`, `-2.5e3`, `null`, `true`})).Draw(t, "leaf")
	case shape == 2:
		return "[" + text.Draw(t, "beside") + " , " + drawJSON(t, levels-1) + "\n]"
	default:
		return `{` + text.Draw(t, "name") + `:` + drawJSON(t, levels-1) + `}`
	}
}

func TestDepthAgreesWithTheReader(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		wrap := rapid.IntRange(0, MaxDepth+2).Draw(t, "wrap")
		requireSameDepth(t, []byte(strings.Repeat("[", wrap)+drawJSON(t, 4)+strings.Repeat("]", wrap)))
	})
	rapid.Check(t, func(t *rapid.T) {
		requireSameDepth(t, rapid.SliceOfN(rapid.SampledFrom([]byte(`[[[[{{"\]},:1 `)), 0, 80).Draw(t, "noise"))
	})
}

func TestErrorsAreSilent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[0-9]{13,19}`).Draw(t, "secret")
		frame := rapid.SampledFrom([]string{`{"id":%}`, `{"%":1,"%":2}`, `%`, `{"count":"%"}`, `{"flag":"%"}`, `{"id":"%"}%`}).Draw(t, "frame")
		err := Read([]byte(strings.ReplaceAll(frame, "%", secret)), new(target))
		require.Equal(t, ErrJSON, err)
		require.Equal(t, "not strict JSON", err.Error())
		require.NoError(t, errors.Unwrap(err))
	})
}

func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"id":"a","count":1,"list":["a"],"raw":{"a":[1]},"inside":{"task":"b"}}`, `{"id":"a","id":"b"}`, "\xef\xbb\xbf{}", `{}{}`,
		nested(16), nested(17), `{"raw":"[[[[[[[[[[[[[[[[[[[["}`, `{"a\"[":1}`, "{\"id\":\"\xff\"}", `{"count":1e999}`, `"\\"[`, `]]]][[[[`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		for _, v := range []any{new(target), new(any), new(string), new([]int)} {
			err, exactly := Read(data, v), ReadExactly(data, v)
			require.True(t, err == nil || err == ErrJSON)         //nolint:errorlint // The very value, with nothing around it.
			require.True(t, exactly == nil || exactly == ErrJSON) //nolint:errorlint // As above.
			require.False(t, err != nil && exactly == nil, "the stricter reader accepts what the other refuses")
			require.False(t, err == nil && !jsontext.Value(data).IsValid())
		}
		requireSameDepth(t, data)
		HoldsAuthenticationData(data)
		require.Equal(t, before, data, "the input was changed")
	})
}
