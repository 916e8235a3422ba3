package check

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/config"
)

func TestHealthySite(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.withBroker(t, brokertest.New)
	found := s.run(t)
	for what, says := range map[string]string{
		"configuration": "valid; accounts: easypay/default, unionpay/default", "keys": " seals", "easypay settings": "usable",
		"unionpay settings": "the key files too", "broker": "connected to nats://127.0.0.1:", "server": "version ",
		"streams": "as configured", "permissions": "results, dead letters, retries, pace, pulls and reads are allowed",
		"easypay upstream": "its certificate is good until 20", "unionpay upstream": "TLS with 127.0.0.1:",
	} {
		require.Equal(t, OK, found[what].State, "%v", found[what])
		require.Contains(t, found[what].Detail, says)
		delete(found, what)
	}
	require.Empty(t, found)
}

func TestWorst(t *testing.T) {
	t.Parallel()
	of := func(states ...State) []Finding {
		var findings []Finding
		for _, state := range states {
			findings = append(findings, Finding{State: state})
		}
		return findings
	}
	require.Equal(t, OK, Worst(nil))
	require.Equal(t, OK, Worst(of(OK, OK)))
	require.Equal(t, Warn, Worst(of(OK, Warn, OK)))
	require.Equal(t, Fail, Worst(of(Fail, Warn)))
	require.Equal(t, Unreachable, Worst(of(Fail, Unreachable, Warn)))
}

func TestSettingsThatAreBroken(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		breaks func(t *testing.T, c *config.Config)
		what   string
		state  State
		says   string
	}{
		"no keys": {func(t *testing.T, c *config.Config) { c.Cards.KeysDir = t.TempDir() }, "keys", Fail, "worker keys new --dir"},
		"plain cards": {
			func(_ *testing.T, c *config.Config) { c.Cards.AcceptPlain = true }, "cards", Warn, "turn it off outside of demos",
		},
		"easypay": {
			func(_ *testing.T, c *config.Config) { c.Providers.EasyPay.Variant = "third" }, "easypay settings", Fail, "Variant must be",
		},
		"unionpay": {
			func(_ *testing.T, c *config.Config) { c.Providers.UnionPay.JWS.PrivateKeyFile = "nowhere.pem" }, "unionpay settings", Fail, "nowhere.pem",
		},
		"a second institution": {
			func(_ *testing.T, c *config.Config) {
				u := c.Providers.UnionPay
				c.Providers.UnionPay.Accounts = map[string]*config.UnionPayAccount{"bank": {
					PIDs: []string{"7"}, InsCode: u.InsCode, AppID: u.AppID, SignCertID: u.SignCertID, EncCertID: u.EncCertID,
					JWS: config.JWS{KID: "1", PrivateKeyFile: "nowhere.pem"}, Response: u.Response, Encryption: u.Encryption, Pace: u.Pace, TLS: u.TLS,
				}}
			}, "unionpay/bank settings", Fail, "nowhere.pem",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			test.breaks(t, &s.Config)
			requireFinding(t, s.run(t), test.what, test.state, test.says, "broker")
		})
	}
}

func TestProviderThatIsOffIsNotLookedAt(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Providers.UnionPay.Enabled = false
	found := s.run(t)
	require.Contains(t, found, "easypay upstream")
	require.NotContains(t, found, "unionpay settings")
	require.NotContains(t, found, "unionpay upstream")
}

func TestBrokerThatIsAway(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	requireFinding(t, s.run(t), "broker", Unreachable, "no NATS server answers at nats://127.0.0.1:1")
	s.NATS.URL, s.Embedded.Listen = "", "127.0.0.1:1"
	requireFinding(t, s.run(t), "broker", Unreachable, "`worker run` starts a server of its own at 127.0.0.1:1")
}

func TestBrokerWithoutItsObjects(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.withBroker(t, brokertest.Start)
	found := s.run(t)
	for _, what := range []string{
		"stream DISCOUNT_QUERIES", "stream DISCOUNT_RETRIES", "stream DISCOUNT_RESULTS", "stream DISCOUNT_DEAD", "stream DISCOUNT_ADVISORIES",
		"consumer DISCOUNT_QUERIES/easypay-interactive", "consumer DISCOUNT_RETRIES/unionpay-bulk", "bucket discount_pace",
	} {
		require.Equal(t, Fail, found[what].State, "%s: %v", what, found)
		require.Equal(t, "missing: run `worker setup --apply`", found[what].Detail)
	}
	require.Equal(t, OK, found["permissions"].State, "what is missing is not a right: %v", found["permissions"])

	server.Apply(t)
	require.NoError(t, server.JS.DeleteConsumer(t.Context(), "DISCOUNT_RETRIES", "easypay-bulk"))
	requireFinding(t, s.run(t), "consumer DISCOUNT_RETRIES/easypay-bulk", Fail, "worker setup --apply")

	server.Apply(t)
	s.Consumer.MaxAckPending++
	found = s.run(t)
	require.Equal(t, Warn, found["consumer DISCOUNT_QUERIES/easypay-bulk"].State)
	require.Contains(t, found["consumer DISCOUNT_QUERIES/easypay-bulk"].Detail, "worker setup --plan")
	require.Equal(t, Warn, Worst(values(found)))
}

func values(found map[string]Finding) []Finding {
	var all []Finding
	for _, finding := range found {
		all = append(all, finding)
	}
	return all
}

// TestCheckChangesNothing compares all that the broker knows of its streams and consumers before and after a check.
func TestCheckChangesNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.withBroker(t, brokertest.New)
	for _, subject := range []string{
		"discount.query.easypay.interactive.shop", "discount.query.easypay.interactive.shop", "discount.query.unionpay.bulk.shop",
		"discount.retry.due.easypay.bulk.shop", "discount.result.k.easypay.shop.completed", "discount.dead.k.easypay.shop.rejected",
	} {
		_, err := server.JS.Publish(t.Context(), subject, []byte("kept"))
		require.NoError(t, err)
	}
	before := stateOf(t, server)
	require.Equal(t, OK, Worst(values(s.run(t))))
	require.Equal(t, before, stateOf(t, server))
	require.Len(t, before, 6+3+8)
}

func stateOf(t *testing.T, server *brokertest.Server) map[string]any {
	t.Helper()
	states := map[string]any{}
	streams := server.JS.ListStreams(t.Context())
	for stream := range streams.Info() {
		stream.TimeStamp = time.Time{}
		states[stream.Config.Name] = *stream
		handle, err := server.JS.Stream(t.Context(), stream.Config.Name)
		require.NoError(t, err)
		consumers := handle.ListConsumers(t.Context())
		for consumer := range consumers.Info() {
			consumer.TimeStamp = time.Time{}
			states[stream.Config.Name+"/"+consumer.Name] = *consumer
		}
		require.NoError(t, consumers.Err())
	}
	require.NoError(t, streams.Err())
	return states
}

func TestUpstreamsThatAreNotWell(t *testing.T) {
	t.Parallel()
	expiring := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(soon - time.Hour) }
	ended := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	otherHost := func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} }
	for name, test := range map[string]struct {
		breaks func(t *testing.T, s *site) config.URL
		state  State
		says   string
	}{
		"down":         {func(t *testing.T, _ *site) config.URL { return "https://" + config.URL(free(t)) }, Unreachable, "check base_url, DNS"},
		"unknown host": {func(*testing.T, *site) config.URL { return "https://a..invalid" }, Unreachable, "no connection to a..invalid:443"},
		"no TLS": {func(t *testing.T, s *site) config.URL {
			return "http" + s.serveTLS(t, nil)[len("https"):]
		}, Warn, "without TLS: right for a sandbox only"},
		"not trusted": {func(_ *testing.T, s *site) config.URL {
			s.Providers.EasyPay.TLS.CAFile = ""
			return s.Providers.EasyPay.BaseURL
		}, Fail, "check base_url and tls.ca_file"},
		"other host": {func(t *testing.T, s *site) config.URL { return s.serveTLS(t, nil, otherHost) }, Fail, "not trusted for this host name"},
		"expired":    {func(t *testing.T, s *site) config.URL { return s.serveTLS(t, nil, ended) }, Fail, "not trusted"},
		"expires":    {func(t *testing.T, s *site) config.URL { return s.serveTLS(t, nil, expiring) }, Warn, "ends on 20"},
		"TLS 1.1": {func(t *testing.T, s *site) config.URL {
			return s.serveTLS(t, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 })
		}, Fail, "speaks no TLS 1.2"},
		"no CA file": {func(_ *testing.T, s *site) config.URL {
			s.Providers.EasyPay.TLS.CAFile = "nowhere.pem"
			return s.Providers.EasyPay.BaseURL
		}, Fail, "nowhere.pem"},
		"asks for a certificate": {func(t *testing.T, s *site) config.URL { return s.demanding(t, tls.VersionTLS13) }, Fail, "check tls.cert_file"},
		"asks in TLS 1.2":        {func(t *testing.T, s *site) config.URL { return s.demanding(t, tls.VersionTLS12) }, Fail, "check tls.cert_file"},
		"no URL":                 {func(*testing.T, *site) config.URL { return "https://%zz" }, Fail, "not a URL"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.Providers.UnionPay.Enabled = false
			s.Providers.EasyPay.BaseURL = test.breaks(t, s)
			requireFinding(t, s.run(t), "easypay upstream", test.state, test.says, "broker", "easypay settings")
		})
	}
}

// demanding serves an upstream that asks for a client certificate of the site's own authority.
func (s *site) demanding(t *testing.T, version uint16) config.URL {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(s.authority.certificate)
	return s.serveTLS(t, func(c *tls.Config) {
		c.ClientAuth, c.ClientCAs, c.MinVersion, c.MaxVersion = tls.RequireAndVerifyClientCert, roots, version, version
	})
}

func TestUpstreamThatGetsItsClientCertificate(t *testing.T) {
	t.Parallel()
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.Providers.EasyPay.BaseURL = s.demanding(t, version)
			s.Providers.EasyPay.TLS.CertFile, s.Providers.EasyPay.TLS.KeyFile = s.authority.issue(t, "client", nil)
			requireFinding(t, s.run(t), "easypay upstream", OK, "TLS with", "broker")
		})
	}
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}
