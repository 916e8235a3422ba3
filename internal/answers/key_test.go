package answers

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/query"
)

// bucketKey is what NATS allows as a key without surprises.
var bucketKey = regexp.MustCompile(`^(easypay|unionpay)\.[0-9a-f]{64}$`)

func keyOf(t testing.TB, c *Cache, q *query.Query, details *card.Details) string {
	t.Helper()
	key, ok := c.key(q, details)
	require.True(t, ok)
	require.Regexp(t, bucketKey, key)
	return key
}

func TestEasyPayKey(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	zero, one := int64(0), int64(1)
	same := keyOf(t, b.Cache, within("1", 0), nil)
	seen := map[string]string{same: "the question itself"}
	for name, c := range map[string]struct {
		change func(q *query.Query)
		same   bool
	}{
		"another id":        {func(q *query.Query) { q.ID = "2" }, true},
		"another client":    {func(q *query.Query) { q.Client, q.Source = "other", "urn:other" }, true},
		"another lane":      {func(q *query.Query) { q.Lane = query.Bulk }, true},
		"another age":       {func(q *query.Query) { q.MaxAge = nil }, true},
		"the default said":  {func(q *query.Query) { q.EasyPay.MallID = "T0001234" }, true},
		"another merchant":  {func(q *query.Query) { q.EasyPay.MallID = "T0001235" }, false},
		"another card":      {func(q *query.Query) { q.EasyPay.CardBin = "41111112" }, false},
		"no card":           {func(q *query.Query) { q.EasyPay.CardBin = "" }, false},
		"a card company":    {func(q *query.Query) { q.EasyPay.CardBin, q.EasyPay.CardCd = "", "026" }, false},
		"code, not BIN":     {func(q *query.Query) { q.EasyPay.CardBin, q.EasyPay.CardCd = "", "41111111" }, false},
		"another amount":    {func(q *query.Query) { q.EasyPay.Amount = &one }, false},
		"no amount":         {func(q *query.Query) { q.EasyPay.Amount = nil }, false},
		"an amount of zero": {func(q *query.Query) { q.EasyPay.Amount = &zero }, false},
		"parts run together": {func(q *query.Query) {
			q.EasyPay.CardCd, q.EasyPay.CardBin = "4", "1111111"
		}, false},
	} {
		q := within("1", 0)
		c.change(q)
		key := keyOf(t, b.Cache, q, nil)
		if c.same {
			require.Equal(t, same, key, name)
			continue
		}
		require.Empty(t, seen[key], "%s is no other question than", name)
		seen[key] = name
	}
}

func TestUnionPayKey(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	q, details := usage(t, "1", testCard, 0)
	same := keyOf(t, b.Cache, q, details)
	seen := map[string]string{same: "the question itself"}
	for name, c := range map[string]struct {
		change func(q *query.Query, details *card.Details)
		same   bool
	}{
		"another token":    {func(_ *query.Query, d *card.Details) { d.UserToken = card.NewSecret("x") }, true},
		"another mobile":   {func(_ *query.Query, d *card.Details) { d.Mobile = card.Secret{} }, true},
		"sealed anew":      {func(q *query.Query, _ *card.Details) { q.UnionPay.Data = query.Conceal([]byte("x")) }, true},
		"the default said": {func(q *query.Query, _ *card.Details) { q.UnionPay.PID, q.UnionPay.ScenID = "1", "0001" }, true},
		"another offer":    {func(q *query.Query, _ *card.Details) { q.UnionPay.PID = "2" }, false},
		"another scenario": {func(q *query.Query, _ *card.Details) { q.UnionPay.ScenID = "0002" }, false},
		"another card": {func(_ *query.Query, d *card.Details) {
			_, other := usage(t, "1", otherCard, 0)
			d.Number = other.Number
		}, false},
	} {
		q, details := usage(t, "1", testCard, 0)
		c.change(q, details)
		key := keyOf(t, b.Cache, q, details)
		if c.same {
			require.Equal(t, same, key, name)
			continue
		}
		require.Empty(t, seen[key], "%s is no other question than", name)
		seen[key] = name
	}
	for name, details := range map[string]*card.Details{"no card data": nil, "no number": {UserToken: card.NewSecret("x")}} {
		_, ok := b.key(q, details)
		require.False(t, ok, name)
	}
}

// In whose name and with which settings is a part of every question, and so is the fingerprint's key.
func TestAccountsAreKeptApart(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, change := range []func(o *Options){
		func(*Options) {}, func(o *Options) { o.Accounts = nil },
		func(o *Options) {
			o.Accounts[query.EasyPay], o.Accounts[query.UnionPay] = Account{ID: "theirs"}, Account{ID: "theirs"}
		},
		func(o *Options) {
			o.Accounts[query.EasyPay], o.Accounts[query.UnionPay] = Account{MallID: "T0009999"}, Account{PID: "2", ScenID: "0001"}
		},
	} {
		b := setup(t, nil)
		change(&b.Options)
		q, details := usage(t, "1", testCard, 0)
		for _, key := range []string{keyOf(t, b.Cache, within("1", 0), nil), keyOf(t, b.Cache, q, details)} {
			require.False(t, seen[key])
			seen[key] = true
		}
	}
	b := setup(t, nil)
	b.Fingerprint = func(n card.Number) (string, string) {
		hash, _ := fingerprint(n)
		return hash, "fp-2"
	}
	q, details := usage(t, "1", testCard, 0)
	require.False(t, seen[keyOf(t, b.Cache, q, details)])
}

// No part runs into the next, whatever stands in it.
func TestPartsAreKeptApart(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	seen := map[string]bool{}
	for _, parts := range [][2]string{{"4,", "1"}, {"4", ",1"}, {"4,,1", ""}, {"", "4,,1"}, {"1:4", "1"}, {"1", "1:4"}, {"4", "1"}, {"41", ""}} {
		q := within("1", 0)
		q.EasyPay.CardCd, q.EasyPay.CardBin = parts[0], parts[1]
		key := keyOf(t, b.Cache, q, nil)
		require.False(t, seen[key], "%q", parts)
		seen[key] = true
	}
}

// Two questions have one key exactly if they are one question.
func TestKeyIsTheQuestion(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	part := rapid.StringMatching(`[0-9:,]{0,4}`)
	draw := func(t *rapid.T, what string) query.EasyPayQuestion {
		return query.EasyPayQuestion{
			MallID: part.Draw(t, what+" mall"), CardCd: part.Draw(t, what+" code"), CardBin: part.Draw(t, what+" bin"),
			Amount: rapid.Ptr(rapid.Int64Range(0, 3), true).Draw(t, what+" amount"),
		}
	}
	plain := func(q query.EasyPayQuestion) query.EasyPayQuestion {
		if q.MallID == "" {
			q.MallID = "T0001234"
		}
		return q
	}
	rapid.Check(t, func(t *rapid.T) {
		one, other := draw(t, "one"), draw(t, "other")
		if rapid.Bool().Draw(t, "one field only") {
			other = query.EasyPayQuestion{MallID: one.MallID, CardCd: one.CardCd, CardBin: other.CardBin, Amount: one.Amount}
		}
		first, ok := b.key(&query.Query{Provider: query.EasyPay, EasyPay: &one}, nil)
		require.True(t, ok)
		second, ok := b.key(&query.Query{Provider: query.EasyPay, EasyPay: &other}, nil)
		require.True(t, ok)
		a, z := plain(one), plain(other)
		equal := a.MallID == z.MallID && a.CardCd == z.CardCd && a.CardBin == z.CardBin &&
			(a.Amount == nil) == (z.Amount == nil) && (a.Amount == nil || *a.Amount == *z.Amount)
		require.Equal(t, equal, first == second)
	})
}

// With the real keys of a worker, neither the number nor a part of it that identifies the card can be read from the key.
func TestKeyHoldsNoCard(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	b.Fingerprint = newRing(t).Fingerprint
	for _, number := range []string{testCard, otherCard} {
		q, details := usage(t, "1", number, 0)
		key := keyOf(t, b.Cache, q, details)
		for _, secret := range []string{number, number[:8], number[len(number)-8:], testToken, testMobile[1:]} {
			require.NotContains(t, key, secret)
		}
		b.Fingerprint = newRing(t).Fingerprint
		require.NotEqual(t, key, keyOf(t, b.Cache, q, details), "without the ring's key nobody gets the same")
	}
}
