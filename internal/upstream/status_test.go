package upstream

import (
	"math"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// wantKind says what each status means, independently of the code: by the list of those that are not what their hundred is.
func wantKind(status int) fault.Kind {
	switch status {
	case 429:
		return fault.Throttled
	case 401, 403, 407:
		return fault.Unauthorized
	case 404, 405, 408, 410, 425:
		return fault.Unavailable
	}
	if status >= 400 && status < 500 {
		return fault.Rejected
	}
	return fault.Unavailable
}

func TestStatusFaultOverAllStatuses(t *testing.T) {
	t.Parallel()
	for status := 100; status <= 1000; status++ {
		err := StatusFault("ask", Response{Status: status, Body: []byte(canary), Header: http.Header{"X-Reason": {canary}}})
		if status == http.StatusOK {
			require.NoError(t, err)
			continue
		}
		code := map[fault.Kind]fault.Code{fault.Throttled: fault.RateLimited, fault.Unauthorized: fault.GatewayRefused}[wantKind(status)]
		if code == "" {
			code = fault.HTTPStatus
		}
		failure := requireFault(t, err, wantKind(status), code)
		require.Equal(t, status, failure.Status)
		require.True(t, failure.Sent, "the upstream answered, so it was asked")
		require.Zero(t, failure.After)
		require.Equal(t, "ask", failure.Op)
	}
}

func TestStatusFaultWithRetryAfter(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		value  string
		kind   fault.Kind
		after  time.Duration
	}{
		"429":                     {429, "7", fault.Throttled, 7 * time.Second},
		"503 asks for fewer":      {503, "7", fault.Throttled, 7 * time.Second},
		"503 in words":            {503, "soon", fault.Throttled, 0},
		"503 with an empty value": {503, "", fault.Unavailable, 0},
		"500 is still broken":     {500, "7", fault.Unavailable, 7 * time.Second},
		"403":                     {403, "7", fault.Unauthorized, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			header := http.Header{}
			header.Set("Retry-After", test.value)
			failure, ok := StatusFault("ask", Response{Status: test.status, Header: header, At: time.Now()}).(*fault.Error) //nolint:errorlint // It is.
			require.True(t, ok)
			require.Equal(t, test.kind, failure.Kind)
			require.Equal(t, test.after, failure.After)
		})
	}
}

// A date is the upstream's word by the upstream's clock, and so is the time of its response.
func TestRetryAfterIsMeasuredByTheClockOfWhoSaysIt(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		// ahead is how far the upstream's clock is ahead of ours.
		ahead time.Duration
		dated bool
		want  time.Duration
	}{
		"the same clock":    {0, true, 4 * time.Second},
		"ours is ahead":     {-5 * time.Second, true, 4 * time.Second},
		"ours is behind":    {5 * time.Second, true, 4 * time.Second},
		"not dated":         {0, false, 4 * time.Second},
		"not dated, ahead":  {-5 * time.Second, false, minRetryAfter},
		"not dated, behind": {5 * time.Second, false, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours := time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)
			theirs := ours.Add(test.ahead)
			header := http.Header{}
			header.Set("Retry-After", theirs.Add(4*time.Second).Format(http.TimeFormat))
			header.Set("Date", "yesterday")
			if test.dated {
				header.Set("Date", theirs.Format(http.TimeFormat))
			}
			require.Equal(t, test.want, fault.From("", StatusFault("ask", Response{Status: 429, Header: header, At: ours})).After)
			header.Set("Retry-After", "7")
			require.Equal(t, 7*time.Second, fault.From("", StatusFault("ask", Response{Status: 429, Header: header, At: ours})).After)
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                                0,
		"   ":                             0,
		"0":                               minRetryAfter,
		"1":                               time.Second,
		" 2\t":                            2 * time.Second,
		"007":                             7 * time.Second,
		"299":                             299 * time.Second,
		"300":                             maxRetryAfter,
		"301":                             maxRetryAfter,
		"1000000000":                      maxRetryAfter,
		"9223372036854775807":             maxRetryAfter,
		"99999999999999999999999999":      maxRetryAfter,
		"-1":                              0,
		"-99999999999999999999999999":     0,
		"1.5":                             0,
		"1e9":                             0,
		"0x10":                            0,
		"7 seconds":                       0,
		"soon":                            0,
		"\x00":                            0,
		"Mon, 02 Mar 2026 09:15:30 GMT":   30 * time.Second,
		" Mon, 02 Mar 2026 09:15:30 GMT ": 30 * time.Second,
		"Monday, 02-Mar-26 09:15:30 GMT":  30 * time.Second,
		"Mon Mar  2 09:15:30 2026":        30 * time.Second,
		"Mon, 02 Mar 2026 09:15:00 GMT":   minRetryAfter,
		"Mon, 02 Mar 2026 10:15:00 GMT":   maxRetryAfter,
		"Thu, 01 Jan 1970 00:00:00 GMT":   minRetryAfter,
		"Fri, 31 Dec 9999 23:59:59 GMT":   maxRetryAfter,
		"Mon, 32 Mar 2026 09:15:30 GMT":   0,
		"2026-03-02T09:15:30Z":            0,
	} {
		require.Equal(t, want, RetryAfter(value, now), "%q", value)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{
		"", "0", "-1", "1000000000", "99999999999999999999", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT",
		"soon", " 3 ", "+3", "1e9", "Mon, 02 Mar 2026 09:15:30 GMT", "\xff", "-0",
	} {
		f.Add(value, int64(1_772_442_900))
	}
	f.Add("5", int64(math.MinInt64))
	f.Add("Thu, 01 Jan 1970 00:00:00 GMT", int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, value string, unix int64) {
		got := RetryAfter(value, time.Unix(unix, 0))
		require.True(t, got == 0 || got >= minRetryAfter && got <= maxRetryAfter, "%q: %v", value, got)
		if seconds, err := strconv.ParseUint(value, 10, 8); err == nil {
			require.Equal(t, clampAfter(time.Duration(seconds)*time.Second), got)
		}
	})
}
