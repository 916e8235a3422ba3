package sandbox

import (
	"bytes"
	"net/http"
	"strconv"
	"time"
)

// maxRequestBody bounds what is read of a request, in bytes.
const maxRequestBody = 64 << 10

// reason is the closed word for why a request wasn't answered with success. It stands in the statistics and never holds a value
// from the request.
type reason string

// The reasons that both providers share.
const (
	reasonMethod      reason = "method"
	reasonPath        reason = "path"
	reasonContentType reason = "content type"
	reasonBody        reason = "body unread or too large"
	reasonJSON        reason = "no JSON object of the known members"
	reasonFault       reason = "fault"
	reasonClientGone  reason = "client gone"
)

// refusal is a request that is wrong at the HTTP level, or nil.
type refusal struct {
	status int
	why    reason
}

// exchange is one request on its way through the sandbox.
type exchange struct {
	s       *Sandbox
	ledger  *ledger
	w       http.ResponseWriter
	r       *http.Request
	seq     uint64
	account string
	body    *bytes.Buffer
}

// begin notes the arrival, before anything of the request's body is read.
func (s *Sandbox) begin(p Provider, w http.ResponseWriter, r *http.Request) *exchange {
	l := s.ledgers[p]
	return &exchange{s: s, ledger: l, w: w, r: r, seq: l.arrive(), body: s.buffer()}
}

// end gives back what begin took.
func (x *exchange) end() {
	x.s.release(x.body)
	x.ledger.leave()
}

// settle notes the outcome. It is called before the answer is written, so that a client that has its answer finds it counted.
func (x *exchange) settle(o Outcome, why reason) { x.ledger.settle(x.seq, x.account, o, why) }

// read takes in the whole body. Only then does the server notice a client that goes away.
func (x *exchange) read() *refusal {
	if _, err := x.body.ReadFrom(http.MaxBytesReader(x.w, x.r.Body, maxRequestBody)); err != nil {
		return &refusal{http.StatusRequestEntityTooLarge, reasonBody}
	}
	return nil
}

// pause waits and reports whether the client is still there.
func (x *exchange) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}

// refuse answers a request that is wrong at the HTTP level. The text names the reason and nothing of the request.
func (x *exchange) refuse(ref *refusal) {
	x.settle(Refused, ref.why)
	if ref.status == http.StatusMethodNotAllowed {
		x.w.Header().Set("Allow", http.MethodPost)
	}
	x.send(answer{status: ref.status, contentType: "text/plain; charset=utf-8", body: []byte(ref.why)})
}

// answer is a response, ready to be sent.
type answer struct {
	status      int
	contentType string
	encoding    string
	signature   string
	body        []byte
}

// writeHeader sends the answer's status and header. The signature's header keeps the spelling of the UPI pages, which Go's
// canonical form would lose.
func (x *exchange) writeHeader(a answer) {
	h := x.w.Header()
	h["Content-Type"] = []string{a.contentType}
	h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	if a.encoding != "" {
		h["Content-Encoding"] = []string{a.encoding}
	}
	if a.signature != "" {
		h[signatureHeader] = []string{a.signature}
	}
	x.w.WriteHeader(a.status)
}

// send writes the whole answer. A client that is gone can't be told anything, so write errors end here.
func (x *exchange) send(a answer) {
	x.writeHeader(a)
	_, _ = x.w.Write(a.body)
}

// buffer lends a buffer; release takes it back unless it has grown large.
func (s *Sandbox) buffer() *bytes.Buffer {
	b, _ := s.buffers.Get().(*bytes.Buffer)
	b.Reset()
	return b
}

func (s *Sandbox) release(b *bytes.Buffer) {
	if b.Cap() <= maxRequestBody {
		s.buffers.Put(b)
	}
}
