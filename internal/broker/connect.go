package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"discountquery.example/worker/internal/fault"
)

// Options says how to connect.
type Options struct {
	// URL is the server's URL, or several with commas between them. InProcess goes before it.
	URL string
	// InProcess is a server in the same process, such as an *Embedded.
	InProcess nats.InProcessConnProvider
	// Name is the connection's name in the server's lists.
	Name string
	// CredentialsFile holds a user's JWT and seed. It is read anew at each connect and reconnect.
	CredentialsFile string
	// NKeyFile holds a user's NKey seed. It is read anew at each connect and reconnect.
	NKeyFile string
	// User goes with PasswordFile, which holds the password alone and is read anew at each connect and reconnect.
	User         string
	PasswordFile string
	// TLS says how to secure the connection.
	TLS TLS
	// InboxPrefix starts the subjects on which answers come back. Users whose inboxes start alike can read each other's messages.
	InboxPrefix string
	// ConnectTimeout bounds each attempt to connect to one server, 5 seconds if it is zero.
	ConnectTimeout time.Duration
	// OnEvent, if not nil, is told what happens to the connection, one event at a time. It must return soon.
	OnEvent func(Event)
}

// TLS says how to secure a connection. Its files are read anew at each connect and reconnect.
type TLS struct {
	// CAFile holds the certificates that may have signed the server's, in PEM. "" means those of the system.
	CAFile string
	// CertFile and KeyFile hold the client's own certificate and key, in PEM.
	CertFile string
	KeyFile  string
	// HandshakeFirst makes the handshake come before the server says anything. The server must be set so too.
	HandshakeFirst bool
}

// How the connection behaves. A lost connection is noticed within 15 seconds.
const (
	defaultConnectTimeout = 5 * time.Second
	reconnectWait         = 250 * time.Millisecond
	reconnectJitter       = 500 * time.Millisecond
	pingInterval          = 5 * time.Second
	maxPingsOutstanding   = 2
)

// Connect connects to a server and returns once it is connected. A connection that is lost later is got back for as long as it
// takes; until then every publish fails at once, because one that was kept and sent later would be a second one by then.
// The error is a *fault.Error of BrokerUnreachable or BrokerRefused with a text that says what to do.
func Connect(ctx context.Context, o Options) (*nats.Conn, error) {
	options, err := o.build()
	if err != nil {
		return nil, err
	}
	kept := &keeper{Options: o}
	options = append(options, kept.hooks()...)
	if err := ctx.Err(); err != nil {
		return nil, problem("connect", fault.BrokerUnreachable, err, "connect to %s: stopped before it began", o.target())
	}
	type outcome struct {
		nc  *nats.Conn
		err error
	}
	done := make(chan outcome, 1)
	go func() {
		nc, err := nats.Connect(o.URL, options...)
		kept.conn.Store(nc)
		done <- outcome{nc, err}
	}()
	select {
	case got := <-done:
		if got.err != nil {
			return nil, o.explain(got.err)
		}
		return got.nc, nil
	case <-ctx.Done():
		// The client can't be interrupted, but its attempts end by themselves.
		go func() {
			if late := <-done; late.err == nil {
				late.nc.Close()
			}
		}()
		return nil, problem("connect", fault.BrokerUnreachable, ctx.Err(), "connect to %s: stopped before it answered", o.target())
	}
}

func (o Options) build() ([]nats.Option, error) {
	timeout := o.ConnectTimeout
	if timeout <= 0 {
		timeout = defaultConnectTimeout
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(timeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(reconnectJitter, reconnectJitter),
		nats.ReconnectBufSize(-1),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(maxPingsOutstanding),
		nats.PermissionErrOnSubscribe(true),
		// Without this the client gives up for good when the same refusal comes twice, as it does while credentials are swapped.
		nats.IgnoreAuthErrorAbort(),
	}
	if o.InboxPrefix != "" {
		options = append(options, nats.CustomInboxPrefix(o.InboxPrefix))
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(o.InProcess))
	}
	for _, build := range []func() ([]nats.Option, error){o.user, o.TLS.build} {
		more, err := build()
		if err != nil {
			return nil, err
		}
		options = append(options, more...)
	}
	return options, nil
}

// user returns the options for who we are. A file is tried once before anything connects, so that a wrong one is told by its name.
func (o Options) user() ([]nats.Option, error) {
	wrong := func(err error, what, path string) error {
		return problem("connect", fault.BrokerRefused, err,
			"the %s %s can't be used: check that it is there, that we may read it and what it holds", what, path)
	}
	switch {
	case o.CredentialsFile != "":
		credentials := nats.UserCredentials(o.CredentialsFile)
		if err := tryCredentials(credentials); err != nil {
			return nil, wrong(err, "credentials file", o.CredentialsFile)
		}
		return []nats.Option{credentials}, nil
	case o.NKeyFile != "":
		user, err := o.nkey()
		if err != nil {
			return nil, wrong(err, "NKey file", o.NKeyFile)
		}
		return []nats.Option{nats.Nkey(user.Nkey, user.SignatureCB)}, nil
	case o.User != "":
		if _, err := o.readPassword(); err != nil {
			return nil, wrong(err, "password file", o.PasswordFile)
		}
		return []nats.Option{nats.UserInfoHandler(o.userInfo)}, nil
	default:
		return nil, nil
	}
}

func tryCredentials(credentials nats.Option) error {
	var scratch nats.Options
	if err := credentials(&scratch); err != nil {
		return err
	}
	if _, err := scratch.UserJWT(); err != nil {
		return err
	}
	_, err := scratch.SignatureCB([]byte("nonce"))
	return err
}

// nkey returns options that hold the public key of the NKey file, and sign with the seed that is there by then.
func (o Options) nkey() (nats.Options, error) {
	var scratch nats.Options
	option, err := nats.NkeyOptionFromSeed(o.NKeyFile)
	if err == nil {
		err = option(&scratch)
	}
	return scratch, err
}

func (o Options) readPassword() (string, error) {
	if o.PasswordFile == "" {
		return "", nil
	}
	content, err := os.ReadFile(o.PasswordFile)
	return strings.TrimRight(string(content), "\r\n"), err
}

// userInfo reads the password for one attempt. If its file is gone for a moment the password is empty, which the server refuses.
func (o Options) userInfo() (user, password string) {
	password, err := o.readPassword()
	if err != nil {
		return o.User, ""
	}
	return o.User, password
}

func (t TLS) build() ([]nats.Option, error) {
	var options []nats.Option
	if t.CAFile != "" {
		options = append(options, nats.RootCAs(t.CAFile))
	}
	if t.CertFile != "" || t.KeyFile != "" {
		options = append(options, nats.ClientCert(t.CertFile, t.KeyFile))
	}
	for _, option := range options {
		if err := option(&nats.Options{}); err != nil {
			return nil, problem("connect", fault.BrokerRefused, err,
				"the TLS files can't be used (CA %q, certificate %q, key %q): "+
					"check that they are there, that we may read them and that key and certificate belong together",
				t.CAFile, t.CertFile, t.KeyFile)
		}
	}
	if t.HandshakeFirst {
		options = append(options, nats.TLSHandshakeFirst())
	}
	return options, nil
}

func (o Options) target() string {
	if o.InProcess != nil {
		return "the embedded server"
	}
	return RedactURL(o.URL)
}

// explain turns an error of the client into one that says what to do. The client's own text can hold the URL: it is not used.
func (o Options) explain(err error) error {
	const op = "connect"
	dns := (*net.DNSError)(nil)
	switch {
	case refusesCredentials(err):
		return problem(op, fault.BrokerRefused, err, "%s refused our credentials: check the user, or that its credentials have not expired", o.target())
	case errors.Is(err, nats.ErrNkeysNotSupported):
		return problem(op, fault.BrokerRefused, err, "%s knows no NKeys or credentials files: use another kind of user", o.target())
	case errors.Is(err, nats.ErrMaxConnectionsExceeded), errors.Is(err, nats.ErrMaxAccountConnectionsExceeded):
		return problem(op, fault.BrokerRefused, err, "%s takes no more connections: raise its limit or stop some clients", o.target())
	case errors.Is(err, nats.ErrSecureConnWanted):
		return problem(op, fault.BrokerRefused, err, "%s offers no TLS, but TLS is configured here", o.target())
	case failsTLS(err):
		return problem(op, fault.BrokerRefused, err,
			"the TLS handshake with %s failed: check the CA file, the client certificate and the host name", o.target())
	case errors.As(err, &dns):
		return problem(op, fault.BrokerUnreachable, err, "the host name of %s can't be resolved: check the URL and the DNS", o.target())
	default:
		return problem(op, fault.BrokerUnreachable, err,
			"no NATS server answers at %s: check the URL, that the server runs and takes connections, and that nothing blocks the way", o.target())
	}
}

// failsTLS tells that a handshake failed, on our side or, as far as the other side says so, on the other.
func failsTLS(err error) bool {
	if errors.Is(err, nats.ErrTLS) || errors.Is(err, nats.ErrSecureConnRequired) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// The standard library marks an alert of the other side so.
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}

// Drain ends a connection in order: it stops reading, lets what was read be handled, sends what is unsent, and returns once the
// connection is closed. The client's own drain returns at once, and what was unsent then is lost if the process ends.
// If ctx ends first the connection is closed all the same and the error says so.
func Drain(ctx context.Context, nc *nats.Conn) error {
	closed := nc.StatusChanged(nats.CLOSED)
	defer nc.RemoveStatusListener(closed)
	err := nc.Drain()
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return nil
	case err != nil:
		nc.Close()
		return problem("drain", fault.BrokerUnreachable, err, "the connection was lost before it was drained: acks that were not confirmed are void")
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		nc.Close()
		return problem("drain", fault.BrokerUnreachable, ctx.Err(),
			"the connection was not drained in time and was closed: acks that were not confirmed are void")
	}
}
