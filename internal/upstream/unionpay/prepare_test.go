package unionpay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

func TestPrepareWritesTheEnvelope(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	data, ok := b.envelope["data"].(string)
	require.True(t, ok, "data must be a string")
	require.Len(t, strings.Split(data, "."), 5, "data must be a compact JWE")
	require.Regexp(t, `^[1-9][0-9]{14}$`, b.refNum())
	delete(b.envelope, "data")
	delete(b.envelope, "refNum")
	require.Equal(t, map[string]any{
		"procType": "A1", "signCertId": "001", "encCertId": "002", "insCode": "100120156", "pid": "1234567890",
		"localTime": "20250102030405", "localTimeZone": "GMT+08:00",
	}, b.envelope, "scenId and resvFld must be left out")
}

func TestPrepareMakesTheRequest(t *testing.T) {
	t.Parallel()
	r := setup(t, func(o *Options) { o.BaseURL = "https://gateway.example:8443/prefix/" }).exchange.Request
	require.Equal(t, http.MethodPost, r.Method)
	require.Equal(t, "https://gateway.example:8443/prefix/offers/v1/usage", r.URL.String())
	require.Equal(t, "gateway.example:8443", r.Host)
	require.Equal(t, "application/json;charset=UTF-8", r.Header.Get("Content-Type"))
	require.Equal(t, "application/json", r.Header.Get("Accept"))
	require.Equal(t, int64(len(readBody(t, r))), r.ContentLength)
	require.Nil(t, r.GetBody, "a signed request must not be sent twice")
	require.Len(t, r.Header["UPI-JWS"], 1)
	require.NotContains(t, r.Header, "Upi-Jws")
}

func TestPrepareTakesTheQuerysOwnFieldsFirst(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.ScenID, o.ResvFld = "S1", "reserved <&> text" }).provider
	for name, c := range map[string]struct {
		asked  query.UnionPayQuestion
		pid    string
		scenID string
	}{
		"configured":      {query.UnionPayQuestion{}, "1234567890", "S1"},
		"of the query":    {query.UnionPayQuestion{PID: "77", ScenID: "ab-1"}, "77", "ab-1"},
		"pid only":        {query.UnionPayQuestion{PID: "0001"}, "0001", "S1"},
		"longest allowed": {query.UnionPayQuestion{PID: "0123456789", ScenID: "~ !a"}, "0123456789", "~ !a"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := question(t)
			q.Query.UnionPay = &c.asked
			exchange, err := p.Prepare(now(), q)
			require.NoError(t, err)
			var body struct{ PID, ScenID, ResvFld string }
			require.NoError(t, json.Unmarshal(readBody(t, exchange.Request), &body))
			require.Equal(t, c.pid, body.PID)
			require.Equal(t, c.scenID, body.ScenID)
			require.Equal(t, "reserved <&> text", body.ResvFld)
		})
	}
}

func TestPrepareRefusesFieldsThatBreakTheirRules(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.PID = ""
	p, err := New(o)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*upstream.Question)
		field  string
	}{
		"no query":          {func(q *upstream.Question) { q.Query = nil }, "data"},
		"another provider":  {func(q *upstream.Question) { q.Query.UnionPay = nil }, "data"},
		"no card":           {func(q *upstream.Question) { q.Card = nil }, "data"},
		"no pid":            {func(q *upstream.Question) { q.Query.UnionPay.PID = "" }, "pid"},
		"pid too long":      {func(q *upstream.Question) { q.Query.UnionPay.PID = "12345678901" }, "pid"},
		"pid with a letter": {func(q *upstream.Question) { q.Query.UnionPay.PID = "12a" }, "pid"},
		"pid with a sign":   {func(q *upstream.Question) { q.Query.UnionPay.PID = "-12" }, "pid"},
		"pid full width":    {func(q *upstream.Question) { q.Query.UnionPay.PID = "１２" }, "pid"},
		"scenId too long":   {func(q *upstream.Question) { q.Query.UnionPay.ScenID = "12345" }, "scenId"},
		"scenId control":    {func(q *upstream.Question) { q.Query.UnionPay.ScenID = "a\n" }, "scenId"},
		"scenId Korean":     {func(q *upstream.Question) { q.Query.UnionPay.ScenID = "가" }, "scenId"},
		"no token":          {func(q *upstream.Question) { q.Card.UserToken = card.Secret{} }, "userToken"},
		"token too long":    {func(q *upstream.Question) { q.Card.UserToken = card.NewSecret(strings.Repeat("a", 51)) }, "userToken"},
		"token special":     {func(q *upstream.Question) { q.Card.UserToken = card.NewSecret("abc-def") }, "userToken"},
		"no card number":    {func(q *upstream.Question) { q.Card.Number = card.Number{} }, "cardNo"},
		"mobile too long":   {func(q *upstream.Question) { q.Card.Mobile = card.NewSecret(strings.Repeat("1", 31)) }, "mobile"},
		"mobile with a tab": {func(q *upstream.Question) { q.Card.Mobile = card.NewSecret("1\t2") }, "mobile"},
		"mobile invalid":    {func(q *upstream.Question) { q.Card.Mobile = card.NewSecret("1\xff") }, "mobile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := question(t)
			q.Query.UnionPay.PID = "1"
			_, err := p.Prepare(now(), q)
			require.NoError(t, err, "the question is good before it is changed")
			c.change(&q)
			exchange, err := p.Prepare(now(), q)
			require.Equal(t, "unionpay: check "+c.field, requireFault(t, err, fault.Rejected, fault.BadField).Op)
			require.Zero(t, exchange.Request)
		})
	}
}

func TestPrepareLeavesOutAnEmptyMobile(t *testing.T) {
	t.Parallel()
	p := setup(t, func(o *Options) { o.Encryption = Encryption{Mode: EncryptOff} }).provider
	q := question(t)
	q.Card.Mobile = card.Secret{}
	exchange, err := p.Prepare(now(), q)
	require.NoError(t, err)
	require.Contains(t, string(readBody(t, exchange.Request)), `"data":{"userToken":"`+testToken+`","cardNo":"`+testCard+`"}}`)
}

func TestEachAttemptIsNew(t *testing.T) {
	t.Parallel()
	p := setup(t, nil).provider
	seen := map[string]string{}
	for range 20 {
		exchange, err := p.Prepare(now(), question(t))
		require.NoError(t, err)
		var body struct{ RefNum, Data string }
		require.NoError(t, json.Unmarshal(readBody(t, exchange.Request), &body))
		jws := exchange.Request.Header["UPI-JWS"][0]
		for what, value := range map[string]string{
			"refNum": body.RefNum, "data": body.Data, "signature": jws[strings.LastIndex(jws, "."):], "uuid": headerOf(t, jws)["UPI-UUID"].(string),
		} {
			require.NotContains(t, seen, value, what)
			seen[value] = what
		}
	}
}

// headerOf reads the protected header of a JWS.
func headerOf(tb testing.TB, jws string) map[string]any {
	tb.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(jws[:strings.Index(jws, ".")])
	require.NoError(tb, err)
	var header map[string]any
	require.NoError(tb, json.Unmarshal(raw, &header))
	return header
}

func TestSignatureHeaderHasItsMembers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Options)
		crit   []any
		path   string
	}{
		"default":     {nil, []any{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"}, "/offers/v1/usage"},
		"own path":    {func(o *Options) { o.ReqPath = "/usage" }, []any{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"}, "/usage"},
		"b64 in crit": {func(o *Options) { o.Signing.B64InHeader = true }, []any{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH", "b64"}, "/offers/v1/usage"},
		"prefix left out": {
			func(o *Options) { o.BaseURL = "https://gateway.example/prefix" },
			[]any{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"}, "/offers/v1/usage",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := headerOf(t, setup(t, c.change).exchange.Request.Header["UPI-JWS"][0])
			require.Regexp(t, `^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`, header["UPI-UUID"])
			delete(header, "UPI-UUID")
			want := map[string]any{
				"alg": "RS256", "kid": "1555570302", "crit": c.crit, "UPI-TIMESTAMP": "1735758245", "UPI-APPID": "00520446", "UPI-REQPATH": c.path,
			}
			if len(c.crit) == 5 {
				want["b64"] = false
			}
			require.Equal(t, want, header)
		})
	}
}

func TestLocalTimeIsThatOfTheZone(t *testing.T) {
	t.Parallel()
	for zone, want := range map[string]string{
		"GMT+08:00": "20250102030405", "UTC+09:00": "20250102040405", "GMT-03:30": "20250101153405", "UTC+00:00": "20250101190405",
		"GMT+14:00": "20250102090405",
	} {
		b := setup(t, func(o *Options) { o.TimeZone = zone })
		require.Equal(t, want, b.envelope["localTime"], zone)
		require.Equal(t, zone, b.envelope["localTimeZone"])
	}
}

// TestHeaderKeepsItsSpellingOnTheWire reads the request as a gateway sees it, because http.Header hides how a name is spelled.
func TestHeaderKeepsItsSpellingOnTheWire(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	heads := make(chan string, 1)
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		head := new(bytes.Buffer)
		reader := bufio.NewReader(io.TeeReader(connection, head))
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		_, _ = io.WriteString(connection, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		heads <- head.String()
	}()
	b := setup(t, func(o *Options) { o.BaseURL = "http://" + listener.Addr().String() })
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	response, err := client.Do(b.exchange.Request.WithContext(ctx))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	head := <-heads
	require.True(t, strings.HasPrefix(head, "POST /offers/v1/usage HTTP/1.1\r\n"), head)
	require.Contains(t, head, "\r\nUPI-JWS: "+b.exchange.Request.Header["UPI-JWS"][0]+"\r\n")
	require.True(t, strings.HasSuffix(head, "\r\n\r\n"+string(b.body)), "the bytes on the wire are those that were signed")
}

// brokenAfter is a source of randomness that fails after some bytes.
type brokenAfter struct{ left int }

func (b *brokenAfter) Read(p []byte) (int, error) {
	if b.left < len(p) {
		return 0, errors.New("no more " + testCard)
	}
	b.left -= len(p)
	return len(p), nil
}

func TestWithoutRandomnessNothingIsSent(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Rand = &brokenAfter{left: 4}
	_, err := New(o)
	require.ErrorContains(t, err, "draw the first reference number")
	o.Rand = &brokenAfter{left: 8}
	p, err := New(o)
	require.NoError(t, err)
	_, err = p.Prepare(now(), question(t))
	require.NotContains(t, requireFault(t, err, fault.Unavailable, fault.SigningFailed).Error(), testCard)
}

// TestKnownVector compares a whole request, made with fixed randomness and the key of RFC 7515 appendix A.2, with one whose
// signature was made by OpenSSL.
func TestKnownVector(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) {
		o.Encryption = Encryption{Mode: EncryptOff}
		o.Rand = bytes.NewReader(bytes.Repeat([]byte{0x5a}, 24))
	})
	require.Equal(t, vectorBody, string(b.body))
	require.Equal(t, vectorHeader, mustDecode(t, strings.Split(b.exchange.Request.Header["UPI-JWS"][0], ".")[0]))
	require.Equal(t, vectorSignature, hex.EncodeToString([]byte(mustDecode(t, strings.Split(b.exchange.Request.Header["UPI-JWS"][0], ".")[2]))))
}

func mustDecode(tb testing.TB, text string) string {
	tb.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(tb, err)
	return string(raw)
}

const (
	vectorBody = `{"procType":"A1","signCertId":"001","encCertId":"002","insCode":"100120156","pid":"1234567890","refNum":"115555426900571",` +
		`"localTime":"20250102030405","localTimeZone":"GMT+08:00","data":{"userToken":"Token7f3aQ9","cardNo":"6200000000000005","mobile":"+82-10-5550-0199"}}`
	vectorHeader = `{"alg":"RS256","kid":"1555570302","crit":["UPI-UUID","UPI-TIMESTAMP","UPI-APPID","UPI-REQPATH"],` +
		`"UPI-UUID":"5a5a5a5a5a5a4a5a9a5a5a5a5a5a5a5a","UPI-TIMESTAMP":"1735758245","UPI-APPID":"00520446","UPI-REQPATH":"/offers/v1/usage"}`
	vectorSignature = "53b0360f2a97cdeb634619fb2d2904a2675c16f426a7b37105781e1b46303a4e5bad4aefe31290b8dfa0e03eec29c6544d30b80a7d527eeb4270c9eb18d6e5f4" +
		"195b4d7da62fa8ed706c5d14d86cc7b9d397593081b205b8d78d3707f952bf9bb42fe12c93c8081bf410640a6f1f09e518e7c09afa2bc1a6bd4ea1dcbece2177" +
		"97f1d9ee6874c38305ba9cb38f89735ec31f5baa65ae7d6d952dcc801ebb610a79de31978ca80b2f978db06e4b6c7f5e8d1d8085fbfa3601049dd27baf142a9f" +
		"a2c3d87a30b5c2403044bedb2e5f30c50e14c6953a29148bd5c43e02cc562e717a8cd176b57f7d5f9baf4fbef5aa2671efc41e0a1484ab7bee94c3f063f1e4ac"
)
