package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
)

// guarded starts a server of its own kind: with users, with TLS, without JetStream.
func guarded(t *testing.T, change func(*server.Options)) *server.Server {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, JetStream: true, StoreDir: t.TempDir(),
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40}
	change(options)
	srv, err := server.NewServer(options)
	require.NoError(t, err)
	srv.Start()
	require.True(t, srv.ReadyForConnections(20*time.Second))
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	return srv
}

func connect(t *testing.T, options broker.Options) *nats.Conn {
	t.Helper()
	nc, err := broker.Connect(t.Context(), options)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// events returns a callback and a wait for the next event of a kind.
func events(t *testing.T) (func(broker.Event), func(broker.EventKind) broker.Event) {
	t.Helper()
	seen := make(chan broker.Event, 1000)
	return func(e broker.Event) { seen <- e }, func(kind broker.EventKind) broker.Event {
		t.Helper()
		deadline := time.After(20 * time.Second)
		for {
			select {
			case e := <-seen:
				if e.Kind == kind {
					return e
				}
			case <-deadline:
				require.FailNow(t, "no event "+string(kind))
			}
		}
	}
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

func refusedWith(t *testing.T, err error, code fault.Code, says ...string) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, code, fault.CodeOf(err))
	for _, text := range says {
		require.ErrorContains(t, err, text)
	}
	require.NotContains(t, err.Error(), "hunter2")
}

func TestConnectionIsSetForALongLife(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	nc := s.Connect(t, func(o *broker.Options) { o.Name, o.InboxPrefix = "worker-1", "_INBOX_wrk_1" })
	require.Equal(t, "worker-1", nc.Opts.Name)
	require.Equal(t, -1, nc.Opts.MaxReconnect)
	require.Equal(t, -1, nc.Opts.ReconnectBufSize)
	require.Equal(t, 5*time.Second, nc.Opts.PingInterval)
	require.Equal(t, 2, nc.Opts.MaxPingsOut)
	require.Positive(t, nc.Opts.ReconnectJitter)
	require.True(t, nc.Opts.PermissionErrOnSubscribe)
	require.True(t, nc.Opts.IgnoreAuthErrorAbort)
	require.True(t, strings.HasPrefix(nc.NewInbox(), "_INBOX_wrk_1."))
}

func TestNothingIsSentLater(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	onEvent, next := events(t)
	nc := s.Connect(t, func(o *broker.Options) { o.OnEvent = onEvent })
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	s.Stop()
	next(broker.EventDisconnected)
	began := time.Now()
	_, err = js.Publish(t.Context(), "discount.query.easypay.bulk.shop", []byte("ghost"))
	require.ErrorIs(t, err, nats.ErrReconnectBufExceeded)
	require.Less(t, time.Since(began), 3*time.Second, "at once, and not at the request's timeout")
	s.Resume(t)
	require.Empty(t, next(broker.EventReconnected).Server, "it is in this process")
	require.NoError(t, nc.Flush())
	s.Reconnected(t)
	require.Zero(t, stored(t, s, s.Topology.Names().Queries()))
	nc.Close()
	next(broker.EventClosed)
}

func TestEventsNameTheServerWithoutItsPassword(t *testing.T) {
	t.Parallel()
	srv := guarded(t, func(o *server.Options) {
		o.Username, o.Password, o.LameDuckDuration, o.LameDuckGracePeriod = "worker", "hunter2", 50*time.Millisecond, time.Millisecond
	})
	addr := srv.Addr().String()
	onEvent, next := events(t)
	connect(t, broker.Options{URL: "nats://worker:hunter2@" + addr, OnEvent: onEvent})
	srv.LameDuckShutdown()
	require.Equal(t, "nats://***@"+addr, next(broker.EventLameDuck).Server)
}

func TestDeniedSubjectsAreTold(t *testing.T) {
	t.Parallel()
	srv := guarded(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "worker", Password: "hunter2", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: []string{"ok.>"}}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX_w.>"}},
		}}}
	})
	onEvent, next := events(t)
	nc := connect(t, broker.Options{URL: srv.ClientURL(), User: "worker", PasswordFile: write(t, "pw", "hunter2\n"), InboxPrefix: "_INBOX_w", OnEvent: onEvent})
	require.NoError(t, nc.Publish("not.ok", nil))
	require.Equal(t, "not.ok", next(broker.EventPublishDenied).Subject)
	sub, err := nc.SubscribeSync("others.>")
	require.NoError(t, err)
	require.Equal(t, "others.>", next(broker.EventSubscribeDenied).Subject)
	_, err = sub.NextMsg(10 * time.Second)
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
}

func TestPasswordFileIsReadAgain(t *testing.T) {
	t.Parallel()
	options := func(password string) *server.Options {
		return &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, Username: "worker", Password: password}
	}
	first := options("hunter2-old")
	srv, err := server.NewServer(first)
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	require.True(t, srv.ReadyForConnections(20*time.Second))
	file := write(t, "pw", "hunter2-old")
	onEvent, next := events(t)
	connect(t, broker.Options{URL: srv.ClientURL(), User: "worker", PasswordFile: file, OnEvent: onEvent})

	changed := options("hunter2-new")
	changed.Port = srv.Addr().(*net.TCPAddr).Port
	require.NoError(t, srv.ReloadOptions(changed))
	next(broker.EventCredentialsRefused)
	next(broker.EventCredentialsRefused)
	require.NoError(t, os.WriteFile(file, []byte("hunter2-new\n"), 0o600))
	next(broker.EventReconnected)
}

func TestConnectRefusals(t *testing.T) {
	t.Parallel()
	locked := guarded(t, func(o *server.Options) { o.Username, o.Password = "worker", "hunter2" })
	open := guarded(t, func(*server.Options) {})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	seed, _ := userKey(t)
	ca, _ := authority(t)
	missing := filepath.Join(t.TempDir(), "missing")
	junk := write(t, "junk", "junk")
	for name, tc := range map[string]struct {
		options broker.Options
		code    fault.Code
		says    []string
	}{
		"nobody there":       {broker.Options{URL: "nats://u:hunter2@" + closed.Addr().String()}, fault.BrokerUnreachable, []string{"no NATS server answers", "***@" + closed.Addr().String()}},
		"silent":             {broker.Options{URL: "nats://" + silent.Addr().String(), ConnectTimeout: 50 * time.Millisecond}, fault.BrokerUnreachable, []string{"no NATS server answers"}},
		"no such host":       {broker.Options{URL: "nats://u:hunter2@host.invalid:4222"}, fault.BrokerUnreachable, []string{"can't be resolved", "***@host.invalid:4222"}},
		"not a URL":          {broker.Options{URL: "nats://u:hunter2%zz@x"}, fault.BrokerUnreachable, []string{"(unreadable)"}},
		"no user":            {broker.Options{URL: locked.ClientURL()}, fault.BrokerRefused, []string{"refused our credentials"}},
		"wrong password":     {broker.Options{URL: locked.ClientURL(), User: "worker", PasswordFile: write(t, "pw", "hunter2x")}, fault.BrokerRefused, []string{"refused our credentials"}},
		"unknown key":        {broker.Options{URL: locked.ClientURL(), NKeyFile: write(t, "seed", seed)}, fault.BrokerRefused, []string{locked.Addr().String()}},
		"no password file":   {broker.Options{URL: open.ClientURL(), User: "worker", PasswordFile: missing}, fault.BrokerRefused, []string{"password file", missing}},
		"no credentials":     {broker.Options{URL: open.ClientURL(), CredentialsFile: missing}, fault.BrokerRefused, []string{"credentials file", missing}},
		"bad credentials":    {broker.Options{URL: open.ClientURL(), CredentialsFile: junk}, fault.BrokerRefused, []string{"credentials file", junk}},
		"bad key":            {broker.Options{URL: open.ClientURL(), NKeyFile: junk}, fault.BrokerRefused, []string{"NKey file", junk}},
		"no CA file":         {broker.Options{URL: open.ClientURL(), TLS: broker.TLS{CAFile: missing}}, fault.BrokerRefused, []string{"TLS files", missing}},
		"bad CA file":        {broker.Options{URL: open.ClientURL(), TLS: broker.TLS{CAFile: junk}}, fault.BrokerRefused, []string{"TLS files", junk}},
		"certificate alone":  {broker.Options{URL: open.ClientURL(), TLS: broker.TLS{CertFile: junk}}, fault.BrokerRefused, []string{"TLS files", junk}},
		"server without TLS": {broker.Options{URL: open.ClientURL(), TLS: broker.TLS{CAFile: ca}}, fault.BrokerRefused, []string{"offers no TLS"}},
		"handshake first":    {broker.Options{URL: open.ClientURL(), TLS: broker.TLS{CAFile: ca, HandshakeFirst: true}}, fault.BrokerRefused, []string{"TLS handshake"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := broker.Connect(t.Context(), tc.options)
			refusedWith(t, err, tc.code, tc.says...)
		})
	}
}

func TestConnectStopsWithItsContext(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if conn, err := silent.Accept(); err == nil {
			cancel()
			<-t.Context().Done()
			_ = conn.Close()
		}
	}()
	options := broker.Options{URL: "nats://" + silent.Addr().String(), ConnectTimeout: time.Second}
	_, err = broker.Connect(ctx, options)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	_, err = broker.Connect(ctx, options)
	require.ErrorContains(t, err, "before it began")
}

func TestUsersByKey(t *testing.T) {
	t.Parallel()
	seed, public := userKey(t)
	srv := guarded(t, func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} })
	connect(t, broker.Options{URL: srv.ClientURL(), NKeyFile: write(t, "seed", seed)})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca, issue := authority(t)
	otherCA, _ := authority(t)
	certFile, keyFile := issue("127.0.0.1")
	serverTLS := func(verify, first bool) func(*server.Options) {
		return func(o *server.Options) {
			config, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: certFile, KeyFile: keyFile, CaFile: ca, Verify: verify, Timeout: 5})
			require.NoError(t, err)
			o.TLS, o.TLSConfig, o.TLSVerify, o.TLSTimeout, o.TLSHandshakeFirst = true, config, verify, 5, first
		}
	}
	plain, mutual, first := guarded(t, serverTLS(false, false)), guarded(t, serverTLS(true, false)), guarded(t, serverTLS(false, true))
	clientCert, clientKey := issue("client")

	nc := connect(t, broker.Options{URL: plain.ClientURL(), TLS: broker.TLS{CAFile: ca}})
	state, err := nc.TLSConnectionState()
	require.NoError(t, err)
	require.GreaterOrEqual(t, state.Version, uint16(tls.VersionTLS12))
	connect(t, broker.Options{URL: mutual.ClientURL(), TLS: broker.TLS{CAFile: ca, CertFile: clientCert, KeyFile: clientKey}})
	connect(t, broker.Options{URL: first.ClientURL(), TLS: broker.TLS{CAFile: ca, HandshakeFirst: true}})

	for name, options := range map[string]broker.Options{
		"system CAs":            {URL: plain.ClientURL()},
		"another CA":            {URL: plain.ClientURL(), TLS: broker.TLS{CAFile: otherCA}},
		"no client certificate": {URL: mutual.ClientURL(), TLS: broker.TLS{CAFile: ca}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := broker.Connect(t.Context(), options)
			refusedWith(t, err, fault.BrokerRefused, "TLS handshake")
		})
	}
}

func TestCheckServer(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	require.NoError(t, broker.CheckServer(s.Conn))

	bare := guarded(t, func(o *server.Options) { o.JetStream = false })
	nc := connect(t, broker.Options{URL: bare.ClientURL()})
	err := broker.CheckServer(nc)
	require.ErrorIs(t, err, broker.ErrNoJetStream)
	refusedWith(t, err, fault.BrokerRefused, "--jetstream")
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = broker.MakePlan(t.Context(), js, broker.DefaultTopology())
	require.ErrorIs(t, err, broker.ErrNoJetStream)

	nc.Close()
	refusedWith(t, broker.CheckServer(nc), fault.BrokerUnreachable, "not connected")
}

// TestOldServerIsRefused speaks to a listener that says it is an older server.
func TestOldServerIsRefused(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go pretend(listener, `{"server_id":"x","version":"2.14.0","jetstream":true,"headers":true,"max_payload":1048576}`)
	t.Cleanup(func() { _ = listener.Close() })
	nc := connect(t, broker.Options{URL: "nats://" + listener.Addr().String()})
	err = broker.CheckServer(nc)
	require.ErrorIs(t, err, broker.ErrServerTooOld)
	refusedWith(t, err, fault.BrokerRefused, `"2.14.0"`, broker.MinServerVersion, broker.RecommendedServerVersion)
}

// pretend answers one client as a server would, until it goes.
func pretend(listener net.Listener, info string) {
	conn, err := listener.Accept()
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("INFO " + info + "\r\n")); err != nil {
		return
	}
	buffer := make([]byte, 4096)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if strings.Contains(string(buffer[:n]), "PING") {
			if _, err := conn.Write([]byte("PONG\r\n")); err != nil {
				return
			}
		}
	}
}

// TestVerifyNeedsTheLeastRights gives a user what Verify's comment says it asks for, and then one right less.
func TestVerifyNeedsTheLeastRights(t *testing.T) {
	t.Parallel()
	topology := broker.DefaultTopology()
	var rights []string
	for _, stream := range topology.Streams() {
		rights = append(rights, "$JS.API.STREAM.INFO."+stream.Name)
	}
	for _, bucket := range topology.Buckets() {
		rights = append(rights, "$JS.API.STREAM.INFO.KV_"+bucket.Bucket)
	}
	for _, binding := range topology.Consumers() {
		rights = append(rights, "$JS.API.CONSUMER.INFO."+binding.Stream+"."+binding.Config.Durable)
	}
	inbox := &server.SubjectPermission{Allow: []string{"_INBOX.>"}}
	srv := guarded(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "a"},
			{Username: "worker", Password: "w", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: rights}, Subscribe: inbox}},
			{Username: "less", Password: "l", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: rights[1:]}, Subscribe: inbox}},
		}
	})
	as := func(user, password string) jetstream.JetStream {
		js, err := jetstream.New(connect(t, broker.Options{URL: srv.ClientURL(), User: user, PasswordFile: write(t, "pw", password)}))
		require.NoError(t, err)
		return js
	}
	admin := as("admin", "a")
	made, err := broker.MakePlan(t.Context(), admin, topology)
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), admin, made, nil))

	left, err := broker.Verify(t.Context(), as("worker", "w"), topology)
	require.NoError(t, err)
	require.Empty(t, left)

	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = broker.Verify(ctx, as("less", "l"), topology)
	refusedWith(t, err, fault.BrokerUnreachable, rights[0], "may not publish")
}

func TestDrainWaits(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	nc := s.Connect(t)
	release := make(chan struct{})
	began := make(chan struct{}, 10)
	handled := make(chan struct{}, 10)
	_, err := nc.Subscribe("work", func(*nats.Msg) {
		began <- struct{}{}
		<-release
		handled <- struct{}{}
	})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, nc.Publish("work", nil))
	}
	require.NoError(t, nc.Flush())
	<-began
	drained := make(chan error, 1)
	go func() { drained <- broker.Drain(t.Context(), nc) }()
	require.Eventually(t, nc.IsDraining, 10*time.Second, time.Millisecond)
	select {
	case err := <-drained:
		require.FailNow(t, "drained while a message was being handled", err)
	default:
	}
	close(release)
	require.NoError(t, <-drained)
	require.Len(t, handled, 3)
	require.True(t, nc.IsClosed())
	require.NoError(t, broker.Drain(t.Context(), nc), "drained already")
}

func TestDrainEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	nc := s.Connect(t)
	release := make(chan struct{})
	began := make(chan struct{})
	_, err := nc.Subscribe("work", func(*nats.Msg) {
		close(began)
		<-release
	})
	require.NoError(t, err)
	defer close(release)
	require.NoError(t, nc.Publish("work", nil))
	<-began
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = broker.Drain(ctx, nc)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorContains(t, err, "not drained in time")
	require.True(t, nc.IsClosed())
}

func TestDrainWithoutAServer(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	onEvent, next := events(t)
	nc := s.Connect(t, func(o *broker.Options) { o.OnEvent = onEvent })
	s.Stop()
	next(broker.EventDisconnected)
	err := broker.Drain(t.Context(), nc)
	refusedWith(t, err, fault.BrokerUnreachable, "lost before it was drained")
	require.True(t, nc.IsClosed())
}

func userKey(t *testing.T) (seed, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	text, err := pair.Seed()
	require.NoError(t, err)
	public, err = pair.PublicKey()
	require.NoError(t, err)
	return string(text), public
}

// authority makes a CA and returns its file, and a function that issues a certificate for a host and returns its files.
func authority(t *testing.T) (caFile string, issue func(host string) (certFile, keyFile string)) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	require.NoError(t, err)
	encode := func(kind string, der []byte) string {
		return write(t, strings.ReplaceAll(kind, " ", "-")+".pem", string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return encode("CERTIFICATE", der), func(host string) (string, string) {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		require.NoError(t, err)
		leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
		if ip := net.ParseIP(host); ip != nil {
			leaf.IPAddresses = []net.IP{ip}
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, own.Public(), key)
		require.NoError(t, err)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(own)
		require.NoError(t, err)
		return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
	}
}
