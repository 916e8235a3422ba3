package query

import (
	"crypto/sha256"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
)

var (
	drawToken    = rapid.StringMatching(`[A-Za-z0-9_-]{1,64}`)
	drawPrefix   = rapid.StringMatching(`[a-z]{1,8}(\.[a-z0-9_-]{1,8}){0,2}`)
	drawProvider = rapid.SampledFrom([]Provider{EasyPay, UnionPay})
	drawLane     = rapid.SampledFrom([]Lane{Interactive, Bulk})
)

func TestSubjects(t *testing.T) {
	t.Parallel()
	s := NewSubjects("discount")
	for want, got := range map[string]string{
		"discount.query.easypay.interactive.shop":      s.Query(EasyPay, Interactive, "shop"),
		"discount.query.unionpay.bulk.a-b_9":           s.Query(UnionPay, Bulk, "a-b_9"),
		"discount.query.easypay.bulk.*":                s.Query(EasyPay, Bulk, "*"),
		"discount.ask.easypay.shop":                    s.Ask(EasyPay, "shop"),
		"discount.ask.unionpay.*":                      s.Ask(UnionPay, "*"),
		"discount.lookup.shop":                         s.Lookup("shop"),
		"discount.lookup.*":                            s.Lookup("*"),
		"discount.retry.at.k":                          s.RetryAt("k"),
		"discount.retry.due.unionpay.interactive.shop": s.RetryDue(UnionPay, Interactive, "shop"),
		"discount.result.k.easypay.shop.completed":     s.Result("k", EasyPay, "shop", string(Completed)),
		"discount.result.k.>":                          s.ResultGuard("k"),
		"discount.result.k.*.shop.*":                   s.ResultOf("k", "shop"),
		"discount.dead.k.unionpay.shop.quarantined":    s.Dead("k", UnionPay, "shop", string(ReasonQuarantined)),
		"discount.dead.k.>":                            s.DeadGuard("k"),
	} {
		require.Equal(t, want, got)
	}
	require.Equal(t, "a.b.retry.at.k", NewSubjects("a.b").RetryAt("k"))
}

func TestSubjectsAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := NewSubjects(drawPrefix.Draw(t, "prefix"))
		want := Address{
			Provider: drawProvider.Draw(t, "provider"), Lane: drawLane.Draw(t, "lane"), Client: drawToken.Draw(t, "client"),
		}
		subject := s.Query(want.Provider, want.Lane, want.Client)
		switch rapid.SampledFrom([]string{"query", "retry", "ask"}).Draw(t, "kind") {
		case "retry":
			want.Retry = true
			subject = s.RetryDue(want.Provider, want.Lane, want.Client)
		case "ask":
			want.Asked, want.Lane = true, Interactive
			subject = s.Ask(want.Provider, want.Client)
		}
		got, err := s.Parse(subject)
		require.NoError(t, err)
		require.Equal(t, want, got)

		d := &Decoder{subjects: s}
		require.Equal(t, want.Retry, d.IsRetry(subject))
	})
}

func TestSubjectsAreRefused(t *testing.T) {
	t.Parallel()
	s := NewSubjects("discount")
	for name, subject := range map[string]string{
		"nothing":                     "",
		"the prefix only":             "discount",
		"the prefix and a dot":        "discount.",
		"another prefix":              "discounts.query.easypay.bulk.shop",
		"no prefix":                   "query.easypay.bulk.shop",
		"no client":                   "discount.query.easypay.bulk",
		"an empty client":             "discount.query.easypay.bulk.",
		"a client of two tokens":      "discount.query.easypay.bulk.shop.two",
		"a wildcard client":           "discount.query.easypay.bulk.*",
		"a full wildcard":             "discount.query.easypay.bulk.>",
		"a space":                     "discount.query.easypay.bulk.sh op",
		"a long client":               "discount.query.easypay.bulk." + strings.Repeat("a", 65),
		"an unknown provider":         "discount.query.visa.bulk.shop",
		"no provider":                 "discount.query..bulk.shop",
		"another case of a provider":  "discount.query.EasyPay.bulk.shop",
		"an unknown lane":             "discount.query.easypay.slow.shop",
		"no lane":                     "discount.query.easypay..shop",
		"provider and lane swapped":   "discount.query.bulk.easypay.shop",
		"another case of the subject": "discount.Query.easypay.bulk.shop",
		"a request with a lane":       "discount.ask.easypay.bulk.shop",
		"a request without a client":  "discount.ask.easypay",
		"a request of a wildcard":     "discount.ask.easypay.*",
		"a request for nobody":        "discount.ask..shop",
		"a request for an unknown":    "discount.ask.visa.shop",
		"a lookup":                    "discount.lookup.shop",
		"a retry as a query":          "discount.due.easypay.bulk.shop",
		"a result":                    "discount.result.k.easypay.shop.completed",
		"a dead letter":               "discount.dead.k.easypay.shop.malformed",
		"a retry that waits":          "discount.retry.at.easypay.bulk.shop",
		"a retry without due":         "discount.retry.easypay.bulk.shop",
		"a query of another room":     "other.discount.query.easypay.bulk.shop",
		"a name beyond ASCII":         "discount.query.easypay.bulk.shöp",
		"invalid UTF-8":               "discount.query.easypay.bulk.\xff",
		"a line end":                  "discount.query.easypay.bulk.shop\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := s.Parse(subject)
			requireFault(t, err, fault.BadSubject)
			require.Equal(t, Address{}, got)
			require.False(t, (&Decoder{subjects: s}).IsRetry(subject))
		})
	}
}

// requireFault checks that err is Malformed with the code given, and that its text is made of nothing else.
func requireFault(t require.TestingT, err error, code fault.Code) {
	require.Error(t, err)
	require.Equal(t, fault.Malformed, fault.KindOf(err))
	require.Equal(t, code, fault.CodeOf(err))
	require.Regexp(t, `^[A-Za-z ]{3,30}: malformed \(`+string(code)+`\)$`, err.Error())
}

func TestLookupSubjectsAreReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, want := NewSubjects(drawPrefix.Draw(t, "prefix")), drawToken.Draw(t, "client")
		got, err := s.ReadLookup(s.Lookup(want))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
	s := NewSubjects("discount")
	for _, subject := range []string{
		"", "discount", "discount.lookup", "discount.lookup.", "discount.lookup.*", "discount.lookup.>", "discount.lookup.a.b", "lookup.shop",
		"discounts.lookup.shop", "discount.ask.easypay.shop", "discount.lookup.sh op", "discount.lookup.\xff", "other.discount.lookup.shop",
		"discount.lookup." + strings.Repeat("a", 65),
	} {
		client, err := s.ReadLookup(subject)
		requireFault(t, err, fault.BadSubject)
		require.Empty(t, client, "%q", subject)
	}
}

func TestIsToken(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"a": true, "Z": true, "0": true, "-": true, "_": true, "shop-7_B": true, strings.Repeat("x", 64): true,
		"": false, " ": false, "a b": false, "a.b": false, "*": false, ">": false, "a*": false, "é": false, "\x00": false, "a\n": false,
		"/": false, ":": false, "@": false, "[": false, "`": false, "{": false, "\xff": false, strings.Repeat("x", 65): false,
	} {
		require.Equal(t, want, IsToken(name), "%q", name)
	}
	rapid.Check(t, func(t *rapid.T) { require.True(t, IsToken(drawToken.Draw(t, "token"))) })
}

// keyByHand computes a key by arithmetic: 26 digits of 5 bits from the top of the hash.
func keyByHand(client, source, id string) string {
	h := sha256.New()
	for _, part := range []string{client, "\n", source, "\n", id} {
		_, _ = h.Write([]byte(part))
	}
	number := new(big.Int).SetBytes(h.Sum(nil))
	number.Rsh(number, 256-26*5)
	key := make([]byte, 26)
	for i := 25; i >= 0; i-- {
		var digit big.Int
		number.DivMod(number, big.NewInt(32), &digit)
		key[i] = "abcdefghijklmnopqrstuvwxyz234567"[digit.Uint64()]
	}
	return string(key)
}

func TestKey(t *testing.T) {
	t.Parallel()
	// These are what `printf 'shop\nurn:shop:checkout\norder-2026-000042' | sha256sum | xxd -r -p | base32 | cut -c1-26 | tr A-Z a-z` prints.
	require.Equal(t, "csbuu7xomafjihgdwkgzrrrmq4", Key("shop", "urn:shop:checkout", "order-2026-000042"))
	require.Equal(t, "owqr3jcmqasinpdpmvsavjekom", Key("", "", ""))
	require.Equal(t, Key("shop", "urn:a", "1"), (&Query{Client: "shop", Source: "urn:a", ID: "1"}).Key())
	rapid.Check(t, func(t *rapid.T) {
		client, source, id := drawToken.Draw(t, "client"), rapid.String().Draw(t, "source"), rapid.String().Draw(t, "id")
		key := Key(client, source, id)
		require.Equal(t, keyByHand(client, source, id), key)
		require.Regexp(t, `^[a-z2-7]{26}$`, key)
		require.True(t, IsToken(key))
	})
}

// An identity that can be decoded has no line end in it, so that no two of them run together into one key.
func TestKeysDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i, identity := range [][3]string{
		{"shop", "urn:a", "1"}, {"shop", "urn:a1", ""}, {"shopurn", ":a", "1"}, {"shop", "urn:a", "1 "}, {"shop", "urn:a", "01"},
		{"shop", "URN:a", "1"}, {"Shop", "urn:a", "1"}, {"shop", "1", "urn:a"}, {"", "shop", "urn:a1"},
	} {
		key := Key(identity[0], identity[1], identity[2])
		require.NotContains(t, seen, key, "%v", identity)
		seen[key] = i
	}
}
