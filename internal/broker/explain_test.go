package broker

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// TestExplain covers what a server says too seldom to be had in a test; the rest is in TestConnectRefusals and TestTLS.
func TestExplain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		err  error
		code fault.Code
		says string
	}{
		"too many":            {nats.ErrMaxConnectionsExceeded, fault.BrokerRefused, "no more connections"},
		"too many of ours":    {nats.ErrMaxAccountConnectionsExceeded, fault.BrokerRefused, "no more connections"},
		"no NKeys":            {nats.ErrNkeysNotSupported, fault.BrokerRefused, "no NKeys"},
		"TLS wanted":          {nats.ErrSecureConnRequired, fault.BrokerRefused, "TLS handshake"},
		"closed in handshake": {fmt.Errorf("%w: gone", nats.ErrTLS), fault.BrokerRefused, "TLS handshake"},
		"alert":               {&net.OpError{Op: "remote error", Err: errors.New("tls: certificate required")}, fault.BrokerRefused, "TLS handshake"},
		"no TLS there":        {tls.RecordHeaderError{Msg: "hunter2"}, fault.BrokerRefused, "TLS handshake"},
		"expired":             {nats.ErrAuthExpired, fault.BrokerRefused, "refused our credentials"},
		"unknown":             {errors.New("nats://u:hunter2@h is strange"), fault.BrokerUnreachable, "no NATS server answers"},
		"broken":              {&net.OpError{Op: "write", Err: errors.New("broken pipe")}, fault.BrokerUnreachable, "no NATS server answers"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Options{URL: "nats://u:hunter2@nats.example:4222"}.explain(tc.err)
			require.ErrorIs(t, err, tc.err)
			require.Equal(t, tc.code, fault.CodeOf(err))
			require.ErrorContains(t, err, tc.says)
			require.ErrorContains(t, err, "***@nats.example:4222")
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestExplainNamesTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	err := Options{InProcess: &Embedded{}}.explain(nats.ErrNoServers)
	require.ErrorContains(t, err, "the embedded server")
}
