package broker

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// TestEmbeddedServesNoProfiles: nats-server can serve profiles of its process, which is ours, on a port and on requests to its system account.
func TestEmbeddedServesNoProfiles(t *testing.T) {
	t.Parallel()
	options, err := EmbeddedOptions{Listen: "127.0.0.1:0", StoreDir: t.TempDir()}.build()
	require.NoError(t, err)
	require.Zero(t, options.ProfPort)
	require.Zero(t, options.HTTPPort)
	require.Zero(t, options.HTTPSPort)

	embedded, err := StartEmbedded(t.Context(), EmbeddedOptions{Listen: "127.0.0.1:0", StoreDir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(embedded.Shutdown)
	require.Nil(t, embedded.server.ProfilerAddr())
	require.Nil(t, embedded.server.MonitorAddr())

	conn, err := nats.Connect(embedded.ClientURL())
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	for _, request := range []string{"PROFILEZ", "VARZ"} {
		_, err = conn.Request("$SYS.REQ.SERVER."+embedded.server.ID()+"."+request, []byte(`{"name":"heap"}`), 30*time.Second)
		require.ErrorIs(t, err, nats.ErrNoResponders, request)
	}
}
