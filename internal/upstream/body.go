package upstream

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"discountquery.example/worker/internal/fault"
)

// drainLimit is how much of a body that is not wanted any more is read, so that its connection can be used again.
const drainLimit = 16 << 10

// read reads a response whole, within the limit. A coded body is refused: nobody asked for one, signatures are over the coded bytes,
// and a small one can unpack to gigabytes. Of a response with another status than 200 the status and the headers say what matters: they are kept
// if its body can't be used, and the body is empty then.
func (c *Client) read(reply *http.Response) (Response, error) {
	defer func() {
		_, _ = io.CopyN(io.Discard, reply.Body, drainLimit)
		_ = reply.Body.Close()
	}()
	broken := func(code fault.Code, cause error) (Response, error) {
		if reply.StatusCode != http.StatusOK {
			return Response{Status: reply.StatusCode, Header: reply.Header, At: time.Now()}, nil
		}
		err := fault.Because(string(c.Name), fault.Unavailable, code, cause)
		err.Status, err.Sent = reply.StatusCode, true
		return Response{}, err
	}
	if coding := reply.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return broken(fault.BadResponse, nil)
	}
	body, err := io.ReadAll(io.LimitReader(reply.Body, c.MaxResponse+1))
	switch {
	case isTimeout(err):
		return broken(fault.Timeout, err)
	case err != nil:
		return broken(fault.ConnectionLost, err)
	case int64(len(body)) > c.MaxResponse:
		return broken(fault.TooLarge, nil)
	}
	return Response{Status: reply.StatusCode, Header: reply.Header, Body: body, At: time.Now()}, nil
}

// transportFault classifies an error of the transport. Its text names the URL and sometimes more, so only its class is kept. sent tells
// that the request was written, refused that a TLS handshake failed: most errors of the handshake have no type of their own.
func transportFault(op string, err error, sent, refused bool) error {
	code := fault.Connect
	switch {
	case isTimeout(err):
		code = fault.Timeout
	case isA[*net.DNSError](err):
		code = fault.DNS
	case isAlert(err), refused && !sent:
		code = fault.TLS
	case sent:
		code = fault.ConnectionLost
	}
	failure := fault.Because(op, fault.Unavailable, code, err)
	failure.Sent = sent
	return failure
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return true
	}
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

// isAlert tells whether the peer ended the TLS connection with an alert. In TLS 1.3 a server refuses a client certificate only after the
// handshake, so that the alert meets whoever reads first. Its type is not exported; the operation it is wrapped in is.
func isAlert(err error) bool {
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op == "remote error"
}

func isA[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}
