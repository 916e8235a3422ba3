package easypay

import (
	"strings"

	"discountquery.example/worker/internal/query"
)

// Discount types of the page's table.
const (
	typePercentage = "01"
	typeFixed      = "02"
)

// maxID bounds the id of a coupon group. The page says 10; longer ones are no harm, endless ones are.
const maxID = 64

// terms reads one coupon, and tells whether it is one. It must have an id and a card company, and its numbers must be amounts
// of won and percentages: an offer that can't be trusted is worse than none. Older Korean systems pad texts with spaces.
func (p *Provider) terms(c *coupon) (terms, bool) {
	var t terms
	ok := !c.broken
	text := func(f field) string {
		ok = ok && (f.kind == 0 || f.kind == '"')
		return strings.Trim(f.text, " ")
	}
	number := func(f field) decimal {
		d, valid := readNumber(f)
		ok = ok && valid
		return d
	}
	amount := func(f field) won {
		d := number(f)
		value, whole := d.won()
		ok = ok && whole
		return won{amount: value, told: d.told}
	}
	t.id, t.card, t.name = text(c.id), text(c.card), p.cardName(text(c.card), text(c.name))
	t.minimum, t.granted, t.limit = amount(c.minimum), amount(c.amount), amount(c.limit)
	t.rate, t.exhaustion = number(c.rate), number(c.exhaustion)
	t.kind = discountType(text(c.kind), t.rate.told || t.limit.told)
	t.limit.told = t.limit.told && t.kind != query.Fixed && !(p.zeroCapIsNoCap && t.limit.amount == 0)
	return t, ok && isID(t.id) && isCode(t.card)
}

// discountType reads the page's discountType. The older edition has no such member and no percentage coupons, so a coupon that
// shows neither a type nor anything of a percentage is fixed.
func discountType(code string, likePercentage bool) query.DiscountType {
	switch {
	case code == typePercentage:
		return query.Percentage
	case code == typeFixed, code == "" && !likePercentage:
		return query.Fixed
	default:
		return query.UnknownDiscount
	}
}

// cardName returns the upstream's own name of a card company, or that of the table where it sent none. The table is second
// because KICC's pages disagree about some codes (008 is one).
func (p *Provider) cardName(code, sent string) string {
	if name := clean(sent); name != "" {
		return name
	}
	card, _ := p.cards.CardName(code)
	return card.Name
}

// readNumber reads a number, a string with a number, or nothing, which may be spelled as spaces.
func readNumber(f field) (decimal, bool) {
	switch f.kind {
	case 0:
		return decimal{}, true
	case '0':
		return parseDecimal(f.text)
	case '"':
		text := strings.Trim(f.text, " ")
		if text == "" {
			return decimal{}, true
		}
		return parseDecimal(text)
	default:
		return decimal{}, false
	}
}

// isID tells whether text can be the id of a coupon group: 1 to 64 visible ASCII characters.
func isID(text string) bool {
	return text != "" && len(text) <= maxID && all(text, func(c byte) bool { return c > ' ' && c < 0x7f })
}

// offers turns coupons into the offers of an answer, in their order.
func (p *Provider) offers(coupons []judged, a asked) []query.Offer {
	amounts := make(purse, 0, 5*len(coupons))
	offers := make([]query.Offer, len(coupons))
	for i := range coupons {
		c := &coupons[i]
		offers[i] = query.Offer{
			ID: c.id, Card: query.CardCompany{Code: c.card, Name: c.name}, Type: c.kind,
			Minimum: amounts.won(c.minimum), Cap: amounts.won(c.limit), Upstream: amounts.won(c.granted),
			Exhaustion: c.exhaustion.String(), Rate: c.rate.String(),
			NearlyExhausted: c.exhaustion.told && c.exhaustion.compare(p.nearly) > 0,
			Verdict:         c.word,
		}
		if c.word == query.Applicable {
			offers[i].Discount = amounts.won(won{amount: c.discount, told: true})
			offers[i].Payable = amounts.won(won{amount: a.amount - c.discount, told: true})
		}
	}
	return offers
}

// purse holds the amounts of one answer together. Each is a pointer to a pointer, so one by one they would be most of what
// reading a response allocates.
type purse []coin

type coin struct {
	minor int64
	money query.Money
}

// won returns the amount as money, nil if it is absent.
func (p *purse) won(w won) *query.Money {
	if !w.told {
		return nil
	}
	*p = append(*p, coin{minor: w.amount})
	c := &(*p)[len(*p)-1]
	c.money = query.Money{Minor: &c.minor, Currency: "KRW"}
	return &c.money
}
