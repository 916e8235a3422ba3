package easypay

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// strictJSON reads text with the strict reader, which is not how this room writes.
func strictJSON(text string, into any) error {
	return json.Unmarshal([]byte(text), into, json.RejectUnknownMembers(true))
}

// FuzzReadResponse feeds bytes to every way of reading and holds the answers to what results promise.
func FuzzReadResponse(f *testing.F) {
	for _, body := range []string{
		dialectA, dialectB, dialectC, string(pageExample(f)), cp949(f, dialectB), "\xef\xbb\xbf" + dialectA,
		`{"resCd":"0000"}`, `{"res_cd":"0000","coupon_datas":null}`, `{"resCd":"8521","resMsg":"한도초과"}`, `{"resCd":"R102"}`,
		one(`"couponAmount":"","standardAmount":"1.0E5","calcAuthLimitRate":"99.99","couponRate":null`),
		one(`"discountType":"01","couponRate":33.333333333333336,"standardAmount":0,"calcAuthLimitRate":0,"maxDiscountAmount":0`),
		one(`"couponAmount":1,"discount_amt":2`), one(`"couponJoinNm":"\ud800"`), `{"resCd":"0000","x":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}`,
		`{"resCd":"0000","resCd":"0000"}`, `<html></html>`, ``, "null", "\xff\xfe",
	} {
		f.Add([]byte(body), int64(51004))
		f.Add([]byte(body), int64(0))
	}
	providers := []*Provider{setup(f), setup(f, legacy), setup(f, func(o *Options) {
		o.Charset, o.ZeroCapIsNoCap, o.Codes = CharsetCP949, true, map[string]query.Class{"R102": query.ClassOK}
	})}
	f.Fuzz(func(t *testing.T, body []byte, amount int64) {
		question := ask(max(amount, 0))
		before := string(body)
		for _, p := range providers {
			exchange, err := p.Prepare(at, question)
			require.NoError(t, err)
			got, err := exchange.Read(upstream.Response{Status: 200, Body: body, At: at})
			require.Equal(t, before, string(body))
			if err != nil {
				checkFault(t, faultOf(t, err))
				continue
			}
			checkAnswer(t, &got, max(amount, 0))
		}
	})
}

func checkFault(t *testing.T, e *fault.Error) {
	require.Contains(t, []fault.Kind{fault.Unavailable, fault.Rejected}, e.Kind)
	require.Contains(t, []fault.Code{fault.BadResponse, fault.UpstreamBroken, fault.UpstreamBusy}, e.Code)
	require.Equal(t, e.Code == fault.BadResponse, e.Upstream == "")
	require.True(t, e.Upstream == "" || isCode(e.Upstream))
	require.NoError(t, e.Cause)
}

func checkAnswer(t *testing.T, a *query.Answer, amount int64) {
	require.Contains(t, []query.Outcome{query.OutcomeOK, query.OutcomeEmpty, query.OutcomeDeclined}, a.Outcome)
	require.Equal(t, a.Outcome == query.OutcomeOK, len(a.Offers) > 0)
	require.Contains(t, []string{"A", "B", "C"}, a.Upstream.Dialect)
	require.True(t, isCode(a.Upstream.Code))
	require.LessOrEqual(t, len(a.Upstream.Message), 200)
	_, err := json.Marshal(a.Offers)
	require.NoError(t, err)
	for _, o := range a.Offers {
		require.NotEmpty(t, o.ID)
		require.True(t, isCode(o.Card.Code))
		require.Equal(t, o.Verdict == query.Applicable, o.Discount != nil)
		require.Equal(t, o.Verdict == query.Applicable, o.Payable != nil)
		require.False(t, strings.ContainsAny(o.Card.Name, "\r\n\x00"))
		if o.Verdict != query.Applicable {
			continue
		}
		require.Positive(t, amount)
		require.GreaterOrEqual(t, *o.Discount.Minor, int64(0))
		require.GreaterOrEqual(t, *o.Payable.Minor, int64(0))
		require.Equal(t, amount, *o.Discount.Minor+*o.Payable.Minor)
		require.LessOrEqual(t, *o.Minimum.Minor, amount)
		require.True(t, o.Cap == nil || *o.Discount.Minor <= *o.Cap.Minor)
	}
	first := slices.IndexFunc(a.Offers, func(o query.Offer) bool { return o.Verdict == query.Applicable })
	if first >= 0 {
		require.Same(t, &a.Offers[first], a.Best())
		require.Zero(t, first, "an offer that applies stands first")
	}
}
