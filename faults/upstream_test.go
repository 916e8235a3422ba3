//go:build faults

package faults

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/upstream/sandbox"
)

// upstream is both simulated upstreams, in this process, so that their calls can be counted query by query.
type upstream struct {
	*sandbox.Sandbox

	server *httptest.Server
	keys   sandbox.Keys

	// ahead is by how much the upstream's clock is ahead of ours.
	ahead atomic.Int64

	mu    sync.Mutex
	calls map[int64]int
}

// accountKeys are the keys of the simulated UnionPay account, made once, because RSA keys take long.
var accountKeys = sync.OnceValues(func() (sandbox.Keys, error) {
	keys, err := sandbox.NewKeys()
	if err != nil {
		return sandbox.Keys{}, err
	}
	return keys, keys.WriteTo(keyFile(""))
})

// keyFile returns where a key of the account lies.
func keyFile(name string) string { return filepath.Join(os.Getenv(binaryDir), "upi", name) }

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	keys, err := accountKeys()
	require.NoError(t, err)
	u := &upstream{keys: keys, calls: map[int64]int{}}
	now := func() time.Time { return time.Now().Add(time.Duration(u.ahead.Load())) }
	u.Sandbox = sandbox.New(sandbox.Options{Seed: *seed, UnionPay: keys.UnionPay(), Now: now})
	u.server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(func() {
		u.server.CloseClientConnections()
		u.server.Close()
	})
	return u
}

// serve counts a call by the amount it asks about, which no two queries of a test share. A query for UnionPay, which knows no amount,
// has it as the number of its programme.
func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var asked struct {
		Amount int64  `json:"amount"`
		PID    string `json:"pid"`
	}
	if err == nil && json.Unmarshal(body, &asked) == nil {
		if programme, err := strconv.ParseInt(asked.PID, 10, 64); err == nil {
			asked.Amount = programme
		}
		u.mu.Lock()
		u.calls[asked.Amount]++
		u.mu.Unlock()
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	if r.URL.Path == sandbox.UnionPayPath {
		u.UnionPay().ServeHTTP(w, r)
		return
	}
	u.EasyPay().ServeHTTP(w, r)
}

// callsOf returns how often the upstream was asked about an amount.
func (u *upstream) callsOf(amount int64) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[amount]
}

// asked returns how many amounts the upstream was asked about.
func (u *upstream) asked() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.calls)
}

// arrivals returns how many calls of a provider have arrived.
func (u *upstream) arrivals(p sandbox.Provider) uint64 { return u.Stats().Providers[p].Arrivals }

// misbehave sets the faults of the upstream.
func (u *upstream) misbehave(t *testing.T, faults string) {
	t.Helper()
	parsed, err := sandbox.ParseFaults(faults)
	require.NoError(t, err)
	require.NoError(t, u.SetFaults(parsed))
}
