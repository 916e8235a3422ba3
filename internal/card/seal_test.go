package card

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

func TestSealAndOpen(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	rapid.Check(t, func(t *rapid.T) {
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 2000).Draw(t, "plaintext")
		compact, err := ring.Seal(plaintext)
		require.NoError(t, err)
		require.Regexp(t, `^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*){4}$`, compact)
		opened, err := ring.Open(compact, MaxSealed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(plaintext, opened))
		again, err := ring.Seal(plaintext)
		require.NoError(t, err)
		require.NotEqual(t, compact, again, "each seal has its own keys")
	})
}

func TestSealedHeader(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	compact, err := ring.Sealer().Seal([]byte("x"))
	require.NoError(t, err)
	var header map[string]any
	require.NoError(t, json.Unmarshal(decode(t, strings.Split(compact, ".")[0]), &header))
	require.Equal(t, "ECDH-ES+A256KW", header["alg"])
	require.Equal(t, "A256GCM", header["enc"])
	require.Equal(t, ring.Sealer().KeyID(), header["kid"])
	require.Len(t, header, 4)
	require.NotContains(t, header["epk"], "d", "the private half of the ephemeral key")
	require.LessOrEqual(t, len(compact), 600)
}

func TestSealFails(t *testing.T) {
	t.Parallel()
	for name, sealer := range map[string]*Sealer{"no key": {kid: "a"}, "a key of another curve": {kid: "a", key: &newKey(t, elliptic.P224()).PublicKey}} {
		_, err := sealer.Seal([]byte(cardNumber))
		require.Error(t, err, name)
		require.EqualError(t, err, "seal: unknown (signing_failed)")
	}
}

// sealByHand makes a token of the header given, by ECDH-ES on P-256 and A256GCM straight from RFC 7518, so that a test can put
// anything into the header and have all else right. The members of change replace those of the header; a nil removes one.
func (r *Ring) sealByHand(t testing.TB, change map[string]any, plaintext []byte) string {
	t.Helper()
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	require.NoError(t, err)
	public, err := r.key().PublicKey.ECDH()
	require.NoError(t, err)
	shared, err := ephemeral.ECDH(public)
	require.NoError(t, err)
	point := ephemeral.PublicKey().Bytes()
	header := map[string]any{
		"alg": "ECDH-ES", "enc": "A256GCM", "kid": r.Sealer().KeyID(),
		"epk": map[string]any{"kty": "EC", "crv": "P-256", "x": encode(point[1:33]), "y": encode(point[33:])},
	}
	maps.Copy(header, change)
	maps.DeleteFunc(header, func(_ string, value any) bool { return value == nil })
	raw, err := json.Marshal(header)
	require.NoError(t, err)
	return sealWith(t, raw, agree(shared), plaintext)
}

// agree derives the content key of A256GCM from a shared secret (Concat KDF of NIST SP 800-56A in one round, RFC 7518, 4.6.2).
func agree(shared []byte) []byte {
	h := sha256.New()
	h.Write([]byte{0, 0, 0, 1})
	h.Write(shared)
	for _, info := range []string{"A256GCM", "", ""} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(info))))
		h.Write([]byte(info))
	}
	h.Write(binary.BigEndian.AppendUint32(nil, 256))
	return h.Sum(nil)
}

func sealWith(t testing.TB, header, key, plaintext []byte) string {
	t.Helper()
	block, err := aes.NewCipher(key)
	require.NoError(t, err)
	aead, err := cipher.NewGCM(block)
	require.NoError(t, err)
	nonce := make([]byte, aead.NonceSize())
	sealed := aead.Seal(nil, nonce, plaintext, []byte(encode(header)))
	split := len(sealed) - aead.Overhead()
	return strings.Join([]string{encode(header), "", encode(nonce), encode(sealed[:split]), encode(sealed[split:])}, ".")
}

func TestOpenAccepts(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	for name, change := range map[string]map[string]any{
		"ECDH-ES directly":  nil,
		"with a type":       {"typ": "JOSE", "cty": "application/json"},
		"with empty extras": {"apu": "", "apv": ""},
	} {
		plaintext, err := ring.Open(ring.sealByHand(t, change, []byte("hello")), MaxSealed)
		require.NoError(t, err, name)
		require.Equal(t, "hello", string(plaintext))
	}
	nothing, err := ring.Open(ring.sealByHand(t, nil, nil), MaxSealed)
	require.NoError(t, err)
	require.Empty(t, nothing)
}

// Each of these tokens would open if its header were not refused.
func TestOpenRefusesHeaders(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	p384 := newKey(t, elliptic.P384())
	point, err := p384.PublicKey.Bytes()
	require.NoError(t, err)
	epk := func(change map[string]any) map[string]any {
		own, err := ring.key().PublicKey.Bytes()
		require.NoError(t, err)
		members := map[string]any{"kty": "EC", "crv": "P-256", "x": encode(own[1:33]), "y": encode(own[33:])}
		maps.Copy(members, change)
		return map[string]any{"epk": members}
	}
	for name, c := range map[string]struct {
		change map[string]any
		code   fault.Code
	}{
		"no algorithm":             {map[string]any{"alg": nil}, fault.BadSeal},
		"none":                     {map[string]any{"alg": "none"}, fault.BadSeal},
		"RSA1_5":                   {map[string]any{"alg": "RSA1_5"}, fault.BadSeal},
		"RSA-OAEP":                 {map[string]any{"alg": "RSA-OAEP"}, fault.BadSeal},
		"RSA-OAEP-256":             {map[string]any{"alg": "RSA-OAEP-256"}, fault.BadSeal},
		"dir":                      {map[string]any{"alg": "dir"}, fault.BadSeal},
		"A256KW":                   {map[string]any{"alg": "A256KW"}, fault.BadSeal},
		"A256GCMKW":                {map[string]any{"alg": "A256GCMKW"}, fault.BadSeal},
		"PBES2":                    {map[string]any{"alg": "PBES2-HS512+A256KW"}, fault.BadSeal},
		"PBES2 for ever":           {map[string]any{"alg": "PBES2-HS512+A256KW", "p2c": math.MaxInt32, "p2s": "AAAA"}, fault.BadSeal},
		"ECDH-ES+A128KW":           {map[string]any{"alg": "ECDH-ES+A128KW"}, fault.BadSeal},
		"another case":             {map[string]any{"alg": "ecdh-es"}, fault.BadSeal},
		"an algorithm of another":  {map[string]any{"alg": 7}, fault.BadSeal},
		"no encryption":            {map[string]any{"enc": nil}, fault.BadSeal},
		"A128GCM":                  {map[string]any{"enc": "A128GCM"}, fault.BadSeal},
		"CBC":                      {map[string]any{"enc": "A256CBC-HS512"}, fault.BadSeal},
		"no key id":                {map[string]any{"kid": nil}, fault.BadSeal},
		"an empty key id":          {map[string]any{"kid": ""}, fault.BadSeal},
		"a key id of digits":       {map[string]any{"kid": 7}, fault.BadSeal},
		"an unknown key id":        {map[string]any{"kid": "20200101-000000-00000000"}, fault.UnknownKey},
		"a fingerprint key's id":   {map[string]any{"kid": ring.joining()}, fault.UnknownKey},
		"compression":              {map[string]any{"zip": "DEF"}, fault.BadSeal},
		"null compression":         {map[string]any{"zip": json.RawMessage("null")}, fault.BadSeal},
		"a critical member":        {map[string]any{"crit": []string{"exp"}, "exp": 1}, fault.BadSeal},
		"nothing critical":         {map[string]any{"crit": []string{}}, fault.BadSeal},
		"a set of keys elsewhere":  {map[string]any{"jku": "https://keys.test/jwks"}, fault.BadSeal},
		"a key of its own":         {map[string]any{"jwk": map[string]any{"kty": "oct", "k": "AAAA"}}, fault.BadSeal},
		"certificates elsewhere":   {map[string]any{"x5u": "https://keys.test/cert"}, fault.BadSeal},
		"certificates":             {map[string]any{"x5c": []string{"AAAA"}}, fault.BadSeal},
		"a certificate's hash":     {map[string]any{"x5t": "AAAA"}, fault.BadSeal},
		"an unknown member":        {map[string]any{"exp": 1}, fault.BadSeal},
		"another case of a name":   {map[string]any{"Kid": "x"}, fault.BadSeal},
		"no ephemeral key":         {map[string]any{"epk": nil}, fault.BadSeal},
		"a text for it":            {map[string]any{"epk": "x"}, fault.BadSeal},
		"an ephemeral private key": {epk(map[string]any{"d": encode(make([]byte, 32))}), fault.BadSeal},
		"one with a key id":        {epk(map[string]any{"kid": "x"}), fault.BadSeal},
		"one on P-384":             {epk(map[string]any{"crv": "P-384", "x": encode(point[1:49]), "y": encode(point[49:])}), fault.BadSeal},
		"P-384 under P-256":        {epk(map[string]any{"x": encode(point[1:49]), "y": encode(point[49:])}), fault.BadSeal},
		"one off the curve":        {epk(map[string]any{"y": encode(bytes.Repeat([]byte{1}, 32))}), fault.BadSeal},
		"the point zero":           {epk(map[string]any{"x": encode(make([]byte, 32)), "y": encode(make([]byte, 32))}), fault.BadSeal},
		"a short coordinate":       {epk(map[string]any{"x": encode([]byte{1})}), fault.BadSeal},
		"no coordinates":           {epk(map[string]any{"x": "", "y": ""}), fault.BadSeal},
		"bad base64 in one":        {epk(map[string]any{"x": "!"}), fault.BadSeal},
		"Ed25519":                  {epk(map[string]any{"kty": "OKP", "crv": "Ed25519"}), fault.BadSeal},
		"OKP under P-256":          {epk(map[string]any{"kty": "OKP"}), fault.BadSeal},
		"another key agreed":       {map[string]any{"apu": "AAAA"}, fault.BadSeal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, ring, ring.sealByHand(t, c.change, []byte("hello")), c.code)
		})
	}
	for name, header := range map[string]string{
		"a name twice": `{"alg":"none","alg":"ECDH-ES","enc":"A256GCM","kid":"a","epk":{"kty":"EC","crv":"P-256","x":"","y":""}}`,
		"no object":    `"ECDH-ES"`, "null": `null`, "an empty one": `{}`, "trailing bytes": `{}{}`, "no JSON": `kid`, "too deep": strings.Repeat("[", 3000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, ring, sealWith(t, []byte(header), make([]byte, 32), []byte("hello")), fault.BadSeal)
		})
	}
}

func requireRefused(t testing.TB, ring *Ring, compact string, code fault.Code) {
	t.Helper()
	plaintext, err := ring.Open(compact, MaxSealed)
	requireFault(t, err, code)
	require.Nil(t, plaintext)
}

// These tokens are what a library makes for other algorithms and keys: right in themselves, and refused all the same.
func TestOpenRefusesOtherAlgorithms(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	secret := make([]byte, 32)
	for name, c := range map[string]struct {
		alg jose.KeyAlgorithm
		enc jose.ContentEncryption
		key any
	}{
		"RSA1_5":       {jose.RSA1_5, jose.A256GCM, &rsaKey.PublicKey},
		"RSA-OAEP":     {jose.RSA_OAEP, jose.A256GCM, &rsaKey.PublicKey},
		"RSA-OAEP-256": {jose.RSA_OAEP_256, jose.A256GCM, &rsaKey.PublicKey},
		"dir":          {jose.DIRECT, jose.A256GCM, secret},
		"A256KW":       {jose.A256KW, jose.A256GCM, secret},
		"A256GCMKW":    {jose.A256GCMKW, jose.A256GCM, secret},
		"PBES2":        {jose.PBES2_HS256_A128KW, jose.A256GCM, secret},
		"A128KW":       {jose.ECDH_ES_A128KW, jose.A256GCM, &ring.key().PublicKey},
		"A128GCM":      {jose.ECDH_ES_A256KW, jose.A128GCM, &ring.key().PublicKey},
		"CBC":          {jose.ECDH_ES, jose.A256CBC_HS512, &ring.key().PublicKey},
		"CBC, wrapped": {jose.ECDH_ES_A256KW, jose.A128CBC_HS256, &ring.key().PublicKey},
		"P-384":        {jose.ECDH_ES_A256KW, jose.A256GCM, &newKey(t, elliptic.P384()).PublicKey},
		"our own":      {jose.ECDH_ES_A256KW, jose.A256GCM, &ring.key().PublicKey},
		"another key":  {jose.ECDH_ES_A256KW, jose.A256GCM, &newKey(t, elliptic.P256()).PublicKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			encrypter, err := jose.NewEncrypter(c.enc, jose.Recipient{Algorithm: c.alg, Key: c.key, KeyID: ring.Sealer().KeyID()}, nil)
			require.NoError(t, err)
			object, err := encrypter.Encrypt([]byte("hello"))
			require.NoError(t, err)
			compact, err := object.CompactSerialize()
			require.NoError(t, err)
			if name != "our own" {
				requireRefused(t, ring, compact, fault.BadSeal)
				return
			}
			plaintext, err := ring.Open(compact, MaxSealed)
			require.NoError(t, err, "the table must be able to make what is accepted")
			require.Equal(t, "hello", string(plaintext))
			requireRefused(t, ring, object.FullSerialize(), fault.BadSeal)
		})
	}
}

// A few hundred bytes that unpack to megabytes are refused before they are unpacked.
func TestOpenRefusesACompressedBomb(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	encrypter, err := jose.NewEncrypter(jose.A256GCM, jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: &ring.key().PublicKey, KeyID: ring.Sealer().KeyID()},
		&jose.EncrypterOptions{Compression: jose.DEFLATE})
	require.NoError(t, err)
	object, err := encrypter.Encrypt(make([]byte, 240_000))
	require.NoError(t, err)
	compact, err := object.CompactSerialize()
	require.NoError(t, err)
	require.Less(t, len(compact), MaxSealed)
	requireRefused(t, ring, compact, fault.BadSeal)
}

func TestOpenRefusesShapes(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	compact, err := ring.Seal([]byte(`{"id":"1"}`))
	require.NoError(t, err)
	parts := strings.Split(compact, ".")
	with := func(i int, part string) string {
		changed := strings.Split(compact, ".")
		changed[i] = part
		return strings.Join(changed, ".")
	}
	ciphertext, tag := decode(t, parts[3]), decode(t, parts[4])
	for name, token := range map[string]string{
		"nothing":                    "",
		"dots":                       "....",
		"many dots":                  strings.Repeat(".", MaxSealed),
		"four parts":                 strings.Join(parts[:4], "."),
		"six parts":                  compact + ".",
		"a space before":             " " + compact,
		"a line end behind":          compact + "\n",
		"a line end inside":          compact[:100] + "\r\n" + compact[100:],
		"a space inside":             strings.Replace(compact, ".", ". ", 1),
		"a tab inside":               compact[:len(compact)-5] + "\t" + compact[len(compact)-5:],
		"padding":                    compact + "==",
		"another alphabet":           with(3, base64.RawStdEncoding.EncodeToString(bytes.Repeat([]byte{0xfb, 0xff}, 8))),
		"letters beyond ASCII":       with(3, parts[3]+"é"),
		"a zero byte":                with(3, parts[3]+"\x00"),
		"no header":                  with(0, ""),
		"no encrypted key":           with(1, ""),
		"a short encrypted key":      with(1, encode([]byte{1})),
		"a key of 8 bytes":           with(1, encode(make([]byte, 8))),
		"a key of 7 bytes":           with(1, encode(make([]byte, 7))),
		"a long encrypted key":       with(1, encode(make([]byte, 4096))),
		"no nonce":                   with(2, ""),
		"a short nonce":              with(2, encode(make([]byte, 11))),
		"a long nonce":               with(2, encode(make([]byte, 16))),
		"no ciphertext":              with(3, ""),
		"no tag":                     with(4, ""),
		"a truncated tag":            with(4, encode(tag[:12])),
		"a tag of 15 bytes":          with(4, encode(tag[:15])),
		"a tag that took ciphertext": strings.Join(append(parts[:3:3], encode(ciphertext[:4]), encode(append(ciphertext[4:], tag...))), "."),
		"JSON":                       `{"protected":"` + parts[0] + `","encrypted_key":"` + parts[1] + `","iv":"` + parts[2] + `","ciphertext":"` + parts[3] + `","tag":"` + parts[4] + `"}`,
		"a signature":                "eyJhbGciOiJub25lIn0.e30.",
		"words":                      "one.two.three.four.five",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireRefused(t, ring, token, fault.BadSeal)
		})
	}
	_, err = ring.Open(compact, len(compact))
	require.NoError(t, err)
	_, err = ring.Open(compact, len(compact)-1)
	requireFault(t, err, fault.TooLarge)
	_, err = ring.Open(strings.Repeat("a", 1<<20), MaxSealed)
	requireFault(t, err, fault.TooLarge)
}

// One changed letter anywhere makes another token, and no other token opens: there is one spelling only.
func TestOpenRefusesEveryChangedLetter(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	for _, compact := range []string{ring.sealByHand(t, nil, []byte(`{"id":"1"}`)), sealed(t, ring)} {
		for i := range compact {
			letter := strings.IndexByte(compactAlphabet, compact[i])
			if compact[i] == '.' {
				continue
			}
			other := compactAlphabet[(letter+1)%64] // It differs in the lowest bit, which a lenient decoder drops at the end of a part.
			_, err := ring.Open(compact[:i]+string(other)+compact[i+1:], MaxSealed)
			require.Error(t, err, "letter %d", i)
			require.Contains(t, []fault.Code{fault.BadSeal, fault.UnknownKey}, fault.CodeOf(err))
		}
	}
}

func sealed(t testing.TB, ring *Ring) string {
	t.Helper()
	compact, err := ring.Seal([]byte(`{"id":"1"}`))
	require.NoError(t, err)
	return compact
}

// Poison costs next to nothing. The quickest of some tries is taken, because the machine has other work too.
func TestOpenIsBounded(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	for name, token := range map[string]string{
		"a megabyte":       strings.Repeat("a", 1<<20),
		"dots":             strings.Repeat(".", MaxSealed),
		"iterations":       ring.sealByHand(t, map[string]any{"alg": "PBES2-HS512+A256KW", "p2c": 1_000_000, "p2s": encode(make([]byte, 16))}, nil),
		"a deep header":    sealWith(t, []byte(strings.Repeat("[", 5000)), make([]byte, 32), nil),
		"a wide header":    sealWith(t, []byte(`{"kid":"`+strings.Repeat("a", 5900)+`"}`), make([]byte, 32), nil),
		"a long key":       ring.sealByHand(t, nil, nil) + strings.Repeat("A", 7000),
		"another's point":  ring.sealByHand(t, map[string]any{"apu": "AAAA"}, make([]byte, 4000)),
		"a bad ciphertext": sealed(t, ring) + "A",
	} {
		quickest := time.Duration(math.MaxInt64)
		for range 20 {
			began := time.Now()
			_, err := ring.Open(token, MaxSealed)
			quickest = min(quickest, time.Since(began))
			require.Error(t, err)
		}
		require.Less(t, quickest, 20*time.Millisecond, name)
	}
}

// Publishers use other libraries: what they seal opens here, and what is sealed here opens there.
func TestAnotherLibraryUnderstands(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	for _, alg := range []jwa.KeyEncryptionAlgorithm{jwa.ECDH_ES_A256KW(), jwa.ECDH_ES()} {
		headers := jwe.NewHeaders()
		require.NoError(t, headers.Set(jwe.KeyIDKey, ring.Sealer().KeyID()))
		theirs, err := jwe.Encrypt([]byte("hello"), jwe.WithKey(alg, &ring.key().PublicKey),
			jwe.WithContentEncryption(jwa.A256GCM()), jwe.WithProtectedHeaders(headers))
		require.NoError(t, err)
		plaintext, err := ring.Open(string(theirs), MaxSealed)
		require.NoError(t, err, alg)
		require.Equal(t, "hello", string(plaintext))
	}
	plaintext, err := jwe.Decrypt([]byte(sealed(t, ring)), jwe.WithKey(jwa.ECDH_ES_A256KW(), ring.key()))
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"1"}`, string(plaintext))
}

func BenchmarkSeal(b *testing.B) {
	ring, plaintext := setup(b), bytes.Repeat([]byte("a"), 140)
	sealer := ring.Sealer()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sealer.Seal(plaintext); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	ring := setup(b)
	compact, err := ring.Seal(bytes.Repeat([]byte("a"), 140))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ring.Open(compact, MaxSealed); err != nil {
			b.Fatal(err)
		}
	}
}
