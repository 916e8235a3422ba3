package unionpay

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http/httputil"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// secrets draws card data from public test ranges, with tokens and mobiles long enough not to occur by chance.
type secrets struct{ token, number, mobile string }

func drawSecrets(t *rapid.T) secrets {
	return secrets{
		token:  rapid.StringMatching(`[a-zA-Z0-9]{12,50}`).Draw(t, "token"),
		number: rapid.SampledFrom([]string{testCard, "6205500000000000004", "4111111111111111"}).Draw(t, "number"),
		mobile: rapid.StringMatching(`\+[0-9]{2}-[0-9]{9,20}`).Draw(t, "mobile"),
	}
}

func (s secrets) question(t *rapid.T) upstream.Question {
	number, err := card.ParseNumber(s.number)
	require.NoError(t, err)
	return upstream.Question{
		Query: &query.Query{UnionPay: &query.UnionPayQuestion{PID: rapid.StringMatching(`[0-9]{1,10}`).Draw(t, "pid")}},
		Card:  &card.Details{UserToken: card.NewSecret(s.token), Number: number, Mobile: card.NewSecret(s.mobile)},
	}
}

// requireHidden requires that text holds none of the secrets, not even encoded.
func (s secrets) requireHidden(tb rapid.TB, where, text string) {
	tb.Helper()
	for _, secret := range []string{s.token, s.number, s.mobile} {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(secret))[:len(secret)]} {
			if strings.Contains(text, form) {
				tb.Fatalf("%s shows a secret", where)
			}
		}
		// fmt prints a slice of bytes as numbers.
		if strings.Contains(text, strings.Trim(fmt.Sprint([]byte(secret)), "[]")) {
			tb.Fatalf("%s shows the bytes of a secret", where)
		}
	}
}

func printed(values ...any) string {
	var b strings.Builder
	for _, value := range values {
		_, _ = fmt.Fprintf(&b, "%v %+v %#v %s\n", value, value, value, value)
	}
	return b.String()
}

func TestNothingLeaksFromARequest(t *testing.T) {
	t.Parallel()
	o := options(t)
	p, err := New(o)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSecrets(t)
		exchange, err := p.Prepare(now(), s.question(t))
		require.NoError(t, err)
		s.requireHidden(t, "the printed exchange", printed(exchange, exchange.Request, exchange.Request.Body, p, o))
		wire, err := httputil.DumpRequestOut(exchange.Request, true)
		require.NoError(t, err)
		s.requireHidden(t, "the request on the wire", string(wire))
	})
}

func TestNothingLeaksFromABadQuestion(t *testing.T) {
	t.Parallel()
	p, err := New(options(t))
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSecrets(t)
		bad := rapid.SampledFrom([]string{"\n", "\x00", "가", strings.Repeat("x", 60)}).Draw(t, "bad")
		switch rapid.IntRange(0, 2).Draw(t, "field") {
		case 0:
			s.token += bad
		case 1:
			s.mobile += bad
		default:
			s.token += "-" + bad
		}
		exchange, err := p.Prepare(now(), s.question(t))
		require.Error(t, err)
		s.requireHidden(t, "the error", printed(err, exchange)+err.Error())
	})
}

func TestNothingLeaksFromAResponse(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.VerifyResponse = VerifyOff
	p, err := New(o)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		s := drawSecrets(t)
		exchange, err := p.Prepare(now(), s.question(t))
		require.NoError(t, err)
		echo := fmt.Sprintf(`{"userToken":%q,"cardNo":%q,"mobile":%q}`, s.token, s.number, s.mobile)
		body := rapid.SampledFrom([]string{
			echo, echo + "x", "<html>" + echo, `{"respCode":"` + s.number + `"}`, `{"respCode":"` + s.token + `"}`, `{"ttlAmt":"` + s.number + `"}`,
			`{"refNum":"` + s.number + `","respCode":"00"}`, `{"MsgResponse":{"responseCode":"` + s.number + `"}}`,
		}).Draw(t, "body")
		status := rapid.SampledFrom([]int{200, 400, 401, 500}).Draw(t, "status")
		answer, err := exchange.Read(upstream.Response{Status: status, Body: []byte(body), At: now()})
		require.Error(t, err)
		s.requireHidden(t, "the error", printed(err, answer)+err.Error())
		// The fields of the fault are public too.
		s.requireHidden(t, "the fault", fmt.Sprintf("%+v", *requireKnown(t, err)))
	})
}

// TestPrintingShowsNoKey prints what holds keys.
func TestPrintingShowsNoKey(t *testing.T) {
	t.Parallel()
	o := options(t)
	p, err := New(o)
	require.NoError(t, err)
	text := printed(o, p, p.signer, p.verifier, p.sealer)
	for _, secret := range []string{o.Signing.Key.D.String(), o.Signing.Key.Primes[0].String(), fmt.Sprintf("%x", o.Signing.Key.D)} {
		require.NotContains(t, text, secret[:40])
	}
}

// TestPlainModeIsPlain pins down what EncryptOff means, so that nobody takes it for safe.
func TestPlainModeIsPlain(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Encryption = Encryption{Mode: EncryptOff} })
	require.True(t, bytes.Contains(b.body, []byte(testCard)))
	require.NotContains(t, printed(b.exchange, b.provider), testCard)
	require.Equal(t, map[string]any{"userToken": testToken, "cardNo": testCard, "mobile": testMobile}, b.envelope["data"])
}
