//go:build faults

package faults

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
)

// TestF16Rotate changes what a running worker logs in with, and the certificates of both sides, under load: the files in time, and late,
// after the broker has forgotten the old ones. The worker must come back with the new ones by itself.
func TestF16Rotate(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]func(*testing.T) login{"password": withPassword, "nkey": withNKey, "credentials": withCredentials} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rotateCredentials(t, name, kind(t))
		})
	}
	t.Run("certificates", rotateCertificates)
}

// rotateCredentials revokes a worker's credentials after and before it has the next ones.
func rotateCredentials(t *testing.T, name string, kind login) {
	t.Helper()
	current := kind.issue(t)
	mounted := newSecret(t, current.files)
	o := kind.options(t, mounted, current)
	o.unionPay = true
	s := newSite(t, o)
	only := s.brokers[0]
	l := newLoad(s)
	w := s.startWorker(t)
	publishing := l.run(t, 25)
	var inTime, late time.Duration
	rounds := times(1, 2)
	for range rounds {
		pause(t.Context(), 500*time.Millisecond)
		next, last := kind.issue(t), kind.issue(t)
		only.reload(t, kind.broker(t, current, next))
		mounted.swap(t, next.files)
		inTime = max(inTime, w.comesBack(t, func() { only.reload(t, kind.broker(t, next)) }))
		only.reload(t, kind.broker(t, last))
		w.awaitProblem(t, "credentials_refused", "the server refuses our credentials")
		late = max(late, w.comesBack(t, func() { mounted.swap(t, last.files) }))
		current = last
	}
	publishing.stop()
	// A call whose result could not be stored in time is made again.
	found := s.finish(t, l, soon, 1+4*rounds)
	require.False(t, w.ended())
	t.Logf("F16 %s: %d times revoked: connected and ready with the next credentials after %s (target 90 s); %d times revoked before they came: after %s; "+
		"%d queries, %d delivered again", name, rounds, inTime, rounds, late, found.Queries, found.Redelivered)
}

// rotateCertificates changes the authority of both sides, as it is done without an outage: first everybody trusts both, then the
// certificates change, then nobody trusts the old one. In the end the broker changes before the worker has heard of it.
func rotateCertificates(t *testing.T) {
	t.Parallel()
	before, after, later, admin := newAuthority(t, "before"), newAuthority(t, "after"), newAuthority(t, "later"), newAuthority(t, "admin")
	certificate, key := admin.issue(t, "admin")
	own := newSecret(t, map[string]string{"ca.pem": before.pem + after.pem + later.pem, "cert.pem": certificate, "key.pem": key})
	held := func(by *authority, trusts ...*authority) map[string]string {
		certificate, key := by.issue(t, "held")
		files := map[string]string{"cert.pem": certificate, "key.pem": key}
		for _, one := range trusts {
			files["ca.pem"] += one.pem
		}
		return files
	}
	server, mounted := newSecret(t, held(before, before, admin)), newSecret(t, held(before, before))
	settings := fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true, timeout: 5 }\n",
		server.file("cert.pem"), server.file("key.pem"), server.file("ca.pem"))
	s := newSite(t, siteOptions{
		unionPay: true, broker: settings, user: []nats.Option{nats.RootCAs(own.file("ca.pem")), nats.ClientCert(own.file("cert.pem"), own.file("key.pem"))},
		login: fmt.Sprintf(`, tls: {ca_file: "%s", cert_file: "%s", key_file: "%s"}`, mounted.file("ca.pem"), mounted.file("cert.pem"), mounted.file("key.pem")),
	})
	line := s.through(t, proxy.Options{Target: s.brokers[0].address, Opaque: true})
	l := newLoad(s)
	w := s.startWorker(t)
	publishing := l.run(t, 25)
	change := func(at *secret, files map[string]string) {
		at.swap(t, files)
		s.brokers[0].reload(t, settings)
	}
	again := func(what string) {
		took := w.comesBack(t, line.Reset)
		t.Logf("F16: %s: connected and ready after %s (target 90 s)", what, took)
	}
	pause(t.Context(), 500*time.Millisecond)
	change(server, held(before, before, after, admin))
	mounted.swap(t, held(before, before, after))
	again("everybody trusts both authorities")
	change(server, held(after, before, after, admin))
	again("the broker has its new certificate")
	mounted.swap(t, held(after, after))
	again("the worker has its new certificate")
	change(server, held(after, after, admin))
	again("nobody trusts the old authority")
	change(server, held(later, later, admin))
	line.Reset()
	w.awaitProblem(t, "tls_failed", "the TLS handshake fails")
	took := w.comesBack(t, func() { mounted.swap(t, held(later, later)) })
	publishing.stop()
	found := s.finish(t, l, soon, 10)
	require.False(t, w.ended())
	t.Logf("F16: the broker's certificate changed before the worker trusted it: connected and ready %s after the files came; %d queries", took, found.Queries)
}

// through makes the workers that start later go another way to the broker, which nobody reads.
func (s *site) through(t *testing.T, o proxy.Options) *proxy.Proxy {
	t.Helper()
	line, err := proxy.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(line.Close)
	text, err := os.ReadFile(s.config)
	require.NoError(t, err)
	changed := strings.Replace(string(text), s.brokers[0].proxied(), "nats://"+line.Addr(), 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(s.config, []byte(changed), 0o600))
	return line
}

// comesBack does something that makes the worker connect anew, and returns how long it took until it had done so and was ready.
func (w *worker) comesBack(t *testing.T, do func()) time.Duration {
	t.Helper()
	const connections = `discount_worker_broker_events_total{event="reconnected"}`
	before, began := w.figure(t, connections), time.Now()
	do()
	await(t, "the worker comes back", func() bool { return w.figure(t, connections) > before && w.ready() })
	return time.Since(began).Round(time.Millisecond)
}

// awaitProblem waits until the worker is not ready for a reason, and its log says in words what to do. It then waits for more attempts than
// those after which a client of the broker gives up by itself.
func (w *worker) awaitProblem(t *testing.T, reason, says string) {
	t.Helper()
	await(t, "the worker is unready: "+reason, func() bool { return strings.Contains(w.problems(), reason) })
	await(t, "the worker says: "+says, func() bool { return strings.Contains(w.output.String(), says) })
	attempts := fmt.Sprintf("discount_worker_broker_events_total{event=%q}", reason)
	before := w.figure(t, attempts)
	await(t, "the worker tries again", func() bool { return w.figure(t, attempts) >= before+4 })
	require.False(t, w.ready())
	require.False(t, w.ended())
}
