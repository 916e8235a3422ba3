package query

import (
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

func TestDecodeRefusesEnvelopes(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for name, c := range map[string]struct {
		change map[string]any
		code   fault.Code
		// named tells that the identity is known all the same, so that the refusal can be told to whoever asked.
		named bool
	}{
		"no version":           {map[string]any{"specversion": nil}, fault.BadEnvelope, true},
		"version 0.3":          {map[string]any{"specversion": "0.3"}, fault.BadEnvelope, true},
		"version 1.0.1":        {map[string]any{"specversion": "1.0.1"}, fault.BadEnvelope, true},
		"no id":                {map[string]any{"id": nil}, fault.BadEnvelope, false},
		"an empty id":          {map[string]any{"id": ""}, fault.BadEnvelope, false},
		"a long id":            {map[string]any{"id": strings.Repeat("a", 257)}, fault.BadEnvelope, false},
		"an id with a line":    {map[string]any{"id": "a\nb"}, fault.BadEnvelope, false},
		"an id with a delete":  {map[string]any{"id": "a\x7f"}, fault.BadEnvelope, false},
		"an id of digits":      {map[string]any{"id": 7}, fault.BadJSON, false},
		"no source":            {map[string]any{"source": nil}, fault.BadEnvelope, false},
		"a source with a zero": {map[string]any{"source": "urn:\x00"}, fault.BadEnvelope, false},
		"a long source":        {map[string]any{"source": strings.Repeat("é", 129)}, fault.BadEnvelope, false},
		"no type":              {map[string]any{"type": nil}, fault.UnsupportedType, true},
		"the next version":     {map[string]any{"type": "discount.query.requested.v2"}, fault.UnsupportedType, true},
		"our own result":       {map[string]any{"type": TypeCompleted}, fault.UnsupportedType, true},
		"another case":         {map[string]any{"type": "Discount.query.requested.v1"}, fault.UnsupportedType, true},
		"base64 data":          {map[string]any{"data_base64": "e30="}, fault.BadEnvelope, true},
		"null base64 data":     {map[string]any{"data_base64": jsonNull{}}, fault.BadEnvelope, true},
		"only base64 data":     {map[string]any{"data_base64": "e30=", "data": nil}, fault.BadEnvelope, true},
		"XML data":             {map[string]any{"datacontenttype": "application/xml"}, fault.BadEnvelope, true},
		"a text":               {map[string]any{"datacontenttype": "text/plain"}, fault.BadEnvelope, true},
		"JSON lines":           {map[string]any{"datacontenttype": "application/jsonl"}, fault.BadEnvelope, true},
		"a time of digits":     {map[string]any{"time": 1700000000}, fault.BadEnvelope, true},
		"a time without zone":  {map[string]any{"time": "2026-03-02T09:15:00"}, fault.BadEnvelope, true},
		"a day":                {map[string]any{"time": "2026-03-02"}, fault.BadEnvelope, true},
		"a 13th month":         {map[string]any{"time": "2026-13-02T09:15:00Z"}, fault.BadEnvelope, true},
		"a time long ago":      {map[string]any{"time": "1999-12-31T23:59:59Z"}, fault.BadEnvelope, true},
		"a deadline far off":   {map[string]any{"expirytime": "2200-01-01T00:00:00Z"}, fault.BadEnvelope, true},
		"a bad deadline":       {map[string]any{"expirytime": "soon"}, fault.BadEnvelope, true},
		"a year before zero":   {map[string]any{"time": "0000-01-01T00:00:00+23:59"}, fault.BadEnvelope, true},
		"a year of 5 digits":   {map[string]any{"expirytime": "9999-12-31T23:59:59-23:59"}, fault.BadEnvelope, true},
		"a long correlation":   {map[string]any{"correlationid": strings.Repeat("a", 129)}, fault.BadEnvelope, true},
		"a correlation's line": {map[string]any{"correlationid": "a\r\nb"}, fault.BadEnvelope, true},
		"a long trace parent":  {map[string]any{"traceparent": strings.Repeat("a", 257)}, fault.BadEnvelope, true},
		"a trace parent's tab": {map[string]any{"traceparent": "a\tb"}, fault.BadEnvelope, true},
		"a long trace state":   {map[string]any{"tracestate": strings.Repeat("a", 513)}, fault.BadEnvelope, true},
		"a trace state's bell": {map[string]any{"tracestate": "\a"}, fault.BadEnvelope, true},
		"no data":              {map[string]any{"data": nil}, fault.BadSchema, true},
		"null data":            {map[string]any{"data": jsonNull{}}, fault.BadSchema, true},
		"data in a text":       {map[string]any{"data": `{"cardCd":"026"}`}, fault.BadSchema, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := d.Decode(structured(t, c.change))
			requireFault(t, err, c.code)
			requirePartial(t, got, c.named)
		})
	}
}

// jsonNull is written as null, where a nil of the table removes a member.
type jsonNull struct{}

func (jsonNull) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// requirePartial checks what is left of a query that was refused: its address, its identity if it is known, and nothing that would
// keep its dead letter from being written.
func requirePartial(t require.TestingT, got *Query, named bool) {
	require.Equal(t, "shop", got.Client)
	require.Equal(t, Interactive, got.Lane)
	if named {
		require.Equal(t, "order-1", got.ID)
		require.Equal(t, "urn:shop", got.Source)
	} else {
		require.Empty(t, got.ID)
		require.Empty(t, got.Source)
	}
	_, err := json.Marshal(DeadData{Query: got.Asked()})
	require.NoError(t, err)
}

func TestDecodeRefusesMessages(t *testing.T) {
	t.Parallel()
	d := setup(t)
	typed := func(contentType, data string) Delivery {
		return Delivery{Subject: on(EasyPay), Header: map[string][]string{"Content-Type": {contentType}}, Data: []byte(data)}
	}
	for name, c := range map[string]struct {
		delivery Delivery
		code     fault.Code
	}{
		"nothing":                {typed("", ""), fault.BadJSON},
		"an empty event":         {typed(ContentTypeEvent, ""), fault.BadJSON},
		"no event":               {typed(ContentTypeEvent, "null"), fault.BadEnvelope},
		"a list":                 {typed(ContentTypeEvent, "[]"), fault.BadJSON},
		"a name twice":           {typed(ContentTypeEvent, `{"id":"a","id":"b"}`), fault.BadJSON},
		"names in capitals":      {typed(ContentTypeEvent, strings.ReplaceAll(string(event(t, nil)), `"id"`, `"ID"`)), fault.BadEnvelope},
		"invalid UTF-8":          {typed(ContentTypeEvent, "{\"id\":\"\xff\"}"), fault.BadJSON},
		"a byte order mark":      {typed(ContentTypeEvent, "\xef\xbb\xbf"+string(event(t, nil))), fault.BadJSON},
		"two events":             {typed(ContentTypeEvent, string(event(t, nil))+"{}"), fault.BadJSON},
		"too deep":               {typed(ContentTypeEvent, strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)), fault.BadJSON},
		"a batch":                {typed("application/cloudevents-batch+json", "["+string(event(t, nil))+"]"), fault.UnsupportedType},
		"Avro":                   {typed("application/cloudevents+avro", "x"), fault.UnsupportedType},
		"Protobuf, in capitals":  {typed("APPLICATION/CLOUDEVENTS+PROTOBUF", "x"), fault.UnsupportedType},
		"bare without id":        {typed("application/json", `{"cardCd":"026"}`), fault.BadEnvelope},
		"bare with an odd id":    {bare(EasyPay, "a\x01b", `{}`), fault.BadEnvelope},
		"bare with id in Latin1": {bare(EasyPay, "caf\xe9", `{}`), fault.BadEnvelope},
		"bare with a long id":    {bare(EasyPay, strings.Repeat("a", 257), `{}`), fault.BadEnvelope},
		"binary without id":      {binary(EasyPay, `{}`, map[string]string{"ce-id": ""}), fault.BadEnvelope},
		"binary id in Latin1":    {binary(EasyPay, `{}`, map[string]string{"ce-id": "caf\xe9"}), fault.BadEnvelope},
		"binary id, hidden byte": {binary(EasyPay, `{}`, map[string]string{"ce-id": "caf%E9"}), fault.BadEnvelope},
		"binary id, hidden line": {binary(EasyPay, `{}`, map[string]string{"ce-id": "a%0Ab"}), fault.BadEnvelope},
		"binary, hidden zero":    {binary(EasyPay, `{}`, map[string]string{"ce-source": "urn:%00"}), fault.BadEnvelope},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := d.Decode(c.delivery)
			requireFault(t, err, c.code)
			requirePartial(t, got, false)
		})
	}
}

// TestBareDataThatIsNoJSONKeepsItsIdentity requires that whoever asked can be told: the identity of bare data stands outside of it.
func TestBareDataThatIsNoJSONKeepsItsIdentity(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for name, data := range map[string]string{
		"text":           `card 026`,
		"nothing":        ``,
		"invalid UTF-8":  "{\"a\":\"\xc3\x28\"}",
		"a name twice":   `{"cardCd":"026","cardCd":"027"}`,
		"trailing bytes": `{"cardCd":"026"} x`,
		"a foreign id":   `{"cardCd":"026","id":5}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := d.Decode(bare(EasyPay, "order-1", data))
			require.Equal(t, fault.Malformed, fault.KindOf(err))
			require.Equal(t, []string{"order-1", "shop"}, []string{got.ID, got.Source})
			require.Equal(t, Interactive, got.Lane)
		})
	}
}

func TestDecodeRefusesBinary(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for name, c := range map[string]struct {
		change map[string]string
		data   string
		code   fault.Code
	}{
		"version 0.3":          {map[string]string{"ce-specversion": "0.3"}, `{}`, fault.BadEnvelope},
		"another type":         {map[string]string{"ce-type": "x\xff"}, `{}`, fault.UnsupportedType},
		"XML":                  {map[string]string{"Content-Type": "application/xml"}, `{}`, fault.BadEnvelope},
		"a form":               {map[string]string{"Content-Type": "application/x-www-form-urlencoded; a=+json"}, `{}`, fault.BadEnvelope},
		"a bad time":           {map[string]string{"ce-time": "now"}, `{}`, fault.BadEnvelope},
		"a hidden tab":         {map[string]string{"ce-correlationid": "%09"}, `{}`, fault.BadEnvelope},
		"Latin1 in a trace":    {map[string]string{"ce-tracestate": "a=\xe9"}, `{}`, fault.BadEnvelope},
		"no data":              {nil, ``, fault.BadSchema},
		"text":                 {nil, `hello`, fault.BadJSON},
		"a name twice":         {nil, `{"cardCd":"026","cardCd":"027"}`, fault.BadJSON},
		"trailing bytes":       {nil, `{}{}`, fault.BadJSON},
		"a forbidden name":     {nil, `{"CVV2":"123"}`, fault.ForbiddenCardData},
		"a forbidden name in ": {nil, `{"x":[{"y":{"pin_block":"1"}}]}`, fault.ForbiddenCardData},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := d.Decode(binary(EasyPay, c.data, c.change))
			requireFault(t, err, c.code)
			requirePartial(t, got, true)
		})
	}
}

func TestDecodeRefusesQuestions(t *testing.T) {
	t.Parallel()
	d := setup(t)
	plain := func(members string) string { return `{"data":{` + members + `}}` }
	for provider, questions := range map[Provider]map[string]fault.Code{
		EasyPay: {
			`{"cardCd":"026","cardBin":"41111111"}`:          fault.BadSchema,
			`{"cardCd":"26"}`:                                fault.BadSchema,
			`{"cardCd":26}`:                                  fault.BadSchema,
			`{"cardCd":"02a"}`:                               fault.BadSchema,
			`{"cardBin":"4111111111111111"}`:                 fault.BadSchema,
			`{"cardBin":"411111"}`:                           fault.BadSchema,
			`{"cardbin":"41111111"}`:                         fault.BadSchema,
			`{"mallId":"T000123"}`:                           fault.BadSchema,
			`{"mallId":null}`:                                fault.BadSchema,
			`{"mallId":"T0001234\n"}`:                        fault.BadSchema,
			`{"cardNo":"4111111111111111"}`:                  fault.BadSchema,
			`{"amount":0}`:                                   fault.BadSchema,
			`{"amount":-51004}`:                              fault.BadSchema,
			`{"amount":510.04}`:                              fault.BadSchema,
			`{"amount":1e3}`:                                 fault.BadField,
			`{"amount":51004.0}`:                             fault.BadField,
			`{"amount":1E2}`:                                 fault.BadField,
			`{"amount":1000000000000}`:                       fault.BadSchema,
			`{"amount":1e999}`:                               fault.BadJSON,
			`{"amount":` + strings.Repeat("9", 30) + `}`:     fault.BadSchema,
			`{"amount":` + strings.Repeat("9", 400) + `}`:    fault.BadJSON,
			`{"amount":"0"}`:                                 fault.BadSchema,
			`{"amount":"051004"}`:                            fault.BadSchema,
			`{"amount":"+51004"}`:                            fault.BadSchema,
			`{"amount":" 51004"}`:                            fault.BadSchema,
			`{"amount":"51004\n"}`:                           fault.BadSchema,
			`{"amount":"5,100"}`:                             fault.BadSchema,
			`{"amount":"51004.0"}`:                           fault.BadSchema,
			`{"amount":"1e3"}`:                               fault.BadSchema,
			`{"amount":"0x10"}`:                              fault.BadSchema,
			`{"amount":"1_000"}`:                             fault.BadSchema,
			`{"amount":"٣"}`:                                 fault.BadSchema,
			`{"amount":"1000000000000"}`:                     fault.BadSchema,
			`{"amount":""}`:                                  fault.BadSchema,
			`{"amount":null}`:                                fault.BadSchema,
			`{"amount":true}`:                                fault.BadSchema,
			`{"amount":[51004]}`:                             fault.BadSchema,
			`{"amount":NaN}`:                                 fault.BadJSON,
			`{"data":"` + compactJWE + `"}`:                  fault.BadSchema,
			`{"amount":1,"cvv":"123"}`:                       fault.ForbiddenCardData,
			`{"cvv":"123","cardCd":"026","cardBin":"wrong"}`: fault.ForbiddenCardData,
		},
		UnionPay: {
			`{}`:                      fault.BadSchema,
			`{"pid":"1","data":null}`: fault.BadSchema,
			`{"data":"not sealed"}`:   fault.BadSchema,
			`{"data":"a.b.c.d"}`:      fault.BadSchema,
			`{"data":"a.b.c.d.e.f"}`:  fault.BadSchema,
			`{"data":"a.b.c.d.` + strings.Repeat("e", 8200) + `"}`:        fault.BadSchema,
			`{"data":["` + compactJWE + `"]}`:                             fault.BadSchema,
			`{"pid":"12345678901","data":"` + compactJWE + `"}`:           fault.BadSchema,
			`{"pid":1,"data":"` + compactJWE + `"}`:                       fault.BadSchema,
			`{"scenId":"00001","data":"` + compactJWE + `"}`:              fault.BadSchema,
			`{"cardNo":"` + cardNumber + `","data":"` + compactJWE + `"}`: fault.BadSchema,
			plain(`"userToken":"a"`):                                      fault.BadSchema,
			plain(`"userToken":"","cardNo":"6200000000000005"`):           fault.BadSchema,
			plain(`"userToken":"a b","cardNo":"6200000000000005"`):        fault.BadSchema,
			plain(`"userToken":"a","cardNo":"6200-0000-0000-0005"`):       fault.BadSchema,
			plain(`"userToken":"a","cardNo":6200000000000005`):            fault.BadSchema,
			plain(`"userToken":"a","cardNo":"6200000000000005","x":1`):    fault.BadSchema,
			plain(`"userToken":"a","cardNo":"1","cvn2":"123"`):            fault.ForbiddenCardData,
			plain(`"userToken":"a","cardNo":"1","Track_2":{"a":1}`):       fault.ForbiddenCardData,
			plain(`"userToken":"a","userToken":"b"`):                      fault.BadJSON,
		},
	} {
		for data, code := range questions {
			got, err := d.Decode(binary(provider, data, nil))
			require.Error(t, err, data)
			require.Equal(t, code, fault.CodeOf(err), data)
			requireFault(t, err, code)
			requirePartial(t, got, true)
			if code != fault.BadField {
				require.Nil(t, got.EasyPay, data)
			}
			require.Nil(t, got.UnionPay, data)
		}
	}
}

func TestDecodeRefusesSubjects(t *testing.T) {
	t.Parallel()
	delivery := structured(t, nil)
	delivery.Subject = "discount.result.k.easypay.shop.completed"
	got, err := setup(t).Decode(delivery)
	requireFault(t, err, fault.BadSubject)
	require.Equal(t, &Query{}, got)
}

// Even a schema that allowed them could not bring in other amounts than whole, positive and payable ones.
func TestReadWon(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{`1`: 1, `"1"`: 1, `1000000000000`: 1_000_000_000_000, `"007"`: 7} {
		got, err := readWon([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, *got)
	}
	for _, text := range []string{
		``, `0`, `-1`, `"-1"`, `1.0`, `1e3`, `"1e3"`, `1000000000001`, `9223372036854775808`, `"18446744073709551617"`, `" 1"`, `"1 "`, `null`,
		`true`, `{}`, `[1]`, `""`, `"`, `"1`, `0x1`, `1_0`, `"１"`,
	} {
		got, err := readWon([]byte(text))
		requireFault(t, err, fault.BadField)
		require.Nil(t, got)
	}
}

func TestReadTime(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Time{
		"":                               {},
		"2000-01-01T00:00:00Z":           time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		"2199-12-31T23:59:59.999999999Z": time.Date(2199, 12, 31, 23, 59, 59, 999999999, time.UTC),
		"2026-03-02T10:15:00+01:00":      time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC),
	} {
		got, ok := readTime(text)
		require.True(t, ok, text)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"1999-12-31T23:59:59Z", "2200-01-01T00:00:00Z", "2026-03-02 10:15:00Z", "2026-02-30T10:15:00Z", "1700000000", " "} {
		got, ok := readTime(text)
		require.False(t, ok, text)
		require.Equal(t, time.Time{}, got, "a refused time must not reach an event")
	}
}

// No refusal repeats what it refuses, wherever the secret stood.
func TestRefusalsAreSilent(t *testing.T) {
	t.Parallel()
	d := setup(t)
	frames := []string{
		`{"amount":%}`, `{"cardBin":"%"}`, `{"%":1}`, `%`, `{"amount":"%"}`, `{"data":"%"}`, `{"data":{"cardNo":"%"}}`, `{"data":{"cardNo":%}}`,
		`{"a":"%","a":"%"}`, `{"specversion":"1.0","id":%}`, `{"specversion":"%","id":"1"}`, `{"time":"%","specversion":"1.0"}`, `{"mallId":"%"`,
	}
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[1-9][0-9]{12,18}`).Draw(t, "secret")
		data := []byte(strings.ReplaceAll(rapid.SampledFrom(frames).Draw(t, "frame"), "%", secret))
		headers := map[string][]string{}
		for _, name := range []string{"Content-Type", "ce-specversion", "ce-id", "ce-time", "ce-type", "ce-correlationid", "Nats-Msg-Id"} {
			value := rapid.SampledFrom([]string{"", secret, "1.0", ContentTypeEvent, TypeRequested, "\xff" + secret}).Draw(t, name)
			headers[name] = []string{value}
		}
		subject := rapid.SampledFrom([]string{on(EasyPay), on(UnionPay), "discount.query.easypay." + secret + ".shop", secret}).Draw(t, "subject")
		got, err := d.Decode(Delivery{Subject: subject, Header: headers, Data: data})
		require.NotNil(t, got)
		if err == nil {
			return // A message id of digits is a message id.
		}
		require.Equal(t, fault.Malformed, fault.KindOf(err))
		for e := err; e != nil; {
			require.NotContains(t, e.Error(), secret)
			unwrapped, ok := e.(interface{ Unwrap() error })
			if !ok {
				break
			}
			e = unwrapped.Unwrap()
		}
	})
}
