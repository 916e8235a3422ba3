package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// kidTime is how the id of a key begins that was made here: with the second in which it was made.
const kidTime = "20060102-150405"

// fingerprintPrefix begins the ids of fingerprint keys, before their time.
const fingerprintPrefix = "fp-"

// times are the members of a key that say when it is used, in seconds since 1970.
type times struct {
	Made *int64 `json:"iat"`
	From *int64 `json:"nbf"`
}

// era returns when a key is used. What it does not say follows from its id, if that begins with a time.
func (t times) era(kid, file string) era {
	when := era{id: kid, file: file}
	stem := strings.TrimPrefix(kid, fingerprintPrefix)
	if made, err := time.Parse(kidTime, stem[:min(len(stem), len(kidTime))]); err == nil {
		when.created = made
	}
	if t.Made != nil {
		when.created = time.Unix(*t.Made, 0).UTC()
	}
	when.from = when.created
	if t.From != nil {
		when.from = time.Unix(*t.From, 0).UTC()
	}
	return when
}

// NewKeys writes a new key pair and a new fingerprint key into dir and returns the files' names: the private JWK and the fingerprint
// key are readable by the owner only, the public JWK is for publishers. Existing files are never overwritten.
func NewKeys(dir string, now time.Time) ([]string, error) {
	pair, err := NewKeyPair(dir, now, now)
	if err != nil {
		return nil, err
	}
	kid := strings.TrimSuffix(filepath.Base(pair[0]), ".private.jwk")
	joining, err := writeFingerprintKey(dir, fingerprintPrefix+kid, now, now)
	if err != nil {
		return nil, err
	}
	return append(pair, joining), nil
}

// NewKeyPair writes a new key pair into dir, which becomes active at the time given, and returns the files' names: the private JWK,
// which is readable by the owner only, and the public one. Existing files are never overwritten.
func NewKeyPair(dir string, now, from time.Time) ([]string, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	kid := newKid(now)
	key := jose.JSONWebKey{Key: private, KeyID: kid, Use: "enc", Algorithm: string(jose.ECDH_ES_A256KW)}
	files := []string{filepath.Join(dir, kid+".private.jwk"), filepath.Join(dir, kid+".public.jwk")}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key directory: %w", err)
	}
	if err := writeJWK(files[0], key, 0o600, timesOf(now, from)); err != nil {
		return nil, err
	}
	return files, writeJWK(files[1], key.Public(), 0o644, timesOf(now, from))
}

// NewFingerprintKey writes a new fingerprint key into dir, which becomes active at the time given, and returns the file's name.
func NewFingerprintKey(dir string, now, from time.Time) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make key directory: %w", err)
	}
	return writeFingerprintKey(dir, fingerprintPrefix+newKid(now), now, from)
}

func writeFingerprintKey(dir, kid string, now, from time.Time) (string, error) {
	secret := make([]byte, sha256.Size)
	_, _ = rand.Read(secret) // crypto/rand.Read never fails: it ends the program instead.
	key := jose.JSONWebKey{Key: secret, KeyID: kid, Use: "sig", Algorithm: string(jose.HS256)}
	file := filepath.Join(dir, kid+".jwk")
	return file, writeJWK(file, key, 0o600, timesOf(now, from))
}

// newKid returns a new id that begins with a time, so that the ids of keys sort by age.
func newKid(now time.Time) string {
	tag := make([]byte, 4)
	_, _ = rand.Read(tag) // It never fails either.
	return now.UTC().Format(kidTime) + "-" + hex.EncodeToString(tag)
}

// timesOf returns the members for a key that was made now and is used from a time on, none if that is at once: its id says as much.
func timesOf(now, from time.Time) times {
	if !from.After(now) {
		return times{}
	}
	made, begins := now.Unix(), from.Unix()
	return times{Made: &made, From: &begins}
}

func writeJWK(file string, key jose.JSONWebKey, mode os.FileMode, when times) error {
	raw, err := encodeJWK(key, when)
	if err != nil {
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

// encodeJWK returns a key as indented JSON, with the times it has. The library that knows keys does not know those members.
func encodeJWK(key jose.JSONWebKey, when times) (jsontext.Value, error) {
	raw, err := key.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var members map[string]jsontext.Value
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	for name, at := range map[string]*int64{"iat": when.Made, "nbf": when.From} {
		if at != nil {
			members[name] = jsontext.Value(strconv.FormatInt(*at, 10))
		}
	}
	whole, err := json.Marshal(members, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	value := jsontext.Value(whole)
	err = value.Indent()
	return value, err
}
