package broker_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
)

func startEmbedded(t *testing.T, options broker.EmbeddedOptions) *broker.Embedded {
	t.Helper()
	embedded, err := broker.StartEmbedded(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(embedded.Shutdown)
	return embedded
}

func TestRestartKeepsMessages(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]brokertest.Option{"as usual": nil, "always synced": {brokertest.SyncAlways()}, "listening": {brokertest.Listening()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := brokertest.New(t, options...)
			publish(t, s, "discount.query.easypay.bulk.shop", "kept")
			url := s.Embedded().ClientURL()
			s.Stop()
			s.Resume(t)
			require.Equal(t, url, s.Embedded().ClientURL())
			s.Reconnected(t)
			require.True(t, plan(t, s).Done())
			consumer, err := s.JS.Consumer(t.Context(), s.Topology.Names().Queries(), "easypay-bulk")
			require.NoError(t, err)
			msg, err := consumer.Next()
			require.NoError(t, err)
			require.Equal(t, "kept", string(msg.Data()))
		})
	}
}

func TestStoreHasOneServer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "store")
	first := startEmbedded(t, broker.EmbeddedOptions{StoreDir: dir})
	_, err := broker.StartEmbedded(t.Context(), broker.EmbeddedOptions{StoreDir: dir})
	require.ErrorIs(t, err, broker.ErrStoreInUse)
	require.ErrorContains(t, err, dir)
	require.ErrorContains(t, err, "data_dir")
	require.ErrorContains(t, err, "process ")
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))

	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), "nobody else reads the store")

	first.Shutdown()
	first.Shutdown()
	startEmbedded(t, broker.EmbeddedOptions{StoreDir: dir})
}

// TestHoldStore is no test of its own: TestKilledServerFreesItsStore runs it in another process.
func TestHoldStore(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("BROKER_HOLD_STORE")
	if dir == "" {
		return
	}
	startEmbedded(t, broker.EmbeddedOptions{StoreDir: dir})
	_, err := os.Stdout.WriteString("held\n")
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
}

func TestKilledServerFreesItsStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHoldStore$")
	other.Env = append(os.Environ(), "BROKER_HOLD_STORE="+dir)
	_, err := other.StdinPipe()
	require.NoError(t, err)
	out, err := other.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, other.Start())
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	require.Equal(t, "held", lines.Text())

	_, err = broker.StartEmbedded(t.Context(), broker.EmbeddedOptions{StoreDir: dir})
	require.ErrorIs(t, err, broker.ErrStoreInUse)
	require.NoError(t, other.Process.Kill())
	require.Error(t, other.Wait())
	startEmbedded(t, broker.EmbeddedOptions{StoreDir: dir})
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	dir := t.TempDir()
	_, err = broker.StartEmbedded(t.Context(), broker.EmbeddedOptions{StoreDir: dir, Listen: taken.Addr().String()})
	require.ErrorIs(t, err, broker.ErrAddressInUse)
	require.ErrorContains(t, err, taken.Addr().String())
	require.ErrorContains(t, err, "embedded.listen")
	startEmbedded(t, broker.EmbeddedOptions{StoreDir: dir})
}

func TestEmbeddedOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, "jetstream"), nil, 0o600))
	for name, tc := range map[string]struct {
		options broker.EmbeddedOptions
		says    string
	}{
		"no store":             {broker.EmbeddedOptions{}, "set data_dir"},
		"store is a file":      {broker.EmbeddedOptions{StoreDir: file}, "can't make the directory"},
		"store is no store":    {broker.EmbeddedOptions{StoreDir: broken}, "its log says why"},
		"no port":              {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "127.0.0.1"}, "is not of the form"},
		"port is a word":       {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "127.0.0.1:nats"}, "is not of the form"},
		"port too large":       {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "127.0.0.1:70000"}, "is not of the form"},
		"all addresses":        {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: ":4222"}, "can be reached from other machines"},
		"another address":      {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "192.0.2.1:4222"}, "can be reached from other machines"},
		"not this machine's":   {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "192.0.2.1:4222", AllowRemote: true}, "can't listen on"},
		"a name, not loopback": {broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "nats.example:4222"}, "can be reached from other machines"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var fatal []string
			tc.options.Logf = func(level, text string) {
				mu.Lock()
				defer mu.Unlock()
				if level == "fatal" {
					fatal = append(fatal, text)
				}
			}
			began := time.Now()
			_, err := broker.StartEmbedded(t.Context(), tc.options)
			require.ErrorContains(t, err, tc.says)
			require.Less(t, time.Since(began), 8*time.Second, "it must not wait for a server that has given up")
			require.NotEqual(t, fault.Unclassified, fault.CodeOf(err))
			mu.Lock()
			defer mu.Unlock()
			require.Equal(t, strings.Contains(tc.says, "log"), len(fatal) > 0, fatal)
		})
	}
}

func TestStoppedBeforeItStarts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	_, err := broker.StartEmbedded(ctx, broker.EmbeddedOptions{StoreDir: dir})
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	startEmbedded(t, broker.EmbeddedOptions{StoreDir: dir})
}

func TestEmbeddedListensOnlyWhereTold(t *testing.T) {
	t.Parallel()
	quiet := startEmbedded(t, broker.EmbeddedOptions{StoreDir: t.TempDir()})
	require.Empty(t, quiet.ClientURL())

	loud := startEmbedded(t, broker.EmbeddedOptions{StoreDir: t.TempDir(), Listen: "localhost:0", ServerName: "mine"})
	nc, err := broker.Connect(t.Context(), broker.Options{URL: loud.ClientURL()})
	require.NoError(t, err)
	defer nc.Close()
	require.NoError(t, broker.CheckServer(nc))
	require.Equal(t, "mine", nc.ConnectedServerName())
	require.EqualValues(t, 1<<20, nc.MaxPayload())
	loud.Shutdown()
	require.Empty(t, loud.ClientURL())
	_, err = loud.InProcessConn()
	require.Error(t, err)
}

func TestEmbeddedTellsItsLog(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	lines := map[string][]string{}
	embedded, err := broker.StartEmbedded(t.Context(), broker.EmbeddedOptions{StoreDir: t.TempDir(), Logf: func(level, text string) {
		mu.Lock()
		defer mu.Unlock()
		lines[level] = append(lines[level], text)
	}})
	require.NoError(t, err)
	nc, err := broker.Connect(t.Context(), broker.Options{InProcess: embedded})
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "nobody.here", []byte("6200000000000005"), jetstream.WithRetryAttempts(0))
	require.Error(t, err)
	nc.Close()
	embedded.Shutdown()
	mu.Lock()
	defer mu.Unlock()
	require.Contains(t, lines["info"], "Server is ready")
	for level, texts := range lines {
		require.NotContains(t, strings.Join(texts, "\n"), "6200000000000005", level)
	}
}

// BenchmarkEmbedded measures the way from nothing to a server that takes connections, and its end.
func BenchmarkEmbedded(b *testing.B) {
	dir := b.TempDir()
	var ready time.Duration
	for b.Loop() {
		began := time.Now()
		embedded, err := broker.StartEmbedded(b.Context(), broker.EmbeddedOptions{StoreDir: dir})
		require.NoError(b, err)
		ready += time.Since(began)
		embedded.Shutdown()
	}
	b.ReportMetric(float64(ready.Microseconds())/1000/float64(b.N), "ready-ms/op")
}

// BenchmarkApply measures the way from an empty server to the default topology.
func BenchmarkApply(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s := brokertest.Start(b)
		b.StartTimer()
		s.Apply(b)
	}
}
