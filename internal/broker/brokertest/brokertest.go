// Package brokertest starts real NATS servers with JetStream inside a test. It must never be imported outside tests.
package brokertest

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
)

const (
	// reach bounds every wait in here. A server takes milliseconds; only a stuck one takes this long.
	reach = 30 * time.Second
	// These claim no disk and no memory: they only make room for the limits of the default topology.
	maxStore  = 1 << 40
	maxMemory = 1 << 40
)

// Server is one server with its own store, and a connection to it. It ends with its test.
type Server struct {
	// Conn is a connection made as the worker makes its own.
	Conn *nats.Conn
	// JS is JetStream on Conn.
	JS jetstream.JetStream
	// Topology is what New gave the server. Start only chose it.
	Topology broker.Topology

	mu       sync.Mutex
	embedded *broker.Embedded
	options  broker.EmbeddedOptions
}

// Option changes how a server is started.
type Option func(*Server)

// Listening makes the server take connections on a free port of 127.0.0.1 too, for proxies and other processes.
func Listening() Option {
	return func(s *Server) { s.options.Listen = "127.0.0.1:0" }
}

// SyncAlways makes the server write each message to the disk before it confirms it.
func SyncAlways() Option {
	return func(s *Server) { s.options.SyncAlways = true }
}

// WithTopology changes the topology, which is the default one otherwise.
func WithTopology(change func(*broker.Topology)) Option {
	return func(s *Server) { change(&s.Topology) }
}

// Start starts a server that holds nothing yet.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{
		Topology: broker.DefaultTopology(),
		options:  broker.EmbeddedOptions{StoreDir: t.TempDir(), MaxStore: maxStore, MaxMemory: maxMemory},
	}
	for _, option := range options {
		option(s)
	}
	s.start(t)
	t.Cleanup(func() { s.Embedded().Shutdown() })
	s.Conn = s.Connect(t)
	js, err := jetstream.New(s.Conn)
	require.NoError(t, err)
	s.JS = js
	return s
}

// New starts a server and gives it the topology.
func New(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := Start(t, options...)
	s.Apply(t)
	return s
}

// Apply gives the server its topology, also after a test changed either.
func (s *Server) Apply(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), reach)
	defer cancel()
	plan, err := broker.MakePlan(ctx, s.JS, s.Topology)
	require.NoError(t, err)
	require.NoError(t, broker.Apply(ctx, s.JS, plan, nil))
}

// Connect makes a further connection, which ends with the test.
func (s *Server) Connect(t testing.TB, changes ...func(*broker.Options)) *nats.Conn {
	t.Helper()
	options := broker.Options{InProcess: s, Name: t.Name()}
	for _, change := range changes {
		change(&options)
	}
	ctx, cancel := context.WithTimeout(context.Background(), reach)
	defer cancel()
	nc, err := broker.Connect(ctx, options)
	require.NoError(t, err)
	t.Cleanup(func() { closeAndWait(nc) })
	return nc
}

// Stop stops the server as an orderly shutdown does. Its connections wait for Resume.
func (s *Server) Stop() { s.Embedded().Shutdown() }

// Resume starts the server again on the same store and, if it listens, on the same port.
func (s *Server) Resume(t testing.TB) {
	t.Helper()
	s.start(t)
}

// Reconnected waits until Conn works again after Resume. The connection itself says that it is connected for as long as it has not noticed
// that it is not, so something is sent to and fro.
func (s *Server) Reconnected(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool { return s.Conn.FlushTimeout(time.Second) == nil }, reach, time.Millisecond)
}

// Embedded returns the server that runs now.
func (s *Server) Embedded() *broker.Embedded {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.embedded
}

// InProcessConn connects to the server that runs now, so that connections find it again after a restart.
func (s *Server) InProcessConn() (net.Conn, error) { return s.Embedded().InProcessConn() }

func (s *Server) start(t testing.TB) {
	t.Helper()
	embedded, err := broker.StartEmbedded(context.Background(), s.options)
	require.NoError(t, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.embedded = embedded
	if s.options.Listen != "" {
		s.options.Listen = embedded.ClientURL()[len("nats://"):]
	}
}

// closeAndWait closes a connection and waits until its goroutines have seen it, so that a test leaves none behind.
func closeAndWait(nc *nats.Conn) {
	closed := nc.StatusChanged(nats.CLOSED)
	defer nc.RemoveStatusListener(closed)
	if nc.IsClosed() {
		return
	}
	nc.Close()
	select {
	case <-closed:
	case <-time.After(reach):
	}
}
