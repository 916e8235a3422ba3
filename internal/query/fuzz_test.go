package query

import (
	"testing"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// modes are one message of each mode, for the fuzzer to begin with and for the benchmarks.
func modes(t testing.TB) map[string]Delivery {
	t.Helper()
	plain := `{"pid":"1","scenId":"0001","data":{"userToken":"c0ffee","cardNo":"6200000000000005"}}`
	sealed := `{"pid":"1234567890","scenId":"0001","data":"` + compactJWE + `"}`
	var data any
	require.NoError(t, json.Unmarshal([]byte(sealed), &data))
	return map[string]Delivery{
		"structured easypay":  structured(t, nil),
		"structured unionpay": {Subject: on(UnionPay), Header: structured(t, nil).Header, Data: event(t, map[string]any{"data": data})},
		"sniffed":             {Subject: on(EasyPay), Data: event(t, nil)},
		"binary easypay":      binary(EasyPay, `{"cardCd":"026","amount":"51004"}`, map[string]string{"ce-source": "urn:%C3%A9", "ce-time": "2026-03-02T09:15:00Z", "ce-maxage": "30"}),
		"binary unionpay":     binary(UnionPay, sealed, nil),
		"bare easypay":        bare(EasyPay, "order-1", `{"cardBin":"41111111"}`),
		"bare unionpay":       bare(UnionPay, "order-1", plain),
		"a retry":             {Subject: NewSubjects("discount").RetryDue(UnionPay, Bulk, "shop"), Data: []byte(sealed)},
		"a bad time":          structured(t, map[string]any{"time": "0000-01-01T00:00:00+23:59"}),
		"forbidden":           bare(UnionPay, "1", `{"data":{"cvv":"123"}}`),
		"wrong types":         structured(t, map[string]any{"id": 7, "data": []int{1}}),
		"twice":               {Subject: on(EasyPay), Data: []byte(`{"id":"a","id":"b"}`)},
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range modes(f) {
		h := func(name string) string { return header(m.Header, name) }
		f.Add(m.Subject, h("content-type"), h("nats-msg-id"), h("ce-specversion"), h("ce-id"), h("ce-source"), h("ce-type"), h("ce-time"), h("ce-maxage"), m.Data)
	}
	d := setup(f)
	f.Fuzz(func(t *testing.T, subject, contentType, messageID, version, id, source, eventType, stamp, maxAge string, data []byte) {
		headers := map[string][]string{}
		for name, value := range map[string]string{
			"Content-Type": contentType, "Nats-Msg-Id": messageID, "ce-specversion": version, "CE-ID": id, "Ce-Source": source, "ce-type": eventType,
			"ce-time": stamp, "ce-expirytime": stamp, "ce-maxage": maxAge, "ce-correlationid": id, "traceparent": source,
		} {
			if value != "" {
				headers[name] = []string{value}
			}
		}
		q, err := d.Decode(Delivery{Subject: subject, Header: headers, Data: data})
		requireWritable(t, q)
		if err != nil {
			require.Equal(t, fault.Malformed, fault.KindOf(err))
			require.Contains(t, []fault.Code{
				fault.BadSubject, fault.BadEnvelope, fault.BadJSON, fault.BadSchema, fault.BadField, fault.UnsupportedType, fault.ForbiddenCardData,
			}, fault.CodeOf(err))
			return
		}
		require.Equal(t, q.Provider == EasyPay, q.EasyPay != nil)
		require.Equal(t, q.Provider == UnionPay, q.UnionPay != nil)
		require.True(t, isAttribute(q.ID) && isAttribute(q.Source) && IsToken(q.Client))
		require.True(t, q.MaxAge == nil || *q.MaxAge >= 0 && *q.MaxAge <= MaxMaxAge)
		require.Equal(t, keyByHand(q.Client, q.Source, q.ID), q.Key())
		if q.UnionPay != nil {
			require.NotEmpty(t, q.UnionPay.Data.Reveal())
		}
		if q.EasyPay != nil && q.EasyPay.Amount != nil {
			require.Positive(t, *q.EasyPay.Amount)
		}
	})
}

// requireWritable checks that a query can be told about in an event, however little was read of it: an event that can't be written
// would hold its query in the queue for ever.
func requireWritable(t *testing.T, q *Query) {
	t.Helper()
	for _, text := range []string{q.ID, q.Source, q.Correlation, q.TraceParent, q.TraceState} {
		require.True(t, utf8.ValidString(text))
		for _, r := range text {
			require.False(t, r < ' ' || r == 0x7f)
		}
	}
	encoded, err := NewEvent(q, TypeDead, "dead.0", at, DeadData{Query: q.Asked()}).Encode()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(encoded, new(any)))
}

func BenchmarkDecode(b *testing.B) {
	d := setup(b)
	for _, name := range []string{"structured easypay", "structured unionpay", "binary easypay", "bare easypay"} {
		delivery := modes(b)[name]
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decode(delivery); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	e := goldenEvents()["completed.easypay"]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKey(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Key("shop", "urn:shop:checkout", "order-2026-000042")
	}
}
