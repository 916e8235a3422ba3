package easypay

import (
	"bytes"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/korean"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream"
)

// read turns one response into an answer. KICC's codes exist with HTTP 200 only (error handling page), so every other status
// is judged by itself.
func (p *Provider) read(r upstream.Response, a asked) (query.Answer, error) {
	if err := upstream.StatusFault("easypay: read the response", r); err != nil {
		return query.Answer{}, err
	}
	body, ok := p.decode(r.Body)
	if !ok {
		return query.Answer{}, responseFault(fault.Unavailable, fault.BadResponse)
	}
	m, err := parseMessage(body)
	if err != nil || m.code.kind != '"' || !isCode(m.code.text) {
		return query.Answer{}, responseFault(fault.Unavailable, fault.BadResponse)
	}
	answer := query.Answer{AsOf: r.At, Upstream: query.Response{
		Code: m.code.text, Message: clean(m.note.text), Status: r.Status, Dialect: m.forms.dialect(),
	}}
	switch class := p.classes[m.code.text]; class {
	case query.ClassOK:
		return p.readOffers(answer, m, a)
	case query.ClassEmpty:
		answer.Outcome = query.OutcomeEmpty
		return answer, nil
	case query.ClassDeclined:
		answer.Outcome = query.OutcomeDeclined
		return answer, nil
	default:
		return query.Answer{}, codeFault(class, m.code.text)
	}
}

// responseFault returns the fault of a response that came with HTTP 200.
func responseFault(kind fault.Kind, code fault.Code) *fault.Error {
	err := fault.New("easypay: read the response", kind, code)
	err.Status, err.Sent = http.StatusOK, true
	return err
}

// byteOrderMark begins some texts in UTF-8.
var byteOrderMark = []byte("\xef\xbb\xbf")

// decode returns the body in UTF-8, and whether it could be read. The charset that a response declares is not asked: the bytes
// are the better witness. UTF-8 that is not valid is left for the JSON reader to refuse.
func (p *Provider) decode(body []byte) ([]byte, bool) {
	if rest, marked := bytes.CutPrefix(body, byteOrderMark); marked {
		return rest, true
	}
	if p.charset == CharsetUTF8 || p.charset == CharsetAuto && utf8.Valid(body) {
		return body, true
	}
	decoded, err := korean.EUCKR.NewDecoder().Bytes(body)
	// The decoder puts U+FFFD where the bytes are no CP949. CP949 itself has no such character.
	return decoded, err == nil && !bytes.ContainsRune(decoded, utf8.RuneError)
}

// readOffers reads the coupons of a successful response. No list, null and an empty list are the answer that there is nothing.
func (p *Provider) readOffers(answer query.Answer, m *message, a asked) (query.Answer, error) {
	if m.broken {
		return query.Answer{}, responseFault(fault.Unavailable, fault.BadResponse)
	}
	coupons := make([]judged, 0, len(m.coupons))
	for i := range m.coupons {
		t, ok := p.terms(&m.coupons[i])
		if !ok {
			return query.Answer{}, responseFault(fault.Unavailable, fault.BadResponse)
		}
		if a.card == "" || a.card == t.card {
			coupons = append(coupons, judged{terms: t, verdict: judge(&t, a)})
		}
	}
	if len(coupons) == 0 {
		answer.Outcome = query.OutcomeEmpty
		return answer, nil
	}
	if len(coupons) > maxOffers {
		return query.Answer{}, responseFault(fault.Unavailable, fault.TooLarge)
	}
	slices.SortStableFunc(coupons, compareJudged)
	answer.Outcome = query.OutcomeOK
	answer.Offers = p.offers(coupons, a)
	return answer, nil
}

// clean is query.CleanMessage with a short way for texts that have nothing to clean, which nearly all have.
func clean(text string) string {
	unclean := func(r rune) bool { return unicode.IsDigit(r) || unicode.IsControl(r) || r == utf8.RuneError }
	if len(text) > 128 || strings.ContainsFunc(text, unclean) {
		return query.CleanMessage(text)
	}
	return strings.TrimSpace(text)
}
