package sandbox

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nowhere is a response writer that keeps nothing.
type nowhere struct{ header http.Header }

func (w nowhere) Header() http.Header         { return w.header }
func (w nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (w nowhere) WriteHeader(int)             {}

// BenchmarkEasyPayHandler is the sandbox's own share of one inquiry.
func BenchmarkEasyPayHandler(b *testing.B) {
	for name, faults := range map[string]string{
		"honest": "", "eight faults": "easypay:status=503@0.01,easypay:429[mall=T0000009],easypay:latency=0s,easypay:numbers=mixed,easypay:dialect=rotate,easypay:limit=1000000/1000000,easypay:garbage#1,easypay:empty%100",
	} {
		b.Run(name, func(b *testing.B) {
			s := New(Options{})
			list, err := ParseFaults(faults)
			require.NoError(b, err)
			require.NoError(b, s.SetFaults(list))
			handler, body := s.EasyPay(), strings.NewReader(plainInquiry)
			req := inProcess("")
			b.ReportAllocs()
			for b.Loop() {
				body.Reset(plainInquiry)
				req.Body = readCloser{body}
				handler.ServeHTTP(nowhere{http.Header{}}, req)
			}
		})
	}
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// BenchmarkEasyPayLoopback is one inquiry over a real connection: 16 callers on as many cores as there are, and their share of the
// work is counted too.
func BenchmarkEasyPayLoopback(b *testing.B) {
	s := New(Options{})
	run, err := s.Start(b.Context(), Listen{EasyPay: "127.0.0.1:0"})
	require.NoError(b, err)
	transport := &http.Transport{MaxIdleConnsPerHost: 16, DialContext: (&net.Dialer{}).DialContext}
	b.Cleanup(func() {
		transport.CloseIdleConnections()
		require.NoError(b, run.Close(b.Context()))
	})
	var callers sync.WaitGroup
	work := make(chan struct{})
	for range 16 {
		callers.Go(func() {
			buf := make([]byte, 4096)
			for range work {
				req, _ := http.NewRequest(http.MethodPost, run.EasyPayURL()+EasyPayPath, strings.NewReader(plainInquiry))
				req.Header.Set("Content-Type", "application/json")
				resp, err := transport.RoundTrip(req)
				if err != nil {
					continue
				}
				for err == nil {
					_, err = resp.Body.Read(buf)
				}
				_ = resp.Body.Close()
			}
		})
	}
	n := 0
	for b.Loop() {
		work <- struct{}{}
		n++
	}
	close(work)
	callers.Wait()
	require.EqualValues(b, n, s.Stats().Providers[EasyPay].Outcomes["answered"])
}

// BenchmarkUnionPay is one query with its signature verified, its data decrypted and its answer signed.
func BenchmarkUnionPay(b *testing.B) {
	keys, err := testKeys()
	require.NoError(b, err)
	u := newUnionPay(keys.UnionPay(), 1)
	bundle := &bundle{Sandbox: New(Options{UnionPay: keys.UnionPay()}), keys: keys}
	c := bundle.upi()
	token := c.seal(b, &keys.UPIEncrypt.PublicKey)
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			_, ok := u.open(token)
			require.True(b, ok)
		}
	})
	b.Run("sign", func(b *testing.B) {
		body := []byte(plainInquiry)
		for b.Loop() {
			require.NotEmpty(b, u.detached(keys.UPISignKid, body, time.Now()))
		}
	})
}
