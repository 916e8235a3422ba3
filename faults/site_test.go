//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// Times of every site, short so that a test need not wait long.
const (
	ackWait = 3 * time.Second
	grace   = 8 * time.Second
	// soon is how long anything may take that needs no fault to end first. It is long because a machine may be busy.
	soon = time.Minute
)

// site is a broker or a cluster of three, the simulated upstream, and what workers need to reach them. Workers talk to the broker through
// proxies, everybody else goes past them.
type site struct {
	dir      string
	config   string
	brokers  []*natsServer
	upstream *upstream
	wire     *wire
	conn     *nats.Conn
	js       jetstream.JetStream
	started  int
	// givenUp is how many messages the broker has given up on: they stay in the queries although they are answered.
	givenUp uint64
}

// siteOptions say how a site differs from the usual one.
type siteOptions struct {
	// nodes is the number of brokers, 1 or 3; 0 means 1.
	nodes int
	// settings are lines of configuration for the workers, broker those for a single server.
	settings []string
	broker   string
	// login is how the workers log in, user the one who sets up and publishes.
	login string
	user  []nats.Option
	// password is what the login's password file holds.
	password string
}

func newSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	workerBinary(t)
	s := &site{dir: t.TempDir(), wire: newWire(), upstream: newUpstream(t)}
	if o.nodes == 3 {
		s.brokers = newCluster(t, s.wire.observe)
	} else {
		s.brokers = []*natsServer{newNATS(t, "single", o.broker, s.wire.observe)}
	}
	for _, n := range s.brokers {
		n.run(t)
	}
	s.conn, s.js = connectAll(t, s.brokers, o.user...)
	s.configure(t, o)
	s.setup(t)
	return s
}

// configure writes the workers' configuration and keys.
func (s *site) configure(t *testing.T, o siteOptions) {
	t.Helper()
	var urls []string
	for _, n := range s.brokers {
		urls = append(urls, n.proxied())
	}
	lines := []string{
		fmt.Sprintf("nats: {url: \"%s\", request_timeout: 2s, connect_timeout: 2s%s}", strings.Join(urls, ","), o.login),
		fmt.Sprintf("consumer: {ack_wait: %s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}", ackWait),
		fmt.Sprintf("shutdown: {grace: %s}", grace),
		fmt.Sprintf("streams: {replicas: %d, queries: {max_bytes: 64MiB}, results: {max_bytes: 256MiB}, dead: {max_bytes: 64MiB}}", len(s.brokers)),
		fmt.Sprintf("providers: {easypay: {base_url: \"%s\", mall_id: T5102001, pace: {rate: 2000/s, burst: 2000}}}", s.upstream.server.URL),
		"http: {attempt_timeout: 1500ms, dial_timeout: 1s, tls_handshake_timeout: 1s}",
		"retry: {max_attempts: 3, initial_interval: 50ms, max_interval: 200ms, budget: 1s, schedule: {first: 1s, max: 2s}}",
		"lanes: {interactive: {slots: 8, horizon: 10m}, bulk: {slots: 2, horizon: 10m}}",
	}
	for _, own := range o.settings {
		key, _, _ := strings.Cut(own, ":")
		for i, line := range lines {
			if strings.HasPrefix(line, key+":") {
				lines[i] = own
			}
		}
	}
	s.config = filepath.Join(s.dir, "worker.yaml")
	require.NoError(t, os.WriteFile(s.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	if o.password != "" {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, "password"), []byte(o.password), 0o600))
	}
	_, err := card.NewKeys(filepath.Join(s.dir, "keys"), time.Now())
	require.NoError(t, err)
}

// slowPace gives each worker that starts later another pace.
func (s *site) slowPace(t *testing.T, rate string, burst int) {
	t.Helper()
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	changed := strings.Replace(string(text), "pace: {rate: 2000/s, burst: 2000}", fmt.Sprintf("pace: {rate: %s, burst: %d}", rate, burst), 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(s.config, []byte(changed), 0o600))
}

// setup makes what is missing in the broker, as `worker setup --apply` does.
func (s *site) setup(t *testing.T) {
	t.Helper()
	settings, err := config.Load(s.config, nil)
	require.NoError(t, err)
	require.NoError(t, settings.Validate())
	var problem error
	require.Eventually(t, func() bool {
		var plan broker.Plan
		if plan, problem = broker.MakePlan(t.Context(), s.js, app.Topology(settings)); problem == nil {
			problem = broker.Apply(t.Context(), s.js, plan, nil)
		}
		return problem == nil
	}, soon, 200*time.Millisecond, "%v", problem)
}

// worker is one worker process.
type worker struct {
	*process

	admin string
}

// startWorker starts a worker and waits until it is ready.
func (s *site) startWorker(t *testing.T, environment ...string) *worker {
	t.Helper()
	w := s.launch(t, environment...)
	w.awaitReady(t)
	return w
}

// launch starts a worker and waits for nothing.
func (s *site) launch(t *testing.T, environment ...string) *worker {
	t.Helper()
	return s.launchAs(t, exec.Command(workerBinary(t), "run", "-c", s.config), environment...)
}

func (s *site) launchAs(t *testing.T, cmd *exec.Cmd, environment ...string) *worker {
	t.Helper()
	s.started++
	w := &worker{admin: "127.0.0.1:" + freePort(t)}
	w.process = start(t, "worker "+strconv.Itoa(s.started), s.dir, cmd, append(environment, "DISCOUNT_ADMIN__LISTEN="+w.admin)...)
	return w
}

func (w *worker) awaitReady(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool { return w.ready() }, soon, 20*time.Millisecond, "%s is not ready: %s", w.name, w.problems())
}

func (w *worker) ready() bool { return w.status() == http.StatusOK }

// awaitUnready waits until the worker says that it is not ready, and returns how long that took.
func (w *worker) awaitUnready(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	require.Eventually(t, func() bool { return w.status() == http.StatusServiceUnavailable }, soon, 20*time.Millisecond)
	return time.Since(began)
}

// status returns the HTTP status of the worker's readiness, 0 if it does not answer.
func (w *worker) status() int {
	status, _ := w.readiness()
	return status
}

// problems returns what keeps the worker from being ready.
func (w *worker) problems() string {
	_, body := w.readiness()
	return body
}

func (w *worker) readiness() (int, string) {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + w.admin + "/readyz")
	if err != nil {
		return 0, ""
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

// upstream is the simulated EasyPay, in this process, so that its calls can be counted query by query.
type upstream struct {
	*sandbox.Sandbox

	server *httptest.Server

	mu    sync.Mutex
	calls map[int64]int
}

func newUpstream(t *testing.T) *upstream {
	t.Helper()
	u := &upstream{Sandbox: sandbox.New(sandbox.Options{Seed: *seed}), calls: map[int64]int{}}
	u.server = httptest.NewServer(http.HandlerFunc(u.serve))
	t.Cleanup(func() {
		u.server.CloseClientConnections()
		u.server.Close()
	})
	return u
}

// serve counts a call by the amount it asks about, which no two queries of a test share.
func (u *upstream) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var asked struct {
		Amount int64 `json:"amount"`
	}
	if err == nil && json.Unmarshal(body, &asked) == nil {
		u.mu.Lock()
		u.calls[asked.Amount]++
		u.mu.Unlock()
	}
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	u.EasyPay().ServeHTTP(w, r)
}

// callsOf returns how often the upstream was asked about an amount.
func (u *upstream) callsOf(amount int64) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.calls[amount]
}

// misbehave sets the faults of the upstream.
func (u *upstream) misbehave(t *testing.T, faults string) {
	t.Helper()
	parsed, err := sandbox.ParseFaults(faults)
	require.NoError(t, err)
	require.NoError(t, u.SetFaults(parsed))
}

// within returns a context that ends soon.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
