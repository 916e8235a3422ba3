package sandbox

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

const htmlPage = "<!DOCTYPE html>\n<html><head><title>Request rejected</title></head>\n" +
	"<body><h1>The requested URL was rejected.</h1></body></html>\n"

// replace sends something else instead of the answer. It reports false when the fault isn't of that sort.
func (x *exchange) replace(d *decision) bool {
	set := d.strike.set
	switch d.strike.Kind {
	case KindLimit:
		x.refuseFor(http.StatusTooManyRequests, wholeSeconds(d.wait))
	case KindStatus, Kind429:
		x.refuseFor(set.n, set.retry.header(x.s.now()))
	case KindHang:
		x.settle(Silent, reasonFault)
		<-x.r.Context().Done()
		x.abort()
	case KindReset:
		x.settle(Silent, reasonFault)
		x.reset()
	case KindRedirect:
		x.settle(Failed, reasonFault)
		x.w.Header().Set("Location", set.text)
		x.w.WriteHeader(http.StatusTemporaryRedirect)
	case KindHTML:
		x.settle(Spoiled, reasonFault)
		x.send(answer{status: http.StatusOK, contentType: "text/html; charset=utf-8", body: []byte(htmlPage)})
	case KindEndless:
		x.settle(Spoiled, reasonFault)
		x.endless(set.low)
	case KindMsgResponse:
		x.unauthorized(set.text == "lower", reasonFault)
	default:
		return false
	}
	return true
}

// refuseFor answers with an HTTP error and, when there is one, a Retry-After.
func (x *exchange) refuseFor(status int, retryAfter string) {
	outcome := Failed
	switch status {
	case http.StatusTooManyRequests:
		outcome = Throttled
	case http.StatusUnauthorized:
		outcome = Unauthorized
	}
	x.settle(outcome, reasonFault)
	if retryAfter != "" {
		x.w.Header().Set("Retry-After", retryAfter)
	}
	x.send(answer{status: status, contentType: "text/plain; charset=utf-8", body: []byte(http.StatusText(status) + "\n")})
}

// reset ends the connection with a TCP reset. Where the connection can't be had, such as under HTTP/2, it is aborted instead.
func (x *exchange) reset() {
	conn, _, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.abort()
		return
	}
	raw := conn
	if secure, ok := conn.(*tls.Conn); ok {
		raw = secure.NetConn()
	}
	if plain, ok := raw.(*net.TCPConn); ok {
		_ = plain.SetLinger(0) // Unsent data is dropped and the peer gets RST: that is the fault.
	}
	_ = raw.Close()
}

// abort ends the connection without an answer, in the way that net/http reserves for handlers.
func (x *exchange) abort() {
	panic(http.ErrAbortHandler) //nolint:forbidigo // A handler has no other way to end the connection, and the server expects this one.
}

// endless sends chunk after chunk until the client goes.
func (x *exchange) endless(every time.Duration) {
	x.w.Header().Set("Content-Type", "application/json")
	flusher := http.NewResponseController(x.w)
	chunk := bytes.Repeat([]byte("a"), 16<<10)
	for next := []byte(`{"padding":"`); x.pause(max(every, time.Millisecond)); next = chunk {
		if _, err := x.w.Write(next); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil {
			return
		}
	}
}

// drip sends the answer one byte at a time.
func (x *exchange) drip(a answer, every time.Duration) {
	x.writeHeader(a)
	flusher := http.NewResponseController(x.w)
	for i := range a.body {
		if _, err := x.w.Write(a.body[i : i+1]); err != nil {
			return
		}
		if err := flusher.Flush(); err != nil || !x.pause(every) {
			return
		}
	}
}

// cut promises the whole answer, sends half of it and ends the connection.
func (x *exchange) cut(a answer) {
	x.writeHeader(a)
	_, _ = x.w.Write(a.body[:len(a.body)/2])
	_ = http.NewResponseController(x.w).Flush()
	x.abort()
}

// deliver sends an answer in the way that the fault asks for.
func (x *exchange) deliver(a answer, d *decision) {
	switch {
	case d.is(KindSlowBody):
		x.drip(a, d.strike.set.low)
	case d.is(KindCut):
		x.cut(a)
	default:
		x.send(a)
	}
}

// spoil damages an answer's body. It runs before the body is signed: the damage then reaches the client's parser, and a signature
// over a coded body covers the coded bytes, as the UPI rules say.
func (s *Sandbox) spoil(a *answer, d *decision) {
	if d.strike == nil {
		return
	}
	set := d.strike.set
	switch d.strike.Kind {
	case KindHuge:
		a.body = insertMember(a.body, "padding", padding(set.n-len(a.body)))
	case KindGarbage:
		a.body = []byte("\x00\x01\xfe not JSON: ]}{[ \xff\n")
	case KindTruncated:
		a.body = a.body[:len(a.body)/2]
	case KindEmpty:
		a.body = nil
	case KindGzip:
		a.encoding = "gzip"
		if set.text == "bomb" {
			a.body = s.bomb()
		} else {
			a.body = compress(a.body)
		}
	case KindBOM:
		a.body = append([]byte("\xef\xbb\xbf"), a.body...)
	case KindDeep:
		levels := bytes.Repeat([]byte("["), 2*set.n)
		copy(levels[set.n:], bytes.Repeat([]byte("]"), set.n))
		a.body = insertMember(a.body, "nested", levels)
	case KindDupKeys:
		a.body = insertMember(a.body, firstName(a.body), []byte(`"0"`))
	default: // The other kinds leave the body alone.
	}
}

// insertMember puts a member before the first one of a JSON object that has at least one.
func insertMember(object []byte, name string, value []byte) []byte {
	out := make([]byte, 0, len(object)+len(name)+len(value)+4)
	out = append(out, '{')
	out = append(append(append(out, '"'), name...), '"', ':')
	out = append(append(out, value...), ',')
	return append(out, object[1:]...)
}

// firstName returns the name of a JSON object's first member.
func firstName(object []byte) string {
	_, after, _ := bytes.Cut(object, []byte(`"`))
	name, _, _ := bytes.Cut(after, []byte(`"`))
	return string(name)
}

// padding returns a JSON string that makes insertMember add n bytes in all.
func padding(n int) []byte {
	const frame = len(`"padding":"",`)
	return append(append([]byte{'"'}, bytes.Repeat([]byte("a"), max(0, n-frame))...), '"')
}

// A gzip bomb is bombParts copies of the same compressed part, since a gzip stream may be several in a row. So it takes no longer
// to make than one part.
const (
	bombPart  = 1 << 20
	bombParts = 100
)

func makeBomb() []byte {
	return bytes.Repeat(compress(make([]byte, bombPart)), bombParts)
}

// compress gzips a body; writing to memory can't fail.
func compress(body []byte) []byte {
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	_, _ = zip.Write(body)
	_ = zip.Close()
	return out.Bytes()
}
