package query

import (
	"strings"
	"time"
	"unicode"
)

// Outcome says what kind of answer an upstream gave. Each of them is an answer: the query is completed.
type Outcome string

// The outcomes of a completed query.
const (
	// OutcomeOK is an answer with offers or usage.
	OutcomeOK Outcome = "ok"
	// OutcomeEmpty is the answer that there is nothing: no offer, no record.
	OutcomeEmpty Outcome = "empty"
	// OutcomeDeclined is an answer in which the upstream declines to tell, for a reason of its own.
	OutcomeDeclined Outcome = "declined"
)

// Class says what a response code of an upstream means. Each provider has a table of them, which configuration can override.
type Class string

// The classes of response codes. An unknown code is broken.
const (
	// ClassOK is an answer.
	ClassOK Class = "ok"
	// ClassEmpty is the answer that there is nothing.
	ClassEmpty Class = "empty"
	// ClassDeclined is an answer too: the upstream declines.
	ClassDeclined Class = "declined"
	// ClassTransient is worth another attempt.
	ClassTransient Class = "transient"
	// ClassBroken makes the query a dead letter.
	ClassBroken Class = "broken"
	// ClassConfig speaks of our account or credentials, not of the query.
	ClassConfig Class = "config"
)

// Money is an exact amount. It is never a float.
type Money struct {
	// Minor is the amount in the currency's minor unit (cents; for won the won itself). It is nil where the unit is not known.
	Minor *int64 `json:"minor,omitzero"`
	// Currency is the ISO 4217 code: three letters, or the three digits of the upstream where the code is not known.
	Currency string `json:"currency"`
	// Raw is the upstream's own string, kept where its unit is not documented.
	Raw string `json:"raw,omitzero"`
}

// Won returns an amount of Korean won, which has no minor unit.
func Won(amount int64) Money { return Money{Minor: &amount, Currency: "KRW"} }

// Verdict says whether an offer applies to the query's amount.
type Verdict string

// The verdicts on one offer.
const (
	// Applicable is an offer that the shopper gets.
	Applicable Verdict = "applicable"
	// BelowMinimum is an offer whose minimum purchase is above the amount.
	BelowMinimum Verdict = "below_minimum"
	// Exhausted is an offer whose budget is used up.
	Exhausted Verdict = "exhausted"
	// Unjudged is an offer that can't be judged: no amount was asked, or the upstream left out what is needed.
	Unjudged Verdict = "unknown"
)

// DiscountType says how an offer's discount is computed (EasyPay discountType 01 and 02).
type DiscountType string

// The discount types.
const (
	// Percentage is a share of the amount, up to a cap.
	Percentage DiscountType = "percentage"
	// Fixed is a fixed amount.
	Fixed DiscountType = "fixed"
	// UnknownDiscount is a type this worker does not know.
	UnknownDiscount DiscountType = "unknown"
)

// CardCompany is the company an offer is for.
type CardCompany struct {
	// Code is KICC's window card code.
	Code string `json:"code"`
	// Name is the upstream's name for it, or the one of the shipped table.
	Name string `json:"name,omitzero"`
}

// Offer is one instant-discount coupon.
type Offer struct {
	// ID is the coupon group's id, as the payment's registration wants it.
	ID string `json:"id"`
	// Card is the card company the coupon is for.
	Card CardCompany `json:"card"`
	// Type says how the discount is computed.
	Type DiscountType `json:"type"`
	// Minimum is the smallest purchase the offer applies to, inclusive; nil if not told.
	Minimum *Money `json:"minimum,omitzero"`
	// Exhaustion is how much of the offer's budget is used, in percent, as an exact decimal; empty if not told.
	Exhaustion string `json:"exhaustion,omitzero"`
	// NearlyExhausted tells that the exhaustion is above the configured threshold: ask again right before paying.
	NearlyExhausted bool `json:"nearlyExhausted,omitzero"`
	// Rate is the percentage of a percentage offer, as an exact decimal; empty if not told.
	Rate string `json:"rate,omitzero"`
	// Cap is the largest discount of a percentage offer; nil if none is known.
	Cap *Money `json:"cap,omitzero"`
	// Verdict says whether the offer applies to the asked amount.
	Verdict Verdict `json:"verdict"`
	// Discount is the discount for the asked amount; nil if it can't be told.
	Discount *Money `json:"discount,omitzero"`
	// Payable is the asked amount less the discount; nil if it can't be told.
	Payable *Money `json:"payable,omitzero"`
	// Upstream is the discount the upstream itself computed; nil if it sent none.
	Upstream *Money `json:"upstreamDiscount,omitzero"`
}

// Used is how much of an offer was used in one period: an amount and a count, each absent where the upstream sent none.
type Used struct {
	Amount *Money `json:"amount,omitzero"`
	Count  *int64 `json:"count,omitzero"`
}

// Usage is how much of an offer one cardholder has used. Absent is not zero: a period without a limit is not reported.
type Usage struct {
	Day      *Used  `json:"day,omitzero"`
	Month    *Used  `json:"month,omitzero"`
	Total    *Used  `json:"total,omitzero"`
	Currency string `json:"currency,omitzero"`
}

// Response is what is kept of the upstream's response besides the answer.
type Response struct {
	// Code is the upstream's response code.
	Code string `json:"code,omitzero"`
	// Message is the upstream's text, cleaned by CleanMessage.
	Message string `json:"message,omitzero"`
	// Reference is the reference number of the attempt that was answered (UnionPay refNum).
	Reference string `json:"reference,omitzero"`
	// Status is the HTTP status.
	Status int `json:"httpStatus,omitzero"`
	// Dialect names the form of the response, where the upstream has several.
	Dialect string `json:"dialect,omitzero"`
}

// Answer is what an upstream said to one query.
type Answer struct {
	Outcome  Outcome
	Offers   []Offer
	Usage    *Usage
	Upstream Response
	// AsOf is when the upstream answered.
	AsOf time.Time
	// Shared tells that the upstream was asked on behalf of another query.
	Shared bool
}

// Best returns the applicable offer with the largest discount, the first of equals, or nil if none applies.
func (a *Answer) Best() *Offer {
	var best *Offer
	for i := range a.Offers {
		o := &a.Offers[i]
		if o.Verdict != Applicable || o.Discount == nil || o.Discount.Minor == nil {
			continue
		}
		if best == nil || *o.Discount.Minor > *best.Discount.Minor {
			best = o
		}
	}
	return best
}

// maxMessage is how many bytes of an upstream's message are kept.
const maxMessage = 200

// CleanMessage returns an upstream's message fit for a result: valid UTF-8, without control characters, at most 200 bytes, and
// with every run of 8 or more digits masked, because it could be part of a card number or a mobile. Spaces, dashes and what nobody
// sees (control and format characters) do not end a run.
func CleanMessage(text string) string {
	var b strings.Builder
	var run []rune // The digits that may have to be masked, and what stands between and behind them.
	digits, end := 0, 0
	flush := func() {
		if digits >= 8 {
			b.WriteString("***")
			run = run[end:]
		}
		b.WriteString(string(run))
		run, digits, end = run[:0], 0, 0
	}
	for _, r := range strings.ToValidUTF8(text, "") {
		switch {
		case unicode.IsControl(r):
		case unicode.IsDigit(r):
			run = append(run, r)
			digits, end = digits+1, len(run)
		case digits > 0 && unicode.In(r, unicode.Z, unicode.Pd, unicode.Cf):
			run = append(run, r)
		default:
			flush()
			b.WriteRune(r)
		}
	}
	flush()
	return truncate(strings.TrimSpace(b.String()), maxMessage)
}

// truncate cuts text to at most limit bytes without splitting a character.
func truncate(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "")
}
