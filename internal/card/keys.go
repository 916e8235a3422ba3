package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
)

// LoadRing reads every *.jwk file in dir (JWK, RFC 7517): EC P-256 private keys and oct keys of at least 32 bytes. Public keys are
// skipped. A directory without both kinds of key is an error that says how to make them.
//
// When a key is used follows from its members iat and nbf, in seconds since 1970, as far as it has them: it was made at iat and becomes
// active at nbf. A key without them was made when its id says, if that begins with a date as ours do, and is active from then on.
func LoadRing(dir string) (*Ring, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jwk"))
	if err != nil {
		return nil, fmt.Errorf("list keys: %w", err)
	}
	read := &keys{private: map[string]*ecdsa.PrivateKey{}, fingerprints: map[string]func() []byte{}}
	for _, file := range files {
		key, when, err := readJWK(file)
		if err != nil {
			return nil, err
		}
		if err := read.add(key, when); err != nil {
			return nil, fmt.Errorf("key file %s: %w", file, err)
		}
	}
	if len(read.sealing) == 0 || len(read.joining) == 0 {
		return nil, fmt.Errorf("no keys in %s: run `worker keys new --dir %s` once, and give every worker the same files", dir, dir)
	}
	sortEras(read.sealing)
	sortEras(read.joining)
	ring := &Ring{now: time.Now}
	ring.keys.Store(read)
	return ring, nil
}

func (k *keys) add(key jose.JSONWebKey, when era) error {
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
		if k.private[key.KeyID] != nil {
			return fmt.Errorf("two keys have the kid %q", key.KeyID)
		}
		k.private[key.KeyID] = material
		k.sealing = append(k.sealing, when)
	case []byte:
		if len(material) < sha256.Size {
			return errors.New("it is shorter than 32 bytes")
		}
		if k.fingerprints[key.KeyID] != nil {
			return fmt.Errorf("two fingerprint keys have the kid %q", key.KeyID)
		}
		k.fingerprints[key.KeyID] = func() []byte { return material }
		k.joining = append(k.joining, when)
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
	key, _, err := readJWK(file)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().Key.(*ecdsa.PublicKey)
	if !ok || public.Curve != elliptic.P256() || key.KeyID == "" {
		return nil, fmt.Errorf("key file %s: it is not an EC P-256 key with a kid", file)
	}
	return &Sealer{kid: key.KeyID, key: public}, nil
}

// readJWK reads one key and when it is used. The error of the JSON library could repeat key material, so it is not passed on.
func readJWK(file string) (jose.JSONWebKey, era, error) {
	var key jose.JSONWebKey
	raw, err := os.ReadFile(file)
	if err != nil {
		return key, era{}, fmt.Errorf("read key: %w", err)
	}
	var when times
	if key.UnmarshalJSON(raw) != nil || key.Key == nil || json.Unmarshal(raw, &when) != nil {
		return key, era{}, fmt.Errorf("key file %s: it is not a JSON Web Key", file)
	}
	return key, when.era(key.KeyID, file), nil
}

// PublicJWK returns the public half of the sealer's key as JSON, for publishers.
func (s *Sealer) PublicJWK() ([]byte, error) {
	key := publicJWK(s.kid, s.key)
	raw, err := json.Marshal(&key)
	if err != nil {
		return nil, fmt.Errorf("encode public key: %w", err)
	}
	return raw, nil
}

func publicJWK(kid string, key *ecdsa.PublicKey) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key, KeyID: kid, Use: "enc", Algorithm: string(jose.ECDH_ES_A256KW)}
}
