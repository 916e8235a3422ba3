package sandbox

import (
	"bytes"
	"crypto"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
)

func TestUnionPayAnswersASignedQuery(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, pair := range map[string]struct {
		alg jose.KeyAlgorithm
		enc jose.ContentEncryption
	}{
		"UPI's own pair": {jose.RSA1_5, jose.A128CBC_HS256},
		"OAEP, 128 bits": {jose.RSA_OAEP_256, jose.A128GCM},
		"OAEP, 256 bits": {jose.RSA_OAEP_256, jose.A256GCM},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := b.upi()
			c.alg, c.enc = pair.alg, pair.enc
			r := b.ask(t, c)
			require.NoError(t, r.err)
			require.Equal(t, http.StatusOK, r.StatusCode)
			require.Equal(t, "application/json;charset=UTF-8", r.Header.Get("Content-Type"))
			protected, err := b.signed(t, r)
			require.NoError(t, err)
			require.Equal(t, "RS256", protected["alg"])
			require.Equal(t, b.keys.UPISignKid, protected["kid"])
			require.Equal(t, []any{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID"}, protected["crit"])
			require.Equal(t, DefaultAppID, protected["UPI-APPID"])
			require.Len(t, protected["UPI-UUID"], 32)

			got := r.object(t)
			require.Equal(t, "00", got["respCode"])
			for _, echoed := range []string{"procType", "insCode", "refNum"} {
				require.Equal(t, c.fields[echoed], got[echoed])
			}
			want := b.UsageOf(testCard, "1234567890")
			require.Equal(t, want.TtlAmt, got["ttlAmt"])
			require.Equal(t, want.TtlCnt, got["ttlCnt"])
			require.Equal(t, want.DiscCurr, got["discCurr"])
		})
	}
}

// The other tests sign with plain crypto; this one shows that the verifier agrees with a JOSE library other than its own.
func TestUnionPayAcceptsASignatureOfGoJose(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.upi()
	req := b.request(t, t.Context(), c)
	body, err := req.GetBody()
	require.NoError(t, err)
	var sent bytes.Buffer
	_, err = sent.ReadFrom(body)
	require.NoError(t, err)
	options := (&jose.SignerOptions{}).WithHeader("kid", b.keys.ClientSignKid)
	for _, name := range []jose.HeaderKey{"crit", "UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"} {
		options = options.WithHeader(name, c.protected[string(name)])
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: b.keys.ClientSign}, options)
	require.NoError(t, err)
	object, err := signer.Sign(sent.Bytes())
	require.NoError(t, err)
	detached, err := object.DetachedCompactSerialize()
	require.NoError(t, err)
	req.Header["UPI-JWS"] = []string{detached}
	require.Equal(t, "00", b.do(t, req).object(t)["respCode"])
}

func TestUnionPayRefusesBadSignatures(t *testing.T) {
	t.Parallel()
	b := setup(t)
	stamp := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for name, test := range map[string]struct {
		change func(*upiCall)
		why    reason
	}{
		"no header":        {func(c *upiCall) { c.signature = func(string) string { return "" } }, reasonNoSignature},
		"not detached":     {func(c *upiCall) { c.signature = func(s string) string { return strings.Replace(s, "..", ".e30.", 1) } }, reasonForm},
		"padded":           {func(c *upiCall) { c.signature = func(s string) string { return s + "==" } }, reasonForm},
		"plain base64":     {func(c *upiCall) { c.signature = func(s string) string { return s[:len(s)-2] + "+/" } }, reasonForm},
		"header no base64": {func(c *upiCall) { c.signature = func(s string) string { return "*" + s } }, reasonForm},
		"header no JSON":   {func(c *upiCall) { c.signature = func(s string) string { return "AAAA" + s[strings.Index(s, ".."):] } }, reasonProtected},
		"unknown member":   {func(c *upiCall) { c.protected["b64"] = false }, reasonProtected},
		"number timestamp": {func(c *upiCall) { c.protected["UPI-TIMESTAMP"] = time.Now().Unix() }, reasonProtected},
		"alg none":         {func(c *upiCall) { c.protected["alg"] = "none" }, reasonAlg},
		"alg PS256":        {func(c *upiCall) { c.protected["alg"] = "PS256" }, reasonAlg},
		"crit absent":      {func(c *upiCall) { delete(c.protected, "crit") }, reasonCrit},
		"crit short":       {func(c *upiCall) { c.protected["crit"] = []string{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID"} }, reasonCrit},
		"crit twice":       {func(c *upiCall) { c.protected["crit"] = []string{"UPI-UUID", "UPI-UUID", "UPI-APPID", "UPI-REQPATH"} }, reasonCrit},
		"crit with a space": {func(c *upiCall) {
			c.protected["crit"] = []string{"UPI-UUID", " UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"}
		}, reasonCrit},
		"app id":             {func(c *upiCall) { c.protected["UPI-APPID"] = "00000000" }, reasonAppID},
		"request path":       {func(c *upiCall) { c.protected["UPI-REQPATH"] = "/elsewhere" }, reasonReqPath},
		"timestamp old":      {func(c *upiCall) { c.protected["UPI-TIMESTAMP"] = stamp(-302 * time.Second) }, reasonTimestamp},
		"timestamp ahead":    {func(c *upiCall) { c.protected["UPI-TIMESTAMP"] = stamp(302 * time.Second) }, reasonTimestamp},
		"timestamp in ms":    {func(c *upiCall) { c.protected["UPI-TIMESTAMP"] = stamp(0) + "000" }, reasonTimestamp},
		"timestamp absent":   {func(c *upiCall) { delete(c.protected, "UPI-TIMESTAMP") }, reasonTimestamp},
		"uuid with dashes":   {func(c *upiCall) { c.protected["UPI-UUID"] = "123e4567-e89b-12d3-a456-426614174000" }, reasonUUID},
		"uuid short":         {func(c *upiCall) { c.protected["UPI-UUID"] = "abcd" }, reasonUUID},
		"uuid empty":         {func(c *upiCall) { c.protected["UPI-UUID"] = "" }, reasonUUID},
		"uuid not hex":       {func(c *upiCall) { c.protected["UPI-UUID"] = strings.Repeat("g", 32) }, reasonUUID},
		"kid":                {func(c *upiCall) { c.protected["kid"] = "1" }, reasonKid},
		"another key":        {func(c *upiCall) { c.signer = b.keys.UPISign }, reasonBadSignature},
		"body changed after": {func(c *upiCall) { c.afterwards = func(body []byte) []byte { return append(body, '\n') } }, reasonBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			alone := setup(t)
			c := alone.upi()
			test.change(c)
			r := alone.ask(t, c)
			require.NoError(t, r.err)
			require.Equal(t, http.StatusUnauthorized, r.StatusCode)
			require.JSONEq(t, `{"MsgResponse":{"responseCode":"E0","responseMsg":"Unauthorized access"}}`, string(r.body))
			require.Empty(t, r.Header.Get("UPI-JWS"))
			require.Equal(t, map[string]uint64{string(test.why): 1}, alone.Stats().Providers[UnionPay].Reasons)
		})
	}
}

func TestUnionPayAcceptsWhatTheRulesAllow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, change := range map[string]func(*upiCall){
		"timestamp 295 s old": func(c *upiCall) {
			c.protected["UPI-TIMESTAMP"] = strconv.FormatInt(time.Now().Add(-295*time.Second).Unix(), 10)
		},
		"timestamp 295 s ahead": func(c *upiCall) {
			c.protected["UPI-TIMESTAMP"] = strconv.FormatInt(time.Now().Add(295*time.Second).Unix(), 10)
		},
		"crit in another order": func(c *upiCall) {
			c.protected["crit"] = []string{"UPI-REQPATH", "UPI-APPID", "UPI-TIMESTAMP", "UPI-UUID"}
		},
		"without mobile":      func(c *upiCall) { delete(c.secret, "mobile") },
		"optional fields":     func(c *upiCall) { c.fields["scenId"], c.fields["resvFld"] = "A-1", strings.Repeat("~", 500) },
		"card of 19 digits":   func(c *upiCall) { c.secret["cardNo"] = otherCard },
		"short refNum":        func(c *upiCall) { c.fields["refNum"] = "7" },
		"refNum with zeros":   func(c *upiCall) { c.fields["refNum"] = "000000000000042" },
		"whole user token":    func(c *upiCall) { c.secret["userToken"] = strings.Repeat("t", 50) },
		"upper-case hex uuid": func(c *upiCall) { c.protected["UPI-UUID"] = strings.ToUpper(c.protected["UPI-UUID"].(string)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := b.upi()
			change(c)
			got := b.ask(t, c).object(t)
			require.Equal(t, "00", got["respCode"], "%v", got)
			require.Equal(t, c.fields["refNum"], got["refNum"])
		})
	}
}

func TestUnionPayRefusesBadFields(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.UnionPay.ProcType, o.UnionPay.InsCode, o.UnionPay.SignCertID, o.UnionPay.EncCertID = "01", "100120156", "001", "002"
	})
	field := func(name string, value any) func(*upiCall) { return func(c *upiCall) { c.fields[name] = value } }
	secret := func(name string, value any) func(*upiCall) { return func(c *upiCall) { c.secret[name] = value } }
	without := func(name string) func(*upiCall) { return func(c *upiCall) { delete(c.fields, name) } }
	for name, test := range map[string]struct {
		change func(*upiCall)
		code   string
	}{
		"procType long":        {field("procType", "001"), UnionPayBadFormat},
		"procType other":       {field("procType", "02"), UnionPayBadProcType},
		"procType missing":     {without("procType"), UnionPayBadFormat},
		"signCertId short":     {field("signCertId", "01"), UnionPayBadFormat},
		"signCertId other":     {field("signCertId", "009"), UnionPayBadCertificate},
		"encCertId signs":      {field("encCertId", "0-1"), UnionPayBadFormat},
		"encCertId other":      {field("encCertId", "009"), UnionPayBadCertificate},
		"insCode long":         {field("insCode", "123456789012"), UnionPayBadFormat},
		"insCode other":        {field("insCode", "999"), UnionPayBadInstitution},
		"pid letters":          {field("pid", "12345A"), UnionPayBadFormat},
		"pid long":             {field("pid", "12345678901"), UnionPayBadFormat},
		"pid number":           {field("pid", 1234567890), UnionPayBadFormat},
		"scenId long":          {field("scenId", "12345"), UnionPayBadFormat},
		"scenId empty":         {field("scenId", ""), UnionPayBadFormat},
		"refNum long":          {field("refNum", "1234567890123456"), UnionPayBadFormat},
		"refNum missing":       {without("refNum"), UnionPayBadFormat},
		"localTime short":      {field("localTime", "20250102"), UnionPayBadFormat},
		"localTime no time":    {field("localTime", "20251302030405"), UnionPayBadFormat},
		"localTimeZone long":   {field("localTimeZone", "GMT+08:00 "), UnionPayBadFormat},
		"resvFld long":         {field("resvFld", strings.Repeat("x", 501)), UnionPayBadFormat},
		"resvFld not ASCII":    {field("resvFld", "카드"), UnionPayBadFormat},
		"data missing":         {func(c *upiCall) { c.fields["data"] = nil }, UnionPayBadFormat},
		"data plain":           {field("data", map[string]string{"cardNo": testCard}), UnionPayBadFormat},
		"card in the clear":    {field("cardNo", testCard), UnionPayBadFormat},
		"data no JWE":          {field("data", "a.b.c"), UnionPayUndecryptable},
		"data other kid":       {func(c *upiCall) { c.encKid = "1" }, UnionPayUndecryptable},
		"data other pair":      {func(c *upiCall) { c.alg, c.enc = jose.RSA_OAEP, jose.A128GCM }, UnionPayUndecryptable},
		"data mixed pair":      {func(c *upiCall) { c.alg, c.enc = jose.RSA1_5, jose.A256GCM }, UnionPayUndecryptable},
		"cardNo missing":       {func(c *upiCall) { delete(c.secret, "cardNo") }, UnionPayBadFormat},
		"cardNo long":          {secret("cardNo", "62000000000000000000"), UnionPayBadFormat},
		"cardNo spaced":        {secret("cardNo", "6200 0000 0000 0005"), UnionPayBadFormat},
		"userToken signs":      {secret("userToken", "a-b"), UnionPayBadFormat},
		"userToken long":       {secret("userToken", strings.Repeat("t", 51)), UnionPayBadFormat},
		"mobile long":          {secret("mobile", strings.Repeat("1", 31)), UnionPayBadFormat},
		"secret with a CVV":    {secret("cvv2", "123"), UnionPayUndecryptable},
		"secret with a number": {secret("cardNo", 6200000000000005), UnionPayUndecryptable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := b.upi()
			test.change(c)
			r := b.ask(t, c)
			_, err := b.signed(t, r)
			require.NoError(t, err, "business answers are signed too")
			got := r.object(t)
			require.Equal(t, test.code, got["respCode"], "%v", got)
			require.NotContains(t, got, "ttlAmt")
			require.NotContains(t, string(r.body), testCard)
		})
	}
}

func TestUnionPayFindsRepeats(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.upi()
	require.Equal(t, "00", b.ask(t, first).object(t)["respCode"])
	require.Equal(t, http.StatusUnauthorized, b.ask(t, first).StatusCode, "the same UUID again")

	second := b.upi()
	second.fields["refNum"] = first.fields["refNum"]
	require.Equal(t, UnionPayDuplicate, b.ask(t, second).object(t)["respCode"])

	elsewhere := b.upi()
	elsewhere.fields["refNum"], elsewhere.fields["insCode"] = first.fields["refNum"], "200"
	require.Equal(t, "00", b.ask(t, elsewhere).object(t)["respCode"], "another institution counts for itself")
}

func TestUnionPayRemembersAlsoWhatAFaultAnswered(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faults(t, "unionpay:status=503#1")
	c := b.upi()
	require.Equal(t, http.StatusServiceUnavailable, b.ask(t, c).StatusCode)
	require.Equal(t, http.StatusUnauthorized, b.ask(t, c).StatusCode, "a retry needs a fresh UUID")
	again := b.upi()
	again.fields["refNum"] = c.fields["refNum"]
	require.Equal(t, UnionPayDuplicate, b.ask(t, again).object(t)["respCode"], "and a fresh refNum")
}

func TestUnionPayRefusesAtTheHTTPLevel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for name, test := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"GET":          {func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"other path":   {func(r *http.Request) { r.URL.Path += "/" }, http.StatusNotFound},
		"query string": {func(r *http.Request) { r.URL.RawQuery = "a=b" }, http.StatusNotFound},
		"no type":      {func(r *http.Request) { r.Header.Del("Content-Type") }, http.StatusUnauthorized},
		"two signatures": {func(r *http.Request) {
			r.Header["UPI-JWS"] = append(r.Header["UPI-JWS"], r.Header["UPI-JWS"][0])
		}, http.StatusUnauthorized},
		"lower-case header": {func(r *http.Request) {
			r.Header["upi-jws"] = r.Header["UPI-JWS"]
			delete(r.Header, "UPI-JWS")
		}, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := b.request(t, t.Context(), b.upi())
			test.change(req)
			r := b.do(t, req)
			require.NoError(t, r.err)
			require.Equal(t, test.status, r.StatusCode)
		})
	}
	huge := b.upi()
	huge.fields["resvFld"] = strings.Repeat("x", maxRequestBody)
	require.Equal(t, http.StatusRequestEntityTooLarge, b.ask(t, huge).StatusCode)
}

func TestUnionPayOptions(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.UnionPay.Path, o.UnionPay.ReqPath, o.UnionPay.AppID = "/gw/v2/usage", "/v2/usage", "12345678"
		o.UnionPay.LowerMsgResponse = true
		o.Now = func() time.Time { return time.Now().Add(time.Hour) }
	})
	c := b.upi()
	c.path = "/gw/v2/usage"
	c.protected["UPI-REQPATH"], c.protected["UPI-APPID"] = "/v2/usage", "12345678"
	r := b.ask(t, c)
	require.Equal(t, http.StatusUnauthorized, r.StatusCode, "an hour off")
	require.Contains(t, string(r.body), `"msgResponse"`)
	c.protected["UPI-TIMESTAMP"] = strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10)
	require.Equal(t, "00", b.ask(t, c).object(t)["respCode"])

	keyless := setup(t, func(o *Options) { o.UnionPay = UnionPayOptions{} })
	require.Equal(t, http.StatusUnauthorized, keyless.ask(t, keyless.upi()).StatusCode)

	unsigned := setup(t, func(o *Options) { o.UnionPay.SignKey = nil })
	r = unsigned.ask(t, unsigned.upi())
	require.Equal(t, "00", r.object(t)["respCode"])
	require.Empty(t, r.Header.Get("UPI-JWS"))

	rotated := setup(t, func(o *Options) {
		keys, _ := testKeys()
		o.UnionPay.ClientKeys = map[string]crypto.PublicKey{
			"old": &keys.UPISign.PublicKey, keys.ClientSignKid: &keys.ClientSign.PublicKey,
		}
	})
	old := rotated.upi()
	old.signer, old.protected["kid"] = rotated.keys.UPISign, "old"
	require.Equal(t, "00", rotated.ask(t, old).object(t)["respCode"])
	require.Equal(t, "00", rotated.ask(t, rotated.upi()).object(t)["respCode"])
}

func TestUsageIsAFunctionOfCardOfferAndSeed(t *testing.T) {
	t.Parallel()
	s, same, other := New(Options{Seed: 1}), New(Options{Seed: 1}), New(Options{Seed: 2})
	require.Equal(t, s.UsageOf(testCard, "1"), same.UsageOf(testCard, "1"))
	require.NotEqual(t, s.UsageOf(testCard, "1"), other.UsageOf(testCard, "1"))
	require.NotEqual(t, s.UsageOf(testCard, "1"), s.UsageOf(otherCard, "1"))

	var noDay, noMonth, currencies int
	for i := range 400 {
		pid := strconv.Itoa(i)
		u := s.UsageOf(testCard, pid)
		require.Equal(t, u.DayAmt == "", u.DayCnt == "")
		require.Equal(t, u.MonthAmt == "", u.MonthCnt == "")
		require.Regexp(t, `^\d{1,12}\.\d\d$`, u.TtlAmt)
		require.Regexp(t, `^\d{1,10}$`, u.TtlCnt)
		require.Len(t, u.DiscCurr, 3)
		require.LessOrEqual(t, number(t, u.MonthCnt), number(t, u.TtlCnt))
		if u.MonthCnt != "" {
			require.LessOrEqual(t, number(t, u.DayCnt), number(t, u.MonthCnt))
		}
		noDay += boolToInt(u.DayAmt == "")
		noMonth += boolToInt(u.MonthAmt == "")
		currencies += boolToInt(u.DiscCurr == "156")
	}
	require.InDelta(t, 100, noDay, 40)
	require.InDelta(t, 100, noMonth, 40)
	require.InDelta(t, 100, currencies, 40)
}

func number(t *testing.T, text string) int {
	t.Helper()
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err)
	return n
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// FuzzUsageRequest feeds the body parser and the JWE opener what no client would send.
func FuzzUsageRequest(f *testing.F) {
	f.Add([]byte(`{"procType":"01","pid":"1","data":"a.b.c.d.e"}`))
	f.Add([]byte(`{"data":"eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2Iiwia2lkIjoiMSJ9.AA.AA.AA.AA"}`))
	f.Add([]byte(`{"procType":1}`))
	f.Add([]byte(`[]`))
	keys, err := testKeys()
	require.NoError(f, err)
	o := keys.UnionPay()
	o.DecryptKeys["1"] = keys.UPIEncrypt
	u := newUnionPay(o, 1)
	f.Fuzz(func(t *testing.T, body []byte) {
		q, known := parseUsageRequest(body)
		code, message := u.check(q, known)
		require.NotEmpty(t, message)
		if code == UnionPayOK {
			_, code, _ = u.usage(q)
			require.NotEqual(t, UnionPayOK, code, "no fuzzer can encrypt")
		}
		secret, ok := u.open(text(q.Data))
		require.False(t, ok, "%v", secret)
	})
}

// FuzzAuthenticate feeds the verifier headers that nobody signed.
func FuzzAuthenticate(f *testing.F) {
	f.Add("a..b")
	f.Add("eyJhbGciOiJSUzI1NiJ9..AAAA")
	f.Add("....")
	keys, err := testKeys()
	require.NoError(f, err)
	u := newUnionPay(keys.UnionPay(), 1)
	body, err := json.Marshal(map[string]string{})
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, value string) {
		h := http.Header{"Content-Type": {"application/json"}, "Upi-Jws": {value}}
		require.NotEmpty(t, u.authenticate(h, body, time.Now()))
	})
}
