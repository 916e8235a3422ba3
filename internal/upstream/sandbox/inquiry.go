package sandbox

import (
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// inquiry is a request to EasyPay, read.
type inquiry struct {
	facts facts
	// account is the merchant id, or "" when it is malformed.
	account                          string
	hasCardCd, hasCardBin, hasAmount bool
	// amount is in won; 0 when it is absent or malformed.
	amount int64
	legacy bool
}

// inquiryBody is the JSON body of the current address, as the API page's table has it. Unknown members are refused, so that a
// client that sends more than it should is found out.
type inquiryBody struct {
	MallID  string         `json:"mallId"`
	CardCd  *string        `json:"cardCd"`
	CardBin *string        `json:"cardBin"`
	Amount  jsontext.Value `json:"amount"`
}

// readInquiry reads the request of either address. The inquiry is never nil, since faults can aim at what was readable.
func (x *exchange) readInquiry() (inquiry, *refusal) {
	if ref := x.read(); ref != nil {
		return inquiry{}, ref
	}
	switch x.r.URL.Path {
	case EasyPayPath:
	case EasyPayLegacyPath:
		return x.readLegacy()
	default:
		return inquiry{}, &refusal{http.StatusNotFound, reasonPath}
	}
	if ref := x.wantPost(); ref != nil {
		return inquiry{}, ref
	}
	if !mediaTypeJSON(x.r.Header.Get("Content-Type")) {
		return inquiry{}, &refusal{http.StatusUnsupportedMediaType, reasonContentType}
	}
	return parseInquiry(x.body.Bytes())
}

// parseInquiry reads the JSON body of the current address.
func parseInquiry(text []byte) (inquiry, *refusal) {
	var body inquiryBody
	if err := json.Unmarshal(text, &body, json.RejectUnknownMembers(true)); err != nil {
		return inquiry{}, &refusal{http.StatusBadRequest, reasonJSON}
	}
	return body.inquiry(), nil
}

// readLegacy reads the older address, whose only parameter is in the query.
func (x *exchange) readLegacy() (inquiry, *refusal) {
	if ref := x.wantPost(); ref != nil {
		return inquiry{}, ref
	}
	mall := x.r.URL.Query().Get("mall_id")
	return inquiry{facts: facts{mall: mall}, account: mallAccount(mall), legacy: true}, nil
}

func (x *exchange) wantPost() *refusal {
	if x.r.Method != http.MethodPost {
		return &refusal{http.StatusMethodNotAllowed, reasonMethod}
	}
	return nil
}

func (b *inquiryBody) inquiry() inquiry {
	q := inquiry{facts: facts{mall: b.MallID}, account: mallAccount(b.MallID)}
	if b.CardCd != nil {
		q.hasCardCd, q.facts.cardCd = true, *b.CardCd
	}
	if b.CardBin != nil {
		q.hasCardBin, q.facts.cardBin = true, *b.CardBin
	}
	if b.Amount != nil {
		q.hasAmount = true
		q.amount, q.facts.amount = readAmount(b.Amount)
	}
	return q
}

// readAmount takes a number or a numeric string, because the API page's table says one and its example shows the other.
func readAmount(v jsontext.Value) (int64, string) {
	text := string(v)
	if len(text) >= 2 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	if text == "" || len(text) > 12 || !isDigits(text) {
		return 0, ""
	}
	won, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, ""
	}
	return won, text
}

// mallAccount returns a merchant id that is well-formed, 8 letters and digits, and "" for any other: whatever a client sends by
// mistake in this place is not kept.
func mallAccount(mall string) string {
	if len(mall) == 8 && isAlnum(mall) {
		return mall
	}
	return ""
}
