package card

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

// kidOf returns the id of the key in a file that was just made.
func kidOf(file string) string {
	kid, _, _ := strings.Cut(filepath.Base(file), ".")
	return kid
}

// at makes it be a time for a ring.
func (r *Ring) at(now time.Time) *Ring {
	r.now = func() time.Time { return now }
	return r
}

func TestAKeyTakesOverAtItsTime(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	fresh, err := NewKeyPair(dir, midnight.Add(time.Hour), midnight.Add(2*time.Hour))
	require.NoError(t, err)
	joins, err := NewFingerprintKey(dir, midnight.Add(time.Hour), midnight.Add(3*time.Hour))
	require.NoError(t, err)
	for _, file := range []string{fresh[0], joins} {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	require.Equal(t, []string{kidOf(old[0]), kidOf(fresh[0])}, ring.KeyIDs())
	early, err := LoadSealer(fresh[1])
	require.NoError(t, err)
	compact, err := early.Seal([]byte("early"))
	require.NoError(t, err)
	for after, want := range map[time.Duration][2]string{
		0:                         {kidOf(old[0]), kidOf(old[2])},
		2*time.Hour - 1:           {kidOf(old[0]), kidOf(old[2])},
		2 * time.Hour:             {kidOf(fresh[0]), kidOf(old[2])},
		3 * time.Hour:             {kidOf(fresh[0]), kidOf(joins)},
		-10000 * time.Hour:        {kidOf(old[0]), kidOf(old[2])},
		24 * 365 * 20 * time.Hour: {kidOf(fresh[0]), kidOf(joins)},
	} {
		ring.at(midnight.Add(after))
		require.Equal(t, want, [2]string{ring.Sealer().KeyID(), ring.joining()}, after.String())
		opened, err := ring.Open(compact, MaxSealed)
		require.NoError(t, err, "a key opens before its time: a publisher's clock may be ahead")
		require.Equal(t, "early", string(opened))
		require.Equal(t, want, activeOf(ring))
	}
}

func activeOf(ring *Ring) (ids [2]string) {
	for _, key := range ring.Keys() {
		if key.Active && key.Fingerprint {
			ids[1] = key.ID
		} else if key.Active {
			ids[0] = key.ID
		}
	}
	return ids
}

func TestKeysTellWhenTheyAreUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files, err := NewKeys(dir, midnight)
	require.NoError(t, err)
	_, err = NewKeyPair(dir, midnight.AddDate(0, 0, 1), midnight.AddDate(0, 0, 2))
	require.NoError(t, err)
	writeKey(t, dir, "aaa.jwk", "by-hand", newKey(t, elliptic.P256()))
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	keys := ring.at(midnight).Keys()
	require.Len(t, keys, 4)
	for i := range 3 {
		require.True(t, IsThumbprint(keys[i].Thumbprint))
		keys[i].Thumbprint = ""
	}
	require.Equal(t, KeyInfo{ID: "by-hand", File: filepath.Join(dir, "aaa.jwk")}, keys[0], "what a key does not tell is not known, and it is the oldest")
	require.Equal(t, KeyInfo{ID: kidOf(files[0]), Created: midnight, From: midnight, Active: true, File: files[0]}, keys[1])
	require.Equal(t, [2]time.Time{midnight.AddDate(0, 0, 1), midnight.AddDate(0, 0, 2)}, [2]time.Time{keys[2].Created, keys[2].From})
	require.Equal(t, KeyInfo{ID: kidOf(files[2]), Fingerprint: true, Created: midnight, From: midnight, Active: true, File: files[2]}, keys[3])
	for _, when := range []string{`"nbf":"soon"`, `"iat":1.5`, `"nbf":1e400`, `"nbf":1,"nbf":2`} {
		raw, err := os.ReadFile(files[0])
		require.NoError(t, err)
		bad := write(t, t.TempDir(), "bad.jwk", []byte("{"+when+","+strings.TrimPrefix(strings.TrimSpace(string(raw)), "{")))
		_, err = LoadSealer(bad)
		require.EqualError(t, err, "key file "+bad+": it is not a JSON Web Key")
	}
}

func TestActive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		hours := rapid.SliceOfN(rapid.IntRange(-5, 5), 1, 8).Draw(t, "hours")
		var eras []era
		for i, hour := range hours {
			eras = append(eras, era{id: fmt.Sprint(i), from: midnight.Add(time.Duration(hour) * time.Hour)})
		}
		sortEras(eras)
		got := eras[active(eras, midnight)]
		for _, other := range eras {
			switch {
			case got.from.After(midnight):
				require.True(t, other.from.After(midnight), "one whose time has come goes before one whose time has not")
				require.False(t, other.from.Before(got.from), "of those that are all to come, the first")
			case !other.from.After(midnight):
				require.False(t, other.from.After(got.from), "of those whose time has come, the newest")
			}
		}
	})
}

func TestReplacedKeys(t *testing.T) {
	t.Parallel()
	ring, other := setup(t), setup(t)
	var opened []string
	ring.OnOpen(func(kid string) { opened = append(opened, kid) })
	first, second := ring.Sealer(), other.Sealer()
	before, err := first.Seal([]byte("before"))
	require.NoError(t, err)
	after, err := second.Seal([]byte("after"))
	require.NoError(t, err)
	underWay := (&Unsealer{Ring: ring, MaxSealed: MaxSealed}).Snapshot()
	ring.Replace(other)
	require.Equal(t, second.KeyID(), ring.Sealer().KeyID())
	_, err = ring.Open(after, MaxSealed)
	require.NoError(t, err)
	_, err = ring.Open(before, MaxSealed)
	requireFault(t, err, fault.UnknownKey)
	plaintext, err := underWay.Ring.Open(before, MaxSealed)
	require.NoError(t, err, "what is under way finishes with the keys that it began with")
	require.Equal(t, "before", string(plaintext))
	require.Equal(t, first.KeyID(), underWay.Ring.Sealer().KeyID())
	require.Equal(t, []string{second.KeyID(), UnknownKey, first.KeyID()}, opened, "a stranger's kid is never passed on")
}

// TestKeysAreReplacedInOnePiece runs with the race detector.
func TestKeysAreReplacedInOnePiece(t *testing.T) {
	t.Parallel()
	rings := []*Ring{setup(t), setup(t)}
	ring := rings[0].Snapshot()
	number := details(t).Number
	var users, swaps sync.WaitGroup
	done := make(chan struct{})
	swaps.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				ring.Replace(rings[i%2])
			}
		}
	})
	for range 4 {
		users.Go(func() {
			for range 50 {
				held := ring.Snapshot()
				compact, err := held.Seal([]byte("x"))
				require.NoError(t, err)
				_, err = held.Open(compact, MaxSealed)
				require.NoError(t, err)
				_, kid := held.Fingerprint(number)
				require.Equal(t, "fp-"+held.Sealer().KeyID(), kid)
				ring.Keys()
			}
		})
	}
	users.Wait()
	close(done)
	swaps.Wait()
}

func TestPublicSet(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var kids []string
	for day := range 3 {
		files, err := NewKeys(dir, midnight.AddDate(0, 0, day))
		require.NoError(t, err)
		kids = append(kids, kidOf(files[0]))
	}
	later, err := NewKeyPair(dir, midnight.AddDate(0, 0, 3), midnight.AddDate(0, 0, 9))
	require.NoError(t, err)
	ring, err := LoadRing(dir)
	require.NoError(t, err)
	raw, err := ring.at(midnight.AddDate(0, 0, 4)).PublicSet()
	require.NoError(t, err)
	require.NotContains(t, string(raw), `"d"`, "no private half")
	require.NotContains(t, string(raw), "oct", "no fingerprint key")

	set, err := jwk.Parse(raw)
	require.NoError(t, err, "another library reads it")
	require.Equal(t, 4, set.Len())
	for i, want := range []string{kids[2], kidOf(later[0]), kids[1], kids[0]} {
		key, ok := set.Key(i)
		require.True(t, ok)
		kid, _ := key.KeyID()
		require.Equal(t, want, kid)
		var public ecdsa.PublicKey
		require.NoError(t, jwk.Export(key, &public))
		require.True(t, ring.keys.Load().private[kid].PublicKey.Equal(&public))
	}
	var members struct{ Keys []map[string]any }
	require.NoError(t, json.Unmarshal(raw, &members))
	require.EqualValues(t, midnight.AddDate(0, 0, 9).Unix(), members.Keys[1]["nbf"])
	require.NotContains(t, members.Keys[0], "nbf")
	require.Equal(t, "enc", members.Keys[0]["use"])

	sealer, err := ReadSet(raw)
	require.NoError(t, err)
	require.Equal(t, kids[2], sealer.KeyID(), "the first is the active one")
	compact, err := sealer.Seal([]byte("hello"))
	require.NoError(t, err)
	_, err = ring.Open(compact, MaxSealed)
	require.NoError(t, err)
}

func TestReadSetRefuses(t *testing.T) {
	t.Parallel()
	big, err := setup(t).PublicSet()
	require.NoError(t, err)
	for name, set := range map[string]struct{ text, want string }{
		"nothing":         {"", "no JSON Web Key Set"},
		"no set":          {"s3cret", "no JSON Web Key Set"},
		"no keys":         {`{"keys":[]}`, "none of them"},
		"a secret":        {`{"keys":[{"kty":"oct","kid":"a","k":"czNjcmV0"}]}`, "none of them"},
		"beyond its size": {string(big) + strings.Repeat(" ", maxSet), "no JSON Web Key Set"},
	} {
		_, err := ReadSet([]byte(set.text))
		require.ErrorContains(t, err, set.want, name)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

// TestThumbprint compares with the one that another library takes.
func TestThumbprint(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	raw, err := ring.PublicSet()
	require.NoError(t, err)
	set, err := jwk.Parse(raw)
	require.NoError(t, err)
	key, _ := set.Key(0)
	sum, err := key.Thumbprint(crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, base64.RawURLEncoding.EncodeToString(sum), ring.Keys()[0].Thumbprint)
	require.Empty(t, ring.Keys()[1].Thumbprint, "a fingerprint key has no public half")
	for text, is := range map[string]bool{ring.Keys()[0].Thumbprint: true, "": false, "abc": false, strings.Repeat("A", 44): false, strings.Repeat("=", 43): false} {
		require.Equal(t, is, IsThumbprint(text), text)
	}
}

// TestReadSetWithAPin puts another key before ours, under the same kid: that is what somebody serves who wants to read what is sealed.
func TestReadSetWithAPin(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	kid, pin := ring.Sealer().KeyID(), ring.Keys()[0].Thumbprint
	set := func(keys ...any) []byte {
		var all jose.JSONWebKeySet
		for _, key := range keys {
			all.Keys = append(all.Keys, jose.JSONWebKey{Key: key, KeyID: kid})
		}
		raw, err := json.Marshal(all)
		require.NoError(t, err)
		return raw
	}
	foreign := newKey(t, elliptic.P256()).Public()
	_, err := ReadSet(set(foreign), pin)
	require.ErrorIs(t, err, ErrNotPinned)
	_, err = ReadSet(set(), pin)
	require.ErrorContains(t, err, "none of them is an EC P-256 key")
	sealer, err := ReadSet(set(foreign, ring.key().Public()), "another", pin)
	require.NoError(t, err)
	compact, err := sealer.Seal([]byte("hello"))
	require.NoError(t, err)
	_, err = ring.Open(compact, MaxSealed)
	require.NoError(t, err, "it is sealed to the pinned key, not to the first one")
	sealer, err = ReadSet(set(foreign))
	require.NoError(t, err, "without a pin whoever replies is believed")
	require.Equal(t, kid, sealer.KeyID())
}

func FuzzReadSet(f *testing.F) {
	set, err := setup(f).PublicSet()
	require.NoError(f, err)
	f.Add(set)
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"a","x":"","y":""}]}`))
	f.Add([]byte(`{"keys":[{"kty":"oct","kid":"a","k":"AAAA"}]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		sealer, err := ReadSet(raw)
		if err != nil {
			require.Nil(t, sealer)
			return
		}
		require.NotEmpty(t, sealer.KeyID())
		_, err = sealer.Seal([]byte("x"))
		require.NoError(t, err, "a key that was taken can be sealed to")
	})
}
