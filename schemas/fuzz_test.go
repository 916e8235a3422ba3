package schemas_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/schemas"
)

// FuzzValidateQuery throws anything at both query schemas. Nothing may panic, every refusal is a Violation, no text of the data may
// stand in it, and what passes is strict JSON.
func FuzzValidateQuery(f *testing.F) {
	for _, seed := range []string{
		`{"mallId":"T0001234","cardBin":"12345678","amount":"51004"}`, `{"cardCd":"026","amount":51004}`, `{"data":"` + compactJWE + `"}`,
		`{"data":{"userToken":"c0ffee","cardNo":"6200000000000005","mobile":"+852 5550 0100"}}`, `{"6200000000000005":{}}`,
		`{"amount":1e999999999}`, `{"amount":1e-999999999}`, `{"amount":` + strings.Repeat("9", 400) + `}`, `{"amount":-0.0}`,
		`{"amount":1,"amount":2}`, `{"amount":1,"\u0061mount":2}`, `{"data":{"data":{"data":[[[[[[{}]]]]]]}}}`,
		strings.Repeat("[", 5000), strings.Repeat(`{"a":`, 5000), "{\"mallId\":\"\xff\xfe\"}", `{"mallId":"\ud800"}`, `{"pid":null,"data":true}`,
		`[1,"6200000000000005"]`, `"6200000000000005"`, `6200000000000005`, ``, ` `, "\x00", `{}{}`, `{"scenId":"` + strings.Repeat("é", 4) + `"}`,
	} {
		f.Add([]byte(seed))
	}
	b := setup(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, provider := range []string{"easypay", "unionpay"} {
			before := string(data)
			err := b.set.ValidateQuery(provider, data)
			require.Equal(t, before, string(data), "the data was changed")
			if err == nil {
				require.NoError(t, json.Unmarshal(data, new(any)))
				continue
			}
			requireSilent(t, err)
		}
		for _, name := range []string{"cloudevent.v1.json", "query.completed.v1.json", "query.dead.v1.json"} {
			if err := b.set.Validate(name, data); err != nil {
				require.ErrorAs(t, err, new(*schemas.Violation))
			}
		}
	})
}

// requireSilent checks that the error of a query is made of the words of the schemas and of nothing else.
func requireSilent(t *testing.T, err error) {
	t.Helper()
	var violation *schemas.Violation
	require.ErrorAs(t, err, &violation)
	require.Equal(t, "at '"+violation.Pointer+"': "+violation.Keyword, err.Error())
	require.Contains(t, []string{
		"", "/mallId", "/cardCd", "/cardBin", "/amount", "/pid", "/scenId", "/data", "/data/userToken", "/data/cardNo", "/data/mobile",
	}, violation.Pointer)
	require.Contains(t, []string{
		"json", "type", "required", "additionalProperties", "pattern", "maxLength", "minimum", "maximum", "not",
	}, violation.Keyword)
}
