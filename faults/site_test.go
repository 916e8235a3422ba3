//go:build faults

package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/freeport"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// Times of every site, short so that a test need not wait long.
const (
	ackWait = 3 * time.Second
	grace   = 8 * time.Second
	// soon is how long anything may take that needs no fault to end first. It is long because a machine may be busy: it tells a hang, and
	// is no target.
	soon = 2 * time.Minute
)

// patient returns settings for tests in which no query may be handed out or asked again: no machine is so busy that their times run out.
func patient(more ...string) []string {
	return append([]string{
		"consumer: {ack_wait: 15s, quarantine_after: 3, max_deliver: 20, pull_expiry: 2s}",
		"http: {attempt_timeout: 7s, dial_timeout: 5s, tls_handshake_timeout: 5s}",
	}, more...)
}

// scheduling returns settings with which each call that fails makes its query wait for another round, instead of being asked again at once.
// Tests that need such rounds let some calls fail: a call that is throttled would slow down all that follow.
func scheduling(more ...string) []string {
	return append([]string{"retry: {max_attempts: 1, initial_interval: 50ms, max_interval: 200ms, budget: 1s, schedule: {first: 1s, max: 2s}}"}, more...)
}

// site is a broker or a cluster of three, the simulated upstream, and what workers need to reach them. Workers talk to the broker through
// proxies, everybody else goes past them.
type site struct {
	dir      string
	config   string
	brokers  []*natsServer
	routes   []route
	upstream *upstream
	wire     *wire
	conn     *nats.Conn
	js       jetstream.JetStream
	started  int
	// outputs are those of all workers that were started.
	outputs []*tail
	// providers are those that the workers serve.
	providers []query.Provider
	// ring holds the workers' keys, to which card data is sealed.
	ring *card.Ring
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
	// unionPay serves UnionPay too: every other query of a load is for it then.
	unionPay bool
}

func newSite(t *testing.T, o siteOptions) *site {
	t.Helper()
	workerBinary(t)
	s := &site{dir: t.TempDir(), wire: newWire(), upstream: newUpstream(t), providers: []query.Provider{query.EasyPay}}
	if o.nodes == 3 {
		s.brokers, s.routes = newCluster(t, s.wire.observe)
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
		fmt.Sprintf("providers: {easypay: {base_url: \"%s\", mall_id: T5102001, pace: {rate: 2000/s, burst: 2000}}%s}", s.upstream.server.URL, s.unionPay(o)),
		"http: {attempt_timeout: 2500ms, dial_timeout: 1s, tls_handshake_timeout: 1s}",
		"retry: {max_attempts: 3, initial_interval: 50ms, max_interval: 200ms, budget: 1s, schedule: {first: 1s, max: 2s}}",
		"lanes: {interactive: {slots: 8, horizon: 10m}, bulk: {slots: 2, horizon: 10m}}",
	}
	for _, own := range o.settings {
		key, _, _ := strings.Cut(own, ":")
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, key+":") })
		lines = append(lines, own)
	}
	s.config = filepath.Join(s.dir, "worker.yaml")
	require.NoError(t, os.WriteFile(s.config, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	if o.password != "" {
		require.NoError(t, os.WriteFile(filepath.Join(s.dir, "password"), []byte(o.password), 0o600))
	}
	_, err := card.NewKeys(filepath.Join(s.dir, "keys"), time.Now())
	require.NoError(t, err)
	s.ring, err = card.LoadRing(filepath.Join(s.dir, "keys"))
	require.NoError(t, err)
}

// unionPay returns the settings of UnionPay, "" if it is not served.
func (s *site) unionPay(o siteOptions) string {
	if !o.unionPay {
		return ""
	}
	s.providers = append(s.providers, query.UnionPay)
	keys := s.upstream.keys
	return fmt.Sprintf(`, unionpay: {enabled: true, base_url: "%s", path: "%s", proc_type: "01", sign_cert_id: "001", enc_cert_id: "002", `+
		`ins_code: "100120156", app_id: "%s", pace: {rate: 2000/s, burst: 2000}, jws: {kid: "%s", private_key_file: "%s"}, `+
		`response: {key_files: {"%s": "%s"}}, encryption: {kid: "%s", public_key_file: "%s"}}`,
		s.upstream.server.URL, sandbox.UnionPayPath, sandbox.DefaultAppID, keys.ClientSignKid, keyFile("client-sign.key.pem"),
		keys.UPISignKid, keyFile("upi-sign.pub.pem"), keys.UPIEncryptKid, keyFile("upi-encrypt.pub.pem"))
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
	// run starts its process.
	run func()
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
	w := &worker{admin: freeport.Address(t)}
	name, environment := "worker "+strconv.Itoa(s.started), append(environment, "DISCOUNT_ADMIN__LISTEN="+w.admin)
	w.run = func() {
		w.process = start(t, name, s.dir, &exec.Cmd{Path: cmd.Path, Args: cmd.Args, Stderr: cmd.Stderr}, environment...)
		s.outputs = append(s.outputs, w.output)
	}
	w.run()
	return w
}

// awaitReady waits until the worker is ready. One that ends meanwhile fails the test.
func (w *worker) awaitReady(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(soon); !w.ready(); pause(t.Context(), 20*time.Millisecond) {
		w.startAgain(t)
		require.False(t, w.ended(), "%s has ended: %v", w.name, w.cmd.ProcessState)
		require.True(t, time.Now().Before(deadline), "%s is not ready: %s", w.name, w.problems())
	}
}

// exitUnreachable is the exit code of a worker that could not reach the broker, or got no answer of it, while it started.
const exitUnreachable = 3

// startAgain starts the worker again if it could not start, as whatever runs workers does. One that had started and ended by itself stays
// ended. It tells whether it did.
func (w *worker) startAgain(t *testing.T) bool {
	t.Helper()
	if !w.ended() || w.cmd.ProcessState.ExitCode() != exitUnreachable || strings.Contains(w.output.String(), "worker started") {
		return false
	}
	t.Logf("%s could not start: %s", w.name, lastLines(strings.TrimSpace(w.output.String()), 1))
	w.run()
	return true
}

// requireKilled waits until the worker has been ended by SIGKILL.
func (w *worker) requireKilled(t *testing.T, within time.Duration) {
	t.Helper()
	status := w.wait(t, within)
	for w.startAgain(t) {
		status = w.wait(t, within)
	}
	require.True(t, status.Signaled() && status.Signal() == syscall.SIGKILL, "%s ended otherwise: %v", w.name, w.cmd.ProcessState)
}

func (w *worker) ready() bool { return w.status() == http.StatusOK }

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

// within returns a context that ends soon.
func within(t *testing.T, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}
