package sandbox

import (
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
)

// CouponType says how a coupon's discount is given.
type CouponType string

// The coupon types of the API page.
const (
	// Percentage coupons take a share of the amount.
	Percentage CouponType = "01"
	// Fixed coupons take a fixed amount.
	Fixed CouponType = "02"
)

// Coupon is one instant discount in the simulated catalogue. Money is in won.
type Coupon struct {
	// CardCd is the window card code of its issuer: three letters and digits.
	CardCd string
	// CardName is the issuer's name as it is shown.
	CardName string
	// ID is the coupon group id: up to ten letters and digits.
	ID string
	// Exhaustion is how much of the budget is used up, in hundredths of a percent: 1203 is 12.03 %. From 10000 on it is exhausted.
	Exhaustion int64
	// Minimum is the smallest amount it applies to.
	Minimum int64
	// Type says whether Rate and Cap or Amount holds the discount.
	Type CouponType
	// Rate is the discount of a percentage coupon in hundredths of a percent.
	Rate int64
	// Cap is the largest discount of a percentage coupon; 0 means that none is stated.
	Cap int64
	// Amount is the discount of a fixed coupon.
	Amount int64
}

// Discount returns what the coupon takes off an amount: for a percentage rounded half up to whole won and capped, as the API
// pages ask. It doesn't look at the minimum or at the budget; that is left to the client.
func (c Coupon) Discount(amount int64) int64 {
	if c.Type != Percentage {
		return c.Amount
	}
	won := (amount*c.Rate + 5000) / 10000
	if c.Cap > 0 {
		won = min(won, c.Cap)
	}
	return won
}

// DefaultCatalogue returns the built-in coupons: the two of the API page's example first (the page doesn't print the second one's
// rate; 1 % of its minimum gives the 2,000 won that it does print), then one for every case that a client must tell apart.
func DefaultCatalogue() []Coupon {
	return []Coupon{
		{CardCd: "008", CardName: "하나카드", ID: "CP12345678", Exhaustion: 1203, Minimum: 100_000, Type: Fixed, Amount: 1000},
		{CardCd: "026", CardName: "비씨카드", ID: "CP87654321", Exhaustion: 6055, Minimum: 200_000, Type: Percentage, Rate: 100, Cap: 10_000},
		{CardCd: "008", CardName: "하나카드", ID: "CP00800500", Exhaustion: 350, Minimum: 30_000, Type: Percentage, Rate: 500, Cap: 5000},
		{CardCd: "026", CardName: "비씨카드", ID: "CP02603000", Exhaustion: 9720, Minimum: 50_000, Type: Fixed, Amount: 3000},
		{CardCd: "016", CardName: "국민카드", ID: "CP01601000", Exhaustion: 4107, Minimum: 50_000, Type: Percentage, Rate: 1000, Cap: 10_000},
		{CardCd: "016", CardName: "국민카드", ID: "CP01605000", Exhaustion: 10_000, Minimum: 70_000, Type: Fixed, Amount: 5000},
		{CardCd: "018", CardName: "NH농협카드", ID: "CP01800750", Exhaustion: 2200, Minimum: 10_000, Type: Percentage, Rate: 750, Cap: 3000},
		{CardCd: "027", CardName: "현대카드", ID: "CP02710000", Exhaustion: 15, Minimum: 5_000_000, Type: Fixed, Amount: 100_000},
		{CardCd: "029", CardName: "신한카드", ID: "CP02900333", Exhaustion: 0, Minimum: 0, Type: Percentage, Rate: 333},
		{CardCd: "031", CardName: "삼성카드", ID: "CP03102000", Exhaustion: 10_431, Minimum: 20_000, Type: Fixed, Amount: 2000},
		{CardCd: "031", CardName: "삼성카드", ID: "CP03100250", Exhaustion: 9999, Minimum: 20_000, Type: Percentage, Rate: 250, Cap: 4000},
		{CardCd: "047", CardName: "롯데카드", ID: "CP04700050", Exhaustion: 5000, Minimum: 1000, Type: Percentage, Rate: 50, Cap: 1000},
		{CardCd: "081", CardName: "은련카드", ID: "CP08100500", Exhaustion: 1875, Minimum: 50_000, Type: Percentage, Rate: 500, Cap: 20_000},
		{CardCd: "A16", CardName: "카카오뱅크", ID: "CPA1601500", Exhaustion: 7740, Minimum: 15_000, Type: Fixed, Amount: 1500},
	}
}

// issuersWithoutCoupons have cards but no offer, so that some cardBins find nothing.
var issuersWithoutCoupons = [...]string{"002", "017"}

// knownBins are prefixes with a fixed issuer: the API page's example and UnionPay's range.
var knownBins = [...]struct{ prefix, cardCd string }{{"12345678", "008"}, {"62", "081"}}

// listed is a coupon with its numbers and name written once.
type listed struct {
	Coupon
	quotedName, exhaustion, rate string
}

// catalogue finds coupons. It never changes once it is made.
type catalogue struct {
	all     []*listed
	byCard  map[string][]*listed
	issuers []string
}

func newCatalogue(coupons []Coupon) catalogue {
	c := catalogue{byCard: make(map[string][]*listed)}
	for _, coupon := range coupons {
		l := &listed{Coupon: coupon, quotedName: quote(coupon.CardName),
			exhaustion: hundredths(coupon.Exhaustion), rate: hundredths(coupon.Rate)}
		c.all = append(c.all, l)
		if c.byCard[coupon.CardCd] == nil {
			c.issuers = append(c.issuers, coupon.CardCd)
		}
		c.byCard[coupon.CardCd] = append(c.byCard[coupon.CardCd], l)
	}
	for _, cardCd := range issuersWithoutCoupons {
		if !slices.Contains(c.issuers, cardCd) {
			c.issuers = append(c.issuers, cardCd)
		}
	}
	return c
}

// find returns the coupons for an inquiry: of one issuer, or all when it names no card.
func (c *catalogue) find(q *inquiry) []*listed {
	switch {
	case q.hasCardCd:
		return c.byCard[q.facts.cardCd]
	case q.hasCardBin:
		return c.byCard[c.issuerOf(q.facts.cardBin)]
	}
	return c.all
}

// issuerOf maps a cardBin to an issuer, evenly and always in the same way.
func (c *catalogue) issuerOf(bin string) string {
	for _, known := range knownBins {
		if strings.HasPrefix(bin, known.prefix) {
			return known.cardCd
		}
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(bin))
	return c.issuers[int(h.Sum32()%uint32(len(c.issuers)))]
}

// hundredths writes a number of hundredths as a decimal without trailing zeros: 1203 is 12.03, 350 is 3.5, 10000 is 100.
func hundredths(n int64) string {
	text := strconv.FormatInt(n/100, 10)
	if cents := n % 100; cents != 0 {
		text += "." + strconv.Itoa(int(cents/10))
		if cents%10 != 0 {
			text += strconv.Itoa(int(cents % 10))
		}
	}
	return text
}
