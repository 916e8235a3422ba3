package sandbox

import (
	"bytes"
	"net/http"
	"sync/atomic"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/korean"
)

// EasyPayOptions says how EasyPay answers when nothing goes wrong. Faults of the kinds dialect, numbers and list change it for
// single calls.
type EasyPayOptions struct {
	// Dialect is the spelling of the current address' answers; the legacy address always speaks B.
	Dialect Dialect
	// Numbers is how numbers and absent numbers are written.
	Numbers Numbers
	// List is what becomes of the coupon list.
	List List
	// Malls are the merchant ids that exist; without any, every well-formed one does.
	Malls []string
	// Catalogue is the list of coupons; nil means DefaultCatalogue.
	Catalogue []Coupon
}

// The paths of EasyPay. The current one is on the API page; the legacy one is its older edition.
const (
	// EasyPayPath is the current address: POST with a JSON body.
	EasyPayPath = "/api/etc/inquiryCoupon"
	// EasyPayLegacyPath is the older address: POST with the query parameter mall_id, answered in EUC-KR.
	EasyPayLegacyPath = "/webpay/common/InquiryCouponAction.do"
)

// Response codes of the simulated EasyPay. KICC publishes only the first; the others are the sandbox's own.
const (
	// EasyPayOK is success, also with an empty list.
	EasyPayOK = "0000"
	// EasyPayBadMall is a mallId that is malformed or doesn't exist.
	EasyPayBadMall = "S101"
	// EasyPayBothCards is a call with cardCd and cardBin at once.
	EasyPayBothCards = "S102"
	// EasyPayBadField is a cardCd, cardBin or amount that breaks the API page's table.
	EasyPayBadField = "S103"
)

// easyPay is what the provider's calls share.
type easyPay struct {
	honest    shape
	malls     map[string]bool
	catalogue catalogue
	turn      *atomic.Uint64
}

func newEasyPay(o EasyPayOptions) easyPay {
	malls := make(map[string]bool, len(o.Malls))
	for _, m := range o.Malls {
		malls[m] = true
	}
	coupons := o.Catalogue
	if coupons == nil {
		coupons = DefaultCatalogue()
	}
	return easyPay{
		honest:    shape{dialect: o.Dialect, numbers: o.Numbers, list: o.List},
		malls:     malls,
		catalogue: newCatalogue(coupons),
		turn:      new(atomic.Uint64),
	}
}

// IssuerOf returns the window card code that a cardBin belongs to in this sandbox. It is the same for the same bin at all times.
func (s *Sandbox) IssuerOf(cardBin string) string { return s.easyPay.catalogue.issuerOf(cardBin) }

// serveEasyPay answers one inquiry, step by step.
func (s *Sandbox) serveEasyPay(w http.ResponseWriter, r *http.Request) {
	x := s.begin(EasyPay, w, r)
	defer x.end()
	q, ref := x.readInquiry()
	x.account = q.account
	faults := s.plan.Load().of(EasyPay)
	if x.down(faults, &q.facts) {
		x.settle(Silent, reasonFault)
		x.reset()
		return
	}
	if ref != nil {
		x.refuse(ref)
		return
	}
	d := x.decide(faults, &q.facts, s.easyPay.honest)
	if !x.pause(d.delay) {
		x.settle(Silent, reasonClientGone)
		return
	}
	if d.strike != nil && x.replace(&d) {
		return
	}
	buf := s.buffer()
	defer s.release(buf)
	code, message := s.easyPay.check(&q)
	if d.is(KindCode) {
		code, message = d.strike.set.text, "Told to answer so"
	}
	a := s.easyPay.answer(buf, &q, &d, code, message)
	s.spoil(&a, &d)
	x.settle(easyPayOutcome(&d, code), declineReason(code, EasyPayOK))
	x.deliver(a, &d)
}

// check looks for what EasyPay would refuse by its own code.
func (e *easyPay) check(q *inquiry) (code, message string) {
	switch {
	case q.account == "" || (len(e.malls) > 0 && !e.malls[q.account]):
		return EasyPayBadMall, "No such merchant: mallId"
	case q.hasCardCd && q.hasCardBin:
		return EasyPayBothCards, "Send cardCd or cardBin, not both"
	case q.hasCardCd && (len(q.facts.cardCd) != 3 || !isAlnum(q.facts.cardCd)):
		return EasyPayBadField, "Malformed: cardCd"
	case q.hasCardBin && (len(q.facts.cardBin) != 8 || !isDigits(q.facts.cardBin)):
		return EasyPayBadField, "Malformed: cardBin"
	case q.hasAmount && q.amount <= 0:
		return EasyPayBadField, "Malformed: amount"
	}
	return EasyPayOK, "Success"
}

// answer renders the response and encodes it.
func (e *easyPay) answer(buf *bytes.Buffer, q *inquiry, d *decision, code, message string) answer {
	sh := d.shape
	if q.legacy {
		sh.dialect = DialectB
		sh.charset = max(sh.charset, charsetCP949)
	}
	if sh.dialect == DialectRotate {
		sh.dialect = Dialect((e.turn.Add(1) - 1) % uint64(DialectRotate))
	}
	out := renderer{buf: buf.AvailableBuffer(), shape: sh, badNumber: d.is(KindBadNumber)}
	out.response(e.catalogue.find(q), q, code, message)
	_, _ = buf.Write(out.buf) // Keeps the grown memory in the pool.
	a := answer{status: http.StatusOK, contentType: sh.charset.contentType(), body: out.buf}
	if sh.charset != charsetUTF8 {
		a.body = toCP949(a.body)
	}
	return a
}

// toCP949 encodes text in the superset of EUC-KR that Korean systems mean by that name; what it lacks becomes a substitute.
func toCP949(text []byte) []byte {
	out, err := encoding.ReplaceUnsupported(korean.EUCKR.NewEncoder()).Bytes(text)
	if err != nil {
		return text // Can't happen: unsupported characters are replaced.
	}
	return out
}

func easyPayOutcome(d *decision, code string) Outcome {
	switch {
	case d.strike != nil && !d.is(KindCode):
		return Spoiled
	case code != EasyPayOK:
		return Declined
	}
	return Answered
}

// declineReason names a code that isn't success in the statistics.
func declineReason(code, success string) reason {
	if code == success {
		return ""
	}
	return reason("code " + code)
}
