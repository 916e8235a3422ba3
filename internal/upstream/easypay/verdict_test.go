package easypay

import (
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/query"
)

func told(amount int64) won { return won{amount: amount, told: true} }

func dec(t require.TestingT, text string) decimal {
	d, ok := parseDecimal(text)
	require.True(t, ok, text)
	return d
}

// coupons of the two types, with a minimum of 10000 won and half of their budget left.
func fixed(t require.TestingT, change ...func(*terms)) terms {
	return changed(terms{kind: query.Fixed, minimum: told(10000), granted: told(1000), exhaustion: dec(t, "50")}, change)
}

func percentage(t require.TestingT, change ...func(*terms)) terms {
	return changed(terms{kind: query.Percentage, minimum: told(10000), rate: dec(t, "5"), limit: told(3000), exhaustion: dec(t, "50")}, change)
}

func changed(t terms, changes []func(*terms)) terms {
	for _, change := range changes {
		change(&t)
	}
	return t
}

func TestJudge(t *testing.T) {
	t.Parallel()
	buy := func(amount int64) asked { return asked{amount: amount, told: amount != 0} }
	tests := map[string]struct {
		terms    terms
		asked    asked
		word     query.Verdict
		discount int64
	}{
		"fixed":                          {fixed(t), buy(50000), query.Applicable, 1000},
		"fixed, minimum is inclusive":    {fixed(t), buy(10000), query.Applicable, 1000},
		"fixed, one won short":           {fixed(t), buy(9999), query.BelowMinimum, 0},
		"fixed, no minimum but zero":     {fixed(t, func(c *terms) { c.minimum = told(0) }), buy(1), query.Applicable, 1},
		"fixed, more than the amount":    {fixed(t, func(c *terms) { c.granted = told(20000) }), buy(15000), query.Applicable, 15000},
		"fixed, no discount told":        {fixed(t, func(c *terms) { c.granted = won{} }), buy(50000), query.Unjudged, 0},
		"fixed, discount of zero":        {fixed(t, func(c *terms) { c.granted = told(0) }), buy(50000), query.Applicable, 0},
		"fixed, no amount asked":         {fixed(t), buy(0), query.Unjudged, 0},
		"fixed, amount not sent":         {fixed(t), asked{amount: 50000}, query.Applicable, 1000},
		"minimum not told":               {fixed(t, func(c *terms) { c.minimum = won{} }), buy(50000), query.Unjudged, 0},
		"exhaustion not told":            {fixed(t, func(c *terms) { c.exhaustion = decimal{} }), buy(50000), query.Unjudged, 0},
		"exhaustion not told, below":     {fixed(t, func(c *terms) { c.exhaustion = decimal{} }), buy(5), query.BelowMinimum, 0},
		"exhausted":                      {fixed(t, spent(t, "100")), buy(50000), query.Exhausted, 0},
		"exhausted by decimals":          {fixed(t, spent(t, "100.00")), buy(50000), query.Exhausted, 0},
		"overrun":                        {fixed(t, spent(t, "103.7")), buy(50000), query.Exhausted, 0},
		"almost exhausted":               {fixed(t, spent(t, "99.99")), buy(50000), query.Applicable, 1000},
		"untouched":                      {fixed(t, spent(t, "0")), buy(50000), query.Applicable, 1000},
		"exhausted without an amount":    {fixed(t, spent(t, "100")), buy(0), query.Exhausted, 0},
		"exhausted and below":            {fixed(t, spent(t, "100")), buy(1), query.Exhausted, 0},
		"percentage":                     {percentage(t), buy(50000), query.Applicable, 2500},
		"percentage, to the cap":         {percentage(t), buy(60000), query.Applicable, 3000},
		"percentage, over the cap":       {percentage(t), buy(60020), query.Applicable, 3000},
		"percentage, no cap":             {percentage(t, func(c *terms) { c.limit = won{} }), buy(1000000), query.Applicable, 50000},
		"percentage, cap of zero":        {percentage(t, func(c *terms) { c.limit = told(0) }), buy(50000), query.Unjudged, 0},
		"percentage, half is rounded up": {percentage(t), buy(10010), query.Applicable, 501},
		"percentage, below half down":    {percentage(t), buy(10009), query.Applicable, 500},
		"percentage, no rate":            {percentage(t, norate), buy(50000), query.Unjudged, 0},
		"percentage, server's only":      {percentage(t, norate, granted(2000)), buy(50000), query.Applicable, 2000},
		"percentage, server's wins":      {percentage(t, granted(2499)), buy(50000), query.Applicable, 2499},
		"percentage, server's to cap":    {percentage(t, granted(3500)), buy(50000), query.Applicable, 3000},
		"percentage, server's to amount": {percentage(t, granted(90000), func(c *terms) { c.limit = won{} }), buy(50000), query.Applicable, 50000},
		"percentage, server was not told, so its own is for nothing": {percentage(t, granted(2499)), asked{amount: 50000}, query.Applicable, 2500},
		"percentage, server was not told and no rate":                {percentage(t, norate, granted(2499)), asked{amount: 50000}, query.Unjudged, 0},
		"percentage, no amount asked":                                {percentage(t, granted(2499)), buy(0), query.Unjudged, 0},
		"percentage, rate of zero":                                   {percentage(t, rate(t, "0")), buy(50000), query.Unjudged, 0},
		"percentage, rate of 100":                                    {percentage(t, rate(t, "100"), func(c *terms) { c.limit = won{} }), buy(50000), query.Applicable, 50000},
		"percentage, no percentage at all":                           {percentage(t, rate(t, "2000")), buy(50000), query.Unjudged, 0},
		"unknown type":                                               {fixed(t, unknown), buy(50000), query.Unjudged, 0},
		"unknown type, exhausted":                                    {fixed(t, unknown, spent(t, "100")), buy(50000), query.Exhausted, 0},
		"unknown type, below":                                        {fixed(t, unknown), buy(1), query.BelowMinimum, 0},
		"page's example, its own amount": {terms{kind: query.Percentage, minimum: told(200000), limit: told(10000), granted: told(2000),
			exhaustion: dec(t, "60.55")}, buy(51004), query.BelowMinimum, 0},
		"page's example, enough": {terms{kind: query.Percentage, minimum: told(200000), limit: told(10000), granted: told(2000),
			exhaustion: dec(t, "60.55")}, buy(200000), query.Applicable, 2000},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, verdict{word: tt.word, discount: tt.discount}, judge(&tt.terms, tt.asked))
		})
	}
}

func spent(t require.TestingT, text string) func(*terms) {
	d := dec(t, text)
	return func(c *terms) { c.exhaustion = d }
}

func rate(t require.TestingT, text string) func(*terms) {
	d := dec(t, text)
	return func(c *terms) { c.rate = d }
}

func granted(amount int64) func(*terms) { return func(c *terms) { c.granted = told(amount) } }

func norate(c *terms) { c.rate = decimal{} }

func unknown(c *terms) { c.kind = query.UnknownDiscount }

func TestShareAtTheEdges(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		amount int64
		rate   string
		want   int64
	}{
		{1, "50", 1}, {1, "49.999999999999999", 0}, {3, "50", 2}, {51004, "10", 5100}, {51005, "10", 5101}, {10000, "0.005", 1},
		{10000, "0.00499999999999999", 0}, {math.MaxInt64, "100", math.MaxInt64}, {math.MaxInt64, "50", 4611686018427387904},
		{math.MaxInt64, "99.9999999999999", 9223372036854766584}, {math.MaxInt64, "2000", math.MaxInt64}, {0, "10", 0},
		{math.MaxInt64, "0.00000000000000001", 1},
	} {
		require.Equal(t, tt.want, share(tt.amount, dec(t, tt.rate)), "%d at %s%%", tt.amount, tt.rate)
	}
}

// halfUp is the rounding of KICC's registration page by math/big: the floor of the exact value and one half.
func halfUp(r *big.Rat) *big.Int {
	r = new(big.Rat).Add(r, big.NewRat(1, 2))
	return new(big.Int).Div(r.Num(), r.Denom())
}

func TestShareIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(0, math.MaxInt64).Draw(t, "amount")
		text := drawDecimal(t, "rate")
		exact := new(big.Rat).Mul(new(big.Rat).SetInt64(amount), rational(t, text))
		want := halfUp(exact.Quo(exact, big.NewRat(100, 1)))
		if want.Cmp(big.NewInt(amount)) > 0 {
			want.SetInt64(amount)
		}
		require.Equal(t, want.Int64(), share(amount, dec(t, text)))
	})
}

// drawTerms draws a coupon with anything told or not.
func drawTerms(t *rapid.T) terms {
	amount := func(label string) won {
		if !rapid.Bool().Draw(t, label+" told") {
			return won{}
		}
		return told(rapid.OneOf(rapid.Int64Range(0, 5), rapid.Int64Range(0, 500000), rapid.Int64Range(0, 1e18-1)).Draw(t, label))
	}
	number := func(label string) decimal {
		d := dec(t, rapid.SampledFrom([]string{"0", "0.5", "3", "10", "33.33", "99.99", "100", "100.01", "2000"}).Draw(t, label))
		if !rapid.Bool().Draw(t, label+" told") {
			return decimal{}
		}
		return d
	}
	return terms{
		id: rapid.StringMatching(`CP[0-9]{1,2}`).Draw(t, "id"), card: rapid.SampledFrom([]string{"008", "026", "A16"}).Draw(t, "card"),
		kind:    rapid.SampledFrom([]query.DiscountType{query.Fixed, query.Percentage, query.UnknownDiscount}).Draw(t, "kind"),
		minimum: amount("minimum"), limit: amount("limit"), granted: amount("granted"), rate: number("rate"), exhaustion: number("exhaustion"),
	}
}

func drawAsked(t *rapid.T) asked {
	return asked{
		amount: rapid.OneOf(rapid.Just(int64(0)), rapid.Int64Range(1, 500000), rapid.Int64Range(1, math.MaxInt64)).Draw(t, "amount"),
		told:   rapid.Bool().Draw(t, "amount sent"),
	}
}

// reference judges once more, by other means and in another order: it gathers every reason against, then takes the weightiest.
func reference(t *rapid.T, c *terms, a asked) verdict {
	exhausted := c.exhaustion.told && rational(t, c.exhaustion.String()).Cmp(big.NewRat(100, 1)) >= 0
	below := a.amount > 0 && c.minimum.told && c.minimum.amount > a.amount
	unknown := a.amount == 0 || !c.minimum.told || !c.exhaustion.told || c.kind == query.UnknownDiscount
	discount := new(big.Int)
	if c.kind == query.Fixed || a.told && c.granted.told {
		unknown = unknown || !c.granted.told
		discount.SetInt64(c.granted.amount)
	} else if c.kind == query.Percentage {
		percent := new(big.Rat)
		if c.rate.told {
			percent = rational(t, c.rate.String())
		}
		unknown = unknown || percent.Sign() == 0 || percent.Cmp(big.NewRat(100, 1)) > 0
		exact := new(big.Rat).Mul(percent, new(big.Rat).SetInt64(a.amount))
		discount = halfUp(exact.Mul(exact, big.NewRat(1, 100)))
	}
	bound := []int64{a.amount}
	if c.kind == query.Percentage && c.limit.told {
		bound = append(bound, c.limit.amount)
		unknown = unknown || c.limit.amount == 0
	}
	if most := big.NewInt(slices.Min(bound)); discount.Cmp(most) > 0 {
		discount = most
	}
	switch {
	case exhausted:
		return verdict{word: query.Exhausted}
	case below:
		return verdict{word: query.BelowMinimum}
	case unknown:
		return verdict{word: query.Unjudged}
	}
	return verdict{word: query.Applicable, discount: discount.Int64()}
}

func TestJudgeAgainstReference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c, a := drawTerms(t), drawAsked(t)
		require.Equal(t, reference(t, &c, a), judge(&c, a))
	})
}

func TestOrderDoesNotDependOnTheUpstream(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a := drawAsked(t)
		coupons := rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) judged {
			c := drawTerms(t)
			return judged{terms: c, verdict: judge(&c, a)}
		}), 1, 12, func(j judged) string { return j.id + j.card }).Draw(t, "coupons")
		shuffled := rapid.Permutation(coupons).Draw(t, "shuffled")
		slices.SortStableFunc(coupons, compareJudged)
		slices.SortStableFunc(shuffled, compareJudged)
		require.Equal(t, coupons, shuffled)
		for i := 1; i < len(coupons); i++ {
			require.GreaterOrEqual(t, coupons[i-1].rank(), coupons[i].rank())
		}
	})
}

func TestOrder(t *testing.T) {
	t.Parallel()
	coupon := func(id, card string, word query.Verdict, discount int64, exhaustion decimal) judged {
		return judged{terms: terms{id: id, card: card, exhaustion: exhaustion}, verdict: verdict{word: word, discount: discount}}
	}
	want := []judged{
		coupon("CP9", "026", query.Applicable, 2000, dec(t, "99")),
		coupon("CP5", "026", query.Applicable, 1000, dec(t, "9.5")),
		coupon("CP4", "026", query.Applicable, 1000, dec(t, "10.25")),
		coupon("CP6", "008", query.Applicable, 1000, dec(t, "10.25")),
		coupon("CP6", "026", query.Applicable, 1000, dec(t, "10.25")),
		coupon("CP1", "026", query.Applicable, 0, dec(t, "1")),
		coupon("CP7", "026", query.BelowMinimum, 0, dec(t, "0")),
		coupon("CP8", "026", query.Exhausted, 0, dec(t, "100")),
		coupon("CP2", "026", query.Unjudged, 0, decimal{}),
		coupon("CP3", "026", query.Unjudged, 0, decimal{}),
	}
	got := slices.Clone(want)
	slices.Reverse(got)
	slices.SortStableFunc(got, compareJudged)
	require.Equal(t, want, got)
}
