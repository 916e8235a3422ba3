package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/korean"
)

func TestEasyPayAnswersThePagesExample(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.easy(t, `{"mallId":"T0000001","cardBin":"12345678","amount":"51004"}`)
	require.NoError(t, r.err)
	require.Equal(t, http.StatusOK, r.StatusCode)
	require.Equal(t, "application/json; charset=utf-8", r.Header.Get("Content-Type"))
	require.JSONEq(t, `{"resCd":"0000","resMsg":"Success","couponList":[
		{"couponJoinCd":"008","couponJoinNm":"하나카드","couponGid":"CP12345678","calcAuthLimitRate":12.03,"standardAmount":100000,
		 "discountType":"02","couponAmount":1000},
		{"couponJoinCd":"008","couponJoinNm":"하나카드","couponGid":"CP00800500","calcAuthLimitRate":3.5,"standardAmount":30000,
		 "discountType":"01","maxDiscountAmount":5000,"couponRate":5,"couponAmount":2550}]}`, string(r.body))
}

// The two coupons that the API page prints, in all three dialects, without and with an amount.
func TestEasyPayDialects(t *testing.T) {
	t.Parallel()
	pair := DefaultCatalogue()[:2]
	for name, test := range map[string]struct {
		dialect Dialect
		amount  string
		want    string
	}{
		"A without an amount": {DialectA, "", `{"resCd":"0000","resMsg":"Success","couponList":[
			{"couponJoinCd":"008","couponJoinNm":"하나카드","couponGid":"CP12345678","calcAuthLimitRate":12.03,"standardAmount":100000,
			 "discountType":"02","couponAmount":1000},
			{"couponJoinCd":"026","couponJoinNm":"비씨카드","couponGid":"CP87654321","calcAuthLimitRate":60.55,"standardAmount":200000,
			 "discountType":"01","maxDiscountAmount":10000,"couponRate":1}]}`},
		"B without an amount": {DialectB, "", `{"res_cd":"0000","res_msg":"Success","coupon_datas":[
			{"card_cd":"008","card_nm":"하나카드","coupon_id":"CP12345678","calc_auth_limit_rate":12.03,"standard_amt":100000,
			 "discount_amt":1000}]}`},
		"B with an amount": {DialectB, `,"amount":200000`, `{"res_cd":"0000","res_msg":"Success","coupon_datas":[
			{"card_cd":"008","card_nm":"하나카드","coupon_id":"CP12345678","calc_auth_limit_rate":12.03,"standard_amt":100000,
			 "discount_amt":1000},
			{"card_cd":"026","card_nm":"비씨카드","coupon_id":"CP87654321","calc_auth_limit_rate":60.55,"standard_amt":200000,
			 "discount_amt":2000}]}`},
		"C as the page prints it": {DialectC, `,"amount":200000`, `{"res_cd":"0000","res_msg":"Success","coupon_datas":[
			{"card_cd":"008","card_nm":"하나카드","coupon_id":"CP12345678","calc_auth_limit_rate":12.03,"standard_amt":100000,
			 "discount_amt":1000,"discount_type":"02","max_discount_amt":null},
			{"card_cd":"026","card_nm":"비씨카드","coupon_id":"CP87654321","calc_auth_limit_rate":60.55,"standard_amt":200000,
			 "discount_amt":2000,"discount_type":"01","max_discount_amt":10000}]}`},
		"C without an amount": {DialectC, "", `{"res_cd":"0000","res_msg":"Success","coupon_datas":[
			{"card_cd":"008","card_nm":"하나카드","coupon_id":"CP12345678","calc_auth_limit_rate":12.03,"standard_amt":100000,
			 "discount_amt":1000,"discount_type":"02","max_discount_amt":null},
			{"card_cd":"026","card_nm":"비씨카드","coupon_id":"CP87654321","calc_auth_limit_rate":60.55,"standard_amt":200000,
			 "discount_amt":null,"discount_type":"01","max_discount_amt":10000}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *Options) { o.EasyPay = EasyPayOptions{Dialect: test.dialect, Catalogue: pair} })
			r := b.easy(t, `{"mallId":"T0000001"`+test.amount+`}`)
			require.JSONEq(t, test.want, string(r.body))
		})
	}
}

func TestEasyPayRotatesDialects(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.EasyPay.Dialect = DialectRotate })
	var seen []bool
	for range 6 {
		got := b.easy(t, `{"mallId":"T0000001","cardCd":"016"}`).object(t)
		_, camel := got["resCd"]
		seen = append(seen, camel)
	}
	require.Equal(t, []bool{true, false, false, true, false, false}, seen)
}

func TestEasyPayNumbers(t *testing.T) {
	t.Parallel()
	catalogue := []Coupon{
		{CardCd: "008", CardName: "하나카드", ID: "F", Exhaustion: 1203, Minimum: 10, Type: Fixed, Amount: 5},
		{CardCd: "008", CardName: "하나카드", ID: "P", Exhaustion: 0, Minimum: 20, Type: Percentage, Rate: 750},
	}
	for name, test := range map[string]struct {
		numbers      Numbers
		fixed, share string
	}{
		"plain":  {NumbersPlain, `"calcAuthLimitRate":12.03,"standardAmount":10,"couponAmount":5`, `"calcAuthLimitRate":0,"standardAmount":20,"couponRate":7.5`},
		"string": {NumbersString, `"calcAuthLimitRate":"12.03","standardAmount":"10","couponAmount":"5"`, `"calcAuthLimitRate":"0","standardAmount":"20","couponRate":"7.5"`},
		"empty": {
			NumbersEmpty, `"calcAuthLimitRate":"12.03","standardAmount":"10","maxDiscountAmount":"","couponRate":"","couponAmount":"5"`,
			`"calcAuthLimitRate":"0","standardAmount":"20","maxDiscountAmount":"","couponRate":"7.5","couponAmount":""`,
		},
		"null": {
			NumbersNull, `"calcAuthLimitRate":12.03,"standardAmount":10,"maxDiscountAmount":null,"couponRate":null,"couponAmount":5`,
			`"calcAuthLimitRate":0,"standardAmount":20,"maxDiscountAmount":null,"couponRate":7.5,"couponAmount":null`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *Options) { o.EasyPay = EasyPayOptions{Numbers: test.numbers, Catalogue: catalogue} })
			r := b.easy(t, `{"mallId":"T0000001","cardCd":"008"}`)
			const head = `{"couponJoinCd":"008","couponJoinNm":"하나카드",`
			require.JSONEq(t, `{"resCd":"0000","resMsg":"Success","couponList":[`+
				head+`"couponGid":"F","discountType":"02",`+test.fixed+`},`+
				head+`"couponGid":"P","discountType":"01",`+test.share+`}]}`, string(r.body))
		})
	}
}

// Mixed numbers take every form somewhere in one answer.
func TestEasyPayMixedNumbers(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.EasyPay.Numbers = NumbersMixed })
	items, ok := b.easy(t, `{"mallId":"T0000001"}`).object(t)["couponList"].([]any)
	require.True(t, ok)
	require.Len(t, items, len(DefaultCatalogue()))
	forms := map[string]int{}
	for _, item := range items {
		coupon, ok := item.(map[string]any)
		require.True(t, ok)
		for _, name := range []string{"calcAuthLimitRate", "standardAmount", "maxDiscountAmount", "couponRate", "couponAmount"} {
			value, present := coupon[name]
			switch {
			case !present:
				forms["missing"]++
			case value == "":
				forms["empty"]++
			default:
				forms[fmt.Sprintf("%T", value)]++
			}
		}
	}
	for _, form := range []string{"missing", "empty", "<nil>", "string", "json.Number"} {
		require.Positive(t, forms[form], "%v", forms)
	}
}

func TestEasyPayLists(t *testing.T) {
	t.Parallel()
	for list, want := range map[List]string{
		ListEmpty:   `{"resCd":"0000","resMsg":"Success","couponList":[]}`,
		ListNull:    `{"resCd":"0000","resMsg":"Success","couponList":null}`,
		ListMissing: `{"resCd":"0000","resMsg":"Success"}`,
	} {
		t.Run(listNames[list], func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *Options) { o.EasyPay.List = list })
			require.JSONEq(t, want, string(b.easy(t, `{"mallId":"T0000001","cardCd":"008"}`).body))
		})
	}
}

func TestEasyPayFindsByCard(t *testing.T) {
	t.Parallel()
	b := setup(t)
	list := func(body string) []any {
		items, ok := b.easy(t, body).object(t)["couponList"].([]any)
		require.True(t, ok)
		return items
	}
	require.Len(t, list(`{"mallId":"T0000001"}`), len(DefaultCatalogue()))
	require.Len(t, list(`{"mallId":"T0000001","cardCd":"026"}`), 2)
	require.Empty(t, list(`{"mallId":"T0000001","cardCd":"ZZZ"}`))
	require.Equal(t, "081", b.IssuerOf("62000000"))
	require.Equal(t, list(`{"mallId":"T0000001","cardCd":"081"}`), list(`{"mallId":"T0000001","cardBin":"62000000"}`))

	issuers := map[string]bool{}
	for i := range 300 {
		bin := fmt.Sprintf("%08d", 41_000_000+i)
		require.Equal(t, b.IssuerOf(bin), New(Options{Seed: 99}).IssuerOf(bin))
		issuers[b.IssuerOf(bin)] = true
	}
	require.Len(t, issuers, len(b.easyPay.catalogue.issuers), "every issuer is reached")
	require.True(t, issuers["002"], "also one without coupons")
}

func TestEasyPayRefusesBadInquiries(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.EasyPay.Malls = []string{"T0000001", "05500001"} })
	for name, test := range map[string]struct{ body, code string }{
		"other mall":       {`{"mallId":"T0000002"}`, EasyPayBadMall},
		"no mall":          {`{"cardCd":"008"}`, EasyPayBadMall},
		"short mall":       {`{"mallId":"T1"}`, EasyPayBadMall},
		"both cards":       {`{"mallId":"T0000001","cardCd":"008","cardBin":"12345678"}`, EasyPayBothCards},
		"empty cardCd":     {`{"mallId":"T0000001","cardCd":""}`, EasyPayBadField},
		"long cardCd":      {`{"mallId":"T0000001","cardCd":"0008"}`, EasyPayBadField},
		"short cardBin":    {`{"mallId":"T0000001","cardBin":"123456"}`, EasyPayBadField},
		"whole card":       {`{"mallId":"T0000001","cardBin":"4111111111111111"}`, EasyPayBadField},
		"letters in bin":   {`{"mallId":"T0000001","cardBin":"1234567X"}`, EasyPayBadField},
		"zero amount":      {`{"mallId":"T0000001","amount":0}`, EasyPayBadField},
		"negative amount":  {`{"mallId":"T0000001","amount":-5}`, EasyPayBadField},
		"fraction":         {`{"mallId":"T0000001","amount":10.5}`, EasyPayBadField},
		"exponent":         {`{"mallId":"T0000001","amount":1e5}`, EasyPayBadField},
		"empty amount":     {`{"mallId":"T0000001","amount":""}`, EasyPayBadField},
		"null amount":      {`{"mallId":"T0000001","amount":null}`, EasyPayBadField},
		"amount too large": {`{"mallId":"T0000001","amount":1000000000000}`, EasyPayBadField},
		"amount an object": {`{"mallId":"T0000001","amount":{}}`, EasyPayBadField},
		"ok":               {`{"mallId":"05500001","amount":999999999999}`, EasyPayOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := b.easy(t, test.body)
			require.Equal(t, http.StatusOK, r.StatusCode)
			require.Equal(t, test.code, r.object(t)["resCd"])
			require.NotContains(t, string(r.body), "4111111111111111")
		})
	}
}

func TestEasyPayRefusesAtTheHTTPLevel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const good = `{"mallId":"T0000001"}`
	for name, test := range map[string]struct {
		body   string
		change func(*http.Request)
		status int
	}{
		"no JSON":        {"mallId=T0000001", nil, http.StatusBadRequest},
		"empty":          {"", nil, http.StatusBadRequest},
		"wrong case":     {`{"MallId":"T0000001"}`, nil, http.StatusBadRequest},
		"unknown member": {`{"mallId":"T0000001","cardNo":"4111111111111111"}`, nil, http.StatusBadRequest},
		"twice":          {`{"mallId":"T0000001","mallId":"T0000002"}`, nil, http.StatusBadRequest},
		"number as mall": {`{"mallId":10000001}`, nil, http.StatusBadRequest},
		"GET":            {good, func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"legacy GET":     {good, func(r *http.Request) { r.Method, r.URL.Path = http.MethodGet, EasyPayLegacyPath }, http.StatusMethodNotAllowed},
		"other path":     {good, func(r *http.Request) { r.URL.Path = "/" }, http.StatusNotFound},
		"form type":      {good, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, http.StatusUnsupportedMediaType},
		"too large":      {good + strings.Repeat(" ", maxRequestBody), nil, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := b.easyRequest(t, t.Context(), test.body)
			if test.change != nil {
				test.change(req)
			}
			r := b.do(t, req)
			require.NoError(t, r.err)
			require.Equal(t, test.status, r.StatusCode)
			require.NotContains(t, string(r.body), "4111111111111111")
		})
	}
}

func TestEasyPayLegacyAddressSpeaksEUCKR(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.EasyPay.Dialect = DialectA })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.run.EasyPayURL()+EasyPayLegacyPath+"?mall_id=T0000001", nil)
	require.NoError(t, err)
	r := b.do(t, req)
	require.NoError(t, r.err)
	require.Equal(t, "application/json; charset=euc-kr", r.Header.Get("Content-Type"))
	require.NotContains(t, string(r.body), "하나카드")
	text, err := korean.EUCKR.NewDecoder().Bytes(r.body)
	require.NoError(t, err)
	require.Contains(t, string(text), `"card_nm":"하나카드","coupon_id":"CP12345678"`)
	require.NotContains(t, string(text), "CP87654321", "this edition knows no percentage")
	require.True(t, json.Valid(text))

	req.URL.RawQuery = "mall_id=bad"
	require.Equal(t, EasyPayBadMall, b.do(t, req).object(t)["res_cd"])
}

func TestDiscount(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		coupon Coupon
		amount int64
		want   int64
	}{
		"fixed":             {Coupon{Type: Fixed, Amount: 1000}, 51004, 1000},
		"rounds down":       {Coupon{Type: Percentage, Rate: 500}, 51009, 2550},
		"rounds half up":    {Coupon{Type: Percentage, Rate: 500}, 51010, 2551},
		"third of a rate":   {Coupon{Type: Percentage, Rate: 333}, 1000, 33},
		"capped":            {Coupon{Type: Percentage, Rate: 1000, Cap: 10_000}, 500_000, 10_000},
		"just at the cap":   {Coupon{Type: Percentage, Rate: 1000, Cap: 10_000}, 100_000, 10_000},
		"rounds to the cap": {Coupon{Type: Percentage, Rate: 1000, Cap: 10_000}, 99_995, 10_000},
		"no cap":            {Coupon{Type: Percentage, Rate: 1000}, 999_999_999_999, 100_000_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, test.coupon.Discount(test.amount))
		})
	}
}

func TestDefaultCatalogueHasEveryCase(t *testing.T) {
	t.Parallel()
	cases := map[string]bool{}
	ids := map[string]bool{}
	for _, c := range DefaultCatalogue() {
		require.Len(t, c.CardCd, 3)
		require.Len(t, c.ID, 10)
		require.False(t, ids[c.ID], c.ID)
		ids[c.ID] = true
		cases["exhausted"] = cases["exhausted"] || c.Exhaustion == 10_000
		cases["overrun"] = cases["overrun"] || c.Exhaustion > 10_000
		cases["nearly gone"] = cases["nearly gone"] || c.Exhaustion == 9999
		cases["untouched"] = cases["untouched"] || c.Exhaustion == 0
		cases["no minimum"] = cases["no minimum"] || c.Minimum == 0
		cases["high minimum"] = cases["high minimum"] || c.Minimum >= 1_000_000
		cases["no cap"] = cases["no cap"] || (c.Type == Percentage && c.Cap == 0)
		cases["odd rate"] = cases["odd rate"] || c.Rate%100 != 0
		cases["letters"] = cases["letters"] || !isDigits(c.CardCd)
	}
	require.Len(t, cases, 9)
	for name, there := range cases {
		require.True(t, there, name)
	}
}

func TestHundredths(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 5: "0.05", 50: "0.5", 100: "1", 1203: "12.03", 10_000: "100", 10_431: "104.31"} {
		require.Equal(t, want, hundredths(n))
	}
}

// FuzzInquiry feeds the request reader what no client would send; whatever it takes must render as valid JSON in every shape.
func FuzzInquiry(f *testing.F) {
	f.Add([]byte(`{"mallId":"T0000001","cardBin":"12345678","amount":"51004"}`), uint8(0))
	f.Add([]byte(`{"mallId":"T0000001","cardCd":"A16","amount":51004}`), uint8(77))
	f.Add([]byte(`{"mallId":"\u0000\"","amount":1e999}`), uint8(200))
	e := newEasyPay(EasyPayOptions{})
	f.Fuzz(func(t *testing.T, body []byte, form uint8) {
		q, ref := parseInquiry(body)
		if ref != nil {
			return
		}
		code, message := e.check(&q)
		r := renderer{shape: shape{dialect: Dialect(form % 3), numbers: Numbers(form / 3 % 5), list: List(form / 15 % 4)}}
		r.response(e.catalogue.find(&q), &q, code, message)
		require.True(t, json.Valid(r.buf), "%s", r.buf)
	})
}
