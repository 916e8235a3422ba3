package card

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"sync/atomic"
	"time"
)

// Ring holds the worker's keys: private keys to open what publishers sealed, and keys for fingerprints. Several live at once, so
// that keys can be rotated. All of them open; one of each kind is active: it seals, or takes fingerprints. That is the newest one whose time
// has come, so that every worker and publisher can have a new key before the first of them uses it.
//
// A ring may be used by many goroutines, also while its keys are replaced.
type Ring struct {
	keys   atomic.Pointer[keys]
	now    func() time.Time
	onOpen func(kid string)
}

// keys are all keys of a ring at one time. They never change: others take their place.
type keys struct {
	private      map[string]*ecdsa.PrivateKey
	sealing      []era
	fingerprints map[string]func() []byte // Behind functions, because fmt would print bytes.
	joining      []era
}

// era is when a key is used.
type era struct {
	id, file string
	// created and from are zero for a key that does not tell.
	created, from time.Time
}

// KeyInfo is what may be told about one key.
type KeyInfo struct {
	ID string `json:"kid"`
	// Fingerprint tells a key for fingerprints from one that opens sealed data.
	Fingerprint bool `json:"fingerprint"`
	// Created is when the key was made, From when it becomes active if no newer one is. Zero means that the key does not tell.
	Created time.Time `json:"created,omitzero"`
	From    time.Time `json:"from,omitzero"`
	// Active tells that this key seals, or takes fingerprints, now.
	Active bool `json:"active"`
	// Thumbprint is that of the public half (RFC 7638, SHA-256), which publishers can pin; "" for a fingerprint key.
	Thumbprint string `json:"thumbprint,omitempty"`
	// File is where the key was read.
	File string `json:"file"`
}

// UnknownKey stands for all keys that a ring does not hold, where opened data is counted by key.
const UnknownKey = "unknown"

// OnOpen has f told the id of the key of whatever is opened, UnknownKey for one that the ring does not hold. It must be called before the
// ring is used by others, and f must be quick.
func (r *Ring) OnOpen(f func(kid string)) { r.onOpen = f }

// Replace puts the keys of another ring in the place of this one's, all at once.
func (r *Ring) Replace(by *Ring) { r.keys.Store(by.keys.Load()) }

// Snapshot returns a ring that keeps the present keys, whatever this one is given later.
func (r *Ring) Snapshot() *Ring {
	same := &Ring{now: r.now, onOpen: r.onOpen}
	same.keys.Store(r.keys.Load())
	return same
}

// Sealer returns the sealer to the ring's active key.
func (r *Ring) Sealer() *Sealer {
	k := r.keys.Load()
	id := k.sealing[active(k.sealing, r.now())].id
	return &Sealer{kid: id, key: &k.private[id].PublicKey}
}

// Seal seals plaintext to the ring's active key.
func (r *Ring) Seal(plaintext []byte) (string, error) { return r.Sealer().Seal(plaintext) }

// KeyIDs returns the ids of the keys that open sealed data, oldest first.
func (r *Ring) KeyIDs() []string {
	k := r.keys.Load()
	ids := make([]string, len(k.sealing))
	for i, one := range k.sealing {
		ids[i] = one.id
	}
	return ids
}

// Keys returns what may be told about the keys: first those that open sealed data, then those for fingerprints, each oldest first.
func (r *Ring) Keys() []KeyInfo {
	k, now := r.keys.Load(), r.now()
	var all []KeyInfo
	for _, kind := range []struct {
		eras        []era
		fingerprint bool
	}{{k.sealing, false}, {k.joining, true}} {
		at := active(kind.eras, now)
		for i, one := range kind.eras {
			info := KeyInfo{ID: one.id, Fingerprint: kind.fingerprint, Created: one.created, From: one.from, Active: i == at, File: one.file}
			if !kind.fingerprint {
				info.Thumbprint = thumbprint(&k.private[one.id].PublicKey)
			}
			all = append(all, info)
		}
	}
	return all
}

// Fingerprint returns a value that is equal for equal card numbers and tells nothing else without the key (PCI DSS 3.5.1.1: a keyed
// hash of the whole number): base64url of HMAC-SHA-256 over a label and the digits, and the id of the key.
func (r *Ring) Fingerprint(n Number) (fingerprint, keyID string) {
	k := r.keys.Load()
	keyID = k.joining[active(k.joining, r.now())].id
	mac := hmac.New(sha256.New, k.fingerprints[keyID]())
	mac.Write([]byte("discount-query/card/v1|" + n.Reveal()))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil)), keyID
}

// private returns the key with an id, nil if the ring does not hold it, and tells that it was asked for.
func (r *Ring) private(kid string) *ecdsa.PrivateKey {
	key := r.keys.Load().private[kid]
	if key == nil {
		kid = UnknownKey
	}
	if r.onOpen != nil {
		r.onOpen(kid)
	}
	return key
}

// active returns the place of the newest key whose time has come. If that of none has, it is the first whose time comes: whoever has any key
// is most likely to have that one.
func active(sorted []era, now time.Time) int {
	for i := len(sorted) - 1; i > 0; i-- {
		if !sorted[i].from.After(now) {
			return i
		}
	}
	return 0
}

// sortEras sorts keys by the time from which they are used, and those of one time by their ids.
func sortEras(eras []era) {
	slices.SortFunc(eras, func(a, b era) int { return cmp.Or(a.from.Compare(b.from), cmp.Compare(a.id, b.id)) })
}
