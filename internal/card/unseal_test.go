package card

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

var binding = Binding{ID: "order-1", Source: "urn:shop", Type: "discount.query.requested.v1"}

// plaintext returns what is sealed for binding. Members of change replace those of the usual contents; a nil removes one.
func plaintext(t testing.TB, change map[string]any) []byte {
	t.Helper()
	members := map[string]any{
		"id": binding.ID, "source": binding.Source, "type": binding.Type, "userToken": userToken, "cardNo": cardNumber, "mobile": mobile,
	}
	for name, value := range change {
		if members[name] = value; value == nil {
			delete(members, name)
		}
	}
	text, err := json.Marshal(members, json.Deterministic(true))
	require.NoError(t, err)
	return text
}

// quoted returns the data member of a query that holds the plaintext sealed.
func (r *Ring) quoted(t testing.TB, plaintext []byte) []byte {
	t.Helper()
	compact, err := r.Seal(plaintext)
	require.NoError(t, err)
	return []byte(`"` + compact + `"`)
}

func unsealer(ring *Ring, plain bool) *Unsealer {
	return &Unsealer{Ring: ring, AcceptPlain: plain, MaxSealed: MaxSealed}
}

func requireDetails(t testing.TB, got *Details) {
	t.Helper()
	require.Equal(t, cardNumber, got.Number.Reveal())
	require.Equal(t, userToken, got.UserToken.Reveal())
	require.Equal(t, mobile, got.Mobile.Reveal())
}

func TestUnseal(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	u := unsealer(ring, false)
	compact, err := ring.Sealer().SealDetails(details(t), binding)
	require.NoError(t, err)
	require.LessOrEqual(t, len(compact), 700)
	for name, data := range map[string][]byte{
		"by our own hand":        []byte(`"` + compact + `"`),
		"by a publisher":         ring.quoted(t, plaintext(t, nil)),
		"with more than we read": ring.quoted(t, plaintext(t, map[string]any{"exp": 1, "note": []string{"cvv"}})),
		"directly agreed":        []byte(`"` + ring.sealByHand(t, nil, plaintext(t, nil)) + `"`),
		"with escapes":           []byte(`"\u0065` + compact[1:] + `"`),
	} {
		got, err := u.Unseal(data, binding)
		require.NoError(t, err, name)
		requireDetails(t, got)
	}
	got, err := u.Unseal(ring.quoted(t, plaintext(t, map[string]any{"mobile": nil})), binding)
	require.NoError(t, err)
	require.True(t, got.Mobile.Empty())
}

func TestUnsealRoundTrip(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		number, err := ParseNumber(checkDigit(rapid.StringMatching(`[0-9]{12,18}`).Draw(rt, "number")))
		require.NoError(rt, err)
		want := Details{NewSecret(rapid.StringN(1, 50, 200).Draw(rt, "token")), number, NewSecret(rapid.String().Draw(rt, "mobile"))}
		to := Binding{rapid.String().Draw(rt, "id"), rapid.String().Draw(rt, "source"), rapid.String().Draw(rt, "type")}
		compact, err := ring.Sealer().SealDetails(want, to)
		require.NoError(rt, err)
		data := []byte(`"` + compact + `"`)
		got, err := unsealer(ring, rapid.Bool().Draw(rt, "plain")).Unseal(data, to)
		require.NoError(rt, err)
		require.Equal(rt, want.Number.Reveal(), got.Number.Reveal())
		require.Equal(rt, want.UserToken.Reveal(), got.UserToken.Reveal())
		require.Equal(rt, want.Mobile.Reveal(), got.Mobile.Reveal())
	})
}

// A sealed text belongs to one query: moved to another it is refused, also if plain data were accepted.
func TestUnsealComparesTheBinding(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	data := ring.quoted(t, plaintext(t, nil))
	for name, to := range map[string]Binding{
		"another id":      {"order-2", binding.Source, binding.Type},
		"another source":  {binding.ID, "urn:other", binding.Type},
		"another type":    {binding.ID, binding.Source, "discount.query.requested.v2"},
		"another case":    {"Order-1", binding.Source, binding.Type},
		"a part of it":    {"order-", binding.Source, binding.Type},
		"no id":           {"", binding.Source, binding.Type},
		"swapped members": {binding.Source, binding.ID, binding.Type},
		"nothing":         {},
	} {
		for _, plain := range []bool{false, true} {
			got, err := unsealer(ring, plain).Unseal(data, to)
			require.Error(t, err, name)
			requireFault(t, err, fault.SealMismatch)
			require.Nil(t, got)
		}
	}
	for _, missing := range []string{"id", "source", "type"} {
		_, err := unsealer(ring, false).Unseal(ring.quoted(t, plaintext(t, map[string]any{missing: nil})), binding)
		requireFault(t, err, fault.SealMismatch)
		_, err = unsealer(ring, false).Unseal(ring.quoted(t, plaintext(t, map[string]any{missing: ""})), binding)
		requireFault(t, err, fault.SealMismatch)
	}
}

// refusedContents are contents that are refused whether they came sealed or plain.
func refusedContents(t testing.TB) map[string]struct {
	text []byte
	code fault.Code
} {
	t.Helper()
	type row = struct {
		text []byte
		code fault.Code
	}
	change := func(name string, value any) []byte { return plaintext(t, map[string]any{name: value}) }
	twice := func(name string) []byte {
		return []byte(strings.Replace(string(change("x", 1)), `"x"`, `"`+name+`"`, 1))
	}
	return map[string]row{
		"a number with spaces":    {change("cardNo", "6200 0000 0000 0005"), fault.BadCard},
		"a wrong check digit":     {change("cardNo", "6200000000000004"), fault.BadCard},
		"a short number":          {change("cardNo", "62000000"), fault.BadCard},
		"a long number":           {change("cardNo", strings.Repeat("0", 20)), fault.BadCard},
		"an empty number":         {change("cardNo", ""), fault.BadCard},
		"no number":               {change("cardNo", nil), fault.BadCard},
		"a number as such":        {change("cardNo", int64(6200000000000005)), fault.BadJSON},
		"no token":                {change("userToken", nil), fault.BadField},
		"an empty token":          {change("userToken", ""), fault.BadField},
		"a token of another type": {change("userToken", true), fault.BadJSON},
		"a mobile of digits":      {change("mobile", 5550), fault.BadJSON},
		"a verification value":    {change("cvn2", "123"), fault.ForbiddenCardData},
		"one in capitals":         {change("CVV2", 123), fault.ForbiddenCardData},
		"one deep inside":         {change("extra", []any{map[string]any{"Security-Code": ""}}), fault.ForbiddenCardData},
		"a PIN":                   {change("pin", "1234"), fault.ForbiddenCardData},
		"track data":              {change("track_2", "x"), fault.ForbiddenCardData},
		"a name twice":            {twice("zz\":1,\"zz"), fault.BadJSON},
		"the number twice":        {twice("cardNo"), fault.BadJSON},
		"invalid UTF-8":           {[]byte(strings.Replace(string(plaintext(t, nil)), userToken, "\xff", 1)), fault.BadJSON},
		"a second value":          {append(plaintext(t, nil), `{}`...), fault.BadJSON},
		"too deep":                {change("x", jsonNested(17)), fault.BadJSON},
		"an end too soon":         {plaintext(t, nil)[:40], fault.BadJSON},
	}
}

func jsonNested(depth int) any {
	var v any
	for range depth {
		v = []any{v}
	}
	return v
}

func TestUnsealRefusesContents(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	for name, c := range refusedContents(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, plain := range []bool{false, true} {
				got, err := unsealer(ring, plain).Unseal(ring.quoted(t, c.text), binding)
				requireFault(t, err, c.code)
				require.Nil(t, got)
				requireNoSecrets(t, err.Error())
			}
			got, err := unsealer(ring, true).Unseal(c.text, Binding{})
			requireFault(t, err, c.code)
			require.Nil(t, got)
			_, err = unsealer(ring, false).Unseal(c.text, binding)
			requireFault(t, err, fault.PlainCard)
		})
	}
	for _, text := range []string{`null`, `{}`, `[]`, `"` + cardNumber + `"`, cardNumber} {
		_, err := unsealer(ring, false).Unseal(ring.quoted(t, []byte(text)), binding)
		require.Contains(t, []fault.Code{fault.BadJSON, fault.SealMismatch}, fault.CodeOf(err))
	}
}

func TestUnsealPlain(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	plain := []byte(`{"userToken":"` + userToken + `","cardNo":"` + cardNumber + `","mobile":"` + mobile + `"}`)
	got, err := unsealer(ring, true).Unseal(plain, binding)
	require.NoError(t, err)
	requireDetails(t, got)

	got, err = unsealer(ring, false).Unseal(plain, binding)
	requireFault(t, err, fault.PlainCard)
	require.Nil(t, got)
	_, err = unsealer(ring, false).Unseal([]byte(`{`), binding)
	requireFault(t, err, fault.PlainCard)
}

func TestUnsealRefusesData(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	whole := string(ring.quoted(t, plaintext(t, nil)))
	other := setup(t)
	for name, c := range map[string]struct {
		data string
		code fault.Code
	}{
		"nothing":              {"", fault.BadSeal},
		"null":                 {"null", fault.BadSeal},
		"an empty text":        {`""`, fault.BadSeal},
		"a list":               {"[" + whole + "]", fault.BadSeal},
		"a number":             {cardNumber, fault.BadSeal},
		"a number as text":     {`"` + cardNumber + `"`, fault.BadSeal},
		"no quotes":            {whole[1 : len(whole)-1], fault.BadSeal},
		"an open quote":        {whole[:len(whole)-1], fault.BadSeal},
		"two texts":            {whole + whole, fault.BadSeal},
		"an object behind":     {" {}", fault.BadSeal},
		"JSON inside the text": {`"{\"cardNo\":\"` + cardNumber + `\"}"`, fault.BadSeal},
		"another's key":        {string(other.quoted(t, plaintext(t, nil))), fault.UnknownKey},
		"too large":            {`"` + strings.Repeat("a", MaxSealed+1) + `"`, fault.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, plain := range []bool{false, true} {
				got, err := unsealer(ring, plain).Unseal([]byte(c.data), binding)
				requireFault(t, err, c.code)
				require.Nil(t, got)
				requireNoSecrets(t, err.Error())
			}
		})
	}
	_, err := (&Unsealer{Ring: ring, MaxSealed: len(whole) - 3}).Unseal([]byte(whole), binding)
	requireFault(t, err, fault.TooLarge)
}

func TestSealDetailsRefusesWhatIsNoText(t *testing.T) {
	t.Parallel()
	ring := setup(t)
	bad := details(t)
	bad.UserToken = NewSecret(userToken + "\xff")
	_, err := ring.Sealer().SealDetails(bad, binding)
	require.Error(t, err)
	require.Equal(t, fault.SigningFailed, fault.CodeOf(err))
	require.Equal(t, "seal card data: unknown (signing_failed)", err.Error())
}

func BenchmarkUnseal(b *testing.B) {
	ring := setup(b)
	u, data := unsealer(ring, false), ring.quoted(b, plaintext(b, nil))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := u.Unseal(data, binding); err != nil {
			b.Fatal(err)
		}
	}
}
