package card

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

func TestNewKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys", "worker")
	files, err := NewKeys(dir, midnight.In(time.FixedZone("KST", 9*3600)))
	require.NoError(t, err)
	require.Len(t, files, 3)
	require.Regexp(t, `/20260302-000000-[0-9a-f]{8}\.private\.jwk$`, filepath.ToSlash(files[0]))
	require.Regexp(t, `/20260302-000000-[0-9a-f]{8}\.public\.jwk$`, filepath.ToSlash(files[1]))
	require.Regexp(t, `/fp-20260302-000000-[0-9a-f]{8}\.jwk$`, filepath.ToSlash(files[2]))

	// The file mode creation mask of whoever runs the test may take rights of the public file away.
	probe := filepath.Join(dir, "probe")
	f, err := os.OpenFile(probe, os.O_CREATE|os.O_EXCL, 0o666)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.Equal(t, os.FileMode(0o600), mode(t, files[0]))
	require.Equal(t, 0o644&mode(t, probe), mode(t, files[1]))
	require.Equal(t, os.FileMode(0o600), mode(t, files[2]))
	require.Equal(t, os.FileMode(0o700), mode(t, dir))

	for i, want := range []map[string]any{
		{"kty": "EC", "crv": "P-256", "use": "enc", "alg": "ECDH-ES+A256KW"}, {"kty": "EC", "crv": "P-256", "use": "enc", "alg": "ECDH-ES+A256KW"},
		{"kty": "oct", "use": "sig", "alg": "HS256"},
	} {
		raw, err := os.ReadFile(files[i])
		require.NoError(t, err)
		var members map[string]any
		require.NoError(t, json.Unmarshal(raw, &members))
		for name, value := range want {
			require.Equal(t, value, members[name])
		}
		require.Equal(t, i == 0, members["d"] != nil, "the private half is in the private file only")
		require.True(t, strings.HasPrefix(filepath.Base(files[i]), members["kid"].(string)+"."))
		require.True(t, strings.HasSuffix(string(raw), "}\n"))
	}
}

func mode(t *testing.T, file string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(file)
	require.NoError(t, err)
	return info.Mode().Perm()
}

func TestKeysAreNeverOverwritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	second, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	for _, file := range second {
		require.NotContains(t, first, file, "two keys of one second have two names")
	}
	before, err := os.ReadFile(first[0])
	require.NoError(t, err)
	err = writeJWK(first[0], jose.JSONWebKey{Key: newKey(t, elliptic.P256()), KeyID: "x"}, 0o600, times{})
	require.ErrorIs(t, err, fs.ErrExist)
	after, err := os.ReadFile(first[0])
	require.NoError(t, err)
	require.Equal(t, before, after)
	require.ErrorContains(t, writeJWK(filepath.Join(dir, "new"), jose.JSONWebKey{Key: "text"}, 0o600, times{}), "encoding failed")
}

func TestNewKeysFails(t *testing.T) {
	t.Parallel()
	file := write(t, t.TempDir(), "file", nil)
	_, err := NewKeys(file, midnight)
	require.ErrorContains(t, err, "make key directory")
}

func TestLoadRing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var ids, sealedThen []string
	for day := range 3 {
		files, err := NewKeys(dir, midnight.AddDate(0, 0, 2-day)) // The newest is made first: the id counts, not the file's age.
		require.NoError(t, err)
		ids = append(ids, strings.TrimSuffix(filepath.Base(files[0]), ".private.jwk"))
		sealer, err := LoadSealer(files[1])
		require.NoError(t, err)
		compact, err := sealer.Seal([]byte(ids[day]))
		require.NoError(t, err)
		sealedThen = append(sealedThen, compact)
	}
	write(t, dir, "README.txt", []byte("no key"))
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	require.Equal(t, []string{ids[2], ids[1], ids[0]}, ring.KeyIDs())
	require.Equal(t, ids[0], ring.Sealer().KeyID(), "the newest seals")
	_, keyID := ring.Fingerprint(details(t).Number)
	require.Equal(t, "fp-"+ids[0], keyID, "the newest takes fingerprints")
	for i, compact := range sealedThen {
		opened, err := ring.Open(compact, MaxSealed)
		require.NoError(t, err, "all of them open")
		require.Equal(t, ids[i], string(opened))
	}
	removed, err := filepath.Glob(filepath.Join(dir, ids[1]+".*"))
	require.NoError(t, err)
	for _, file := range removed {
		require.NoError(t, os.Remove(file))
	}
	ring, err = LoadRing(dir)
	require.NoError(t, err)
	_, err = ring.Open(sealedThen[1], MaxSealed)
	requireFault(t, err, fault.UnknownKey)
}

func TestLoadRingRefuses(t *testing.T) {
	t.Parallel()
	secret := slices.Repeat([]byte("k3y!"), 8)
	mismatched := *newKey(t, elliptic.P256())
	mismatched.PublicKey = newKey(t, elliptic.P256()).PublicKey
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	type file struct {
		kid string
		key any
	}
	pair, oct := file{"a", newKey(t, elliptic.P256())}, file{"fp-a", secret}
	for name, c := range map[string]struct {
		files []file
		want  string
	}{
		"nothing at all":         {nil, "worker keys new"},
		"no fingerprint key":     {[]file{pair}, "worker keys new"},
		"no key pair":            {[]file{oct}, "worker keys new"},
		"public keys only":       {[]file{{"a", &newKey(t, elliptic.P256()).PublicKey}, oct}, "worker keys new"},
		"P-384":                  {[]file{{"a", newKey(t, elliptic.P384())}, oct}, "not P-256"},
		"halves that do not fit": {[]file{{"a", &mismatched}, oct}, "do not belong together"},
		"a short secret":         {[]file{pair, {"fp-a", secret[:31]}}, "shorter than 32 bytes"},
		"an empty secret":        {[]file{pair, {"fp-a", []byte{}}}, ""},
		"one id for two pairs":   {[]file{pair, {"a", newKey(t, elliptic.P256())}, oct}, `two keys have the kid "a"`},
		"one id for two secrets": {[]file{pair, oct, {"fp-a", slices.Repeat([]byte("x"), 32)}}, `two fingerprint keys have the kid "fp-a"`},
		"no id":                  {[]file{{"", pair.key}, oct}, "no kid"},
		"no id of a secret":      {[]file{pair, {"", secret}}, "no kid"},
		"RSA":                    {[]file{pair, oct, {"r", rsaKey}}, "neither an EC P-256 nor an oct key"},
		"Ed25519":                {[]file{pair, oct, {"e", edwards}}, "neither an EC P-256 nor an oct key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for i, file := range c.files {
				writeKey(t, dir, string(rune('a'+i))+".jwk", file.kid, file.key)
			}
			ring, err := LoadRing(dir)
			require.Nil(t, ring)
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "k3y!")
			require.NotContains(t, err.Error(), base64.RawURLEncoding.EncodeToString(secret)[:12])
		})
	}
	_, err = LoadRing(filepath.Join(t.TempDir(), "missing"))
	require.ErrorContains(t, err, "worker keys new")
	_, err = LoadRing("[")
	require.ErrorContains(t, err, "list keys")
}

func TestAPrivateHalfOfZeroIsRefused(t *testing.T) {
	t.Parallel()
	point, err := newKey(t, elliptic.P256()).PublicKey.Bytes()
	require.NoError(t, err)
	dir := t.TempDir()
	write(t, dir, "a.jwk", []byte(`{"kty":"EC","crv":"P-256","kid":"a","x":"`+encode(point[1:33])+`","y":"`+encode(point[33:])+`","d":"`+encode(make([]byte, 32))+`"}`))
	_, err = LoadRing(dir)
	require.ErrorContains(t, err, "do not belong together")
}

func TestPublicKeysAreSkipped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	_, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	writeKey(t, dir, "zzz.public.jwk", "zzz", &newKey(t, elliptic.P256()).PublicKey)
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	require.Len(t, ring.KeyIDs(), 1)
	require.NotContains(t, ring.KeyIDs(), "zzz", "a public key neither opens nor seals")
	require.NotEqual(t, "zzz", ring.Sealer().KeyID())
}

// Key files that can't be read are named, and nothing of them is repeated.
func TestErrorsDoNotRepeatKeyFiles(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"nothing":          "",
		"garbage":          "s3cret garbage",
		"a PEM file":       "-----BEGIN EC PRIVATE KEY-----\ns3cret\n-----END EC PRIVATE KEY-----",
		"null":             "null",
		"an empty object":  "{}",
		"a text":           `"s3cret"`,
		"a wrong type":     `{"kty":"oct","kid":"a","k":6200000000000005}`,
		"an unknown type":  `{"kty":"s3cret"}`,
		"bad base64":       `{"kty":"oct","kid":"a","k":"s3cret!!"}`,
		"off the curve":    `{"kty":"EC","crv":"P-256","kid":"a","x":"` + encode(make([]byte, 32)) + `","y":"` + encode(make([]byte, 32)) + `","d":"s3cret"}`,
		"an unknown curve": `{"kty":"EC","crv":"s3cret","kid":"a","x":"AA","y":"AA"}`,
		"a set of keys":    `{"keys":[{"kty":"oct","kid":"a","k":"s3cret"}]}`,
		"trailing bytes":   `{"kty":"oct","kid":"a","k":"AAAA"} s3cret`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := write(t, dir, "bad.jwk", []byte(content))
			_, ringErr := LoadRing(dir)
			_, sealerErr := LoadSealer(file)
			for _, err := range []error{ringErr, sealerErr} {
				require.EqualError(t, err, "key file "+file+": it is not a JSON Web Key")
			}
		})
	}
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "folder.jwk"), 0o700))
	_, err := LoadRing(dir)
	require.ErrorContains(t, err, "read key")
}

func TestLoadSealer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	for _, file := range files[:2] {
		sealer, err := LoadSealer(file)
		require.NoError(t, err)
		require.Equal(t, ring.Sealer().KeyID(), sealer.KeyID())
		compact, err := sealer.Seal([]byte("hello"))
		require.NoError(t, err)
		opened, err := ring.Open(compact, MaxSealed)
		require.NoError(t, err)
		require.Equal(t, "hello", string(opened))
	}
	for name, file := range map[string]string{
		"a fingerprint key": files[2],
		"P-384":             writeKey(t, dir, "p384", "a", &newKey(t, elliptic.P384()).PublicKey),
		"no id":             writeKey(t, dir, "nameless", "", &newKey(t, elliptic.P256()).PublicKey),
	} {
		sealer, err := LoadSealer(file)
		require.Nil(t, sealer, name)
		require.EqualError(t, err, "key file "+file+": it is not an EC P-256 key with a kid")
	}
	_, err = LoadSealer(filepath.Join(dir, "missing"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestPublicJWK(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	raw, err := ring.Sealer().PublicJWK()
	require.NoError(t, err)
	var members map[string]string
	require.NoError(t, json.Unmarshal(raw, &members))
	require.Len(t, members, 7)
	require.NotContains(t, members, "d")
	require.Equal(t, ring.Sealer().KeyID(), members["kid"])
	require.Equal(t, "ECDH-ES+A256KW", members["alg"])

	key, err := jwk.ParseKey(raw)
	require.NoError(t, err, "another library reads it")
	var public ecdsa.PublicKey
	require.NoError(t, jwk.Export(key, &public))
	require.True(t, ring.key().PublicKey.Equal(&public))

	sealer, err := LoadSealer(write(t, t.TempDir(), "public.jwk", raw))
	require.NoError(t, err)
	compact, err := sealer.Seal([]byte("hello"))
	require.NoError(t, err)
	_, err = ring.Open(compact, MaxSealed)
	require.NoError(t, err)
}

// fixed returns a ring that is always the same: its fingerprint key holds one byte 32 times over, and so does its private key.
func fixed(t testing.TB, kid string, b byte) *Ring {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), slices.Repeat([]byte{b}, 32))
	require.NoError(t, err)
	writeKey(t, dir, "a.jwk", "a", key)
	writeKey(t, dir, "fp.jwk", kid, slices.Repeat([]byte{b}, 32))
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	return ring
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	// printf 'discount-query/card/v1|6200000000000005' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…01 -binary | basenc --base64url.
	fingerprint, keyID := fixed(t, "fp-1", 1).Fingerprint(details(t).Number)
	require.Equal(t, "TLwD2ibIzBsm_Whjytb_N1uEy-9Ba9r5mvs3nfOF9n0", fingerprint)
	require.Equal(t, "fp-1", keyID)

	again, _ := fixed(t, "fp-2", 1).Fingerprint(details(t).Number)
	require.Equal(t, fingerprint, again, "the id is no part of it")
	other, _ := fixed(t, "fp-1", 2).Fingerprint(details(t).Number)
	require.NotEqual(t, fingerprint, other, "another key, another fingerprint")
}

func TestFingerprintsJoinEqualNumbersOnly(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	seen := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		digits := checkDigit(rapid.StringMatching(`62[0-9]{10,16}`).Draw(t, "digits"))
		one, err := ParseNumber(digits)
		require.NoError(t, err)
		two, err := ParseNumber(strings.Clone(digits))
		require.NoError(t, err)
		fingerprint, keyID := ring.Fingerprint(one)
		again, _ := ring.Fingerprint(two)
		require.Equal(t, fingerprint, again)
		require.Equal(t, ring.joining(), keyID)
		require.Regexp(t, `^[A-Za-z0-9_-]{43}$`, fingerprint)
		require.NotContains(t, fingerprint, digits)
		if before, ok := seen[fingerprint]; ok {
			require.Equal(t, before, digits)
		}
		seen[fingerprint] = digits
	})
}

func BenchmarkFingerprint(b *testing.B) {
	ring, number := setup(b), details(b).Number
	b.ReportAllocs()
	for b.Loop() {
		ring.Fingerprint(number)
	}
}

func BenchmarkParseNumber(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseNumber(cardNumber); err != nil {
			b.Fatal(err)
		}
	}
}
