package easypay

import (
	"cmp"
	"math/bits"

	"discountquery.example/worker/internal/query"
)

// won is an amount of won that may be absent.
type won struct {
	amount int64
	told   bool
}

// asked is what a question says about the coupons that answer it.
type asked struct {
	// amount is the purchase in won, 0 if none was given.
	amount int64
	// told tells that the upstream was sent the amount, so that its own discount is one for this purchase.
	told bool
	// card is the card company to keep, empty for all. Only the older interface leaves that to us.
	card string
}

// terms are what a coupon promises.
type terms struct {
	id, card, name string
	kind           query.DiscountType
	// minimum is the smallest purchase, inclusive.
	minimum won
	// limit is the largest discount of a percentage coupon.
	limit won
	// granted is the discount the upstream told.
	granted won
	// rate is the percentage, exhaustion the used share of the budget in percent.
	rate, exhaustion decimal
}

// verdict is what a coupon is worth for one purchase. The discount is set for applicable coupons only.
type verdict struct {
	word     query.Verdict
	discount int64
}

// judge says whether a coupon applies to the purchase, and for how much.
//
// A used-up budget comes first, because it holds for every amount. Then nothing can be said without an amount. The page tells
// merchants to check both the minimum and the exhaustion, so a coupon that leaves out either is never called applicable.
func judge(t *terms, a asked) verdict {
	switch {
	case t.exhaustion.told && t.exhaustion.compare(hundred) >= 0:
		return verdict{word: query.Exhausted}
	case a.amount <= 0:
		return verdict{word: query.Unjudged}
	case t.minimum.told && a.amount < t.minimum.amount:
		return verdict{word: query.BelowMinimum}
	case !t.minimum.told, !t.exhaustion.told:
		return verdict{word: query.Unjudged}
	}
	discount := t.worth(a)
	if !discount.told {
		return verdict{word: query.Unjudged}
	}
	return verdict{word: query.Applicable, discount: min(discount.amount, a.amount)}
}

// worth returns the discount before it is held to the amount. A coupon of a type this worker does not know has none: its
// number could mean something else.
func (t *terms) worth(a asked) won {
	switch t.kind {
	case query.Fixed:
		return t.granted
	case query.Percentage:
		return t.percentage(a)
	default:
		return won{}
	}
}

// percentage returns the discount of a percentage coupon. The upstream's own discount for this purchase wins over the
// rate, and both keep to the cap. The page's example has a discount of 2000 on such a coupon and no rate: no percentage can be
// 2000, so it is read as won like every other. A cap of 0 contradicts itself and leaves the coupon unjudged.
func (t *terms) percentage(a asked) won {
	var discount won
	switch {
	case t.limit.told && t.limit.amount == 0:
		return won{}
	case t.granted.told && a.told:
		discount = t.granted
	case t.rate.told && t.rate.units > 0 && t.rate.compare(hundred) <= 0:
		discount = won{amount: share(a.amount, t.rate), told: true}
	default:
		return won{}
	}
	if t.limit.told {
		discount.amount = min(discount.amount, t.limit.amount)
	}
	return discount
}

// share returns rate percent of amount, rounded half up to whole won as KICC's registration page asks. It is exact for every
// amount: the product has 128 bits. A rate of 100 percent or more is the whole amount.
func share(amount int64, rate decimal) int64 {
	if rate.compare(hundred) >= 0 {
		return amount
	}
	divisor := powers[rate.scale+2]
	high, low := bits.Mul64(uint64(amount), rate.units) //nolint:gosec // judge has refused amounts below 1.
	low, carry := bits.Add64(low, divisor/2, 0)
	quotient, _ := bits.Div64(high+carry, low, divisor)
	return int64(quotient) //nolint:gosec // A part of the amount fits where the amount did.
}

// judged is a coupon with its verdict.
type judged struct {
	terms
	verdict
}

// compareJudged orders coupons for a shopper: the largest discount first, then the most budget left (an unknown budget last),
// then by id and card company so that the order never depends on the upstream's.
func compareJudged(a, b judged) int {
	return cmp.Or(
		cmp.Compare(b.rank(), a.rank()),
		compareExhaustion(a.exhaustion, b.exhaustion),
		cmp.Compare(a.id, b.id),
		cmp.Compare(a.card, b.card),
	)
}

// rank is the discount, and less than any discount for a coupon without one.
func (j *judged) rank() int64 {
	if j.word != query.Applicable {
		return -1
	}
	return j.discount
}

func compareExhaustion(a, b decimal) int {
	switch {
	case a.told && b.told:
		return a.compare(b)
	case a.told:
		return -1
	case b.told:
		return 1
	default:
		return 0
	}
}
