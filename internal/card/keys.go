package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Ring holds the worker's keys: private keys to open what publishers sealed, and keys for fingerprints. Several live at once, so
// that keys can be rotated; the one with the greatest id seals and takes fingerprints. Ids begin with a date for that reason.
type Ring struct {
	private map[string]*ecdsa.PrivateKey
	// fingerprints holds the keys behind functions, because fmt would print bytes.
	fingerprints map[string]func() []byte
	sealing      string
	joining      string
}

// Sealer returns the sealer to the ring's newest key.
func (r *Ring) Sealer() *Sealer {
	return &Sealer{kid: r.sealing, key: &r.private[r.sealing].PublicKey}
}

// Seal seals plaintext to the ring's newest key.
func (r *Ring) Seal(plaintext []byte) (string, error) { return r.Sealer().Seal(plaintext) }

// KeyIDs returns the ids of the keys that open sealed data, oldest first.
func (r *Ring) KeyIDs() []string {
	ids := make([]string, 0, len(r.private))
	for id := range r.private {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Fingerprint returns a value that is equal for equal card numbers and tells nothing else without the key (PCI DSS 3.5.1.1: a keyed
// hash of the whole number): base64url of HMAC-SHA-256 over a label and the digits, and the id of the key.
func (r *Ring) Fingerprint(n Number) (fingerprint, keyID string) {
	mac := hmac.New(sha256.New, r.fingerprints[r.joining]())
	mac.Write([]byte("discount-query/card/v1|" + n.Reveal()))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), r.joining
}

// LoadRing reads every *.jwk file in dir (JWK, RFC 7517): EC P-256 private keys and oct keys of at least 32 bytes. Public keys are
// skipped. A directory without both kinds of key is an error that says how to make them.
func LoadRing(dir string) (*Ring, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jwk"))
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	ring := &Ring{private: map[string]*ecdsa.PrivateKey{}, fingerprints: map[string]func() []byte{}}
	for _, file := range files {
		key, err := readJWK(file)
		if err != nil {
			return nil, err
		}
		if err := ring.add(key); err != nil {
			return nil, fmt.Errorf("key file %s: %w", file, err)
		}
	}
	if ring.sealing == "" || ring.joining == "" {
		return nil, fmt.Errorf("no keys in %s: run `worker keys new --dir %s` once, and give every worker the same files", dir, dir)
	}
	return ring, nil
}

func (r *Ring) add(key jose.JSONWebKey) error {
	if key.KeyID == "" {
		return errors.New("it has no kid")
	}
	switch material := key.Key.(type) {
	case *ecdsa.PrivateKey:
		if material.Curve != elliptic.P256() {
			return errors.New("its curve is not P-256")
		}
		if !isPair(material) {
			return errors.New("its private and its public half do not belong together")
		}
		if r.private[key.KeyID] != nil {
			return fmt.Errorf("two keys have the kid %q", key.KeyID)
		}
		r.private[key.KeyID] = material
		r.sealing = max(r.sealing, key.KeyID)
	case []byte:
		if len(material) < sha256.Size {
			return errors.New("it is shorter than 32 bytes")
		}
		if r.fingerprints[key.KeyID] != nil {
			return fmt.Errorf("two fingerprint keys have the kid %q", key.KeyID)
		}
		r.fingerprints[key.KeyID] = func() []byte { return material }
		r.joining = max(r.joining, key.KeyID)
	case *ecdsa.PublicKey:
	default:
		return errors.New("it is neither an EC P-256 nor an oct key")
	}
	return nil
}

// isPair tells whether the halves of a key belong together. The library does not check it, and with such a key the worker would seal
// what it can never open.
func isPair(key *ecdsa.PrivateKey) bool {
	private, err := key.ECDH()
	if err != nil {
		return false
	}
	public, err := key.PublicKey.ECDH()
	return err == nil && private.PublicKey().Equal(public)
}

// LoadSealer reads the public key to seal to from a JWK file, public or private.
func LoadSealer(file string) (*Sealer, error) {
	key, err := readJWK(file)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().Key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || key.KeyID == "" {
		return nil, fmt.Errorf("key file %s: it is not an EC P-256 key with a kid", file)
	}
	return &Sealer{kid: key.KeyID, key: public}, nil
}

// readJWK reads one key. The error of the JSON library could repeat key material, so it is not passed on.
func readJWK(file string) (jose.JSONWebKey, error) {
	var key jose.JSONWebKey
	raw, err := os.ReadFile(file)
	if err != nil {
		return key, fmt.Errorf("read key: %w", err)
	}
	if key.UnmarshalJSON(raw) != nil || key.Key == nil {
		return key, fmt.Errorf("key file %s: it is not a JSON Web Key", file)
	}
	return key, nil
}

// NewKeys writes a new key pair and a new fingerprint key into dir and returns the files' names: the private JWK and the fingerprint
// key are readable by the owner only, the public JWK is for publishers. Existing files are never overwritten.
func NewKeys(dir string, now time.Time) ([]string, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	secret := make([]byte, sha256.Size)
	tag := make([]byte, 4)
	_, _ = rand.Read(secret) // crypto/rand.Read never fails: it ends the program instead.
	_, _ = rand.Read(tag)
	kid := now.UTC().Format("20060102-150405") + "-" + hex.EncodeToString(tag)
	sealing := jose.JSONWebKey{Key: private, KeyID: kid, Use: "enc", Algorithm: string(jose.ECDH_ES_A256KW)}
	joining := jose.JSONWebKey{Key: secret, KeyID: "fp-" + kid, Use: "sig", Algorithm: string(jose.HS256)}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key directory: %w", err)
	}
	files := []string{
		filepath.Join(dir, kid+".private.jwk"), filepath.Join(dir, kid+".public.jwk"), filepath.Join(dir, "fp-"+kid+".jwk"),
	}
	for i, key := range []jose.JSONWebKey{sealing, sealing.Public(), joining} {
		mode := os.FileMode(0o600)
		if key.IsPublic() {
			mode = 0o644
		}
		if err := writeJWK(files[i], key, mode); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func writeJWK(file string, key jose.JSONWebKey, mode os.FileMode) error {
	raw, err := key.MarshalJSON()
	if err != nil {
		return fmt.Errorf("write key %s: encoding failed", file)
	}
	if err := (*jsontext.Value)(&raw).Indent(); err != nil {
		return fmt.Errorf("write key %s: encoding failed", file)
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if _, err := f.Write(append(raw, '\n')); err != nil {
		return errors.Join(fmt.Errorf("write key: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}

// PublicJWK returns the public half of the sealer's key as JSON, for publishers.
func (s *Sealer) PublicJWK() ([]byte, error) {
	key := jose.JSONWebKey{Key: s.key, KeyID: s.kid, Use: "enc", Algorithm: string(jose.ECDH_ES_A256KW)}
	raw, err := json.Marshal(&key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return raw, nil
}
