package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// Published test numbers, never anybody's card, and what else a query may hold that must not be seen.
const (
	cardNumber = "6200000000000005"
	userToken  = "c0ffee62c0ffee"
	mobile     = "+852-5550-0100"
)

var midnight = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)

// setup returns a ring with one key of each kind.
func setup(t testing.TB) *Ring {
	t.Helper()
	dir := t.TempDir()
	_, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	return ring
}

// key returns the private key that the ring seals to.
func (r *Ring) key() *ecdsa.PrivateKey { return r.keys.Load().private[r.Sealer().KeyID()] }

// joining returns the id of the key that takes fingerprints.
func (r *Ring) joining() string {
	_, id := r.Fingerprint(Number{})
	return id
}

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	require.NoError(t, err)
	return key
}

// writeKey writes a key of any kind into dir as a JWK.
func writeKey(t testing.TB, dir, name, kid string, key any) string {
	t.Helper()
	raw, err := json.Marshal(jose.JSONWebKey{Key: key, KeyID: kid})
	require.NoError(t, err)
	return write(t, dir, name, raw)
}

func write(t testing.TB, dir, name string, content []byte) string {
	t.Helper()
	file := filepath.Join(dir, name)
	require.NoError(t, os.WriteFile(file, content, 0o600))
	return file
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode(t testing.TB, text string) []byte {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(t, err)
	return raw
}

// requireFault checks that err is Malformed with the code given, and that its text is made of nothing else.
func requireFault(t require.TestingT, err error, code fault.Code) {
	require.Error(t, err)
	require.Equal(t, fault.Malformed, fault.KindOf(err), "%v", err)
	require.Equal(t, code, fault.CodeOf(err), "%v", err)
	require.Regexp(t, `^[a-z ]{3,30}: malformed \(`+string(code)+`\)$`, err.Error())
}

func details(t testing.TB) Details {
	t.Helper()
	number, err := ParseNumber(cardNumber)
	require.NoError(t, err)
	return Details{UserToken: NewSecret(userToken), Number: number, Mobile: NewSecret(mobile)}
}
