package unionpay

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// A provider is what the room upstream calls.
var _ upstream.Provider = (*Provider)(nil)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The published test values of this file. None of them is anybody's secret.
const (
	testCard   = "6200000000000005"
	testToken  = "Token7f3aQ9"
	testMobile = "+82-10-5550-0199"
)

// signingKey is the key pair of RFC 7515, appendix A.2.
var signingKey = sync.OnceValue(func() *rsa.PrivateKey {
	return rsaKey(
		"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_"+
			"YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQ"+
			"Y4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
		"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTG"+
			"oVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6"+
			"XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
		"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t"+
			"7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc")
})

// encryptionKey is the key pair of RFC 7516, appendix A.2.
var encryptionKey = sync.OnceValue(func() *rsa.PrivateKey {
	return rsaKey(
		"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXboIRROSBigeC5yjU1hGzHHyXss8UDprecbAY"+
			"xknTcQkhslANGRUZmdTOQ5qTRsLAt6BTYuyvVRdhS8exSZEy_c4gs_7svlJJQ4H9_NxsiIoLwAEk7-Q3UXERGYw_75IDrGA84-lA_-Ct4eTlXHBIY2Ea"+
			"V7t7LjJaynVJCpkv4LKjTTAumiGUIuQhrNhZLuF_RJLqHpM2kgWFLU7-VTdL1VbC2tejvcI2BlMkEpk1BzBZI0KQB0GaDWFLN-aEAw3vRw",
		"VFCWOqXr8nvZNyaaJLXdnNPXZKRaWCjkU5Q2egQQpTBMwhprMzWzpR8Sxq1OPThh_J6MUD8Z35wky9b8eEO0pwNS8xlh1lOFRRBoNqDIKVOku0aZb-rynq8c"+
			"xjDTLZQ6Fz7jSjR1Klop-YKaUHc9GsEofQqYruPhzSA-QgajZGPbE_0ZaVDJHfyd7UUBUKunFMScbflYAAOYJqVIVwaYR5zWEEceUjNnTNo_CVSj-VvX"+
			"LO5VZfCUAVLgW4dpf1SrtZjSt34YLsRarSb127reG_DUwg9Ch-KyvjT1SkHgUWRVGcyly7uvVGRSDwsXypdrNinPA4jlhoNdizK2zF2CWQ",
		"9gY2w6I6S6L0juEKsbeDAwpd9WMfgqFoeA9vEyEUuk4kLwBKcoe1x4HG68ik918hdDSE9vDQSccA3xXHOAFOPJ8R9EeIAbTi1VwBYnbTp87X-xcPWlEPkrdo"+
			"UKW60tgs1aNd_Nnc9LEVVPMS390zbFxt8TN_biaBgelNgbC95sM")
})

// rsaKey returns the key pair of the given modulus, private exponent and first prime in base64url.
func rsaKey(modulus, private, prime string) *rsa.PrivateKey {
	number := func(text string) *big.Int {
		raw, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil {
			panic(err)
		}
		return new(big.Int).SetBytes(raw)
	}
	n, p := number(modulus), number(prime)
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: n, E: 65537}, D: number(private), Primes: []*big.Int{p, new(big.Int).Div(n, p)},
	}
	key.Precompute()
	return key
}

// generatedKeys makes the keys that no RFC lends: [0] signs responses, [1] is a stranger's.
var generatedKeys = sync.OnceValue(func() [2]*rsa.PrivateKey {
	var keys [2]*rsa.PrivateKey
	for i := range keys {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		keys[i] = key
	}
	return keys
})

// responseKey is the key with which the upstream of these tests signs.
func responseKey() *rsa.PrivateKey { return generatedKeys()[0] }

// now is the time of these tests: 2025-01-02 03:04:05 in China.
func now() time.Time { return time.Date(2025, 1, 1, 19, 4, 5, 0, time.UTC) }

// options returns a whole configuration.
func options(tb testing.TB) Options {
	tb.Helper()
	return Options{
		BaseURL: "https://gateway.example", Path: "/offers/v1/usage", ProcType: "A1", SignCertID: "001", EncCertID: "002",
		InsCode: "100120156", PID: "1234567890", AppID: "00520446",
		Signing:      Signing{Kid: "1555570302", Key: signingKey()},
		Encryption:   Encryption{Kid: "20190411000000", Key: &encryptionKey().PublicKey},
		ResponseKeys: map[string]*rsa.PublicKey{"upi-1": &responseKey().PublicKey},
	}
}

// question returns a whole question about a UnionPay test card.
func question(tb testing.TB) upstream.Question {
	tb.Helper()
	number, err := card.ParseNumber(testCard)
	require.NoError(tb, err)
	return upstream.Question{
		Query: &query.Query{Provider: query.UnionPay, UnionPay: &query.UnionPayQuestion{}},
		Card:  &card.Details{UserToken: card.NewSecret(testToken), Number: number, Mobile: card.NewSecret(testMobile)},
	}
}

// bundle is one prepared attempt.
type bundle struct {
	provider *Provider
	exchange upstream.Exchange
	// body is the request's body, envelope the same as JSON.
	body     []byte
	envelope map[string]any
}

// setup prepares an attempt with the options as changed by change.
func setup(tb testing.TB, change func(*Options)) *bundle {
	tb.Helper()
	o := options(tb)
	if change != nil {
		change(&o)
	}
	provider, err := New(o)
	require.NoError(tb, err)
	exchange, err := provider.Prepare(now(), question(tb))
	require.NoError(tb, err)
	b := &bundle{provider: provider, exchange: exchange, body: readBody(tb, exchange.Request)}
	require.NoError(tb, json.Unmarshal(b.body, &b.envelope))
	return b
}

// readBody reads the request's body and puts it back.
func readBody(tb testing.TB, request *http.Request) []byte {
	tb.Helper()
	body, err := io.ReadAll(request.Body)
	require.NoError(tb, err)
	request.Body = io.NopCloser(bytes.NewReader(body))
	return body
}

// refNum is the reference of the bundle's request.
func (b *bundle) refNum() string { return b.envelope["refNum"].(string) }

// fields returns the members of a good answer to the bundle's request.
func (b *bundle) fields() map[string]any {
	return map[string]any{
		"procType": "A1", "insCode": "100120156", "refNum": b.refNum(), "respCode": "00", "respMsg": "Approved",
		"dayAmt": "12.50", "dayCnt": "1", "monthAmt": "100.00", "monthCnt": "8", "ttlAmt": "1234.56", "ttlCnt": "42", "discCurr": "156",
	}
}

// answer returns the good answer with the given members in the place of its own; nil takes a member out.
func (b *bundle) answer(tb testing.TB, members map[string]any) []byte {
	tb.Helper()
	fields := b.fields()
	for name, value := range members {
		if value == nil {
			delete(fields, name)
			continue
		}
		fields[name] = value
	}
	body, err := json.Marshal(fields)
	require.NoError(tb, err)
	return body
}

// signed returns a response with status 200 and the signature of the upstream over body.
func signed(tb testing.TB, body []byte) upstream.Response {
	tb.Helper()
	return respond(body, detached(tb, responseKey(), responseHeader(), body))
}

// respond returns a response with status 200 and the signature given, none if it is empty.
func respond(body []byte, jws string) upstream.Response {
	r := upstream.Response{Status: http.StatusOK, Header: http.Header{}, Body: body, At: now().Add(time.Second)}
	if jws != "" {
		r.Header.Set("UPI-JWS", jws)
	}
	return r
}

// responseHeader is the protected header of the upstream's signatures, written by hand.
func responseHeader() string {
	return `{"alg":"RS256","kid":"upi-1","crit":["UPI-UUID","UPI-TIMESTAMP","UPI-APPID"],` +
		`"UPI-UUID":"00112233445566778899aabbccddeeff","UPI-TIMESTAMP":"` + strconv.FormatInt(now().Unix(), 10) + `","UPI-APPID":"00520446"}`
}

// detached signs body below header by hand, sharing nothing with the code under test.
func detached(tb testing.TB, key *rsa.PrivateKey, header string, body []byte) string {
	tb.Helper()
	encoded := base64.RawURLEncoding.EncodeToString([]byte(header))
	digest := sha256.Sum256([]byte(encoded + "." + base64.RawURLEncoding.EncodeToString(body)))
	value, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	require.NoError(tb, err)
	return encoded + ".." + base64.RawURLEncoding.EncodeToString(value)
}

// requireFault requires err to be a fault of the given kind and code, and that a response was behind it.
func requireFault(tb testing.TB, err error, kind fault.Kind, code fault.Code) *fault.Error {
	tb.Helper()
	var known *fault.Error
	require.ErrorAs(tb, err, &known)
	require.Equal(tb, fmt.Sprint(kind, " ", code), fmt.Sprint(known.Kind, " ", known.Code), known.Op)
	return known
}
