package sandbox

import (
	"crypto"
	"crypto/rsa"
	"net/http"
	"sync/atomic"
	"time"
)

// UnionPayPath is the default path of the simulated query. UnionPay publishes none.
const UnionPayPath = "/uis/v1/instantdiscount/usage"

// UnionPayOptions says what the simulated UnionPay expects and which keys it holds. Keys.UnionPay fills in the keys.
type UnionPayOptions struct {
	// ClientKeys are the public signing keys of the callers by kid: *rsa.PublicKey. Without any, every call is refused.
	ClientKeys map[string]crypto.PublicKey
	// DecryptKeys are the private keys for the callers' JWE by kid.
	DecryptKeys map[string]*rsa.PrivateKey
	// SignKey signs the answers under SignKid; without it they go out unsigned.
	SignKey *rsa.PrivateKey
	// SignKid is the kid of SignKey.
	SignKid string
	// AppID is the UPI-APPID that callers must send, and that answers carry; "" means DefaultAppID.
	AppID string
	// Path is where the query is served; "" means UnionPayPath.
	Path string
	// ReqPath is the UPI-REQPATH that callers must sign; "" means Path.
	ReqPath string
	// InsCode, ProcType, SignCertID and EncCertID are what the fields of that name must hold; "" accepts any that is well-formed.
	InsCode, ProcType, SignCertID, EncCertID string
	// LowerMsgResponse spells the refusal's member msgResponse, as business answers of the family do.
	LowerMsgResponse bool
	// Remembered is how many UUIDs and how many reference numbers are kept to find repeats; 0 means 1,048,576, which outlasts
	// the 600 seconds for which a UUID's timestamp is valid up to 1,700 calls per second.
	Remembered int
}

// DefaultAppID is the UPI-APPID that is expected when none is configured: the example of UPI's security page.
const DefaultAppID = "00520446"

// Response codes of the simulated UnionPay. UPI publishes no table for this query; the numbers follow ISO 8583 where it has one.
const (
	// UnionPayOK is success.
	UnionPayOK = "00"
	// UnionPayBadInstitution is an insCode other than the configured one.
	UnionPayBadInstitution = "03"
	// UnionPayBadProcType is a procType other than the configured one.
	UnionPayBadProcType = "12"
	// UnionPayBadFormat is a field that is missing or breaks the API page's table, or a member that isn't in it.
	UnionPayBadFormat = "30"
	// UnionPayDuplicate is a refNum that the institution has used before.
	UnionPayDuplicate = "94"
	// UnionPayBadCertificate is a signCertId or encCertId other than the configured one.
	UnionPayBadCertificate = "96"
	// UnionPayUndecryptable is data that is no JWE of the accepted forms for a key held here.
	UnionPayUndecryptable = "97"
)

// unionPay is what the provider's calls share.
type unionPay struct {
	UnionPayOptions
	usageKey []byte
	uuids    *memory[[16]byte]
	refNums  *memory[string]
	earlier  *atomic.Pointer[answer]
}

func newUnionPay(o UnionPayOptions, seed uint64) unionPay {
	if o.AppID == "" {
		o.AppID = DefaultAppID
	}
	if o.Path == "" {
		o.Path = UnionPayPath
	}
	if o.ReqPath == "" {
		o.ReqPath = o.Path
	}
	if o.Remembered <= 0 {
		o.Remembered = defaultCapacity
	}
	return unionPay{
		UnionPayOptions: o,
		usageKey:        usageKey(seed),
		uuids:           newMemory[[16]byte](o.Remembered),
		refNums:         newMemory[string](o.Remembered),
		earlier:         new(atomic.Pointer[answer]),
	}
}

// serveUnionPay answers one query, step by step. Signature, UUID and refNum are checked and remembered before a fault can strike:
// whoever repeats a signed request after a fault is found out.
func (s *Sandbox) serveUnionPay(w http.ResponseWriter, r *http.Request) {
	x := s.begin(UnionPay, w, r)
	defer x.end()
	u := &s.unionPay
	ref := x.readUsageRequest(u)
	q, known := parseUsageRequest(x.body.Bytes())
	x.account = q.account()
	found := q.facts()
	faults := s.plan.Load().of(UnionPay)
	if x.down(faults, &found) {
		x.settle(Silent, reasonFault)
		x.reset()
		return
	}
	if ref != nil {
		x.refuse(ref)
		return
	}
	if why := u.authenticate(x.r.Header, x.body.Bytes(), s.now()); why != "" {
		x.unauthorized(u.LowerMsgResponse, why)
		return
	}
	code, message := u.check(q, known)
	d := x.decide(faults, &found, shape{})
	if !x.pause(d.delay) {
		x.settle(Silent, reasonClientGone)
		return
	}
	if d.strike != nil && x.replace(&d) {
		return
	}
	x.answerUsage(u, q, &d, code, message)
}

// readUsageRequest takes in the request and checks what HTTP itself asks for.
func (x *exchange) readUsageRequest(u *unionPay) *refusal {
	if ref := x.read(); ref != nil {
		return ref
	}
	if x.r.URL.Path != u.Path || x.r.URL.RawQuery != "" {
		return &refusal{http.StatusNotFound, reasonPath}
	}
	return x.wantPost()
}

// answerUsage builds the answer, lets the fault damage it, signs it and sends it.
func (x *exchange) answerUsage(u *unionPay, q *usageRequest, d *decision, code, message string) {
	var usage Usage
	if code == UnionPayOK {
		usage, code, message = u.usage(q)
	}
	if d.is(KindCode) {
		code, message = d.strike.set.text, "Told to answer so"
	}
	rep := usageAnswer{ProcType: q.echo("procType"), InsCode: q.echo("insCode"), RefNum: q.echo("refNum"), RespCode: code, RespMsg: message}
	if code == UnionPayOK {
		rep.Usage = usage
	}
	a := answer{status: http.StatusOK, contentType: unionPayContentType, body: rep.bytes(d)}
	x.s.spoil(&a, d)
	a = u.sign(a, d, x.s.now())
	x.settle(unionPayOutcome(d, code), declineReason(code, UnionPayOK))
	x.deliver(a, d)
}

const (
	signatureHeader     = "UPI-JWS"
	unionPayContentType = "application/json;charset=UTF-8"
)

// unauthorized answers HTTP 401 in the words of UPI's general rules. Such an answer is not signed.
func (x *exchange) unauthorized(lower bool, why reason) {
	x.settle(Unauthorized, why)
	body := `{"MsgResponse":{"responseCode":"E0","responseMsg":"Unauthorized access"}}`
	if lower {
		body = `{"msgResponse":{"responseCode":"E0","responseMsg":"Unauthorized access"}}`
	}
	x.send(answer{status: http.StatusUnauthorized, contentType: unionPayContentType, body: []byte(body)})
}

func unionPayOutcome(d *decision, code string) Outcome {
	switch {
	case d.strike != nil && !d.is(KindCode):
		return Spoiled
	case code != UnionPayOK:
		return Declined
	}
	return Answered
}

// UsageOf returns the usage that the sandbox reports for a card and an offer. It is a function of them and of the seed, through a
// keyed hash; nothing of the card is kept.
func (s *Sandbox) UsageOf(cardNo, pid string) Usage { return usageOf(s.unionPay.usageKey, cardNo, pid) }

// timestampWindow is how far a caller's clock can be off, as UPI's rules have it.
const timestampWindow = 300 * time.Second
