package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// TransportOptions say how connections to an upstream are made.
type TransportOptions struct {
	// CAFile is a PEM file with the roots to trust instead of the system's; "" means the system's.
	CAFile string
	// CertFile and KeyFile are the PEM files of a client certificate; "" means none.
	CertFile string
	KeyFile  string
	// Connections bounds the connections to the upstream; 0 means as many as calls are under way.
	Connections int
	// DialTimeout and HandshakeTimeout bound the two steps of connecting.
	DialTimeout      time.Duration
	HandshakeTimeout time.Duration
	// Recycle is how long a set of connections is used before new requests get new ones, so that a change of the upstream's
	// address is seen: a connection that is kept alive never looks its host up again.
	Recycle time.Duration
}

// idleTimeout closes a connection that was not used. It is shorter than servers commonly wait.
const idleTimeout = 30 * time.Second

// maxIdle is how many unused connections are kept when their number is not bounded otherwise.
const maxIdle = 512

// maxResponseHeader bounds a response's headers in bytes.
const maxResponseHeader = 16 << 10

// Transport is an http.RoundTripper that sends each request once, as it is: no redirects, no compression, no proxy, and new
// connections every now and then. It may be used by many goroutines.
type Transport struct {
	options TransportOptions
	tls     *tls.Config
	mu      sync.Mutex
	current *http.Transport
	since   time.Time
}

// NewTransport returns a transport, or an error if a certificate file can't be used.
func NewTransport(options TransportOptions) (*Transport, error) {
	config, err := TLSConfig(options)
	if err != nil {
		return nil, err
	}
	return &Transport{options: options, tls: config}, nil
}

// Reload reads the certificate files again, for the connections that are made from then on; those that are in use finish what they carry. If
// the files can't be used it returns an error, and everything stays as it was.
func (t *Transport) Reload() error {
	config, err := TLSConfig(t.options)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tls = config
	if t.current != nil {
		t.current.CloseIdleConnections()
		t.current = nil
	}
	return nil
}

// TLSConfig returns the TLS configuration of connections to an upstream, or an error if a certificate file can't be used.
func TLSConfig(options TransportOptions) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if options.CAFile != "" {
		pem, err := os.ReadFile(options.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("CA file %s holds no PEM certificate", options.CAFile)
		}
	}
	if options.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(options.CertFile, options.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	return config, nil
}

// RoundTrip sends request over the current set of connections.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	return t.pick(time.Now()).RoundTrip(request)
}

// Close closes the connections that are not in use. The others close when their requests are done.
func (t *Transport) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		t.current.CloseIdleConnections()
		t.current = nil
	}
}

// pick returns the current set of connections and replaces one that is too old. Requests under way on the old set finish there.
func (t *Transport) pick(now time.Time) *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil || now.Sub(t.since) >= t.options.Recycle {
		if t.current != nil {
			t.current.CloseIdleConnections()
		}
		t.current, t.since = t.connections(), now
	}
	return t.current
}

func (t *Transport) connections() *http.Transport {
	dialer := &net.Dialer{Timeout: t.options.DialTimeout, KeepAlive: 15 * time.Second}
	idle := t.options.Connections
	if idle == 0 {
		idle = maxIdle
	}
	return &http.Transport{
		Proxy: nil, DialContext: dialer.DialContext, TLSClientConfig: t.tls.Clone(),
		TLSHandshakeTimeout: t.options.HandshakeTimeout, DisableCompression: true, ForceAttemptHTTP2: false,
		MaxIdleConns: idle, MaxIdleConnsPerHost: idle, MaxConnsPerHost: t.options.Connections,
		IdleConnTimeout: idleTimeout, MaxResponseHeaderBytes: maxResponseHeader,
	}
}
