// Package check looks whether a worker could run with its configuration, and says what to do about each thing that is wrong. It changes
// nothing, takes no query and makes no call that an upstream could count.
package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/upstream"
)

// State says how a finding came out.
type State string

// The states of a finding.
const (
	// OK needs nothing.
	OK State = "ok"
	// Warn works, but somebody should look at it.
	Warn State = "warn"
	// Fail keeps the worker from working.
	Fail State = "fail"
	// Unreachable is something that could not be reached, so that what lies behind it is not known.
	Unreachable State = "unreachable"
)

// Finding is one thing that was looked at.
type Finding struct {
	What   string `json:"what"`
	State  State  `json:"state"`
	Detail string `json:"detail"`
}

// Worst returns the worst state of the findings: unreachable goes before fail, because then not all is known.
func Worst(findings []Finding) State {
	rank := map[State]int{OK: 0, Warn: 1, Fail: 2, Unreachable: 3}
	worst := OK
	for _, finding := range findings {
		if rank[finding.State] > rank[worst] {
			worst = finding.State
		}
	}
	return worst
}

// Run looks at everything that the configuration, which must be valid, speaks of. It tells each finding as it comes.
func Run(ctx context.Context, c config.Config, tell func(Finding)) []Finding {
	var all []Finding
	note := func(what string, state State, format string, args ...any) {
		finding := Finding{What: what, State: state, Detail: fmt.Sprintf(format, args...)}
		all = append(all, finding)
		tell(finding)
	}
	note("configuration", OK, "valid; accounts: %s", strings.Join(app.AccountNames(c), ", "))
	checkKeys(c, note)
	checkBroker(ctx, c, note)
	checkUpstreams(ctx, c, note)
	return all
}

// noter takes one finding.
type noter func(what string, state State, format string, args ...any)

func checkKeys(c config.Config, note noter) {
	ring, err := card.LoadRing(c.Cards.KeysDir)
	if err != nil {
		note("keys", Fail, "%v", err)
	} else {
		note("keys", OK, "%s; %s seals", strings.Join(ring.KeyIDs(), ", "), ring.Sealer().KeyID())
	}
	if c.Cards.AcceptPlain {
		note("cards", Warn, "cards.accept_plain is on: card data may arrive unsealed and lie in the broker's store; turn it off outside of demos")
	}
	if c.Providers.EasyPay.Enabled {
		if _, err := app.NewEasyPay(c.Providers.EasyPay); err != nil {
			note("easypay settings", Fail, "%v", err)
		} else {
			note("easypay settings", OK, "usable")
		}
	}
	if !c.Providers.UnionPay.Enabled {
		return
	}
	for _, name := range c.Providers.UnionPay.AccountNames() {
		what := of("unionpay", name) + " settings"
		if _, err := app.NewUnionPay(c.Providers.UnionPay.Account(name)); err != nil {
			note(what, Fail, "%v", err)
		} else {
			note(what, OK, "usable, and the key files too")
		}
	}
}

// of returns a provider's name, and its account's where that is not the default one.
func of(provider, account string) string {
	if account == config.DefaultAccount {
		return provider
	}
	return provider + "/" + account
}

func checkBroker(ctx context.Context, c config.Config, note noter) {
	connected, err := app.OpenBroker(ctx, c, app.BrokerOptions{Name: "discount-check"})
	if err != nil {
		if c.NATS.URL == "" {
			note("broker", Unreachable, "nats.url is empty, so `worker run` starts a server of its own at %s; none answers there now", c.Embedded.Listen)
			return
		}
		note("broker", Unreachable, "%v", err)
		return
	}
	defer func() { _ = connected.Close(context.WithoutCancel(ctx)) }() // Everything asked was answered.
	note("broker", OK, "connected to %s", connected.ClientURL())
	version := connected.Conn.ConnectedServerVersion()
	switch err := broker.CheckServer(connected.Conn); {
	case err != nil:
		note("server", Fail, "%v", err)
		return
	case !broker.Recommended(version):
		note("server", Warn, "version %s works; %s or newer is recommended", version, broker.RecommendedServerVersion)
	default:
		note("server", OK, "version %s", version)
	}
	topology := app.Topology(c)
	checkTopology(ctx, connected, topology, note)
	checkPermissions(ctx, connected, topology, note)
}

func checkTopology(ctx context.Context, connected *app.Broker, topology broker.Topology, note noter) {
	left, err := broker.Verify(ctx, connected.JS, topology)
	if err != nil {
		note("streams", Fail, "%v", err)
		return
	}
	for _, step := range left {
		state, advice := Warn, "differs from the configuration: compare with `worker setup --plan`"
		if step.Action == broker.ActionCreate {
			state, advice = Fail, "missing: run `worker setup --apply`"
		}
		name := step.Name
		if step.Stream != "" {
			name = step.Stream + "/" + name
		}
		note(string(step.Kind)+" "+name, state, "%s", advice)
	}
	if len(left) == 0 {
		note("streams", OK, "streams, consumers and buckets are as configured")
	}
}

func checkUpstreams(ctx context.Context, c config.Config, note noter) {
	if c.Providers.EasyPay.Enabled {
		checkUpstream(ctx, "easypay upstream", string(c.Providers.EasyPay.BaseURL), c.HTTP, c.Providers.EasyPay.TLS, note)
	}
	if c.Providers.UnionPay.Enabled {
		for _, name := range c.Providers.UnionPay.AccountNames() {
			own := c.Providers.UnionPay.Account(name)
			if name == config.DefaultAccount || own.TLS != c.Providers.UnionPay.TLS {
				checkUpstream(ctx, of("unionpay", name)+" upstream", string(own.BaseURL), c.HTTP, own.TLS, note)
			}
		}
	}
}

// soon is how long before its end a certificate is worth a warning.
const soon = 21 * 24 * time.Hour

// checkUpstream connects to an upstream and looks at its certificate. It sends no request.
func checkUpstream(ctx context.Context, what, base string, c config.HTTP, files config.TLS, note noter) {
	address, err := url.Parse(base)
	if err != nil {
		note(what, Fail, "its base_url is not a URL")
		return
	}
	host := address.Host
	if address.Port() == "" {
		host = net.JoinHostPort(address.Hostname(), map[string]string{"http": "80", "https": "443"}[address.Scheme])
	}
	ctx, cancel := context.WithTimeout(ctx, c.DialTimeout+c.TLSHandshakeTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
	if err != nil {
		note(what, Unreachable, "no connection to %s: check base_url, DNS, and that outgoing TCP is allowed", host)
		return
	}
	defer func() { _ = conn.Close() }() // Nothing was sent.
	if address.Scheme != "https" {
		note(what, Warn, "connected to %s without TLS: right for a sandbox only", host)
		return
	}
	settings, err := upstream.TLSConfig(upstream.TransportOptions{CAFile: files.CAFile, CertFile: files.CertFile, KeyFile: files.KeyFile})
	if err != nil {
		note(what, Fail, "%v", err)
		return
	}
	settings.ServerName = address.Hostname()
	checkTLS(ctx, what, host, conn, settings, note)
}

// checkTLS makes the handshake with an upstream and looks at what comes of it.
func checkTLS(ctx context.Context, what, host string, conn net.Conn, settings *tls.Config, note noter) {
	asked := watchClientCertificate(settings)
	secured := tls.Client(conn, settings)
	if err := secured.HandshakeContext(ctx); err != nil {
		note(what, Fail, "the TLS handshake with %s failed: %s", host, tlsAdvice(err))
		return
	}
	if asked.Load() && refused(secured) {
		note(what, Fail, "%s asks for a client certificate and refuses ours, or that we have none: check tls.cert_file and tls.key_file", host)
		return
	}
	leaf := secured.ConnectionState().PeerCertificates[0]
	if time.Until(leaf.NotAfter) < soon {
		note(what, Warn, "the certificate of %s ends on %s", host, leaf.NotAfter.Format(time.DateOnly))
		return
	}
	note(what, OK, "TLS with %s works; its certificate is good until %s", host, leaf.NotAfter.Format(time.DateOnly))
}

// watchClientCertificate makes a configuration note whether the server asks for a client certificate.
func watchClientCertificate(settings *tls.Config) *atomic.Bool {
	var asked atomic.Bool
	ours := settings.Certificates
	settings.GetClientCertificate = func(wanted *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		asked.Store(true)
		for i := range ours {
			if wanted.SupportsCertificate(&ours[i]) == nil {
				return &ours[i], nil
			}
		}
		return &tls.Certificate{}, nil // The server may do without one.
	}
	return &asked
}

// refusalTimeout is how long to wait for a server's refusal. There is no way to be told that it does not refuse.
const refusalTimeout = time.Second

// refused tells whether the server ends a connection after its handshake: in TLS 1.3 it judges a client certificate only then.
func refused(secured *tls.Conn) bool {
	if err := secured.SetReadDeadline(time.Now().Add(refusalTimeout)); err != nil {
		return true
	}
	_, err := secured.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

func tlsAdvice(err error) string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted for this host name: check base_url and tls.ca_file"
	}
	return "it speaks no TLS 1.2 or newer that fits, or asks for a client certificate: check tls.cert_file"
}
