package card

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
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

// ReadSet returns a sealer to the first key of a JWK Set that can be sealed to: the one that PublicSet puts first. Nothing of the set is in
// its error.
func ReadSet(raw []byte) (*Sealer, error) {
	var set jose.JSONWebKeySet
	if len(raw) > maxSet || json.Unmarshal(raw, &set) != nil {
		return nil, errors.New("read public keys: it is no JSON Web Key Set")
	}
	for _, key := range set.Keys {
		public, ok := key.Key.(*ecdsa.PublicKey)
		if ok && public.Curve == elliptic.P256() && key.KeyID != "" && (key.Use == "" || key.Use == "enc") {
			return &Sealer{kid: key.KeyID, key: public}, nil
		}
	}
	return nil, errors.New("read public keys: none of them is an EC P-256 key with a kid")
}
