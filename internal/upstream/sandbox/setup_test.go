package sandbox

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testKeys are made once for the whole package: they take long.
var testKeys = sync.OnceValues(NewKeys)

const (
	testCard   = "6200000000000005"
	otherCard  = "6205500000000000004"
	testToken  = "TOKEN0001ABCDEF"
	testMobile = "+82-10-0000-0000"
)

// bundle is a sandbox that is served, and a client that follows no redirects and unpacks nothing.
type bundle struct {
	*Sandbox
	run    *Running
	client *http.Client
	keys   Keys
}

func setup(t *testing.T, change ...func(*Options)) *bundle {
	t.Helper()
	keys, err := testKeys()
	require.NoError(t, err)
	o := Options{Seed: 7, UnionPay: keys.UnionPay()}
	for _, c := range change {
		c(&o)
	}
	s := New(o)
	run, err := s.Start(t.Context(), Listen{EasyPay: "127.0.0.1:0", UnionPay: "127.0.0.1:0", Admin: "127.0.0.1:0"})
	require.NoError(t, err)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(t, run.Close(context.Background()))
	})
	return &bundle{Sandbox: s, run: run, keys: keys, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// faults puts faults in force.
func (b *bundle) faults(t *testing.T, text string) {
	t.Helper()
	list, err := ParseFaults(text)
	require.NoError(t, err)
	require.NoError(t, b.SetFaults(list))
}

// reply is a response that was read to its end, or as far as it went.
type reply struct {
	*http.Response
	body []byte
	err  error
}

func (b *bundle) do(t *testing.T, req *http.Request) reply {
	t.Helper()
	resp, err := b.client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{Response: resp, body: body, err: err}
}

// easy sends a body to EasyPay's current address.
func (b *bundle) easy(t *testing.T, body string) reply {
	t.Helper()
	return b.do(t, b.easyRequest(t, t.Context(), body))
}

func (b *bundle) easyRequest(t *testing.T, ctx context.Context, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.run.EasyPayURL()+EasyPayPath, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	return req
}

// object reads a reply as a JSON object, keeping numbers as they were written.
func (r reply) object(t *testing.T) map[string]any {
	t.Helper()
	require.NoError(t, r.err)
	var out map[string]any
	dec := json.NewDecoder(bytes.NewReader(r.body))
	dec.UseNumber()
	require.NoError(t, dec.Decode(&out), "%s", r.body)
	return out
}

// upiCall is a query to UnionPay, built by code of its own: plain crypto for the signature, go-jose for the JWE. A test changes what
// it wants to be wrong before it is sent.
type upiCall struct {
	signer     *rsa.PrivateKey
	protected  map[string]any
	fields     map[string]any
	secret     map[string]any
	alg        jose.KeyAlgorithm
	enc        jose.ContentEncryption
	encKid     string
	path       string
	signature  func(string) string
	afterwards func([]byte) []byte
}

func (b *bundle) upi() *upiCall {
	var uuid [16]byte
	_, _ = rand.Read(uuid[:])
	id := hex.EncodeToString(uuid[:])
	return &upiCall{
		signer: b.keys.ClientSign,
		path:   UnionPayPath,
		protected: map[string]any{
			"alg": "RS256", "kid": b.keys.ClientSignKid,
			"crit":     []string{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"},
			"UPI-UUID": id, "UPI-TIMESTAMP": strconv.FormatInt(time.Now().Unix(), 10),
			"UPI-APPID": DefaultAppID, "UPI-REQPATH": UnionPayPath,
		},
		fields: map[string]any{
			"procType": "01", "signCertId": "001", "encCertId": "002", "insCode": "100120156", "pid": "1234567890",
			"refNum": fmt.Sprintf("%015d", binary.BigEndian.Uint64(uuid[:])%1_000_000_000_000_000), "localTime": "20250102030405", "localTimeZone": "GMT+08:00",
		},
		secret: map[string]any{"userToken": testToken, "cardNo": testCard, "mobile": testMobile},
		alg:    jose.RSA1_5, enc: jose.A128CBC_HS256, encKid: b.keys.UPIEncryptKid,
	}
}

// seal returns the call's secret as compact JWE.
func (c *upiCall) seal(t testing.TB, key *rsa.PublicKey) string {
	t.Helper()
	encrypter, err := jose.NewEncrypter(c.enc, jose.Recipient{Algorithm: c.alg, Key: key, KeyID: c.encKid}, nil)
	require.NoError(t, err)
	plain, err := json.Marshal(c.secret)
	require.NoError(t, err)
	sealed, err := encrypter.Encrypt(plain)
	require.NoError(t, err)
	token, err := sealed.CompactSerialize()
	require.NoError(t, err)
	return token
}

// request builds the signed HTTP request.
func (b *bundle) request(t *testing.T, ctx context.Context, c *upiCall) *http.Request {
	t.Helper()
	fields := maps.Clone(c.fields)
	if _, given := fields["data"]; !given {
		fields["data"] = c.seal(t, &b.keys.UPIEncrypt.PublicKey)
	}
	body, err := json.Marshal(fields)
	require.NoError(t, err)
	signature := detach(t, c.signer, c.protected, body)
	if c.signature != nil {
		signature = c.signature(signature)
	}
	if c.afterwards != nil {
		body = c.afterwards(body)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.run.UnionPayURL()+c.path, bytes.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json;charset=UTF-8")
	if signature != "" {
		req.Header["UPI-JWS"] = []string{signature}
	}
	return req
}

func (b *bundle) ask(t *testing.T, c *upiCall) reply {
	t.Helper()
	return b.do(t, b.request(t, t.Context(), c))
}

// detach signs a body with plain crypto.
func detach(t *testing.T, key *rsa.PrivateKey, protected map[string]any, body []byte) string {
	t.Helper()
	header, err := json.Marshal(protected)
	require.NoError(t, err)
	first := base64.RawURLEncoding.EncodeToString(header)
	digest := sha256.Sum256([]byte(first + "." + base64.RawURLEncoding.EncodeToString(body)))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	require.NoError(t, err)
	return first + ".." + base64.RawURLEncoding.EncodeToString(signature)
}

// signed checks a response's signature with plain crypto and returns its protected header.
func (b *bundle) signed(t *testing.T, r reply) (map[string]any, error) {
	t.Helper()
	require.NoError(t, r.err)
	first, last, found := strings.Cut(r.Header.Get("UPI-JWS"), "..")
	require.True(t, found, "the answer is not signed: %s", r.body)
	header, err := base64.RawURLEncoding.DecodeString(first)
	require.NoError(t, err)
	signature, err := base64.RawURLEncoding.DecodeString(last)
	require.NoError(t, err)
	var protected map[string]any
	require.NoError(t, json.Unmarshal(header, &protected))
	digest := sha256.Sum256([]byte(first + "." + base64.RawURLEncoding.EncodeToString(r.body)))
	return protected, rsa.VerifyPKCS1v15(&b.keys.UPISign.PublicKey, crypto.SHA256, digest[:], signature)
}
