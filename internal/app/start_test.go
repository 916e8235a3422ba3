package app

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/config"
)

// TestFailedStartLeavesNothingBehind breaks each step once. What was started before it must be free again: the same site starts as soon
// as it is repaired, with its address and its store. The goroutines are counted at the end of all tests.
func TestFailedStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		breaks func(t *testing.T, s *site)
		says   string
	}{
		"log":            {func(_ *testing.T, s *site) { s.Log.Level = "loud" }, "start log: "},
		"admin address":  {func(t *testing.T, s *site) { s.Admin.Listen = taken(t) }, "change admin.listen"},
		"broker address": {func(t *testing.T, s *site) { s.Embedded.Listen = taken(t) }, "another program listens on"},
		"store":          {holdStore, "start broker: "},
		"nats.url":       {func(_ *testing.T, s *site) { s.NATS.URL = "nats://127.0.0.1:1" }, "no NATS server answers"},
		"no keys":        {func(t *testing.T, s *site) { s.Cards.KeysDir = t.TempDir() }, "worker keys new"},
		"signing key":    {func(_ *testing.T, s *site) { s.Providers.UnionPay.JWS.PrivateKeyFile = "nowhere.pem" }, "nowhere.pem"},
		"encryption key": {func(_ *testing.T, s *site) { s.Providers.UnionPay.Encryption.PublicKeyFile = "nowhere.pem" }, "nowhere.pem"},
		"response key": {func(_ *testing.T, s *site) {
			s.Providers.UnionPay.Response.KeyFiles = map[string]string{"1": "nowhere.pem"}
		}, "nowhere.pem"},
		"easypay TLS":   {func(_ *testing.T, s *site) { s.Providers.EasyPay.TLS.CAFile = "nowhere.pem" }, "easypay/default: read CA file"},
		"unionpay TLS":  {func(_ *testing.T, s *site) { s.Providers.UnionPay.TLS.CertFile = "nowhere.pem" }, "unionpay/default: read client certificate"},
		"easypay codes": {func(_ *testing.T, s *site) { s.Providers.EasyPay.Codes = map[string]string{"0000": "broken"} }, "easypay"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.Admin.Listen, s.Embedded.Listen = free(t), free(t)
			healthy := s.Config
			test.breaks(t, s)
			built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log})
			require.Nil(t, built)
			require.ErrorContains(t, err, test.says)
			require.NotContains(t, err.Error(), "\nstop ", "what was started stops without an error")

			if name == "store" {
				return // Its holder goes with the test.
			}
			repaired, err := New(t.Context(), Options{Config: healthy, Build: "test", Log: s.log})
			require.NoError(t, err)
			require.NoError(t, repaired.Close(t.Context()))
			require.NoError(t, repaired.Close(t.Context()), "a second time does nothing")
		})
	}
}

// taken returns an address that somebody listens on.
func taken(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// free returns an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// holdStore makes another server use the site's store.
func holdStore(t *testing.T, s *site) {
	t.Helper()
	holder, err := broker.StartEmbedded(t.Context(), broker.EmbeddedOptions{StoreDir: s.DataDir})
	require.NoError(t, err)
	t.Cleanup(holder.Shutdown)
}

func TestStartThatIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := New(ctx, Options{Config: s.Config, Log: s.log})
	require.ErrorIs(t, err, context.Canceled)
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err, "the store is free")
	require.NoError(t, built.Close(t.Context()))
}

func TestMissingTopologyIsNotMade(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.Start)
	_, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.ErrorContains(t, err, "run `worker setup --apply` with credentials that may create them")
	for _, name := range []string{"stream DISCOUNT_QUERIES", "stream DISCOUNT_RESULTS", "stream DISCOUNT_DEAD", "consumer easypay-interactive", "bucket discount_pace"} {
		require.ErrorContains(t, err, name)
	}
	streams := 0
	for range server.JS.StreamNames(t.Context()).Name() {
		streams++
	}
	require.Zero(t, streams, "the worker creates nothing on a broker that is not its own")

	server.Apply(t)
	require.NoError(t, server.JS.DeleteConsumer(t.Context(), "DISCOUNT_RETRIES", "unionpay-bulk"))
	_, err = New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.ErrorContains(t, err, "the broker lacks consumer unionpay-bulk:")

	server.Apply(t)
	s.Consumer.MaxAckPending = 77
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err, "what differs is somebody's choice")
	require.NoError(t, built.Close(t.Context()))
}

func TestSetup(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.on(t, brokertest.Start)
	setup, err := OpenSetup(t.Context(), s.Config)
	require.NoError(t, err)
	defer setup.Close(t.Context())
	plan, err := setup.Plan(t.Context())
	require.NoError(t, err)
	require.False(t, plan.Done())
	var steps []string
	require.NoError(t, setup.Apply(t.Context(), plan, func(step string) { steps = append(steps, step) }))
	require.Len(t, steps, 6+8+3, "streams, consumers and buckets")
	for _, step := range steps {
		require.True(t, strings.HasPrefix(step, "create"), step)
		require.NotContains(t, step, "\n")
	}
	plan, err = setup.Plan(t.Context())
	require.NoError(t, err)
	require.True(t, plan.Done())
	steps = nil
	require.NoError(t, setup.Apply(t.Context(), plan, func(step string) { steps = append(steps, step) }))
	require.Empty(t, steps, "nothing to do is nothing to tell")

	s.NATS.URL = "nats://127.0.0.1:1"
	_, err = OpenSetup(t.Context(), s.Config)
	require.ErrorContains(t, err, "no NATS server answers")
}

// TestOthersReachTheEmbeddedServer opens a broker as check and setup do: without serving, at the address of the worker on this machine.
func TestOthersReachTheEmbeddedServer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Embedded.Listen = free(t)
	_, err := OpenBroker(t.Context(), s.Config, BrokerOptions{})
	require.ErrorContains(t, err, s.Embedded.Listen)
	serving, err := OpenBroker(t.Context(), s.Config, BrokerOptions{Serve: true})
	require.NoError(t, err)
	require.Equal(t, "nats://"+s.Embedded.Listen, serving.ClientURL())
	require.DirExists(t, filepath.Join(s.DataDir, "jetstream"))
	other, err := OpenBroker(t.Context(), s.Config, BrokerOptions{Name: "other"})
	require.NoError(t, err)
	require.Equal(t, "nats://"+s.Embedded.Listen, other.ClientURL())
	require.Equal(t, "other", other.Conn.Opts.Name)
	require.NoError(t, other.Close(t.Context()))
	require.NoError(t, serving.Close(t.Context()))
	_, err = os.Stat(s.DataDir)
	require.NoError(t, err)
}

func TestURLOfTheBrokerShowsNoPassword(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.New)
	s.NATS.URL = config.URL(strings.Replace(server.Embedded().ClientURL(), "nats://", "nats://user:secret@", 1))
	built, err := New(t.Context(), Options{Config: s.Config, Log: s.log})
	require.NoError(t, err)
	require.NotContains(t, built.ClientURL(), "secret")
	require.NoError(t, built.Close(t.Context()))
}
