package unionpay

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

func ptr[T any](v T) *T { return &v }

// read signs the answer with the given members changed and reads it.
func (b *bundle) read(tb testing.TB, members map[string]any) (query.Answer, error) {
	tb.Helper()
	return b.exchange.Read(signed(tb, b.answer(tb, members)))
}

func TestReadGoodAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	answer, err := b.read(t, nil)
	require.NoError(t, err)
	yuan := func(minor int64, raw string) *query.Money {
		return &query.Money{Minor: &minor, Currency: "CNY", Raw: raw}
	}
	require.Equal(t, query.Answer{
		Outcome: query.OutcomeOK,
		Usage: &query.Usage{
			Day:      &query.Used{Amount: yuan(1250, "12.50"), Count: ptr[int64](1)},
			Month:    &query.Used{Amount: yuan(10000, "100.00"), Count: ptr[int64](8)},
			Total:    &query.Used{Amount: yuan(123456, "1234.56"), Count: ptr[int64](42)},
			Currency: "CNY",
		},
		Upstream: query.Response{Code: "00", Message: "Approved", Reference: b.refNum(), Status: 200, Dialect: "unionpay"},
		AsOf:     now().Add(time.Second),
	}, answer)
}

func TestReadNumbersAsNumbers(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	want, err := b.read(t, nil)
	require.NoError(t, err)
	got, err := b.read(t, map[string]any{
		"dayAmt": json.Number("12.50"), "dayCnt": 1, "monthAmt": json.Number("100.00"), "monthCnt": 8, "ttlAmt": json.Number("1234.56"), "ttlCnt": 42,
		"discCurr": 156, "refNum": json.Number(b.refNum()),
	})
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestReadIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	_, err := b.read(t, map[string]any{"newField": map[string]any{"a": []any{1, nil, "x"}}, "RESPCODE": "99", "data": "eyJ"})
	require.NoError(t, err)
}

func TestAbsentPeriodsStayAbsent(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for name, c := range map[string]struct {
		members    map[string]any
		day, month *query.Used
	}{
		"both left out": {map[string]any{"dayAmt": nil, "dayCnt": nil, "monthAmt": nil, "monthCnt": nil}, nil, nil},
		"empty texts":   {map[string]any{"dayAmt": "", "dayCnt": "", "monthAmt": "", "monthCnt": ""}, nil, nil},
		"null":          {map[string]any{"dayAmt": json.RawMessage("null"), "dayCnt": json.RawMessage("null"), "monthAmt": nil, "monthCnt": nil}, nil, nil},
		"halves": {
			map[string]any{"dayAmt": nil, "dayCnt": "0", "monthAmt": "0", "monthCnt": nil},
			&query.Used{Count: ptr[int64](0)}, &query.Used{Amount: &query.Money{Minor: ptr[int64](0), Currency: "CNY", Raw: "0"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer, err := b.read(t, c.members)
			require.NoError(t, err)
			require.Equal(t, c.day, answer.Usage.Day)
			require.Equal(t, c.month, answer.Usage.Month)
		})
	}
}

func TestCodesHaveClasses(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Codes = map[string]query.Class{
			"10": query.ClassEmpty, "20": query.ClassDeclined, "02": query.ClassTransient, "03": query.ClassBroken, "05": query.ClassConfig, "10000": query.ClassOK,
		}
	})
	for code, want := range map[string]query.Outcome{"00": query.OutcomeOK, "10000": query.OutcomeOK, "10": query.OutcomeEmpty, "20": query.OutcomeDeclined} {
		answer, err := b.read(t, map[string]any{"respCode": code, "respMsg": "said " + code})
		require.NoError(t, err, code)
		require.Equal(t, want, answer.Outcome)
		require.Equal(t, query.Response{Code: code, Message: "said " + code, Reference: b.refNum(), Status: 200, Dialect: "unionpay"}, answer.Upstream)
		require.Equal(t, want == query.OutcomeOK, answer.Usage != nil)
		require.Equal(t, now().Add(time.Second), answer.AsOf)
	}
	for code, c := range map[string]struct {
		kind     fault.Kind
		code     fault.Code
		upstream string
	}{
		"02":               {fault.Unavailable, fault.UpstreamBusy, "02"},
		"03":               {fault.Rejected, fault.UpstreamBroken, "03"},
		"05":               {fault.Unauthorized, fault.UpstreamConfig, "05"},
		"99":               {fault.Rejected, fault.UpstreamBroken, "99"},
		"0":                {fault.Rejected, fault.UpstreamBroken, "0"},
		"00 ":              {fault.Rejected, fault.UpstreamBroken, ""},
		"가":                {fault.Rejected, fault.UpstreamBroken, ""},
		"6200000000000005": {fault.Rejected, fault.UpstreamBroken, ""},
	} {
		answer, err := b.read(t, map[string]any{"respCode": code})
		known := requireFault(t, err, c.kind, c.code)
		require.Equal(t, c.upstream, known.Upstream, code)
		require.Equal(t, http.StatusOK, known.Status)
		require.True(t, known.Sent)
		require.Zero(t, answer, "a fault is no answer")
	}
}

func TestDefaultsKnowOneCodeOnly(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.VerifyResponse = VerifyOff })
	for i := range 100 {
		code := string([]byte{'0' + byte(i/10), '0' + byte(i%10)})
		_, err := b.exchange.Read(respond(b.answer(t, map[string]any{"respCode": code}), ""))
		if code == "00" {
			require.NoError(t, err)
			continue
		}
		requireFault(t, err, fault.Rejected, fault.UpstreamBroken)
	}
	b = setup(t, func(o *Options) { o.Codes = map[string]query.Class{"00": query.ClassBroken} })
	_, err := b.read(t, nil)
	requireFault(t, err, fault.Rejected, fault.UpstreamBroken)
}

func TestErrorsNeedNoTotals(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Codes = map[string]query.Class{"10": query.ClassEmpty} })
	bare := map[string]any{"ttlAmt": nil, "ttlCnt": nil, "discCurr": nil, "dayAmt": nil, "dayCnt": nil, "monthAmt": nil, "monthCnt": nil, "respMsg": nil}
	with := func(code string) map[string]any {
		members := maps.Clone(bare)
		members["respCode"] = code
		return members
	}
	_, err := b.read(t, with("77"))
	requireFault(t, err, fault.Rejected, fault.UpstreamBroken)
	answer, err := b.read(t, with("10"))
	require.NoError(t, err)
	require.Equal(t, query.OutcomeEmpty, answer.Outcome)
	_, err = b.read(t, with("00"))
	requireFault(t, err, fault.Unavailable, fault.BadResponse)
}

func TestFieldsOfAGoodAnswerAreChecked(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for name, members := range map[string]map[string]any{
		"no total amount":       {"ttlAmt": nil},
		"no total count":        {"ttlCnt": nil},
		"no currency":           {"discCurr": nil},
		"empty total":           {"ttlAmt": ""},
		"null count":            {"ttlCnt": json.RawMessage("null")},
		"currency letters":      {"discCurr": "CNY"},
		"currency long":         {"discCurr": "0156"},
		"currency fraction":     {"discCurr": json.Number("1.5")},
		"count negative":        {"ttlCnt": "-1"},
		"count fraction":        {"ttlCnt": "1.0"},
		"count words":           {"dayCnt": "many"},
		"count too long":        {"monthCnt": "1234567890123456789"},
		"count exponent":        {"ttlCnt": json.Number("1e3")},
		"amount exponent":       {"ttlAmt": json.Number("1E3")},
		"amount exponent text":  {"ttlAmt": "1e3"},
		"amount words":          {"dayAmt": "none"},
		"amount without digits": {"dayAmt": "-"},
		"amount full width":     {"dayAmt": "１"},
		"amount 16 digits":      {"monthAmt": "1234567890123456"},
		"amount too long":       {"monthAmt": "0.--------------------"},
		"amount huge":           {"ttlAmt": json.Number(strings.Repeat("9", 400))},
		"amount boolean":        {"ttlAmt": true},
		"amount object":         {"ttlAmt": map[string]any{"v": 1}},
		"amount list":           {"ttlAmt": []any{"1"}},
		"message number":        {"respMsg": 1},
		"code number":           {"respCode": 0},
		"code missing":          {"respCode": nil},
		"code empty":            {"respCode": ""},
		"code null":             {"respCode": json.RawMessage("null")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.read(t, members)
			require.True(t, requireFault(t, err, fault.Unavailable, fault.BadResponse).Sent)
		})
	}
}

func TestEchoMustMatch(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	another := setup(t, nil)
	require.NotEqual(t, b.refNum(), another.refNum())
	for name, members := range map[string]map[string]any{
		"refNum of another": {"refNum": another.refNum()},
		"refNum cut":        {"refNum": b.refNum()[1:]},
		"refNum padded":     {"refNum": " " + b.refNum()},
		"refNum missing":    {"refNum": nil},
		"procType":          {"procType": "A2"},
		"procType case":     {"procType": "a1"},
		"procType missing":  {"procType": nil},
		"insCode":           {"insCode": "100120157"},
		"insCode missing":   {"insCode": nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.read(t, members)
			requireFault(t, err, fault.Unavailable, fault.BadEcho)
			members["respCode"] = "77"
			_, err = b.read(t, members)
			requireFault(t, err, fault.Unavailable, fault.BadEcho)
		})
	}
}

func TestReadRefusesWhatIsNotStrictJSON(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	good := string(b.answer(t, nil))
	deep := func(levels int) string {
		return strings.Replace(good, "{", `{"new":`+strings.Repeat("[", levels)+strings.Repeat("]", levels)+`,`, 1)
	}
	_, err := b.exchange.Read(signed(t, []byte(deep(15))))
	require.NoError(t, err, "16 levels are allowed")
	for name, body := range map[string]string{
		"empty":            "",
		"white space":      "  \n",
		"HTML":             "<html><body>502 " + testCard + "</body></html>",
		"array":            "[" + good + "]",
		"text":             `"00"`,
		"null":             "null",
		"cut off":          good[:len(good)-1],
		"trailing object":  good + "{}",
		"trailing bytes":   good + "x",
		"duplicate name":   strings.Replace(good, `"respCode":"00"`, `"respCode":"77","respCode":"00"`, 1),
		"escaped twin":     strings.Replace(good, `"respCode":"00"`, `"respCode":"77","\u0072espCode":"00"`, 1),
		"duplicate within": strings.Replace(good, "{", `{"new":{"a":1,"a":2},`, 1),
		"invalid UTF-8":    strings.Replace(good, "Approved", "App\xffroved", 1),
		"lone surrogate":   strings.Replace(good, "Approved", `\ud800`, 1),
		"control":          strings.Replace(good, "Approved", "App\nroved", 1),
		"byte order mark":  "\ufeff" + good,
		"comment":          good + "// " + testCard,
		"too deep":         deep(16),
		"far too deep":     deep(100_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.exchange.Read(signed(t, []byte(body)))
			require.NotContains(t, requireFault(t, err, fault.Unavailable, fault.BadResponse).Error(), testCard)
		})
	}
}

func TestGatewayRefusals(t *testing.T) {
	t.Parallel()
	const capital = `{"MsgResponse":{"responseCode":"E0","responseMsg":"Unauthorized access"}}`
	const lower = `{"msgResponse":{"responseCode":"E0","responseMsg":"Unauthorized access"}}`
	b := setup(t, nil)
	for name, c := range map[string]struct {
		status   int
		body     string
		upstream string
	}{
		"401 capital":           {401, capital, "E0"},
		"401 lower case":        {401, lower, "E0"},
		"401 another code":      {401, strings.Replace(capital, "E0", "E1", 1), "E1"},
		"401 unfit code":        {401, strings.Replace(capital, "E0", testCard, 1), ""},
		"401 empty":             {401, "", ""},
		"401 HTML":              {401, "<html>" + testCard, ""},
		"401 message of text":   {401, `{"MsgResponse":"E0"}`, ""},
		"401 null message":      {401, `{"MsgResponse":null}`, ""},
		"401 ordinary answer":   {401, string(b.answer(t, nil)), ""},
		"403":                   {403, capital, "E0"},
		"200 capital, unsigned": {200, capital, "E0"},
		"200 lower, unsigned":   {200, lower, "E0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := b.exchange.Read(upstream.Response{Status: c.status, Body: []byte(c.body), At: now()})
			known := requireFault(t, err, fault.Unauthorized, fault.GatewayRefused)
			require.Equal(t, c.upstream, known.Upstream)
			require.Equal(t, c.status, known.Status)
			require.True(t, known.Sent)
		})
	}
	_, err := b.exchange.Read(signed(t, []byte(lower)))
	require.Equal(t, "E0", requireFault(t, err, fault.Unauthorized, fault.GatewayRefused).Upstream)
	off := setup(t, func(o *Options) { o.VerifyResponse = VerifyOff })
	_, err = off.exchange.Read(respond([]byte(capital), ""))
	requireFault(t, err, fault.Unauthorized, fault.GatewayRefused)
}

func TestGatewayMessagesThatAreNoRefusal(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	other := []byte(`{"msgResponse":{"responseCode":"00","responseMsg":"Approved"}}`)
	_, err := b.exchange.Read(respond(other, ""))
	requireFault(t, err, fault.Unavailable, fault.BadSignature)
	_, err = b.exchange.Read(signed(t, other))
	require.Equal(t, "00", requireFault(t, err, fault.Unavailable, fault.BadResponse).Upstream)

	refusal := []byte(`{"MsgResponse":{"responseCode":"E0"}}`)
	_, err = b.exchange.Read(respond(refusal, detached(t, generatedKeys()[1], responseHeader(), refusal)))
	requireFault(t, err, fault.Unavailable, fault.BadSignature)

	answer, err := b.read(t, map[string]any{"MsgResponse": map[string]any{"responseCode": "E0"}})
	require.NoError(t, err, "a body with a response code of its own is an answer")
	require.Equal(t, query.OutcomeOK, answer.Outcome)
}

func TestOtherStatuses(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	for status, c := range map[int]struct {
		kind fault.Kind
		code fault.Code
	}{
		201: {fault.Unavailable, fault.HTTPStatus}, 204: {fault.Unavailable, fault.HTTPStatus}, 302: {fault.Unavailable, fault.HTTPStatus},
		400: {fault.Rejected, fault.HTTPStatus}, 404: {fault.Unavailable, fault.HTTPStatus}, 429: {fault.Throttled, fault.RateLimited},
		500: {fault.Unavailable, fault.HTTPStatus}, 503: {fault.Throttled, fault.RateLimited},
	} {
		r := signed(t, b.answer(t, nil))
		r.Status = status
		r.Header.Set("Retry-After", "7")
		answer, err := b.exchange.Read(r)
		known := requireFault(t, err, c.kind, c.code)
		require.Equal(t, status, known.Status)
		require.Equal(t, 7*time.Second, known.After)
		require.Zero(t, answer, "a good body does not make %d an answer", status)
	}
}

func TestMessageIsCleaned(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	answer, err := b.read(t, map[string]any{"respMsg": "Card " + testCard + " of\u0000 " + strings.Repeat("가", 100)})
	require.NoError(t, err)
	require.NotContains(t, answer.Upstream.Message, testCard)
	require.LessOrEqual(t, len(answer.Upstream.Message), 200)
	require.True(t, strings.HasPrefix(answer.Upstream.Message, "Card *** of "), answer.Upstream.Message)
}

func FuzzReadResponse(f *testing.F) {
	o := options(f)
	o.VerifyResponse = VerifyOff
	o.Codes = map[string]query.Class{"10": query.ClassEmpty, "02": query.ClassTransient}
	provider, err := New(o)
	require.NoError(f, err)
	const refNum = "123456789012345"
	const good = `{"procType":"A1","insCode":"100120156","refNum":"123456789012345","respCode":"00","respMsg":"Approved",` +
		`"dayAmt":"12.50","dayCnt":"1","ttlAmt":-1234.56,"ttlCnt":42,"discCurr":"156"}`
	for _, seed := range []string{
		good, strings.Replace(good, `"00"`, `"10"`, 1), strings.Replace(good, `"00"`, `"02"`, 1), strings.Replace(good, "156", "410", 2),
		strings.Replace(good, "12.50", "1,2.50", 1), strings.Replace(good, "-1234.56", "1e9", 1), strings.Replace(good, "-1234.56", "null", 1),
		`{"MsgResponse":{"responseCode":"E0","responseMsg":"Unauthorized access"}}`, `{"msgResponse":{"responseCode":"E0"}}`,
		"", "null", "[]", "<html>", good + good, strings.Repeat("[", 100), "{\"a\":\"\xff\"}",
	} {
		f.Add(200, []byte(seed))
		f.Add(401, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		answer, err := provider.read(refNum, upstream.Response{Status: status, Header: http.Header{}, Body: body, At: now()})
		if err != nil {
			known := requireKnown(t, err)
			require.Equal(t, status, known.Status)
			require.True(t, known.Sent)
			require.LessOrEqual(t, len(known.Upstream), maxCode)
			require.Zero(t, answer)
			return
		}
		require.Equal(t, 200, status)
		require.Equal(t, refNum, answer.Upstream.Reference)
		require.True(t, json.Valid(body), "an answer is JSON for everybody")
		require.Equal(t, answer.Outcome == query.OutcomeOK, answer.Usage != nil)
		if answer.Usage != nil {
			require.NotNil(t, answer.Usage.Total.Amount)
			require.NotNil(t, answer.Usage.Total.Count)
			require.Regexp(t, `^([A-Z]{3}|[0-9]{3})$`, answer.Usage.Currency)
		}
	})
}

// requireKnown requires err to be a fault of a kind and code that this room gives.
func requireKnown(tb rapid.TB, err error) *fault.Error {
	tb.Helper()
	var known *fault.Error
	require.ErrorAs(tb, err, &known)
	require.NotEqual(tb, fault.Unknown, known.Kind)
	require.NotEmpty(tb, known.Code)
	return known
}
