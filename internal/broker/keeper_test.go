package broker_test

import (
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
)

// reloaded is a server whose options change while it runs.
type reloaded struct {
	*server.Server

	base func(*server.Options)
}

// startReloaded starts a server without JetStream.
func startReloaded(t *testing.T, change func(*server.Options)) *reloaded {
	t.Helper()
	plain := func(o *server.Options) {
		o.JetStream, o.StoreDir, o.JetStreamMaxMemory, o.JetStreamMaxStore = false, "", 0, 0
	}
	return &reloaded{guarded(t, func(o *server.Options) { plain(o); change(o) }), plain}
}

// reload gives the server other options, as a new configuration file and a signal do.
func (r *reloaded) reload(t *testing.T, change func(*server.Options)) {
	t.Helper()
	o := &server.Options{Host: "127.0.0.1", Port: r.Addr().(*net.TCPAddr).Port, NoSigs: true}
	r.base(o)
	change(o)
	require.NoError(t, r.ReloadOptions(o))
}

// knowing returns the options of a server that knows these keys.
func knowing(keys ...string) func(*server.Options) {
	return func(o *server.Options) {
		for _, key := range keys {
			o.Nkeys = append(o.Nkeys, &server.NkeyUser{Nkey: key})
		}
	}
}

// securedWith returns the options of a server with a certificate of one authority that wants certificates of another, of nobody if it is "".
func securedWith(t *testing.T, issue func(string) (string, string), clientCA string) func(*server.Options) {
	t.Helper()
	certFile, keyFile := issue("127.0.0.1")
	config, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: certFile, KeyFile: keyFile, CaFile: clientCA, Verify: clientCA != "", Timeout: 5})
	require.NoError(t, err)
	return func(o *server.Options) {
		o.TLS, o.TLSConfig, o.TLSVerify, o.TLSTimeout = true, config, clientCA != "", 5
	}
}

// replace makes a file hold what another one holds, in one step.
func replace(t *testing.T, file, with string) {
	t.Helper()
	content, err := os.ReadFile(with)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file+".next", content, 0o600))
	require.NoError(t, os.Rename(file+".next", file))
}

// TestNKeyFileMayHoldAnotherKey gives a user another key: the file of a connection that lives is replaced, and the server forgets the old key.
func TestNKeyFileMayHoldAnotherKey(t *testing.T) {
	t.Parallel()
	for name, late := range map[string]bool{"before the old one is revoked": false, "long after the old one is revoked": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			oldSeed, oldKey := userKey(t)
			newSeed, newKey := userKey(t)
			srv := startReloaded(t, knowing(oldKey))
			file := write(t, "user.nk", oldSeed)
			onEvent, next := events(t)
			connect(t, broker.Options{URL: srv.ClientURL(), NKeyFile: file, OnEvent: onEvent})
			if late {
				srv.reload(t, knowing(newKey))
				for range 3 { // The client would give up at the second one.
					next(broker.EventCredentialsRefused)
				}
				replace(t, file, write(t, "next.nk", newSeed))
			} else {
				srv.reload(t, knowing(oldKey, newKey))
				replace(t, file, write(t, "next.nk", newSeed))
				srv.reload(t, knowing(newKey))
			}
			next(broker.EventReconnected)
			list, err := srv.Connz(&server.ConnzOptions{Username: true})
			require.NoError(t, err)
			require.Len(t, list.Conns, 1)
			require.Equal(t, newKey, list.Conns[0].AuthorizedUser)
		})
	}
}

// TestCredentialsMayComeLate revokes a user whose new credentials come only after some refusals.
func TestCredentialsMayComeLate(t *testing.T) {
	t.Parallel()
	d := newDecentral(t)
	first, credentials := d.user(t)
	file := write(t, "user.creds", credentials)
	onEvent, next := events(t)
	connect(t, broker.Options{URL: d.server.ClientURL(), CredentialsFile: file, OnEvent: onEvent})
	key, err := d.account.PublicKey()
	require.NoError(t, err)
	account, err := d.server.LookupAccount(key)
	require.NoError(t, err)
	claims := jwt.NewAccountClaims(key)
	claims.Revoke(first)
	d.server.UpdateAccountClaims(account, claims)
	for range 3 {
		next(broker.EventCredentialsRefused)
	}
	second, credentials := d.user(t)
	replace(t, file, write(t, "next.creds", credentials))
	next(broker.EventReconnected)
	require.True(t, d.connected(t, second))
}

// TestCertificatesMayComeLate changes the authority on one side first. The other one learns it only after some handshakes have failed.
func TestCertificatesMayComeLate(t *testing.T) {
	t.Parallel()
	oldCA, oldIssue := authority(t)
	newCA, newIssue := authority(t)
	for name, test := range map[string]struct {
		// before and after are the server's options.
		before, after func(*server.Options)
		newOwn, newCA bool
	}{
		"of the server": {before: securedWith(t, oldIssue, ""), after: securedWith(t, newIssue, ""), newCA: true},
		"of our own":    {before: securedWith(t, oldIssue, oldCA), after: securedWith(t, oldIssue, newCA), newOwn: true},
		"of both":       {before: securedWith(t, oldIssue, oldCA), after: securedWith(t, newIssue, newCA), newOwn: true, newCA: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := startReloaded(t, test.before)
			ca, cert, key := write(t, "ca.pem", ""), write(t, "own.pem", ""), write(t, "own.key.pem", "")
			use := func(caFile string, issue func(string) (string, string)) {
				certFile, keyFile := issue("client")
				replace(t, ca, caFile)
				replace(t, cert, certFile)
				replace(t, key, keyFile)
			}
			use(oldCA, oldIssue)
			onEvent, next := events(t)
			nc := connect(t, broker.Options{URL: srv.ClientURL(), TLS: broker.TLS{CAFile: ca, CertFile: cert, KeyFile: key}, OnEvent: onEvent})
			srv.reload(t, test.after)
			require.True(t, nc.IsConnected(), "a new certificate ends no connection")
			require.NoError(t, nc.ForceReconnect())
			next(broker.EventTLSFailed)
			next(broker.EventTLSFailed)
			nextCA, nextIssue := oldCA, oldIssue
			if test.newCA {
				nextCA = newCA
			}
			if test.newOwn {
				nextIssue = newIssue
			}
			use(nextCA, nextIssue)
			next(broker.EventReconnected)
		})
	}
}

// TestFilesThatAreGoneAreTold takes files away, or breaks them, for as long as it takes until somebody says so.
func TestFilesThatAreGoneAreTold(t *testing.T) {
	t.Parallel()
	seed, key := userKey(t)
	ca, issue := authority(t)
	certFile, keyFile := issue("client")
	d := newDecentral(t)
	_, credentials := d.user(t)
	users, secured := startReloaded(t, knowing(key)), startReloaded(t, securedWith(t, issue, ca))
	for name, test := range map[string]struct {
		url, content string
		with         func(file string) broker.Options
	}{
		"NKey":        {users.ClientURL(), seed, func(file string) broker.Options { return broker.Options{NKeyFile: file} }},
		"credentials": {d.server.ClientURL(), credentials, func(file string) broker.Options { return broker.Options{CredentialsFile: file} }},
		"authority": {secured.ClientURL(), read(t, ca), func(file string) broker.Options {
			return broker.Options{TLS: broker.TLS{CAFile: file, CertFile: certFile, KeyFile: keyFile}}
		}},
		"certificate": {secured.ClientURL(), read(t, certFile), func(file string) broker.Options {
			return broker.Options{TLS: broker.TLS{CAFile: ca, CertFile: file, KeyFile: keyFile}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := write(t, "file", test.content)
			good := write(t, "good", test.content)
			onEvent, next := events(t)
			options := test.with(file)
			options.URL, options.OnEvent = test.url, onEvent
			nc := connect(t, options)
			for _, broken := range []func() error{
				func() error { return os.Remove(file) },
				func() error { return os.WriteFile(file, []byte("half of it"), 0o600) },
			} {
				require.NoError(t, broken())
				require.NoError(t, nc.ForceReconnect())
				next(broker.EventFilesUnusable)
				replace(t, file, good)
				next(broker.EventReconnected)
			}
		})
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	require.NoError(t, err)
	return string(content)
}

// TestFailuresAreForgottenOnceConnected keeps the order of what is told: a connection that is back must not be called failing by an event
// of the time before.
func TestFailuresAreForgottenOnceConnected(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []broker.EventKind
	options := broker.Options{OnEvent: func(event broker.Event) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, event.Kind)
	}}
	srv := startReloaded(t, func(*server.Options) {})
	options.URL = srv.ClientURL()
	nc := connect(t, options)
	sub, err := nc.SubscribeSync("many")
	require.NoError(t, err)
	require.NoError(t, sub.SetPendingLimits(1, -1))
	for range 10 {
		require.NoError(t, nc.Publish("many", nil))
	}
	require.Eventually(t, func() bool { return nc.LastError() != nil }, 30*time.Second, time.Millisecond)
	broker.TellFailure(options, nc)
	require.True(t, nc.IsConnected())
	mu.Lock()
	defer mu.Unlock()
	require.False(t, slices.ContainsFunc(told, func(kind broker.EventKind) bool { return kind != broker.EventSlowConsumer }), told)
}

// TestAttemptsThatFailOtherwiseAreTold comes back to a server that takes connections and closes them before it has said anything.
func TestAttemptsThatFailOtherwiseAreTold(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		pretend(listener, `{"server_id":"x","version":"2.15.2","headers":true,"max_payload":1048576}`)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	onEvent, next := events(t)
	nc := connect(t, broker.Options{URL: "nats://" + listener.Addr().String(), OnEvent: onEvent})
	require.NoError(t, nc.ForceReconnect())
	next(broker.EventReconnectFailed)
	next(broker.EventReconnectFailed)
}

func TestAdvice(t *testing.T) {
	t.Parallel()
	for _, kind := range broker.EventKinds() {
		advised := kind == broker.EventCredentialsRefused || kind == broker.EventTLSFailed || kind == broker.EventFilesUnusable
		require.Equal(t, advised, kind.Advice() != "", kind)
	}
}
