package easypay

import (
	"bytes"
	"context"
	"net/http"
	"strconv"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// checkFields applies the page's types and lengths. They also keep out every character that KICC forbids in request values,
// because they allow letters and digits only.
func (p *Provider) checkFields(q *query.EasyPayQuestion) error {
	switch {
	case !isMallID(q.MallID):
		return badField("easypay: check mallId")
	case q.CardCd != "" && q.CardBin != "":
		return badField("easypay: check cardCd and cardBin")
	case q.CardCd != "" && !isCardCode(q.CardCd):
		return badField("easypay: check cardCd")
	case q.CardBin != "" && !isCardBin(q.CardBin):
		return badField("easypay: check cardBin")
	case q.CardBin != "" && p.legacy:
		// The older interface lists the coupons of every card. Without a card company nobody could tell which ones apply.
		return badField("easypay: check cardBin")
	case q.CardCd == "" && q.CardBin == "" && p.requireCard:
		return badField("easypay: check cardCd and cardBin")
	case q.Amount != nil && *q.Amount <= 0:
		return badField("easypay: check amount")
	}
	return nil
}

func badField(op string) error { return fault.New(op, fault.Rejected, fault.BadField) }

// request builds the request of one checked question.
func (p *Provider) request(q *query.EasyPayQuestion) (*http.Request, error) {
	address, body, contentType := p.endpoint, p.body(q), "application/json; charset=utf-8"
	if p.legacy {
		address, body, contentType = p.endpoint+"?mall_id="+q.MallID, nil, "application/json; charset=euc-kr"
	}
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return nil, fault.Because("easypay: build the request", fault.Unknown, fault.Unclassified, err)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("Accept", "application/json")
	return request, nil
}

// body returns the JSON body of the current variant. Its values are letters and digits, which need no escapes.
func (p *Provider) body(q *query.EasyPayQuestion) []byte {
	b := make([]byte, 0, 96)
	b = append(b, `{"mallId":"`...)
	b = append(b, q.MallID...)
	if q.CardCd != "" {
		b = append(b, `","cardCd":"`...)
		b = append(b, q.CardCd...)
	}
	if q.CardBin != "" {
		b = append(b, `","cardBin":"`...)
		b = append(b, q.CardBin...)
	}
	b = append(b, '"')
	if q.Amount != nil {
		b = append(b, `,"amount":`...)
		b = p.appendAmount(b, *q.Amount)
	}
	return append(b, '}')
}

func (p *Provider) appendAmount(b []byte, amount int64) []byte {
	if !p.amountAsString {
		return strconv.AppendInt(b, amount, 10)
	}
	b = append(b, '"')
	return append(strconv.AppendInt(b, amount, 10), '"')
}

// isMallID tells whether text can be a merchant id: 8 letters and digits.
func isMallID(text string) bool { return len(text) == 8 && isAlphanumeric(text) }

// isCardCode tells whether text can be a window card code: 3 digits and capitals, such as 008 and A16.
func isCardCode(text string) bool {
	return len(text) == 3 && all(text, func(c byte) bool { return isDigit(c) || isUpper(c) })
}

// isCardBin tells whether text can be the first 8 digits of a card number.
func isCardBin(text string) bool { return len(text) == 8 && all(text, isDigit) }

func isAlphanumeric(text string) bool {
	return all(text, func(c byte) bool { return isDigit(c) || isUpper(c) || c >= 'a' && c <= 'z' })
}

func all(text string, is func(byte) bool) bool {
	for i := range len(text) {
		if !is(text[i]) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
