// Package easypay speaks KICC EasyPay's instant-discount coupon inquiry: it builds requests, reads responses in all their
// spellings and judges each coupon. It must never do I/O, log, or let a word of a response into an error.
package easypay

import (
	"cmp"
	"errors"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// Provider is EasyPay's side of upstream.Provider. It is safe for concurrent use.
type Provider struct {
	endpoint       string
	legacy         bool
	mallID         string
	amountAsString bool
	charset        string
	requireCard    bool
	zeroCapIsNoCap bool
	nearly         decimal
	classes        map[string]query.Class
	cards          Cards
}

// New returns a provider with the given options. Its errors name the option that is wrong.
func New(o Options) (*Provider, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	endpoint, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	classes, err := o.classes()
	if err != nil {
		return nil, err
	}
	nearly, ok := parseDecimal(cmp.Or(o.NearlyExhausted, defaultNearlySpent))
	if !ok {
		return nil, errors.New("easypay options: NearlyExhausted must be a decimal of percent")
	}
	cards, err := LoadCards()
	if err != nil {
		return nil, err
	}
	return &Provider{
		endpoint: endpoint, legacy: o.Variant == VariantLegacy, mallID: o.MallID, amountAsString: o.AmountAs == AmountString,
		charset: cmp.Or(o.Charset, CharsetAuto), requireCard: o.RequireCard, zeroCapIsNoCap: o.ZeroCapIsNoCap,
		nearly: nearly, classes: classes, cards: cards,
	}, nil
}

// CardName returns the card company with the given window card code, and whether KICC's table has it.
func (p *Provider) CardName(code string) (Card, bool) { return p.cards.CardName(code) }

// Prepare checks the question against the field rules of the coupon inquiry page and builds the request. A field that breaks
// them is Rejected with the code BadField; the error names the field and never its value. The time is not used: nothing in
// this request depends on it, so two attempts send the same bytes.
func (p *Provider) Prepare(_ time.Time, question upstream.Question) (upstream.Exchange, error) {
	if question.Query == nil || question.Query.EasyPay == nil {
		return upstream.Exchange{}, fault.New("easypay: find the question", fault.Malformed, fault.BadField)
	}
	q := *question.Query.EasyPay
	q.MallID = cmp.Or(q.MallID, p.mallID)
	if err := p.checkFields(&q); err != nil {
		return upstream.Exchange{}, err
	}
	request, err := p.request(&q)
	if err != nil {
		return upstream.Exchange{}, err
	}
	asked := p.asked(&q)
	read := func(r upstream.Response) (query.Answer, error) { return p.read(r, asked) }
	return upstream.Exchange{Request: request, Read: read}, nil
}

// asked keeps of a question what its response is read with.
func (p *Provider) asked(q *query.EasyPayQuestion) asked {
	a := asked{told: !p.legacy && q.Amount != nil}
	if q.Amount != nil {
		a.amount = *q.Amount
	}
	if p.legacy {
		a.card = q.CardCd
	}
	return a
}
