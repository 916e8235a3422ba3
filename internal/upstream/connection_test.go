package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// wire is a server that sees connections and requests as they are, and ends connections when it likes.
type wire struct {
	address     string
	connections atomic.Int32
	requests    atomic.Int32
}

// serveWire serves until the test ends. For each request, answer says whether to answer it and whether to keep the connection after.
func serveWire(t testing.TB, answer func(request int32) (reply, keep bool), reset bool) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	w := &wire{address: "http://" + listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			w.connections.Add(1)
			serving.Go(func() { w.serve(conn.(*net.TCPConn), answer, reset) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return w
}

func (w *wire) serve(conn *net.TCPConn, answer func(int32) (reply, keep bool), reset bool) {
	defer func() { _ = conn.Close() }()
	reader := bufio.NewReader(conn)
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, request.Body)
		reply, keep := answer(w.requests.Add(1))
		if reply {
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		if !keep {
			if reset {
				_ = conn.SetLinger(0)
			}
			return
		}
	}
}

// TestNoHiddenRetry has a server that reads a request and breaks the connection. The library must not send it a second time by itself,
// neither on a new connection nor on one that was used before.
func TestNoHiddenRetry(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body  []byte
		reset bool
	}{
		"closed": {body: []byte("{}")}, "reset": {body: []byte("{}"), reset: true},
		"closed, no body": {}, "reset, no body": {reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const answered = 3
			w := serveWire(t, func(request int32) (bool, bool) { return request <= answered, request <= answered }, test.reset)
			b := setupServed(t, w.address)
			b.body = test.body
			for range answered {
				_, _, err := b.ask(t.Context())
				require.NoError(t, err)
			}
			require.EqualValues(t, 1, w.connections.Load(), "the connection is one that was used before")

			_, attempts, err := b.ask(t.Context())
			require.True(t, requireFault(t, err, fault.Unavailable, fault.ConnectionLost).Sent)
			require.Len(t, attempts, 1)
			require.EqualValues(t, answered+1, w.requests.Load())

			b.Retry.MaxAttempts = 4
			_, attempts, err = b.ask(t.Context())
			require.True(t, requireFault(t, err, fault.Unavailable, fault.ConnectionLost).Sent)
			require.Len(t, attempts, 4)
			require.EqualValues(t, answered+5, w.requests.Load(), "each request is an attempt that is accounted for")
		})
	}
}

func TestServerThatClosesIdleConnections(t *testing.T) {
	t.Parallel()
	w := serveWire(t, func(int32) (bool, bool) { return true, false }, false)
	b := setupServed(t, w.address)
	b.Retry.MaxAttempts = 5
	made := 0
	for range 20 {
		_, attempts, err := b.ask(t.Context())
		require.NoError(t, err)
		made += len(attempts)
	}
	require.GreaterOrEqual(t, int(w.requests.Load()), 20)
	require.LessOrEqual(t, int(w.requests.Load()), made, "no request without an attempt")
}

func TestConnectionThatCannotBeMade(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	for name, test := range map[string]struct {
		address string
		code    fault.Code
	}{
		"refused":      {"http://" + listener.Addr().String(), fault.Connect},
		"unknown host": {"http://" + strings.Repeat(canary, 7) + ".invalid", fault.DNS}, // A label of more than 63 characters is in no DNS.
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setupServed(t, test.address)
			_, attempts, err := b.ask(t.Context())
			require.False(t, requireFault(t, err, fault.Unavailable, test.code).Sent)
			require.Len(t, attempts, 1)
		})
	}
}

func TestTransportFaults(t *testing.T) {
	t.Parallel()
	dns := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: canary, IsNotFound: true}}
	slow := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "i/o timeout", Name: canary, IsTimeout: true}}
	for name, test := range map[string]struct {
		err           error
		sent, refused bool
		code          fault.Code
	}{
		"no such host":           {err: dns, code: fault.DNS},
		"slow DNS":               {err: slow, code: fault.Timeout},
		"deadline":               {err: context.DeadlineExceeded, sent: true, code: fault.Timeout},
		"refused":                {err: refused(), code: fault.Connect},
		"handshake":              {err: io.EOF, refused: true, code: fault.TLS},
		"handshake of another":   {err: io.EOF, sent: true, refused: true, code: fault.ConnectionLost},
		"deadline in handshake":  {err: context.DeadlineExceeded, refused: true, code: fault.Timeout},
		"alert after the write":  {err: &net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, sent: true, code: fault.TLS},
		"broken after the write": {err: io.ErrUnexpectedEOF, sent: true, code: fault.ConnectionLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failure := requireFault(t, transportFault("easypay", test.err, test.sent, test.refused), fault.Unavailable, test.code)
			require.Equal(t, test.sent, failure.Sent)
			require.ErrorIs(t, failure, test.err)
		})
	}
}

func TestConnectionsAreKeptAndRecycled(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		recycle time.Duration
		want    int32
	}{"kept": {time.Hour, 1}, "recycled": {time.Nanosecond, 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := serveWire(t, func(int32) (bool, bool) { return true, true }, false)
			b := setupServed(t, w.address, func(o *TransportOptions) { o.Recycle = test.recycle })
			for range 10 {
				_, _, err := b.ask(t.Context())
				require.NoError(t, err)
			}
			require.Equal(t, test.want, w.connections.Load())
		})
	}
}

func TestSetOfConnectionsIsReplacedWhenItIsDue(t *testing.T) {
	t.Parallel()
	transport, err := NewTransport(TransportOptions{Recycle: time.Minute, Connections: 7})
	require.NoError(t, err)
	now := time.Now()
	first := transport.pick(now)
	require.Same(t, first, transport.pick(now.Add(time.Minute-1)))
	second := transport.pick(now.Add(time.Minute))
	require.NotSame(t, first, second)
	require.Same(t, second, transport.pick(now.Add(2*time.Minute-1)))
	require.Nil(t, second.Proxy, "no proxy of the environment sees a query")
	require.Equal(t, 7, second.MaxConnsPerHost)
	transport.Close()
	transport.Close()
	require.NotSame(t, second, transport.pick(now.Add(time.Minute)), "a transport that was closed can still be used")
}

func TestRequestUnderWaySurvivesRecyclingAndClose(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan struct{}), make(chan struct{})
	var requests atomic.Int32
	closed := make(chan struct{}, 16)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if requests.Add(1) == 1 {
			close(arrived)
			<-release
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	b := setupServed(t, server.URL, func(o *TransportOptions) { o.Recycle = time.Nanosecond })
	done := make(chan error, 1)
	go func() {
		_, _, err := b.ask(context.Background())
		done <- err
	}()
	<-arrived
	_, _, err := b.ask(t.Context())
	require.NoError(t, err)
	b.Transport.(*Transport).Close()
	<-closed // The connection of the second request.
	close(release)
	require.NoError(t, <-done)
	select {
	case <-closed:
	case <-time.After(patience):
		require.Fail(t, "the connection of a set that was replaced must close when its request is done")
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int32
	b := setupServed(t, serve(t, func(http.ResponseWriter, *http.Request) {
		now := open.Add(1)
		defer open.Add(-1)
		for seen := most.Load(); now > seen; seen = most.Load() {
			if most.CompareAndSwap(seen, now) {
				break
			}
		}
	}), func(o *TransportOptions) { o.Connections = 3 })
	var asking sync.WaitGroup
	for range 40 {
		asking.Go(func() {
			_, _, err := b.ask(t.Context())
			if err != nil {
				t.Errorf("ask: %v", err)
			}
		})
	}
	asking.Wait()
	require.LessOrEqual(t, most.Load(), int32(3))
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	b := setupServed(t, serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }),
		func(o *TransportOptions) { o.Recycle = time.Millisecond })
	b.Retry.MaxAttempts = 3
	var asking sync.WaitGroup
	for range 16 {
		asking.Go(func() {
			for range 20 {
				answer, _, err := b.ask(t.Context())
				if err != nil || answer.Upstream.Message != string(b.body) {
					t.Errorf("ask: %v, %q", err, answer.Upstream.Message)
				}
			}
		})
	}
	asking.Wait()
}

func BenchmarkCall(b *testing.B) {
	client := setupServed(b, serve(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"resCd":"0000"}`)
	}))
	client.OnAttempt = nil
	client.Concurrency = NewConcurrency(bounds(), nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := client.ask(b.Context()); err != nil {
			b.Fatal(err)
		}
		client.events = client.events[:0]
	}
}
