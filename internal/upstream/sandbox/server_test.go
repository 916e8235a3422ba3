package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (b *bundle) admin(t *testing.T, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, b.run.AdminURL()+path, strings.NewReader(body))
	require.NoError(t, err)
	r := b.do(t, req)
	require.NoError(t, r.err)
	return r.StatusCode, string(r.body)
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	b := setup(t)
	code, text := b.admin(t, http.MethodGet, "/healthz", "")
	require.Equal(t, 200, code)
	require.Equal(t, "ok\n", text)
	_, text = b.admin(t, http.MethodGet, "/", "")
	require.Contains(t, text, FaultHelp())
	code, _ = b.admin(t, http.MethodGet, "/elsewhere", "")
	require.Equal(t, 404, code)

	code, text = b.admin(t, http.MethodPut, "/faults", " easypay:status = 503 #1,\nunionpay:429=2s ")
	require.Equal(t, 200, code)
	require.Equal(t, "easypay:status=503#1,unionpay:429=2s\n", text)
	_, text = b.admin(t, http.MethodGet, "/faults", "")
	require.Equal(t, "easypay:status=503#1,unionpay:429=2s\n", text)
	require.Equal(t, 503, b.easy(t, plainInquiry).StatusCode)

	code, text = b.admin(t, http.MethodPut, "/faults", "easypay:explode")
	require.Equal(t, 400, code)
	require.Contains(t, text, "known for easypay: down,")
	code, _ = b.admin(t, http.MethodPut, "/faults", strings.Repeat("x", maxRequestBody+1))
	require.Equal(t, 413, code)
	require.Len(t, b.Faults(), 2, "what was refused changed nothing")

	_, text = b.admin(t, http.MethodGet, "/stats", "")
	var st Stats
	require.NoError(t, json.Unmarshal([]byte(text), &st))
	require.EqualValues(t, 1, st.Providers[EasyPay].Arrivals)
	require.EqualValues(t, 1, st.Providers[EasyPay].Fired[KindStatus])
	require.EqualValues(t, 1, st.Providers[EasyPay].Outcomes["failed"])
	require.Equal(t, "easypay:status=503#1,unionpay:429=2s", st.Faults)

	for query, want := range map[string]int{"provider=easypay": 1, "provider=unionpay": 0, "provider=easypay&account=T0000001": 1, "provider=easypay&account=T0000009": 0} {
		code, text = b.admin(t, http.MethodGet, "/arrivals?"+query, "")
		require.Equal(t, 200, code)
		var times []time.Duration
		require.NoError(t, json.Unmarshal([]byte(text), &times))
		require.NotNil(t, times)
		require.Len(t, times, want, query)
	}
	code, _ = b.admin(t, http.MethodGet, "/arrivals", "")
	require.Equal(t, 400, code)

	code, _ = b.admin(t, http.MethodPost, "/reset", "")
	require.Equal(t, 204, code)
	require.Equal(t, 503, b.easy(t, plainInquiry).StatusCode, "the fault is armed anew")
	code, text = b.admin(t, http.MethodPut, "/faults", "")
	require.Equal(t, 200, code)
	require.Equal(t, "\n", text)
	require.Empty(t, b.Faults())
}

func TestStartServesOnlyWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	run, err := New(Options{}).Start(t.Context(), Listen{EasyPay: "127.0.0.1:0"})
	require.NoError(t, err)
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, run.EasyPayURL())
	require.Empty(t, run.UnionPayURL())
	require.Empty(t, run.AdminURL())
	require.NoError(t, run.Close(t.Context()))
	require.NoError(t, run.Close(t.Context()), "closing again is fine")
}

func TestStartLeavesNothingBehindWhenAnAddressIsTaken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	taken := strings.TrimPrefix(b.run.AdminURL(), "http://")
	other := New(Options{})
	_, err := other.Start(t.Context(), Listen{EasyPay: "127.0.0.1:0", UnionPay: taken})
	require.ErrorContains(t, err, "start the sandbox's unionpay server")
}

// The start's context ends with the start: a caller that bounds it doesn't stop the servers by that.
func TestServingOutlivesTheStartsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	run, err := New(Options{}).Start(ctx, Listen{Admin: "127.0.0.1:0"})
	require.NoError(t, err)
	cancel()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, run.AdminURL()+"/healthz", nil)
	require.NoError(t, err)
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.NoError(t, run.Close(t.Context()))
}

func TestCloseLetsHeldCallsGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faults(t, "easypay:hang,unionpay:latency=1h")
	done := make(chan error, 2)
	for _, p := range []Provider{EasyPay, UnionPay} {
		req := b.question(t, t.Context(), p, "77")
		go func() { done <- b.do(t, req).err }()
	}
	require.Eventually(t, func() bool {
		st := b.Stats().Providers
		return st[EasyPay].Fired[KindHang] == 1 && st[UnionPay].Fired[KindLatency] == 1
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, b.run.Close(t.Context()))
	for range 2 {
		<-done
	}
	require.Error(t, b.easy(t, plainInquiry).err)
}

// The handlers work under other servers too: TLS resets reach the client as broken connections.
func TestHandlersUnderTLS(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	server := httptest.NewTLSServer(s.EasyPay())
	t.Cleanup(server.Close)
	post := func() (int, error) {
		resp, err := server.Client().Post(server.URL+EasyPayPath, "application/json", strings.NewReader(plainInquiry))
		if err != nil {
			return 0, err
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, resp.Body.Close()
	}
	code, err := post()
	require.NoError(t, err)
	require.Equal(t, 200, code)
	require.NoError(t, s.SetFaults([]Fault{{Provider: EasyPay, Kind: KindReset}}))
	_, err = post()
	require.Error(t, err)
}

// A connection that can't be had, as under HTTP/2, is aborted instead of reset.
func TestResetWithoutAConnection(t *testing.T) {
	t.Parallel()
	s := New(Options{})
	require.NoError(t, s.SetFaults([]Fault{{Provider: EasyPay, Kind: KindReset}}))
	require.PanicsWithError(t, http.ErrAbortHandler.Error(), func() {
		s.EasyPay().ServeHTTP(httptest.NewRecorder(), inProcess(plainInquiry))
	})
	require.Zero(t, s.Stats().Providers[EasyPay].InFlight)
}

// Nothing that can be read from the sandbox holds card data, whatever a client sends and wherever it puts it.
func TestNoCardDataComesOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var out strings.Builder
	take := func(r reply) {
		require.NoError(t, r.err)
		fmt.Fprintf(&out, "%v %s\n", r.Header, r.body)
	}
	take(b.ask(t, b.upi()))
	for _, name := range []string{"insCode", "pid", "refNum", "scenId", "resvFld", "procType", "cardNo", testCard} {
		c := b.upi()
		c.fields[name] = testCard
		take(b.ask(t, c))
	}
	for _, name := range []string{"userToken", "cardNo", "mobile"} {
		c := b.upi()
		c.secret[name] = testCard + testCard + testCard + testCard
		take(b.ask(t, c))
	}
	for _, body := range []string{
		`{"mallId":"` + testCard + `"}`, `{"mallId":"T0000001","cardBin":"` + testCard + `"}`, `{"mallId":"T0000001","cardCd":"` + testCard + `"}`,
		`{"mallId":"T0000001","amount":` + testCard + `}`, `{"` + testCard + `":1}`, testCard,
	} {
		take(b.easy(t, body))
	}
	_, stats := b.admin(t, http.MethodGet, "/stats", "")
	_, arrivals := b.admin(t, http.MethodGet, "/arrivals?provider=unionpay", "")
	out.WriteString(stats + arrivals)
	for _, secret := range []string{testCard, testToken, testMobile, "62000000"} {
		require.NotContains(t, out.String(), secret)
	}
	require.Contains(t, stats, string(reasonJSON), "the traffic was seen")
}
