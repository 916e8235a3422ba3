package unionpay

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/stretchr/testify/require"
)

// The tests of this file check requests with a JOSE implementation that had no part in making them.

func verifyIndependently(tb testing.TB, value string, body []byte) error {
	tb.Helper()
	_, err := jws.Verify([]byte(value),
		jws.WithKey(jwa.RS256(), &signingKey().PublicKey), jws.WithDetachedPayload(body),
		jws.WithCritExtension("UPI-UUID"), jws.WithCritExtension("UPI-TIMESTAMP"), jws.WithCritExtension("UPI-APPID"), jws.WithCritExtension("UPI-REQPATH"))
	return err
}

func TestSignatureVerifiesElsewhere(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"default": nil, "unencoded payload": func(o *Options) { o.Signing.B64InHeader = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, change)
			value := b.exchange.Request.Header["UPI-JWS"][0]
			require.NoError(t, verifyIndependently(t, value, b.body))
			tampered := append([]byte(nil), b.body...)
			tampered[len(tampered)/2] ^= 1
			require.Error(t, verifyIndependently(t, value, tampered))
			require.Error(t, verifyIndependently(t, value, append(b.body, '\n')))
		})
	}
}

func TestDataDecryptsElsewhere(t *testing.T) {
	t.Parallel()
	algorithms := map[string]jwa.KeyEncryptionAlgorithm{AlgRSA15: jwa.RSA1_5(), AlgRSAOAEP256: jwa.RSA_OAEP_256()}
	for alg, algorithm := range algorithms {
		for _, enc := range []string{EncA128CBCHS256, EncA128GCM, EncA256GCM} {
			t.Run(alg+" "+enc, func(t *testing.T) {
				t.Parallel()
				b := setup(t, func(o *Options) { o.Encryption.Alg, o.Encryption.Enc = alg, enc })
				compact := b.envelope["data"].(string)
				require.Equal(t, map[string]any{"alg": alg, "enc": enc, "kid": "20190411000000"}, headerOf(t, compact))
				plain, err := jwe.Decrypt([]byte(compact), jwe.WithKey(algorithm, encryptionKey()))
				require.NoError(t, err)
				require.Equal(t, `{"userToken":"`+testToken+`","cardNo":"`+testCard+`","mobile":"`+testMobile+`"}`, string(plain))
				_, err = jwe.Decrypt([]byte(compact), jwe.WithKey(algorithm, responseKey()))
				require.Error(t, err)
			})
		}
	}
}

func TestDefaultAlgorithmsAreThoseOfThePage(t *testing.T) {
	t.Parallel()
	header := headerOf(t, setup(t, nil).envelope["data"].(string))
	require.Equal(t, "RSA1_5", header["alg"])
	require.Equal(t, "A128CBC-HS256", header["enc"])
}

// TestSignatureMadeElsewhereIsRead has the independent implementation sign a response.
func TestSignatureMadeElsewhereIsRead(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	headers := jws.NewHeaders()
	var members map[string]any
	require.NoError(t, json.Unmarshal([]byte(responseHeader()), &members))
	for name, value := range members {
		if name == "alg" {
			continue
		}
		if name == "crit" {
			value = []string{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID"}
		}
		require.NoError(t, headers.Set(name, value))
	}
	value, err := jws.Sign(nil, jws.WithKey(jwa.RS256(), responseKey(), jws.WithProtectedHeaders(headers)), jws.WithDetachedPayload(body))
	require.NoError(t, err)
	require.Contains(t, string(value), "..")
	_, err = b.exchange.Read(respond(body, string(value)))
	require.NoError(t, err)
	_, err = b.exchange.Read(respond(append(body, ' '), strings.TrimSpace(string(value))))
	require.Error(t, err)
}
