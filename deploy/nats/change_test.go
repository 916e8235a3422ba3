package deploy

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
)

// TestNoImportCanGo takes each import away from the accounts that have some: then their user can't do its work.
func TestNoImportCanGo(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"publisher shop", "analytics"} {
		r := roleOf(name)
		text, err := os.ReadFile(r.file)
		require.NoError(t, err)
		found := 0
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "account: DISCOUNT") {
				continue
			}
			found++
			t.Run(name+" "+strings.Fields(line)[5], func(t *testing.T) {
				t.Parallel()
				dir := copyWith(t, func(_, text string) string { return strings.ReplaceAll(text, line, "") })
				s := newSite(t)
				store := s.options.StoreDir
				s.options, err = server.ProcessConfigFile(filepath.Join(dir, "single.conf"))
				require.NoError(t, err)
				s.options.StoreDir, s.options.NoSigs, s.options.FeatureFlags = store, true, map[string]bool{"js_ack_fc_v2": isNew(line)}
				roots := s.roots(t, s.files())
				s.quick()
				s.start(t)
				around := roots.connect(t, s)
				r.lays(t, s, around.root)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				require.Error(t, r.does(ctx, s, s.base(r), around))
				require.Empty(t, s.log.deniedTo(s.base(r)))
			})
		}
		require.Greater(t, found, 3)
	}
}

// reload makes a running server read changed files, as a signal does.
func (s *site) reload(t *testing.T, change func(name, text string) string) error {
	t.Helper()
	options, err := server.ProcessConfigFile(filepath.Join(copyWith(t, change), "single.conf"))
	require.NoError(t, err)
	options.StoreDir, options.NoSigs, options.Port = s.options.StoreDir, true, s.Addr().(*net.TCPAddr).Port
	options.ConfigFile = s.options.ConfigFile
	return s.ReloadOptions(options)
}

// TestKeyIsChangedWithoutAnOutage gives setup a second key, and then takes the first away, while both are connected.
func TestKeyIsChangedWithoutAnOutage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(t)
	old := s.base(roleOf("setup"))
	next := old
	var err error
	next.public, next.seed, err = newKey(t.TempDir(), "next")
	require.NoError(t, err)
	events := make(chan broker.Event, 100)
	stays, err := app.OpenBroker(t.Context(), s.config(old), app.BrokerOptions{OnEvent: func(e broker.Event) { events <- e }})
	require.NoError(t, err)
	defer stays.Close(context.Background())
	_, err = app.OpenBroker(t.Context(), s.config(next), app.BrokerOptions{})
	require.Error(t, err, "nobody knows the new key yet")

	line := `{ nkey: $NATS_SETUP, allowed_connection_types: ["STANDARD"], permissions { include "roles/setup.conf" } }`
	second := strings.ReplaceAll(line, "$NATS_SETUP", next.public)
	require.NoError(t, s.reload(t, func(_, text string) string { return strings.ReplaceAll(text, line, line+"\n"+second) }))
	came := s.connect(t, next)
	require.NoError(t, stays.Conn.Flush())
	require.NoError(t, came.Conn.Flush())
	require.Empty(t, events, "the old connection was not touched")

	require.NoError(t, s.reload(t, func(_, text string) string { return strings.ReplaceAll(text, line, second) }))
	require.NoError(t, came.Conn.Flush())
	require.Eventually(t, func() bool { return !stays.Conn.IsConnected() }, patience, time.Millisecond)
}
