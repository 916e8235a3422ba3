package upstream

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"discountquery.example/worker/internal/fault"
)

// Limits of what a Retry-After header may ask for.
const (
	minRetryAfter = 500 * time.Millisecond
	maxRetryAfter = 5 * time.Minute
)

// StatusFault returns the fault of a response whose HTTP status carries no answer, for providers to use after they looked for
// what is special to them. It returns nil for 200.
//
// A status that speaks of this one request (400, 413, 422 and the like) is Rejected. One that speaks of the endpoint (404, 405,
// 410, redirects) is Unavailable, because a wrong address or a moved interface must not use up the queries behind it.
func StatusFault(op string, r Response) error {
	kind, code := fault.Rejected, fault.HTTPStatus
	switch {
	case r.Status == http.StatusOK:
		return nil
	case r.Status == http.StatusTooManyRequests,
		r.Status == http.StatusServiceUnavailable && r.Header.Get("Retry-After") != "":
		kind, code = fault.Throttled, fault.RateLimited
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusForbidden, r.Status == http.StatusProxyAuthRequired:
		kind, code = fault.Unauthorized, fault.GatewayRefused
	case r.Status >= 500, r.Status < 400, r.Status == http.StatusRequestTimeout, r.Status == http.StatusTooEarly,
		r.Status == http.StatusNotFound, r.Status == http.StatusMethodNotAllowed, r.Status == http.StatusGone:
		kind = fault.Unavailable
	}
	err := fault.New(op, kind, code)
	err.Status = r.Status
	err.After = RetryAfter(r.Header.Get("Retry-After"), saidAt(r))
	err.Sent = true
	return err
}

// saidAt returns when the response was made, by the clock that its other dates are of. A response need not be dated: then it is our clock.
func saidAt(r Response) time.Time {
	if date, err := http.ParseTime(r.Header.Get("Date")); err == nil {
		return date
	}
	return r.At
}

// RetryAfter reads a Retry-After header in either form (RFC 9110, section 10.2.3: seconds or a date) and clamps it to between half
// a second and five minutes. Garbage and an absent header are 0.
func RetryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	if value == "" {
		return 0
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil || errors.Is(err, strconv.ErrRange) {
		if seconds < 0 { // A number out of range is read as the nearest one within.
			return 0
		}
		return clampAfter(time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second)
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return clampAfter(date.Sub(now))
}

func clampAfter(d time.Duration) time.Duration { return min(max(d, minRetryAfter), maxRetryAfter) }
