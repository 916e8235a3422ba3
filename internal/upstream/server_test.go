package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// patience bounds waits for what happens at once unless something is stuck.
const patience = 30 * time.Second

// serve serves a handler until the test ends.
func serve(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	b := setupServed(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		r.Body = http.NoBody
		seen <- r
	}))
	_, attempts, err := b.ask(t.Context())
	require.NoError(t, err)
	require.Len(t, attempts, 1)
	request := <-seen
	require.Equal(t, "HTTP/1.1", request.Proto)
	require.EqualValues(t, len(b.body), request.ContentLength)
	require.Equal(t, http.Header{"User-Agent": {"worker/test"}, "X-Own": {canary}, "Content-Length": {fmt.Sprint(len(b.body))}}, request.Header,
		"nothing is added, and above all no Accept-Encoding")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Int32
	target := serve(t, func(http.ResponseWriter, *http.Request) { followed.Add(1) })
	for _, status := range []int{300, 301, 302, 303, 304, 305, 307, 308, 399} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int32
			b := setupServed(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				asked.Add(1)
				w.Header().Set("Location", target+"/"+canary)
				w.WriteHeader(status)
			}))
			_, _, err := b.ask(t.Context())
			failure := requireFault(t, err, fault.Unavailable, fault.Redirect)
			require.Equal(t, status, failure.Status)
			require.True(t, failure.Sent)
			require.EqualValues(t, 1, asked.Load())
			require.Zero(t, followed.Load())
		})
	}
}

// TestAttemptEndsInTime has upstreams that never finish. The handler must see its connection go: nothing of the attempt is left behind.
func TestAttemptEndsInTime(t *testing.T) {
	t.Parallel()
	trickle := func(w http.ResponseWriter, r *http.Request, piece string) {
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, piece); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(5 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		status  int
	}{
		"no header": {handler: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"slow body": {status: 200, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "60000")
			trickle(w, r, "x")
		}},
		"endless chunks": {status: 200, handler: func(w http.ResponseWriter, r *http.Request) { trickle(w, r, "x") }},
		"stuck body": {status: 200, handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		"early hints for ever": {handler: func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.WriteHeader(http.StatusEarlyHints)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			left := make(chan struct{})
			b := setupServed(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				defer close(left)
				_, _ = io.Copy(io.Discard, r.Body)
				test.handler(w, r)
			}))
			b.AttemptTimeout = 300 * time.Millisecond
			start := time.Now()
			_, attempts, err := b.ask(t.Context())
			require.Less(t, time.Since(start), 5*time.Second, "the timeout and what a busy machine adds to it")
			failure := fault.From("", err)
			require.Equal(t, fault.Unavailable, failure.Kind)
			require.Contains(t, []fault.Code{fault.Timeout, fault.ConnectionLost}, failure.Code)
			require.Equal(t, name == "early hints for ever", failure.Code == fault.ConnectionLost)
			require.True(t, failure.Sent)
			require.Equal(t, test.status, attempts[0].Status)
			select {
			case <-left:
			case <-time.After(patience):
				require.Fail(t, "the connection stays open")
			}
		})
	}
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		size    int
		chunked bool
		code    fault.Code
	}{
		"nothing":                      {size: 0},
		"at the limit":                 {size: 4096},
		"at the limit, in chunks":      {size: 4096, chunked: true},
		"above the limit":              {size: 4097, code: fault.TooLarge},
		"above the limit, in chunks":   {size: 4097, chunked: true, code: fault.TooLarge},
		"far above the limit":          {size: 8 << 20, code: fault.TooLarge},
		"far above the limit, chunked": {size: 8 << 20, chunked: true, code: fault.TooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupServed(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				if !test.chunked {
					w.Header().Set("Content-Length", fmt.Sprint(test.size))
				}
				_, _ = w.Write(bytes.Repeat([]byte("x"), test.size))
			}))
			b.MaxResponse = 4096
			answer, _, err := b.ask(t.Context())
			if test.code == "" {
				require.NoError(t, err)
				require.Len(t, answer.Upstream.Message, test.size)
				return
			}
			failure := requireFault(t, err, fault.Unavailable, test.code)
			require.Equal(t, http.StatusOK, failure.Status)
			require.True(t, failure.Sent)
		})
	}
}

func TestCodedBodyIsRefused(t *testing.T) {
	t.Parallel()
	for coding, refused := range map[string]bool{"gzip": true, "br": true, "identity": false, "": false, "gzip, identity": true, "x-" + canary: true} {
		t.Run(coding, func(t *testing.T) {
			t.Parallel()
			b := setupServed(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				var body bytes.Buffer
				zip := gzip.NewWriter(&body)
				_, _ = zip.Write(bytes.Repeat([]byte("x"), 1<<20))
				_ = zip.Close()
				if coding != "" {
					w.Header().Set("Content-Encoding", coding)
				}
				_, _ = w.Write(body.Bytes())
			}))
			answer, _, err := b.ask(t.Context())
			if refused {
				requireFault(t, err, fault.Unavailable, fault.BadResponse)
				return
			}
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(answer.Upstream.Message, "\x1f\x8b"), "the bytes are those of the wire")
		})
	}
}

func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"many": 64 << 10, "few": 8 << 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupServed(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				for i := range size / 1024 {
					w.Header().Set(fmt.Sprintf("X-%d", i), strings.Repeat(canary, 100))
				}
			}))
			_, _, err := b.ask(t.Context())
			if size < maxResponseHeader {
				require.NoError(t, err)
				return
			}
			require.True(t, requireFault(t, err, fault.Unavailable, fault.ConnectionLost).Sent)
		})
	}
}

func TestCancelledCallEndsAtOnce(t *testing.T) {
	t.Parallel()
	arrived, left := make(chan struct{}), make(chan struct{})
	b := setupServed(t, serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(arrived)
		<-r.Context().Done()
		close(left)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	_, attempts, err := b.ask(ctx)
	requireFault(t, err, fault.Interrupted, fault.Stopped)
	require.Empty(t, attempts)
	<-left
}

func TestStatusesReachTheProvider(t *testing.T) {
	t.Parallel()
	b := setupServed(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "9")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, canary)
	}))
	b.Retry.MaxAttempts = 3
	_, attempts, err := b.ask(t.Context())
	failure := requireFault(t, err, fault.Throttled, fault.RateLimited)
	require.Equal(t, 9*time.Second, failure.After)
	require.Len(t, attempts, 1, "who is throttled does not ask again at once")
	require.Equal(t, 429, attempts[0].Status)
}

// What a status says is not lost with its body: nobody else tells the pace and the breaker.
func TestStatusWithoutAUsableBodyReachesTheProvider(t *testing.T) {
	t.Parallel()
	breaks := func(w http.ResponseWriter, status int) {
		w.Header().Set("Content-Length", "60000")
		w.WriteHeader(status)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	coded := func(w http.ResponseWriter, status int) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, canary)
	}
	large := func(w http.ResponseWriter, status int) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.Repeat(canary, 1000))
	}
	for name, answers := range map[string]func(http.ResponseWriter, int){"coded": coded, "broken off": breaks, "too large": large} {
		for status, kind := range map[int]fault.Kind{
			429: fault.Throttled, 503: fault.Throttled, 401: fault.Unauthorized, 403: fault.Unauthorized, 500: fault.Unavailable,
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				t.Parallel()
				b := setupServed(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					w.Header().Set("Retry-After", "7")
					answers(w, status)
				}))
				b.MaxResponse = 4096
				b.throttled = func(_ time.Time, retryAfter time.Duration) { require.Equal(t, 7*time.Second, retryAfter) }
				whole := b.read
				b.read = func(r Response) (query.Answer, error) {
					require.Empty(t, r.Body, "nothing is read of half a body")
					require.False(t, r.At.IsZero())
					return whole(r)
				}
				_, attempts, err := b.ask(t.Context())
				failure := fault.From("", err)
				require.Equal(t, kind, failure.Kind)
				require.Equal(t, 7*time.Second, failure.After)
				require.True(t, failure.Sent)
				require.Equal(t, status, attempts[0].Status)
				require.Equal(t, kind == fault.Throttled, slices.Contains(b.events, "throttled 1"))
			})
		}
	}
}

// A redirect stays one, whatever its body is.
func TestRedirectWithoutAUsableBody(t *testing.T) {
	t.Parallel()
	b := setupServed(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(http.StatusFound)
	}))
	_, _, err := b.ask(t.Context())
	require.Equal(t, http.StatusFound, requireFault(t, err, fault.Unavailable, fault.Redirect).Status)
}
