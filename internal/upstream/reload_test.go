package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCertificatesAreReadAgain swaps the client's certificate while the transport is in use: for a stranger's, for rubbish, and back.
func TestCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	roots := x509.NewCertPool()
	roots.AddCert(ours.certificate)
	address := ours.serveTLS(t, func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, roots })
	certFile, keyFile := ours.issue(t)
	b := setupServed(t, address, func(o *TransportOptions) { o.CAFile, o.CertFile, o.KeyFile = ours.file, certFile, keyFile })
	transport, ok := b.Client.Transport.(*Transport)
	require.True(t, ok)
	answered := func() bool {
		_, _, err := b.ask(t.Context())
		return err == nil
	}
	replace := func(cert, key string) {
		for from, to := range map[string]string{cert: certFile, key: keyFile} {
			content, err := os.ReadFile(from)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(to, content, 0o600))
		}
	}
	require.True(t, answered())
	replace(theirs.issue(t))
	require.True(t, answered(), "nothing is read before it is told to")
	require.NoError(t, transport.Reload())
	require.False(t, answered(), "the connections that were kept are not used either")
	require.NoError(t, os.WriteFile(certFile, []byte("s3cret"), 0o600))
	err := transport.Reload()
	require.ErrorContains(t, err, "read client certificate")
	require.NotContains(t, err.Error(), "s3cret")
	require.False(t, answered(), "what can't be used replaces nothing")
	replace(ours.issue(t))
	require.NoError(t, transport.Reload())
	require.True(t, answered())
	transport.Close()
	require.NoError(t, transport.Reload(), "also before the first connection")
	require.True(t, answered())
}
