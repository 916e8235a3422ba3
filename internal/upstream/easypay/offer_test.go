package easypay

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// one wraps the members of a coupon beside its id and card company into a response.
func one(members string) string {
	if members != "" {
		members = "," + members
	}
	return `{"resCd":"0000","couponList":[{"couponGid":"CP1","couponJoinCd":"026"` + members + `}]}`
}

func TestNumbersInEveryForm(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for form, want := range map[string]string{
		`100000`: "100000", `"100000"`: "100000", `" 100000 "`: "100000", `100000.00`: "100000", `"100000.0"`: "100000", `1.0E5`: "100000",
		`"1e5"`: "100000", `0`: "0", `"0"`: "0", `"000100"`: "100", `""`: "", `" "`: "", `null`: "", `"\u0031"`: "1",
	} {
		for _, member := range []string{"standardAmount", "standard_amt"} {
			got, err := answer(t, p, ask(0), one(`"`+member+`":`+form))
			require.NoError(t, err, form)
			minimum := got.Offers[0].Minimum
			if want == "" {
				require.Nil(t, minimum, form)
				continue
			}
			require.Equal(t, want, fmt.Sprint(*minimum.Minor), form)
			require.Equal(t, "KRW", minimum.Currency)
		}
	}
}

func TestRatesInEveryForm(t *testing.T) {
	t.Parallel()
	p := setup(t)
	for form, want := range map[string]string{
		`12.03`: "12.03", `"12.03"`: "12.03", `12.50`: "12.5", `0`: "0", `0.00`: "0", `100`: "100", `"100.0"`: "100", `123.4`: "123.4",
		`1.203E1`: "12.03", `12.030000000000001`: "12.030000000000001", `""`: "", `null`: "",
	} {
		got, err := answer(t, p, ask(0), one(`"calcAuthLimitRate":`+form+`,"couponRate":`+form))
		require.NoError(t, err, form)
		require.Equal(t, want, got.Offers[0].Exhaustion, form)
		require.Equal(t, want, got.Offers[0].Rate, form)
	}
}

func TestCouponsThatAreNone(t *testing.T) {
	t.Parallel()
	p := setup(t)
	bodies := map[string]string{
		"no id":                    `{"resCd":"0000","couponList":[{"couponJoinCd":"026"}]}`,
		"no card company":          `{"resCd":"0000","couponList":[{"couponGid":"CP1"}]}`,
		"empty id":                 `{"resCd":"0000","couponList":[{"couponGid":" ","couponJoinCd":"026"}]}`,
		"endless id":               `{"resCd":"0000","couponList":[{"couponGid":"` + strings.Repeat("C", 65) + `","couponJoinCd":"026"}]}`,
		"id in two lines":          `{"resCd":"0000","couponList":[{"couponGid":"CP\n1","couponJoinCd":"026"}]}`,
		"id a number":              `{"resCd":"0000","couponList":[{"couponGid":1,"couponJoinCd":"026"}]}`,
		"card company a number":    `{"resCd":"0000","couponList":[{"couponGid":"CP1","couponJoinCd":26}]}`,
		"card company is a number": `{"resCd":"0000","couponList":[{"couponGid":"CP1","couponJoinCd":"6200000000000005"}]}`,
		"name an object":           one(`"couponJoinNm":{}`),
		"type a number":            one(`"discountType":1`),
		"null item":                `{"resCd":"0000","couponList":[null]}`,
		"text item":                `{"resCd":"0000","couponList":["CP1"]}`,
		"list in a list":           `{"resCd":"0000","couponList":[[]]}`,
		"list an object":           `{"resCd":"0000","couponList":{}}`,
		"list a text":              `{"resCd":"0000","couponList":"none"}`,
		"list a number":            `{"resCd":"0000","couponList":0}`,
		"two lists":                `{"resCd":"0000","couponList":[],"coupon_datas":[{"coupon_id":"CP1","card_cd":"026"}]}`,
		"two ids":                  one(`"coupon_id":"CP2"`),
		"two discounts":            one(`"couponAmount":1000,"discount_amt":2000`),
		"two spellings of one":     one(`"couponAmount":1000,"discount_amt":"1000.0"`),
	}
	for _, number := range []string{`-1`, `"-1"`, `1e99`, `"x"`, `true`, `[]`, `{}`, `"1,000"`, `"NaN"`, `1000000000000000000`, `"１２"`} {
		for _, member := range []string{"standardAmount", "couponAmount", "maxDiscountAmount", "couponRate", "calcAuthLimitRate"} {
			bodies[member+" "+number] = one(`"` + member + `":` + number)
		}
	}
	for _, member := range []string{"standardAmount", "couponAmount", "maxDiscountAmount"} {
		bodies[member+" in parts of a won"] = one(`"` + member + `":1000.5`)
	}
	for name, body := range bodies {
		_, err := answer(t, p, ask(51004), body)
		require.Error(t, err, name)
		e := faultOf(t, err)
		require.Equal(t, fault.Unavailable, e.Kind, name)
		require.Equal(t, fault.BadResponse, e.Code, name)
		require.Equal(t, 200, e.Status, name)
		require.True(t, e.Sent, name)
	}
}

func TestAliasesThatAgree(t *testing.T) {
	t.Parallel()
	for _, members := range []string{
		`"couponAmount":1000,"discount_amt":1000`, `"couponAmount":null,"discount_amt":1000`, `"couponAmount":1000,"discount_amt":""`,
		`"discount_amt":"","couponAmount":1000`,
	} {
		got, err := answer(t, setup(t), ask(0), one(members))
		require.NoError(t, err, members)
		require.Equal(t, query.Won(1000), *got.Offers[0].Upstream, members)
		require.Equal(t, "C", got.Upstream.Dialect)
	}
}

func TestTwoListsThatAgree(t *testing.T) {
	t.Parallel()
	item := `[{"couponGid":"CP1","card_cd":"026"}]`
	got, err := answer(t, setup(t), ask(0), `{"resCd":"0000","couponList":`+item+`,"coupon_datas":`+item+`}`)
	require.NoError(t, err)
	require.Len(t, got.Offers, 1)
}

func TestDiscountTypes(t *testing.T) {
	t.Parallel()
	for members, want := range map[string]query.DiscountType{
		`"discountType":"01"`: query.Percentage, `"discountType":"02"`: query.Fixed, `"discountType":"02 "`: query.Fixed,
		`"discount_type":"01"`: query.Percentage, ``: query.Fixed, `"discountType":""`: query.Fixed, `"discountType":null`: query.Fixed,
		`"discountType":"03"`: query.UnknownDiscount, `"discountType":"1"`: query.UnknownDiscount,
		`"couponRate":5`: query.UnknownDiscount, `"max_discount_amt":1000`: query.UnknownDiscount, `"max_discount_amt":null`: query.Fixed,
	} {
		got, err := answer(t, setup(t), ask(0), one(members))
		require.NoError(t, err, members)
		require.Equal(t, want, got.Offers[0].Type, members)
	}
}

func TestZeroCap(t *testing.T) {
	t.Parallel()
	body := one(`"discountType":"01","maxDiscountAmount":0,"couponRate":10,"standardAmount":0,"calcAuthLimitRate":1`)
	got, err := answer(t, setup(t), ask(51004), body)
	require.NoError(t, err)
	require.Equal(t, query.Unjudged, got.Offers[0].Verdict)
	require.Equal(t, query.Won(0), *got.Offers[0].Cap)
	require.Nil(t, got.Offers[0].Discount)

	got, err = answer(t, setup(t, func(o *Options) { o.ZeroCapIsNoCap = true }), ask(51004), body)
	require.NoError(t, err)
	require.Equal(t, query.Applicable, got.Offers[0].Verdict)
	require.Nil(t, got.Offers[0].Cap)
	require.Equal(t, query.Won(5100), *got.Offers[0].Discount)
}

func TestFixedCouponHasNoCap(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t), ask(51004), one(`"discountType":"02","maxDiscountAmount":0,"couponAmount":700,"standardAmount":0,"calcAuthLimitRate":1`))
	require.NoError(t, err)
	require.Nil(t, got.Offers[0].Cap)
	require.Equal(t, query.Won(700), *got.Offers[0].Discount)
}

func TestNearlyExhausted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		threshold, exhaustion string
		want                  bool
	}{
		{"", "95", false}, {"", "95.01", true}, {"", "94.99", false}, {"", "100", true}, {"", `""`, false}, {"", "null", false},
		{"80.5", "80.5", false}, {"80.5", "80.51", true}, {"0", "0", false}, {"0", "0.01", true}, {"101", "100.5", false},
	} {
		p := setup(t, func(o *Options) { o.NearlyExhausted = tt.threshold })
		got, err := answer(t, p, ask(0), one(`"calcAuthLimitRate":`+tt.exhaustion))
		require.NoError(t, err)
		require.Equal(t, tt.want, got.Offers[0].NearlyExhausted, "%+v", tt)
	}
}

func TestCardNames(t *testing.T) {
	t.Parallel()
	for members, want := range map[string]string{
		``: "BC카드", `"couponJoinNm":""`: "BC카드", `"couponJoinNm":null`: "BC카드", `"couponJoinNm":" "`: "BC카드",
		`"couponJoinNm":"비씨카드"`: "비씨카드", `"card_nm":" 비씨 카드 "`: "비씨 카드", `"card_nm":"\ube44\uc528"`: "비씨",
		`"card_nm":"BC\r\n"`: "BC", `"card_nm":"6200000000000005"`: "***",
	} {
		got, err := answer(t, setup(t), ask(0), one(members))
		require.NoError(t, err, members)
		require.Equal(t, want, got.Offers[0].Card.Name, members)
	}
	got, err := answer(t, setup(t), ask(0), `{"resCd":"0000","couponList":[{"couponGid":"CP1","couponJoinCd":"Z99"}]}`)
	require.NoError(t, err)
	require.Equal(t, query.CardCompany{Code: "Z99"}, got.Offers[0].Card)
}

func TestCleanIsCleanMessage(t *testing.T) {
	t.Parallel()
	alphabet := rapid.SampledFrom([]rune("ab 가나비씨카드01234567890-\n\t\x00\u0085\u00a0\u200b\ufffd٣😀"))
	rapid.Check(t, func(t *rapid.T) {
		text := string(rapid.SliceOfN(rapid.OneOf(alphabet, rapid.Rune()), 0, 100).Draw(t, "text"))
		require.Equal(t, query.CleanMessage(text), clean(text))
	})
}
