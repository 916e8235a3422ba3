package card

import (
	"crypto/ecdsa"
	"encoding/base64"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/strict"
)

// MaxSealed is the default limit of a compact JWE in bytes.
const MaxSealed = 8 << 10

// The algorithms in which sealed data is accepted (RFC 7518). ECDH-ES+A256KW is what this package seals with.
var (
	acceptedKeyAlgorithms = []jose.KeyAlgorithm{jose.ECDH_ES_A256KW, jose.ECDH_ES}
	acceptedEncryptions   = []jose.ContentEncryption{jose.A256GCM}
)

// Sealer seals data to one public key. Publishers use it, and the worker for its own dead letters.
type Sealer struct {
	kid string
	key *ecdsa.PublicKey
}

// KeyID returns the id of the key sealed to.
func (s *Sealer) KeyID() string { return s.kid }

// Seal returns plaintext as a compact JWE (RFC 7516) with ECDH-ES+A256KW on P-256 and A256GCM.
func (s *Sealer) Seal(plaintext []byte) (string, error) {
	failed := func(err error) (string, error) {
		return "", fault.Because("seal", fault.Unknown, fault.SigningFailed, err)
	}
	encrypter, err := jose.NewEncrypter(jose.A256GCM,
		jose.Recipient{Algorithm: jose.ECDH_ES_A256KW, Key: s.key, KeyID: s.kid}, nil)
	if err != nil {
		return failed(err)
	}
	object, err := encrypter.Encrypt(plaintext)
	if err != nil {
		return failed(err)
	}
	compact, err := object.CompactSerialize()
	if err != nil {
		return failed(err)
	}
	return compact, nil
}

// Open returns the plaintext of a compact JWE that was sealed to one of the ring's keys. An algorithm outside the list, a missing
// or unknown key id, any header member beyond those that ECDH-ES needs, and a token beyond limit bytes are Malformed.
func (r *Ring) Open(compact string, limit int) ([]byte, error) {
	bad := fault.New("open sealed data", fault.Malformed, fault.BadSeal)
	if len(compact) > limit {
		return nil, fault.New("open sealed data", fault.Malformed, fault.TooLarge)
	}
	kid, ok := checkHeader(compact)
	if !ok {
		return nil, bad
	}
	key := r.private(kid)
	if key == nil {
		return nil, fault.New("open sealed data", fault.Malformed, fault.UnknownKey)
	}
	object, err := jose.ParseEncryptedCompact(compact, acceptedKeyAlgorithms, acceptedEncryptions)
	if err != nil {
		return nil, bad
	}
	plaintext, err := object.Decrypt(key)
	if err != nil {
		return nil, bad
	}
	return plaintext, nil
}

// SealedTo returns the id of the key that a compact JWE is sealed to, without opening it, and false for one that no ring would open.
func SealedTo(compact string) (kid string, ok bool) { return checkHeader(compact) }

// checkHeader reads the protected header of a compact JWE before any cryptography and returns its key id. The library would
// accept white space, compression and several spellings of one token; all of them are refused here.
func checkHeader(compact string) (string, bool) {
	if strings.Count(compact, ".") != 4 || strings.Trim(compact, compactAlphabet) != "" {
		return "", false
	}
	var parts [5][]byte
	for i, part := range strings.Split(compact, ".") {
		var err error
		if parts[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return "", false
		}
	}
	if len(parts[4]) != tagSize {
		return "", false
	}
	var header struct {
		Alg string `json:"alg"`
		Enc string `json:"enc"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
		Cty string `json:"cty"`
		Apu string `json:"apu"`
		Apv string `json:"apv"`
		Epk struct {
			Kty string `json:"kty"`
			Crv string `json:"crv"`
			X   string `json:"x"`
			Y   string `json:"y"`
		} `json:"epk"`
	}
	if strict.ReadExactly(parts[0], &header) != nil || header.Kid == "" || header.Epk.Crv != "P-256" {
		return "", false
	}
	return header.Kid, true
}

// tagSize is the length of an A256GCM authentication tag in bytes (RFC 7518, 5.3).
const tagSize = 16

// compactAlphabet holds every character that a compact serialization may have.
const compactAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
