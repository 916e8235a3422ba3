package card

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// maxSet is the size of the largest set of public keys that is read, in bytes.
const maxSet = 64 << 10

// PublicSet returns the public halves of the ring's keys as a JWK Set (RFC 7517, section 5): first the active one, to which publishers seal,
// then the others, newest first. Each has its kid, and nbf if its time is still to come or was told.
func (r *Ring) PublicSet() ([]byte, error) {
	k, now := r.keys.Load(), r.now()
	at := active(k.sealing, now)
	order := []era{k.sealing[at]}
	for i, one := range slices.Backward(k.sealing) {
		if i != at {
			order = append(order, one)
		}
	}
	set := struct {
		Keys []jsontext.Value `json:"keys"`
	}{}
	for _, one := range order {
		raw, err := encodeJWK(publicJWK(one.id, &k.private[one.id].PublicKey), one.times())
		if err != nil {
			return nil, errors.New("encode public keys: encoding failed")
		}
		set.Keys = append(set.Keys, raw)
	}
	raw, err := json.Marshal(set, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return nil, errors.New("encode public keys: encoding failed")
	}
	return raw, nil
}

// times returns the members that tell when a key is used, none of a key that does not tell.
func (e era) times() times {
	var t times
	if !e.created.IsZero() {
		made := e.created.Unix()
		t.Made = &made
	}
	if !e.from.IsZero() && !e.from.Equal(e.created) {
		from := e.from.Unix()
		t.From = &from
	}
	return t
}

// ErrNotPinned is returned for a set of keys none of which has the thumbprint that was asked for.
var ErrNotPinned = errors.New("none of the keys has a pinned thumbprint")

// ReadSet returns a sealer to the first key of a JWK Set that can be sealed to: the one that PublicSet puts first. With pins it is the first
// that has one of these thumbprints, and ErrNotPinned if there is none. Nothing of the set is in its error.
func ReadSet(raw []byte, pins ...string) (*Sealer, error) {
	var set jose.JSONWebKeySet
	if len(raw) > maxSet || json.Unmarshal(raw, &set) != nil {
		return nil, errors.New("read public keys: it is no JSON Web Key Set")
	}
	unpinned := false
	for _, key := range set.Keys {
		public, ok := key.Key.(*ecdsa.PublicKey)
		if !ok || public.Curve != elliptic.P256() || key.KeyID == "" || (key.Use != "" && key.Use != "enc") {
			continue
		}
		if len(pins) == 0 || slices.Contains(pins, thumbprint(public)) {
			return &Sealer{kid: key.KeyID, key: public}, nil
		}
		unpinned = true
	}
	if unpinned {
		return nil, fmt.Errorf("read public keys: %w", ErrNotPinned)
	}
	return nil, errors.New("read public keys: none of them is an EC P-256 key with a kid")
}

// IsThumbprint tells whether a text could be the thumbprint of a key, as `worker keys ls` prints it.
func IsThumbprint(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == sha256.Size
}

// thumbprint returns the SHA-256 thumbprint of a public key on P-256 (RFC 7638), as unpadded base64url. Its kid is no part of it.
func thumbprint(key *ecdsa.PublicKey) string {
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "" // Not for a key on P-256. It is no thumbprint, and so equal to none.
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}
