package upstream

import (
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
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// authority issues certificates and keeps its own in a file.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	file        string
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority " + canary}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	a := &authority{certificate: certificate, key: key, file: filepath.Join(t.TempDir(), "ca.pem")}
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for 127.0.0.1, with changes, and its key into files.
func (a *authority) issue(t testing.TB, changes ...func(*x509.Certificate)) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: canary}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", private)
	return certFile, keyFile
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// serveTLS serves over TLS, with changes, until the test ends.
func (a *authority) serveTLS(t testing.TB, change func(*tls.Config), certificate ...func(*x509.Certificate)) string {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(a.issue(t, certificate...))
	require.NoError(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto)
		if len(r.TLS.PeerCertificates) > 0 {
			_, _ = io.WriteString(w, " from "+r.TLS.PeerCertificates[0].Subject.CommonName)
		}
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS10}
	if change != nil {
		change(server.TLS)
	}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL
}

func TestTLSIsVerified(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	for name, test := range map[string]struct {
		server      *authority
		change      func(*tls.Config)
		certificate func(*x509.Certificate)
		fails       bool
	}{
		"trusted": {server: ours},
		"TLS 1.2": {server: ours, change: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
		"TLS 1.1": {server: ours, change: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11 }, fails: true},
		"unknown": {server: theirs, fails: true},
		"expired": {server: ours, certificate: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }, fails: true},
		"too new": {server: ours, certificate: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }, fails: true},
		"other host": {server: ours, fails: true, certificate: func(c *x509.Certificate) {
			c.IPAddresses, c.DNSNames = nil, []string{canary + ".example"}
		}},
		"not for servers": {server: ours, fails: true, certificate: func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var changes []func(*x509.Certificate)
			if test.certificate != nil {
				changes = append(changes, test.certificate)
			}
			b := setupServed(t, test.server.serveTLS(t, test.change, changes...), func(o *TransportOptions) { o.CAFile = ours.file })
			answer, _, err := b.ask(t.Context())
			if test.fails {
				require.False(t, requireFault(t, err, fault.Unavailable, fault.TLS).Sent, "a card number never travels over such a connection")
				return
			}
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1", answer.Upstream.Message, "also with a server that offers more")
		})
	}
}

func TestAuthorityOfTheConfigurationReplacesThoseOfTheSystem(t *testing.T) {
	t.Parallel()
	b := setupServed(t, newAuthority(t).serveTLS(t, nil))
	_, _, err := b.ask(t.Context())
	requireFault(t, err, fault.Unavailable, fault.TLS)
}

func TestClientCertificate(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	roots := x509.NewCertPool()
	roots.AddCert(ours.certificate)
	for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
		address := ours.serveTLS(t, func(c *tls.Config) {
			c.ClientAuth, c.ClientCAs, c.MaxVersion = tls.RequireAndVerifyClientCert, roots, version
		})
		for who, signer := range map[string]*authority{"ours": ours, "another's": theirs, "none": nil} {
			t.Run(name+", "+who, func(t *testing.T) {
				t.Parallel()
				b := setupServed(t, address, func(o *TransportOptions) {
					if o.CAFile = ours.file; signer != nil {
						o.CertFile, o.KeyFile = signer.issue(t)
					}
				})
				answer, _, err := b.ask(t.Context())
				if signer == ours {
					require.NoError(t, err)
					require.Equal(t, "HTTP/1.1 from "+canary, answer.Upstream.Message)
					return
				}
				failure := fault.From("", err)
				require.Equal(t, fault.Unavailable, failure.Kind)
				// In TLS 1.3 the server may cut the connection before its alert is read.
				require.Contains(t, []fault.Code{fault.TLS, fault.ConnectionLost}, failure.Code)
				require.True(t, failure.Code == fault.TLS || version == tls.VersionTLS13, "%v: %v", failure, failure.Cause)
			})
		}
	}
}

func TestPlainServerBehindHTTPS(t *testing.T) {
	t.Parallel()
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	b := setupServed(t, "https"+plain[len("http"):])
	_, _, err := b.ask(t.Context())
	requireFault(t, err, fault.Unavailable, fault.TLS)
}

func TestFilesOfTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certFile, keyFile := a.issue(t)
	otherCert, _ := a.issue(t)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, test := range map[string]struct {
		options TransportOptions
		says    string
	}{
		"all":            {options: TransportOptions{CAFile: a.file, CertFile: certFile, KeyFile: keyFile}},
		"none":           {},
		"no CA file":     {TransportOptions{CAFile: "nowhere.pem"}, "read CA file"},
		"no certificate": {TransportOptions{CAFile: empty}, "holds no PEM certificate"},
		"no key":         {TransportOptions{CertFile: certFile, KeyFile: "nowhere.pem"}, "read client certificate"},
		"another's key":  {TransportOptions{CertFile: otherCert, KeyFile: keyFile}, "read client certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transport, err := NewTransport(test.options)
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				require.Nil(t, transport)
				return
			}
			require.NoError(t, err)
			require.EqualValues(t, tls.VersionTLS12, transport.tls.MinVersion)
			require.Equal(t, test.options.CAFile == "", transport.tls.RootCAs == nil, "without a file those of the system are trusted")
		})
	}
}
