package card

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// FuzzOpen changes tokens of all sorts. Nothing panics, every refusal is a closed word, and what opens is what was sealed.
func FuzzOpen(f *testing.F) {
	ring := fixed(f, "fp-a", 1) // The fuzzer's processes must hold the same key, or they would not understand each other's finds.
	compact := sealed(f, ring)
	parts := strings.Split(compact, ".")
	for _, seed := range []string{
		compact, ring.sealByHand(f, nil, []byte(`{"id":"1"}`)), ring.sealByHand(f, map[string]any{"zip": "DEF"}, []byte("x")),
		ring.sealByHand(f, map[string]any{"alg": "PBES2-HS512+A256KW", "p2c": 1_000_000_000, "p2s": "AAAA"}, nil),
		ring.sealByHand(f, map[string]any{"alg": "ECDH-ES+A256KW"}, nil), ring.sealByHand(f, map[string]any{"kid": "x"}, nil),
		parts[0] + ".." + parts[2] + "." + parts[3] + "." + parts[4], parts[0] + "." + parts[1] + "...", "....", "", " " + compact, compact + ".",
		`{"protected":"` + parts[0] + `"}`, strings.Repeat(".", 9000),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		plaintext, err := ring.Open(token, MaxSealed)
		if err != nil {
			require.Nil(t, plaintext)
			require.Equal(t, fault.Malformed, fault.KindOf(err))
			require.Contains(t, []fault.Code{fault.BadSeal, fault.UnknownKey, fault.TooLarge}, fault.CodeOf(err))
			return
		}
		require.Contains(t, []string{`{"id":"1"}`}, string(plaintext), "nobody can make a token for this key without its seeds")
	})
}

// FuzzUnseal seals anything and takes anything as plain data. Nothing panics, no error repeats anything, and what passes is a card.
func FuzzUnseal(f *testing.F) {
	ring := fixed(f, "fp-a", 1)
	f.Add(plaintext(f, nil))
	for _, c := range refusedContents(f) {
		f.Add(c.text)
	}
	for _, seed := range []string{`null`, `{}`, `""`, `[]`, cardNumber, string(ring.quoted(f, plaintext(f, nil))), `"a.b.c.d.e"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		outside, outsideErr := unsealer(ring, true).Unseal(data, binding)
		requireCard(t, outside, outsideErr)
		compact, err := ring.Seal(data)
		require.NoError(t, err)
		inside, insideErr := unsealer(ring, false).Unseal([]byte(`"`+compact+`"`), binding)
		requireCard(t, inside, insideErr)
		if insideErr == nil && len(data) > 0 && data[0] == '{' {
			require.NoError(t, outsideErr, "what is accepted sealed is accepted plain")
		}
	})
}

// requireCard checks that what was unsealed is a card, or refused in closed words.
func requireCard(t *testing.T, got *Details, err error) {
	t.Helper()
	if err != nil {
		require.Nil(t, got)
		require.Contains(t, []fault.Code{
			fault.BadSeal, fault.UnknownKey, fault.TooLarge, fault.PlainCard, fault.BadJSON, fault.ForbiddenCardData, fault.SealMismatch,
			fault.BadCard, fault.BadField,
		}, fault.CodeOf(err))
		requireFault(t, err, fault.CodeOf(err))
		return
	}
	require.Regexp(t, `^[0-9]{13,19}$`, got.Number.Reveal())
	require.False(t, got.UserToken.Empty())
	require.True(t, utf8.ValidString(got.UserToken.Reveal()) && utf8.ValidString(got.Mobile.Reveal()))
}
