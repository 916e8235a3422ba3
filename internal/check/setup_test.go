package check

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// upstreamKeys are made once for the whole package: they take long.
var upstreamKeys = sync.OnceValues(sandbox.NewKeys)

// site is a configuration, with a broker and an upstream that it can reach.
type site struct {
	config.Config

	authority *authority
	requests  *atomic.Int32
}

// newSite returns a site on which everything is well but the broker, which is missing.
func newSite(t *testing.T) *site {
	t.Helper()
	dir := t.TempDir()
	keys, err := upstreamKeys()
	require.NoError(t, err)
	require.NoError(t, keys.WriteTo(filepath.Join(dir, "upi")))
	_, err = card.NewKeys(filepath.Join(dir, "keys"), time.Now())
	require.NoError(t, err)
	s := &site{Config: config.Default(), authority: newAuthority(t, dir), requests: &atomic.Int32{}}
	s.Cards.KeysDir, s.NATS.URL = filepath.Join(dir, "keys"), "nats://127.0.0.1:1"
	upstream := s.serveTLS(t, nil)
	s.Providers.EasyPay.BaseURL, s.Providers.EasyPay.TLS.CAFile = upstream, s.authority.file
	u := &s.Providers.UnionPay
	u.Enabled, u.BaseURL, u.Path, u.TLS.CAFile = true, upstream, sandbox.UnionPayPath, s.authority.file
	u.ProcType, u.SignCertID, u.EncCertID, u.InsCode, u.AppID, u.PID = "01", "001", "002", "100120156", sandbox.DefaultAppID, "1234567890"
	u.JWS.KID, u.JWS.PrivateKeyFile = keys.ClientSignKid, filepath.Join(dir, "upi", "client-sign.key.pem")
	u.Response.KeyFiles = map[string]string{keys.UPISignKid: filepath.Join(dir, "upi", "upi-sign.pub.pem")}
	u.Encryption.KID, u.Encryption.PublicKeyFile = keys.UPIEncryptKid, filepath.Join(dir, "upi", "upi-encrypt.pub.pem")
	require.NoError(t, s.Validate())
	return s
}

// withBroker gives the site a broker of its own, started by brokertest.New or brokertest.Start.
func (s *site) withBroker(t *testing.T, start func(testing.TB, ...brokertest.Option) *brokertest.Server) *brokertest.Server {
	t.Helper()
	server := start(t, brokertest.Listening(), brokertest.WithTopology(func(topology *broker.Topology) { *topology = app.Topology(s.Config) }))
	s.NATS.URL = config.URL(server.Embedded().ClientURL())
	return server
}

// run checks the site. It returns the findings by what they are about, after it has seen that they were told as they came.
func (s *site) run(t *testing.T) map[string]Finding {
	t.Helper()
	var told []Finding
	all := Run(t.Context(), s.Config, func(f Finding) { told = append(told, f) })
	require.Equal(t, told, all)
	require.Zero(t, s.requests.Load(), "a check makes no call that an upstream could count")
	found := map[string]Finding{}
	for _, finding := range all {
		require.NotContains(t, found, finding.What, "each thing has one finding")
		found[finding.What] = finding
	}
	return found
}

// requireFinding checks one finding, and that all others are ok but those named.
func requireFinding(t *testing.T, found map[string]Finding, what string, state State, says string, others ...string) {
	t.Helper()
	require.Equal(t, state, found[what].State, "%v", found)
	require.Contains(t, found[what].Detail, says)
	for _, finding := range found {
		if finding.What != what && !slices.Contains(others, finding.What) {
			require.Equal(t, OK, finding.State, "%v", finding)
		}
	}
}

// authority issues certificates and keeps its own in a file.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	dir, file   string
}

func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(900 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{certificate: certificate, key: key, dir: dir, file: filepath.Join(dir, "ca.pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for 127.0.0.1, with a change, and its key into files.
func (a *authority) issue(t *testing.T, name string, change func(*x509.Certificate)) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(soon + 48*time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	certFile, keyFile = filepath.Join(a.dir, name+".cert.pem"), filepath.Join(a.dir, name+".key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", private)
	return certFile, keyFile
}

func writePEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// serveTLS serves an upstream until the test ends. Its requests are counted.
func (s *site) serveTLS(t *testing.T, change func(*tls.Config), certificate ...func(*x509.Certificate)) config.URL {
	t.Helper()
	var changed func(*x509.Certificate)
	if len(certificate) > 0 {
		changed = certificate[0]
	}
	pair, err := tls.LoadX509KeyPair(s.authority.issue(t, "server", changed))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.requests.Add(1) }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS10}
	if change != nil {
		change(server.TLS)
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return config.URL(server.URL)
}

// background is for what must outlive a test's own context.
func background() context.Context { return context.Background() }
