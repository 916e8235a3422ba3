//go:build faults

package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/freeport"
)

// natsServer is a NATS server in a process of its own, with the proxy before it.
type natsServer struct {
	*process

	// owner is the test that the server ends with.
	owner   *testing.T
	name    string
	dir     string
	address string
	proxy   *proxy.Proxy
	// store is the most that its streams may hold.
	store string
}

// newNATS writes the configuration of a server and starts nothing.
func newNATS(t *testing.T, name, settings string, observe func(proxy.Event)) *natsServer {
	t.Helper()
	n := &natsServer{owner: t, name: name, dir: t.TempDir(), store: "8GB", address: freeport.Address(t)}
	n.configure(t, settings)
	keepsNoSecrets(t, n.dir)
	var err error
	n.proxy, err = proxy.Start(t.Context(), proxy.Options{Target: n.address, Observe: observe})
	require.NoError(t, err)
	t.Cleanup(n.proxy.Close)
	return n
}

// configure writes the configuration anew. A running server reads it when it is told to.
func (n *natsServer) configure(t *testing.T, settings string) {
	t.Helper()
	text := fmt.Sprintf("server_name: %s\nlisten: \"%s\"\njetstream { store_dir: \"%s\"\n max_file_store: %s }\n%s\n",
		n.name, n.address, filepath.Join(n.dir, "store"), n.store, settings)
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "nats.conf"), []byte(text), 0o600))
}

// limitStore changes how much the server's streams may hold, from its next start on.
func (n *natsServer) limitStore(t *testing.T, store string) {
	t.Helper()
	n.store = store
	n.configure(t, "")
}

// run starts the server, or starts it again on its store.
func (n *natsServer) run(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	n.process = start(n.owner, n.name, n.dir, exec.Command(self, "-c", filepath.Join(n.dir, "nats.conf")), asProcess+"=nats")
}

// url returns the URL of the server itself.
func (n *natsServer) url() string { return "nats://" + n.address }

// proxied returns the URL of the server behind its proxy.
func (n *natsServer) proxied() string { return "nats://" + n.proxy.Addr() }

// connectAll connects to the servers, past their proxies, as somebody who does not take part. The connection survives everything.
func connectAll(t *testing.T, servers []*natsServer, options ...nats.Option) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	var urls []string
	for _, n := range servers {
		urls = append(urls, n.url())
	}
	options = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond), nats.ReconnectJitter(0, 0), nats.ReconnectBufSize(-1),
		nats.RetryOnFailedConnect(true), nats.PingInterval(time.Second), nats.MaxPingsOutstanding(2), nats.IgnoreDiscoveredServers(), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)
	nc, err := nats.Connect(strings.Join(urls, ","), options...)
	require.NoError(t, err)
	closed := nc.StatusChanged(nats.CLOSED)
	t.Cleanup(func() {
		nc.Close()
		<-closed
		nc.RemoveStatusListener(closed)
	})
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	require.NoError(t, err)
	require.Eventually(t, func() bool { _, err := js.AccountInfo(t.Context()); return err == nil }, time.Minute, 20*time.Millisecond)
	return nc, js
}
