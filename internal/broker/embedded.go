package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"discountquery.example/worker/internal/fault"
)

// DefaultListen is where an embedded server listens unless told otherwise: reachable from this machine only.
const DefaultListen = "127.0.0.1:4222"

// maxPayload is the largest message the embedded server takes, in bytes. It is the NATS default.
const maxPayload = 1 * mib

// EmbeddedOptions says how to run the embedded server.
type EmbeddedOptions struct {
	// Listen is the address for clients of other processes, "" for none. Port 0 takes any free one.
	Listen string
	// AllowRemote lets Listen be reachable from other machines. The embedded server has no users: whoever reaches it may do all.
	AllowRemote bool
	// StoreDir is the directory for the streams. It is made if it is not there, for this user only.
	StoreDir string
	// SyncAlways makes every message reach the disk before it is confirmed. Otherwise a power failure, though no crash of
	// the process, can lose the last two minutes.
	SyncAlways bool
	// MaxStore bounds the bytes on disk, and so the sum of the streams' limits. 0 means three quarters of what is free.
	MaxStore int64
	// MaxMemory bounds the bytes of streams in memory, of which the worker has none. 0 means three quarters of the machine's.
	MaxMemory int64
	// ServerName is the server's name in its lists, "worker-embedded" if empty.
	ServerName string
	// Logf, if not nil, is told what the server logs. The level is "info", "warn", "error" or "fatal"; none ends the process.
	Logf func(level, text string)
}

// Embedded is a NATS server in this process.
type Embedded struct {
	server *server.Server
	lock   *os.File
}

// StartEmbedded starts a server with JetStream and returns once it takes connections. A large store takes a while to read, and
// ctx can't interrupt that. The server leaves the process's signals alone.
func StartEmbedded(ctx context.Context, o EmbeddedOptions) (*Embedded, error) {
	const op = "start embedded server"
	options, err := o.build()
	if err != nil {
		return nil, err
	}
	lock, err := lockStore(o.StoreDir)
	if err != nil {
		return nil, err
	}
	if err := probe(ctx, o.Listen); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	srv, err := server.NewServer(options)
	if err != nil {
		return nil, errors.Join(problem(op, fault.BrokerRefused, err, "the embedded server refused its options"), lock.Close())
	}
	log := &serverLog{logf: o.Logf}
	srv.SetLoggerV2(log, false, false, false)
	e := &Embedded{server: srv, lock: lock}
	srv.Start()
	if failed := log.failed.Load(); failed || !srv.ReadyForConnections(readyTimeout) {
		e.Shutdown()
		return nil, problem(op, fault.BrokerUnreachable, nil, "the embedded server did not start with the store %s: its log says why", o.StoreDir)
	}
	if err := ctx.Err(); err != nil {
		e.Shutdown()
		return nil, problem(op, fault.BrokerUnreachable, err, "stopped while the embedded server started")
	}
	return e, nil
}

// readyTimeout bounds the wait for the listener, which is there once Start has returned.
const readyTimeout = 10 * time.Second

func (o EmbeddedOptions) build() (*server.Options, error) {
	if o.StoreDir == "" {
		return nil, problem("start embedded server", fault.BrokerRefused, nil, "the embedded server needs a directory for its store: set data_dir")
	}
	options := &server.Options{
		ServerName: o.ServerName, JetStream: true, StoreDir: o.StoreDir, SyncAlways: o.SyncAlways,
		JetStreamMaxStore: o.MaxStore, JetStreamMaxMemory: o.MaxMemory,
		MaxPayload: maxPayload, NoSigs: true, DontListen: o.Listen == "",
	}
	if o.ServerName == "" {
		options.ServerName = "worker-embedded"
	}
	if o.Listen == "" {
		return options, nil
	}
	host, port, err := o.address()
	if err != nil {
		return nil, err
	}
	options.Host, options.Port = host, port
	if port == 0 {
		options.Port = server.RANDOM_PORT
	}
	return options, nil
}

func (o EmbeddedOptions) address() (host string, port int, err error) {
	host, portText, err := net.SplitHostPort(o.Listen)
	if err == nil {
		port, err = strconv.Atoi(portText)
	}
	if err != nil || port < 0 || port > 65535 {
		return "", 0, problem("start embedded server", fault.BrokerRefused, err, "the listen address %q is not of the form 127.0.0.1:4222", o.Listen)
	}
	if !o.AllowRemote && !isLoopback(host) {
		return "", 0, problem("start embedded server", fault.BrokerRefused, nil,
			"the listen address %s can be reached from other machines, and the embedded server has no users: "+
				"listen on 127.0.0.1, or run a NATS server of its own", o.Listen)
	}
	return host, port, nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// probe tries the address before the server does, because the server tells a taken address to nobody but its log.
func probe(ctx context.Context, listen string) error {
	if listen == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	switch {
	case err == nil:
		return listener.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		return problem("start embedded server", fault.BrokerRefused, errors.Join(ErrAddressInUse, err),
			"another program listens on %s already: stop it, or set embedded.listen to another address (or to none)", listen)
	default:
		return problem("start embedded server", fault.BrokerRefused, err, "can't listen on %s: set embedded.listen to an address of this machine", listen)
	}
}

// ClientURL returns the URL for clients of other processes, or "" if the server does not listen.
func (e *Embedded) ClientURL() string {
	if addr, ok := e.server.Addr().(*net.TCPAddr); ok {
		return "nats://" + addr.String()
	}
	return ""
}

// InProcessConn returns a connection to the server that needs no network. It makes an *Embedded fit for Options.InProcess.
func (e *Embedded) InProcessConn() (net.Conn, error) {
	conn, err := e.server.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("connect in process: %w", err)
	}
	return conn, nil
}

// Shutdown stops the server and returns once everything is written and the store is free for another process. It may be called
// more than once.
func (e *Embedded) Shutdown() {
	e.server.Shutdown()
	e.server.WaitForShutdown()
	// The lock goes with the file. A second close fails and changes nothing.
	_ = e.lock.Close()
}

// serverLog hands the server's log to a callback. It implements the server's Logger.
type serverLog struct {
	logf   func(level, text string)
	failed atomic.Bool
}

func (l *serverLog) sayf(level, format string, args ...any) {
	if l.logf != nil {
		l.logf(level, fmt.Sprintf(format, args...))
	}
}

// Noticef implements server.Logger.
func (l *serverLog) Noticef(format string, args ...any) { l.sayf("info", format, args...) }

// Warnf implements server.Logger.
func (l *serverLog) Warnf(format string, args ...any) { l.sayf("warn", format, args...) }

// Errorf implements server.Logger.
func (l *serverLog) Errorf(format string, args ...any) { l.sayf("error", format, args...) }

// Fatalf implements server.Logger. The server does not go on after it, but leaves it to the logger to end the process.
func (l *serverLog) Fatalf(format string, args ...any) {
	l.failed.Store(true)
	l.sayf("fatal", format, args...)
}

// Debugf implements server.Logger. The server's debug log is off.
func (l *serverLog) Debugf(string, ...any) {}

// Tracef implements server.Logger. The server's trace shows messages, so it is never on.
func (l *serverLog) Tracef(string, ...any) {}
