package query

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/schemas"
)

func TestDecodeStructured(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for name, header := range map[string]map[string][]string{
		"with its content type":    {"Content-Type": {ContentTypeEvent}},
		"with a parameter":         {"Content-Type": {"application/cloudevents+json; charset=UTF-8"}},
		"in capitals":              {"CONTENT-TYPE": {" Application/CloudEvents+JSON "}},
		"without any header":       nil,
		"as JSON":                  {"Content-Type": {"application/json"}},
		"with a message id":        {"Nats-Msg-Id": {"another"}},
		"with headers of its own":  {"content-type": {ContentTypeEvent}, "ce-id": {"another"}, "ce-specversion": {"1.0"}},
		"with an empty type first": {"Content-Type": {"", ContentTypeEvent}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := d.Decode(Delivery{Subject: on(EasyPay), Header: header, Data: event(t, nil)})
			require.NoError(t, err)
			require.Equal(t, full(), got)
		})
	}
}

func TestDecodeStructuredWithLess(t *testing.T) {
	t.Parallel()
	got, err := setup(t).Decode(structured(t, map[string]any{
		"time": nil, "expirytime": nil, "maxage": nil, "correlationid": nil, "traceparent": nil, "tracestate": nil, "datacontenttype": nil,
		"subject": "x", "dataschema": "https://x", "myextension": "7", "data": map[string]any{},
	}))
	require.NoError(t, err)
	require.Equal(t, &Query{
		Client: "shop", Source: "urn:shop", ID: "order-1", Provider: EasyPay, Lane: Interactive, EasyPay: &EasyPayQuestion{},
	}, got)
	require.True(t, got.Time.IsZero() && got.Expires.IsZero())
	require.Nil(t, got.EasyPay.Amount, "absent is not zero")
	require.Nil(t, got.MaxAge)
}

func TestDecodeBinary(t *testing.T) {
	t.Parallel()
	want := full()
	want.Source, want.Correlation = "urn:shop/é", "50 %"
	for name, delivery := range map[string]Delivery{
		"lower case": binary(EasyPay, `{"mallId":"T0001234","cardBin":"41111111","amount":"51004"}`, map[string]string{
			"ce-source": "urn:shop/%C3%A9", "ce-time": "2026-03-02T09:15:00.25Z", "ce-expirytime": "2026-03-02T09%3A15%3A10Z",
			"ce-correlationid": "50%20%25", "ce-maxage": "30", "ce-traceparent": want.TraceParent, "ce-tracestate": "a=1",
		}),
		"as HTTP writes names": {Subject: on(EasyPay), Data: []byte(`{"mallId":"T0001234","cardBin":"41111111","amount":51004}`), Header: map[string][]string{
			"Ce-Specversion": {"1.0"}, "CE-ID": {"order-1", "second"}, "Ce-Source": {"urn:shop/é"}, "Ce-Type": {TypeRequested},
			"Ce-Time": {"2026-03-02T09:15:00.25Z"}, "Ce-ExpiryTime": {"2026-03-02T09:15:10Z"}, "Ce-CorrelationId": {"50%20%"}, "CE-MaxAge": {"%330"},
			"Ce-TraceParent": {want.TraceParent}, "CE-TRACESTATE": {"a%3D1"}, "Content-type": {"application/vnd.shop+json"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := setup(t).Decode(delivery)
			require.NoError(t, err)
			if name != "lower case" {
				require.Equal(t, "50%20%", got.Correlation, "what is no percent encoding is taken as it is")
				got.Correlation = want.Correlation
			}
			require.Equal(t, want, got)
		})
	}
}

func TestDecodeBare(t *testing.T) {
	t.Parallel()
	delivery := bare(EasyPay, "order-1", `{"cardCd":"026"}`)
	for name, value := range map[string]string{
		"ce-expirytime": "2026-03-02T09:15:10Z", "Ce-MaxAge": "30", "CE-CorrelationID": "no-7", "Traceparent": full().TraceParent, "tracestate": "a=1",
	} {
		delivery.Header[name] = []string{value}
	}
	got, err := setup(t).Decode(delivery)
	require.NoError(t, err)
	want := full()
	want.Source, want.EasyPay, want.Time = "shop", &EasyPayQuestion{CardCd: "026"}, time.Time{}
	require.Equal(t, want, got)
	require.Equal(t, Key("shop", "shop", "order-1"), got.Key())

	got, err = setup(t).Decode(Delivery{Subject: on(EasyPay), Header: map[string][]string{"nats-msg-id": {"7"}}, Data: []byte(` {} `)})
	require.NoError(t, err)
	require.Equal(t, "7", got.ID)
}

func TestDecodeUnionPay(t *testing.T) {
	t.Parallel()
	plain := `{"userToken":"c0ffee","cardNo":"6200000000000005","mobile":"+852 5550"}`
	for name, c := range map[string]struct {
		data string
		want UnionPayQuestion
	}{
		"sealed":     {`{"pid":"1234567890","scenId":"0001","data":"` + compactJWE + `"}`, UnionPayQuestion{"1234567890", "0001", Conceal([]byte(`"` + compactJWE + `"`))}},
		"plain":      {`{"data":` + plain + `}`, UnionPayQuestion{Data: Conceal([]byte(plain))}},
		"other case": {`{"scenId":"~ !a","data":` + plain + `}`, UnionPayQuestion{ScenID: "~ !a", Data: Conceal([]byte(plain))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, delivery := range []Delivery{binary(UnionPay, c.data, nil), bare(UnionPay, "order-1", c.data)} {
				got, err := setup(t).Decode(delivery)
				require.NoError(t, err)
				require.Nil(t, got.EasyPay)
				require.Equal(t, c.want.PID, got.UnionPay.PID)
				require.Equal(t, c.want.ScenID, got.UnionPay.ScenID)
				require.Equal(t, string(c.want.Data.Reveal()), string(got.UnionPay.Data.Reveal()))
			}
		})
	}
}

func TestDecodeRetryDue(t *testing.T) {
	t.Parallel()
	d := setup(t)
	delivery := structured(t, nil)
	delivery.Subject = NewSubjects("discount").RetryDue(EasyPay, Bulk, "shop")
	require.True(t, d.IsRetry(delivery.Subject))
	require.False(t, d.IsRetry(on(EasyPay)))
	got, err := d.Decode(delivery)
	require.NoError(t, err)
	want := full()
	want.Lane = Bulk
	require.Equal(t, want, got)
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for text, want := range map[string]int64{
		`1`: 1, `51004`: 51004, `"51004"`: 51004, `"5100\u0034"`: 51004, `999999999999`: 999_999_999_999, `"999999999999"`: 999_999_999_999,
	} {
		got, err := d.Decode(bare(EasyPay, "1", `{"amount":`+text+`}`))
		require.NoError(t, err, text)
		require.Equal(t, want, *got.EasyPay.Amount, text)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringMatching(`[1-9][0-9]{0,11}`).Draw(t, "amount")
		number, err := d.Decode(bare(EasyPay, "1", `{"amount":`+text+`}`))
		require.NoError(t, err)
		quoted, err := d.Decode(bare(EasyPay, "1", `{"amount":"`+text+`"}`))
		require.NoError(t, err)
		require.Equal(t, *number.EasyPay.Amount, *quoted.EasyPay.Amount)
		require.Positive(t, *number.EasyPay.Amount)
	})
}

// One message has one identity, at each delivery: a map's order must not choose between two spellings of a header.
func TestSpellingsOfAHeaderAreChosenAlike(t *testing.T) {
	t.Parallel()
	for range 64 {
		headers := map[string][]string{"CE-ID": {"capitals"}, "Ce-Id": {"title"}, "cE-iD": {"odd"}, "CE-id": {}}
		require.Equal(t, "capitals", header(headers, "ce-id"))
		headers["ce-id"] = []string{"exact"}
		require.Equal(t, "exact", header(headers, "ce-id"))
		require.Empty(t, header(headers, "ce-source"))
	}
	require.Empty(t, header(nil, "ce-id"))
}

func TestSamplesDecode(t *testing.T) {
	t.Parallel()
	d := setup(t)
	names, err := fs.Glob(schemas.Files(), "samples/query.requested.*.json")
	require.NoError(t, err)
	require.Len(t, names, 2)
	for _, name := range names {
		text, err := fs.ReadFile(schemas.Files(), name)
		require.NoError(t, err)
		provider := EasyPay
		if strings.Contains(path.Base(name), "unionpay") {
			provider = UnionPay
		}
		for _, headers := range []map[string][]string{nil, {"Content-Type": {ContentTypeEvent}}} {
			got, err := d.Decode(Delivery{Subject: on(provider), Header: headers, Data: text})
			require.NoError(t, err, name)
			require.Equal(t, "urn:shop:checkout", got.Source)
			require.Equal(t, provider == EasyPay, got.EasyPay != nil)
			require.Equal(t, provider == UnionPay, got.UnionPay != nil)
			require.False(t, got.Time.IsZero() || got.Expires.IsZero())
		}
	}
}
