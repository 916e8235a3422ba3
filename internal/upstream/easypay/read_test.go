package easypay

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/korean"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

func cp949(t testing.TB, text string) string {
	t.Helper()
	encoded, err := korean.EUCKR.NewEncoder().String(text)
	require.NoError(t, err)
	return encoded
}

func TestCP949(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		charset, body string
		ok            bool
	}{
		"auto, UTF-8":           {CharsetAuto, dialectC, true},
		"auto, CP949":           {CharsetAuto, cp949(t, dialectC), true},
		"auto, UTF-8 with BOM":  {CharsetAuto, "\xef\xbb\xbf" + dialectC, true},
		"utf-8, UTF-8":          {CharsetUTF8, dialectC, true},
		"utf-8, UTF-8 with BOM": {CharsetUTF8, "\xef\xbb\xbf" + dialectC, true},
		"utf-8, CP949":          {CharsetUTF8, cp949(t, dialectC), false},
		"cp949, CP949":          {CharsetCP949, cp949(t, dialectC), true},
		"cp949, UTF-8 with BOM": {CharsetCP949, "\xef\xbb\xbf" + dialectC, true},
		"BOM before CP949":      {CharsetAuto, "\xef\xbb\xbf" + cp949(t, dialectC), false},
		"neither":               {CharsetAuto, strings.Replace(dialectC, "하나카드", "\xff\xfe", 1), false},
		"half a CP949 letter":   {CharsetAuto, strings.Replace(cp949(t, dialectC), cp949(t, "하나카드"), "\xc7\xcf\xb3", 1), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := answer(t, setup(t, func(o *Options) { o.Charset = tt.charset }), ask(51004), tt.body)
			if !tt.ok {
				require.Equal(t, fault.BadResponse, faultOf(t, err).Code)
				return
			}
			require.NoError(t, err)
			require.Equal(t, "비씨카드", got.Offers[0].Card.Name)
			require.Equal(t, "하나카드", got.Offers[1].Card.Name)
			require.Equal(t, "정상", got.Upstream.Message)
		})
	}
}

// Every name of KICC's own table survives CP949, and so does a letter that plain EUC-KR does not have.
func TestCP949RoundTrip(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Charset = CharsetCP949 })
	names := []string{"똠방각하", "펲시"}
	for _, card := range p.cards.byCode {
		names = append(names, card.Name)
	}
	for _, name := range names {
		got, err := answer(t, p, ask(0), cp949(t, one(`"couponJoinNm":"`+name+`"`)))
		require.NoError(t, err, name)
		require.Equal(t, name, got.Offers[0].Card.Name)
	}
}

func TestBodiesThatAreNoAnswer(t *testing.T) {
	t.Parallel()
	deep := func(levels int) string {
		return `{"resCd":"0000","x":` + strings.Repeat("[", levels) + strings.Repeat("]", levels) + `}`
	}
	for name, body := range map[string]string{
		"nothing":                "",
		"spaces":                 "  \n",
		"a page":                 "<html><body>점검중</body></html>",
		"null":                   "null",
		"a list":                 "[]",
		"a text":                 `"0000"`,
		"no code":                "{}",
		"no code but a list":     `{"couponList":[]}`,
		"code null":              `{"resCd":null}`,
		"code empty":             `{"resCd":""}`,
		"code a number":          `{"resCd":0}`,
		"code an object":         `{"resCd":{"a":1}}`,
		"code too long":          `{"resCd":"620000000"}`,
		"code with a space":      `{"resCd":"00 0"}`,
		"code in Korean":         `{"resCd":"정상"}`,
		"two codes":              `{"resCd":"0000","res_cd":"8521"}`,
		"two messages":           `{"resCd":"0000","resMsg":"a","res_msg":"b"}`,
		"code in another case":   `{"RESCD":"0000"}`,
		"a name twice":           `{"resCd":"0000","resCd":"0000"}`,
		"a name twice, escaped":  `{"resCd":"0000","res\u0043d":"0000"}`,
		"a strange name twice":   `{"resCd":"0000","x":1,"x":1}`,
		"twice below":            `{"resCd":"0000","x":{"a":1,"a":2}}`,
		"twice in a coupon":      one(`"couponAmount":1,"couponAmount":1`),
		"trailing object":        `{"resCd":"0000"}{}`,
		"trailing letter":        `{"resCd":"0000"}x`,
		"trailing comma":         `{"resCd":"0000",}`,
		"cut off":                `{"resCd":"0000","couponList":[{"couponGid":"CP1"`,
		"cut off in a name":      `{"resCd":"0000","coup`,
		"single quotes":          `{'resCd':'0000'}`,
		"a comment":              `{"resCd":"0000"/**/}`,
		"a leading zero":         one(`"couponAmount":0100`),
		"lone surrogate":         one(`"couponJoinNm":"\ud800"`),
		"raw control character":  one("\"couponJoinNm\":\"a\nb\""),
		"too deep":               deep(16),
		"much too deep":          deep(100000),
		"too deep in a coupon":   one(`"x":` + strings.Repeat(`{"a":`, 14) + "1" + strings.Repeat("}", 14)),
		"too deep behind quotes": `{"resCd":"0000","x":["]]]\"",` + strings.Repeat("[", 15) + strings.Repeat("]", 15) + `]}`,
	} {
		_, err := answer(t, setup(t), ask(51004), body)
		require.Error(t, err, name)
		e := faultOf(t, err)
		require.Equal(t, fault.Unavailable, e.Kind, name)
		require.Equal(t, fault.BadResponse, e.Code, name)
		require.Empty(t, e.Upstream, name)
		require.Equal(t, http.StatusOK, e.Status, name)
		require.True(t, e.Sent, name)
	}
	for name, body := range map[string]string{
		"just deep enough":             deep(15),
		"just deep enough in a coupon": one(`"x":` + strings.Repeat(`{"a":`, 13) + "1" + strings.Repeat("}", 13)),
		"brackets in a text":           `{"resCd":"0000","x":["` + strings.Repeat(`[{\"`, 40) + `"]}`,
		"an escaped name":              `{"res\u0043d":"0000"}`,
		"an empty name":                `{"":1,"resCd":"0000"}`,
	} {
		_, err := answer(t, setup(t), ask(51004), body)
		require.NoError(t, err, name)
	}
}

func TestLongLists(t *testing.T) {
	t.Parallel()
	list := func(coupons int) string {
		items := make([]string, coupons)
		for i := range items {
			items[i] = fmt.Sprintf(`{"couponGid":"CP%d","couponJoinCd":"%03d"}`, i, i%4)
		}
		return `{"resCd":"0000","couponList":[` + strings.Join(items, ",") + `]}`
	}
	got, err := answer(t, setup(t), ask(51004), list(maxOffers))
	require.NoError(t, err)
	require.Len(t, got.Offers, maxOffers)
	_, err = answer(t, setup(t), ask(51004), list(maxOffers+1))
	require.Equal(t, fault.TooLarge, faultOf(t, err).Code)

	got, err = answer(t, setup(t, legacy), ask(51004, cardCd("001")), list(maxCoupons))
	require.NoError(t, err)
	require.Len(t, got.Offers, maxCoupons/4, "the others are left out before they are counted")
	_, err = answer(t, setup(t, legacy), ask(51004, cardCd("001")), list(maxCoupons+1))
	require.Equal(t, fault.BadResponse, faultOf(t, err).Code)
}

// TestTheLargestAnswerFitsIntoAResult fills every member of every coupon, and every member of the result around them.
func TestTheLargestAnswerFitsIntoAResult(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("\\\"", 250) // Each takes two bytes in JSON.
	items := make([]string, maxOffers)
	for i := range items {
		items[i] = fmt.Sprintf(`{"couponGid":"%s%03d","couponJoinCd":"ABCDEFGH","couponJoinNm":"%s","discountType":"01","couponRate":"0.1234567890123456",`+
			`"calcAuthLimitRate":"99.1234567890123456","standardAmount":999999999999,"maxDiscountAmount":999999999999999,"couponAmount":999999999999999}`,
			strings.Repeat("\\\"", 61), i, name)
	}
	answer, err := answer(t, setup(t), ask(1_000_000_000_000), `{"resCd":"0000","resMsg":"`+name+`","couponList":[`+strings.Join(items, ",")+`]}`)
	require.NoError(t, err)
	require.Len(t, answer.Offers, maxOffers)
	require.NotNil(t, answer.Best())
	long := strings.Repeat(`"`, 256)
	now, age, largest := time.Now(), time.Hour, int64(1_000_000_000_000)
	q := query.Query{
		Client: strings.Repeat("c", 64), Source: long, ID: long, Provider: query.EasyPay, Lane: query.Interactive, Time: now, Expires: now, MaxAge: &age,
		Correlation: long, TraceParent: long, TraceState: long + long,
		EasyPay: &query.EasyPayQuestion{MallID: "T5102001", CardBin: "12345678", Amount: &largest},
	}
	attempts := make([]query.Attempt, 50)
	for i := range attempts {
		attempts[i] = query.Attempt{At: now, Milliseconds: 1 << 40, WaitedMS: 1 << 40, Kind: "unauthorized", Code: fault.ForbiddenCardData, Upstream: long[:16], Status: 503}
	}
	event, err := query.NewEvent(&q, query.TypeCompleted, "result.0", now, query.CompletedData{
		Query: q.Asked(), Outcome: answer.Outcome, Offers: answer.Offers, Best: answer.Best(), Upstream: answer.Upstream, AsOf: now,
		Timing: query.Timing{Received: now, Finished: now, TotalMS: 1 << 40, CallMS: 1 << 40}, Attempts: attempts,
		Replay: &query.ReplayRef{Revision: 99, Batch: long, Actor: long},
	}).Encode()
	require.NoError(t, err)
	const headers = 1 << 10 // What is sent beside the event counts too.
	t.Logf("%d bytes, %d a coupon", len(event), len(event)/maxOffers)
	require.LessOrEqual(t, int32(len(event)+headers), broker.DefaultTopology().Results.MaxMsgSize)
}

func TestResponseCodes(t *testing.T) {
	t.Parallel()
	declines := []string{"8521", "8035", "8314", "8315", "8316", "8311", "8350", "8373", "8527"}
	for _, code := range declines {
		got, err := answer(t, setup(t), ask(0), `{"resCd":"`+code+`","resMsg":"한도초과"}`)
		require.NoError(t, err, code)
		require.Equal(t, query.OutcomeDeclined, got.Outcome, code)
		require.Equal(t, query.Response{Code: code, Message: "한도초과", Status: 200, Dialect: "A"}, got.Upstream)
		require.Equal(t, at, got.AsOf)
	}
	for _, tt := range []struct {
		code string
		kind fault.Kind
		want fault.Code
	}{
		{"R102", fault.Rejected, fault.UpstreamBroken}, {"9999", fault.Rejected, fault.UpstreamBroken},
		{"0001", fault.Rejected, fault.UpstreamBroken}, {"000", fault.Rejected, fault.UpstreamBroken},
		{"VTIM", fault.Unavailable, fault.UpstreamBusy}, {"VT00", fault.Unavailable, fault.UpstreamBusy},
	} {
		for _, body := range []string{`{"res_cd":"%s"}`, `{"couponList":"none","resCd":"%s"}`, `{"resCd":"%s","coupon_datas":[{"x":-1},7]}`} {
			_, err := answer(t, setup(t), ask(0), fmt.Sprintf(body, tt.code))
			e := faultOf(t, err)
			require.Equal(t, tt.kind, e.Kind, tt.code)
			require.Equal(t, tt.want, e.Code, tt.code)
			require.Equal(t, tt.code, e.Upstream)
			require.Equal(t, http.StatusOK, e.Status)
			require.True(t, e.Sent)
		}
	}
}

func TestResponseCodesOverridden(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) {
		o.Codes = map[string]query.Class{
			"M001": query.ClassConfig, "N001": query.ClassEmpty, "B001": query.ClassTransient, "D001": query.ClassDeclined,
			"0001": query.ClassOK, "8521": query.ClassBroken,
		}
	})
	got, err := answer(t, p, ask(0), `{"resCd":"N001","couponList":[{"couponGid":"CP1","couponJoinCd":"026"}]}`)
	require.NoError(t, err)
	require.Equal(t, query.OutcomeEmpty, got.Outcome)
	require.Empty(t, got.Offers)

	got, err = answer(t, p, ask(0), `{"resCd":"D001"}`)
	require.NoError(t, err)
	require.Equal(t, query.OutcomeDeclined, got.Outcome)

	got, err = answer(t, p, ask(0), strings.Replace(dialectA, "0000", "0001", 1))
	require.NoError(t, err)
	require.Len(t, got.Offers, 2)

	for code, want := range map[string]fault.Error{
		"M001": {Kind: fault.Unauthorized, Code: fault.UpstreamConfig},
		"B001": {Kind: fault.Unavailable, Code: fault.UpstreamBusy},
		"8521": {Kind: fault.Rejected, Code: fault.UpstreamBroken},
	} {
		_, err := answer(t, p, ask(0), `{"resCd":"`+code+`"}`)
		e := faultOf(t, err)
		require.Equal(t, want.Kind, e.Kind, code)
		require.Equal(t, want.Code, e.Code, code)
	}
}

func TestStatusComesFirst(t *testing.T) {
	t.Parallel()
	exchange, err := setup(t).Prepare(at, ask(51004))
	require.NoError(t, err)
	for status, want := range map[int]fault.Kind{
		201: fault.Unavailable, 400: fault.Rejected, 401: fault.Unauthorized, 404: fault.Unavailable, 408: fault.Unavailable,
		429: fault.Throttled, 500: fault.Unavailable, 503: fault.Unavailable,
	} {
		_, err := exchange.Read(upstream.Response{Status: status, Body: []byte(dialectA), At: at})
		e := faultOf(t, err)
		require.Equal(t, want, e.Kind, status)
		require.Equal(t, status, e.Status)
		require.Empty(t, e.Upstream)
	}
	_, err = exchange.Read(upstream.Response{Status: 429, Header: http.Header{"Retry-After": {"7"}}, At: at})
	require.Equal(t, 7*time.Second, faultOf(t, err).After)
}

func TestErrorsRepeatNothing(t *testing.T) {
	t.Parallel()
	const secret = "6205500000000000004"
	for _, body := range []string{
		secret, `"` + secret + `"`, `{"resCd":"` + secret + `"}`, `{"` + secret + `":1,"` + secret + `":1}`, `{"resCd":"0000"}` + secret,
		`{"resCd":"R102","resMsg":"` + secret + `"}`, `{"resCd":"VTIM","resMsg":"` + secret + `","x":"` + secret + `"}`,
		one(`"couponAmount":"` + secret + `"`), one(`"couponAmount":` + secret), one(`"coupon_id":"` + secret + `"`),
		one(`"` + secret + `":"\ud800"`), one(`"x":` + secret + "e"), "\xff" + secret,
	} {
		for _, status := range []int{200, 400, 500} {
			exchange, err := setup(t).Prepare(at, ask(51004))
			require.NoError(t, err)
			_, err = exchange.Read(upstream.Response{Status: status, Body: []byte(body), At: at})
			require.Error(t, err, body)
			e := *faultOf(t, err)
			require.NoError(t, e.Cause, body)
			require.NotContains(t, fmt.Sprintf("%v %#v", err, e), secret[:8], body)
			require.NotContains(t, e.Op+string(e.Code)+e.Upstream, secret[:8], body)
		}
	}
}

func TestReadLeavesTheBodyAlone(t *testing.T) {
	t.Parallel()
	for _, text := range []string{dialectA, cp949(t, dialectB), "\xef\xbb\xbf" + dialectC, `{"resCd":`} {
		body := []byte(text)
		exchange, err := setup(t).Prepare(at, ask(51004))
		require.NoError(t, err)
		got, _ := exchange.Read(upstream.Response{Status: 200, Body: body, At: at})
		require.Equal(t, text, string(body))
		before := asJSON(t, got)
		copy(body, bytes.Repeat([]byte("x"), len(body)))
		require.Equal(t, before, asJSON(t, got), "the answer lives in the body's memory")
	}
}

func TestMessageIsCleaned(t *testing.T) {
	t.Parallel()
	got, err := answer(t, setup(t), ask(0), `{"resCd":"0000","resMsg":"card 6200-0000-0000-0005\r\nrefused"}`)
	require.NoError(t, err)
	require.Equal(t, query.CleanMessage("card 6200-0000-0000-0005\r\nrefused"), got.Upstream.Message)
	require.NotContains(t, got.Upstream.Message, "0005")

	got, err = answer(t, setup(t), ask(0), `{"resCd":"0000","resMsg":["not","a","text"]}`)
	require.NoError(t, err)
	require.Empty(t, got.Upstream.Message)
}

// A response as long as the limit allows must not take longer than an answer is worth, whatever it is full of.
func TestEndlessTexts(t *testing.T) {
	t.Parallel()
	const size = 250 << 10
	start := time.Now()
	for name, body := range map[string]string{
		"digits":  `{"resCd":"0000","resMsg":"` + strings.Repeat("1 ", size/2) + `"}`,
		"escapes": one(`"couponJoinNm":"` + strings.Repeat(`\u0031`, size/6) + `"`),
		"words":   one(`"couponJoinNm":"` + strings.Repeat("카드 ", size/7) + `"`),
		"zeros":   one(`"couponAmount":1.` + strings.Repeat("0", size)),
		"items":   `{"resCd":"R102","couponList":[` + strings.Repeat("{},", maxCoupons-1) + `{}]}`,
		"nesting": `{"resCd":"R102","x":[` + strings.Repeat("[],", size/3) + `[]]}`,
	} {
		got, err := answer(t, setup(t), ask(0), body)
		if strings.Contains(body, "R102") {
			require.Equal(t, fault.UpstreamBroken, faultOf(t, err).Code, name)
			continue
		}
		require.NoError(t, err, name)
		require.LessOrEqual(t, len(got.Upstream.Message), 200, name)
		require.NotContains(t, asJSON(t, got), "1111", name)
	}
	require.Less(t, time.Since(start), 10*time.Second)
}
