package query

import (
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
)

// cardNumber is a published test number, never anybody's card. compactJWE only has the form of sealed data.
const (
	cardNumber = "6200000000000005"
	compactJWE = "eyJhbGciOiJFQ0RILUVTIn0..aaaaaaaaaaaaaaaa.bbbb.cccccccccccccccccccccc"
)

// setup returns a decoder of the subjects below "discount".
func setup(t testing.TB) *Decoder {
	t.Helper()
	d, err := NewDecoder(NewSubjects("discount"))
	require.NoError(t, err)
	return d
}

func on(provider Provider) string {
	return NewSubjects("discount").Query(provider, Interactive, "shop")
}

// event returns a query for EasyPay in structured mode. Members of change replace those of the event; a nil removes one.
func event(t testing.TB, change map[string]any) []byte {
	t.Helper()
	members := map[string]any{
		"specversion": "1.0", "id": "order-1", "source": "urn:shop", "type": TypeRequested, "datacontenttype": "application/json",
		"time": "2026-03-02T10:15:00.25+01:00", "expirytime": "2026-03-02T09:15:10Z", "correlationid": "no-7", "maxage": 30,
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1",
		"data": map[string]any{"mallId": "T0001234", "cardBin": "41111111", "amount": 51004},
	}
	for name, value := range change {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	text, err := json.Marshal(members, json.Deterministic(true))
	require.NoError(t, err)
	return text
}

// structured returns the delivery of a query for EasyPay in structured mode.
func structured(t testing.TB, change map[string]any) Delivery {
	t.Helper()
	return Delivery{Subject: on(EasyPay), Header: map[string][]string{"Content-Type": {ContentTypeEvent}}, Data: event(t, change)}
}

// binary returns the delivery of a query in binary mode, with the headers of change in place of the usual ones; "" removes one.
func binary(provider Provider, data string, change map[string]string) Delivery {
	headers := map[string]string{
		"ce-specversion": "1.0", "ce-id": "order-1", "ce-source": "urn:shop", "ce-type": TypeRequested, "Content-Type": "application/json",
	}
	for name, value := range change {
		if headers[name] = value; value == "" {
			delete(headers, name)
		}
	}
	delivery := Delivery{Subject: on(provider), Header: map[string][]string{}, Data: []byte(data)}
	for name, value := range headers {
		delivery.Header[name] = []string{value}
	}
	return delivery
}

// bare returns the delivery of bare data with the message id given.
func bare(provider Provider, id, data string) Delivery {
	return Delivery{Subject: on(provider), Header: map[string][]string{"Nats-Msg-Id": {id}}, Data: []byte(data)}
}

// full is what event asks.
func full() *Query {
	amount, age := int64(51004), 30*time.Second
	return &Query{
		Client: "shop", Source: "urn:shop", ID: "order-1", Provider: EasyPay, Lane: Interactive,
		Time: time.Date(2026, 3, 2, 9, 15, 0, 250e6, time.UTC), Expires: time.Date(2026, 3, 2, 9, 15, 10, 0, time.UTC), MaxAge: &age, Correlation: "no-7",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", TraceState: "a=1",
		EasyPay: &EasyPayQuestion{MallID: "T0001234", CardBin: "41111111", Amount: &amount},
	}
}
