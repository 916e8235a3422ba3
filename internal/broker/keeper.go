package broker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// keeper stays with one connection for as long as it lives: it tells what happens to it, and before each attempt to get it back it renews
// what the client takes once and for all.
type keeper struct {
	Options

	// conn is nil until Connect has it.
	conn atomic.Pointer[nats.Conn]
	// telling makes events come one at a time.
	telling sync.Mutex
}

// hooks returns the options by which the client calls the keeper.
func (k *keeper) hooks() []nats.Option {
	on := func(kind EventKind) nats.ConnHandler {
		return func(nc *nats.Conn) { k.tell(nc, Event{Kind: kind}) }
	}
	return []nats.Option{
		nats.DisconnectErrHandler(func(nc *nats.Conn, _ error) { k.tell(nc, Event{Kind: EventDisconnected}) }),
		nats.ReconnectHandler(on(EventReconnected)),
		nats.ReconnectErrHandler(func(nc *nats.Conn, _ error) { k.tell(nc, Event{Kind: EventReconnectFailed}) }),
		nats.ReconnectToServer(k.beforeAttempt),
		nats.ClosedHandler(on(EventClosed)),
		nats.LameDuckModeHandler(on(EventLameDuck)),
		nats.ErrorHandler(k.onError),
	}
}

// tell tells an event.
func (k *keeper) tell(nc *nats.Conn, event Event) {
	k.telling.Lock()
	defer k.telling.Unlock()
	k.pass(nc, event)
}

// pass hands an event to whoever listens. Nobody may be told anything else meanwhile.
func (k *keeper) pass(nc *nats.Conn, event Event) {
	// A connection in process has a URL too, but nobody is there.
	if url := nc.ConnectedUrl(); url != "" && k.InProcess == nil {
		event.Server = RedactURL(url)
	}
	// Without a handler the client would write to the standard error output, so there always is one.
	if k.OnEvent != nil {
		k.OnEvent(event)
	}
}

// onError tells an error that the client met outside a call. What made an attempt to connect fail is told by beforeAttempt.
func (k *keeper) onError(nc *nats.Conn, _ *nats.Subscription, err error) {
	event := errorEvent(err)
	if event.Kind == EventError && !nc.IsConnected() {
		return
	}
	k.tell(nc, event)
}

// beforeAttempt is called before each attempt to get the connection back, and leaves the choice of the server to the client. The client
// holds its lock meanwhile: it must not be asked anything, and its options may be changed, which is a race anywhere else.
func (k *keeper) beforeAttempt([]nats.Server, nats.ServerInfo) (*nats.Server, time.Duration) {
	nc := k.conn.Load()
	if nc == nil {
		return nil, 0 // It was lost at once. The next attempt has it.
	}
	if k.NKeyFile != "" {
		// The client reads the seed anew each time it signs, but the public key that goes with it only once.
		if user, err := k.nkey(); err == nil {
			nc.Opts.Nkey = user.Nkey
		}
	}
	go k.tellFailure(nc)
	return nil, 0
}

// tellFailure tells why the last attempt failed, if the client has not: it is silent about handshakes and about files. Whoever knows that
// the connection is back is told nothing more of what went before.
func (k *keeper) tellFailure(nc *nats.Conn) {
	kind := k.failure(nc.LastError())
	if kind == "" {
		return
	}
	k.telling.Lock()
	defer k.telling.Unlock()
	if status := nc.Status(); status == nats.RECONNECTING || status == nats.CONNECTING {
		k.pass(nc, Event{Kind: kind})
	}
}

// failure says what made an attempt fail, "" if nothing did or the client has told it.
func (k *keeper) failure(err error) EventKind {
	switch {
	case err == nil, refusesCredentials(err):
		return ""
	case k.tryFiles() != nil:
		return EventFilesUnusable
	case failsTLS(err), errors.Is(err, nats.ErrSecureConnWanted):
		return EventTLSFailed
	default:
		return EventReconnectFailed
	}
}

// tryFiles reads all files that a connection needs.
func (k *keeper) tryFiles() error {
	if _, err := k.user(); err != nil {
		return err
	}
	_, err := k.TLS.build()
	return err
}
