package deploy

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/config"
)

// holder is one who has a key: an operator, an account or a user.
type holder struct {
	nkeys.KeyPair

	public string
}

func newHolder(t *testing.T, create func() (nkeys.KeyPair, error)) holder {
	t.Helper()
	pair, err := create()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	return holder{KeyPair: pair, public: public}
}

// realm is a server whose accounts and users are JWTs, with the lists of the files. It does in code what the README does with nsc.
type realm struct {
	*server.Server

	operator holder
	accounts map[string]holder
	resolver *server.MemAccResolver
}

// private is what a client may import of DISCOUNT, each with an activation for its own subjects.
func private() map[string]jwt.Export {
	return map[string]jwt.Export{
		"discount.query.*.*.shop":    {Name: "queries", Subject: "discount.query.*.*.*", Type: jwt.Service, TokenReq: true},
		"discount.ask.*.shop":        {Name: "asks", Subject: "discount.ask.*.*", Type: jwt.Service, TokenReq: true},
		"discount.lookup.shop":       {Name: "lookups", Subject: "discount.lookup.*", Type: jwt.Service, TokenReq: true},
		"discount.result.*.*.shop.*": {Name: "results", Subject: "discount.result.*.*.*.*", Type: jwt.Stream, TokenReq: true},
	}
}

// analysed is what analytics may import of DISCOUNT, by the subjects that it uses itself.
func analysed() map[string]jwt.Export {
	const info, next = "CONSUMER.INFO.DISCOUNT_RESULTS.analytics", "CONSUMER.MSG.NEXT.DISCOUNT_RESULTS.analytics"
	const ack, newer = "$JS.ACK.DISCOUNT_RESULTS.analytics.>", "$JS.ACK._.*.DISCOUNT_RESULTS.analytics.>"
	return map[string]jwt.Export{
		"discount.api." + info: {Name: "analytics-info", Subject: "$JS.API." + info, Type: jwt.Service, TokenReq: true},
		"discount.api." + next: {
			Name: "analytics-next", Subject: "$JS.API." + next, Type: jwt.Service, TokenReq: true, ResponseType: jwt.ResponseTypeStream,
		},
		ack:   {Name: "analytics-ack", Subject: ack, Type: jwt.Service, TokenReq: true},
		newer: {Name: "analytics-newer", Subject: newer, Type: jwt.Service, TokenReq: true},
	}
}

func newRealm(t *testing.T) *realm {
	t.Helper()
	r := &realm{operator: newHolder(t, nkeys.CreateOperator), accounts: map[string]holder{}, resolver: &server.MemAccResolver{}}
	for _, name := range []string{"SYS", "DISCOUNT", "CLIENT_shop", "ANALYTICS", "worker of DISCOUNT"} { // The last one is the signing key of a role.
		r.accounts[name] = newHolder(t, nkeys.CreateAccount)
	}
	owner := r.accounts["DISCOUNT"]
	r.store(t, "SYS", func(*jwt.AccountClaims) {})
	r.store(t, "DISCOUNT", func(claims *jwt.AccountClaims) {
		claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: 64 << 20, DiskStorage: -1, Streams: 16, Consumer: 256}
		claims.Exports.Add(&jwt.Export{Name: "keys", Subject: "discount.keys", Type: jwt.Service})
		for _, exports := range []map[string]jwt.Export{private(), analysed()} {
			for _, export := range exports {
				claims.Exports.Add(&export)
			}
		}
		scope := jwt.NewUserScope()
		scope.Key, scope.Role, scope.Template.Permissions = r.accounts["worker of DISCOUNT"].public, "worker", permissionsIn(t, "worker")
		claims.SigningKeys.AddScopedSigner(scope)
	})
	r.store(t, "CLIENT_shop", func(claims *jwt.AccountClaims) {
		claims.Imports.Add(&jwt.Import{Name: "keys", Account: owner.public, Subject: "discount.keys", Type: jwt.Service})
		for own, export := range private() {
			claims.Imports.Add(owner.activated(t, claims, export, own, ""))
		}
	})
	r.store(t, "ANALYTICS", func(claims *jwt.AccountClaims) {
		for own, export := range analysed() {
			claims.Imports.Add(owner.activated(t, claims, export, string(export.Subject), own))
		}
	})
	operator := jwt.NewOperatorClaims(r.operator.public)
	operator.SystemAccount = r.accounts["SYS"].public
	var err error
	r.Server, err = server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true, JetStreamMaxStore: 1 << 45,
		TrustedOperators: []*jwt.OperatorClaims{operator}, AccountResolver: r.resolver, SystemAccount: operator.SystemAccount,
	})
	require.NoError(t, err)
	r.Start()
	t.Cleanup(func() { r.Shutdown(); r.WaitForShutdown() })
	require.True(t, r.ReadyForConnections(patience))
	return r
}

// activated returns an import of an account, with the activation that lets it import no more than this subject. What it uses itself may be another.
func (h holder) activated(t *testing.T, of *jwt.AccountClaims, export jwt.Export, subject, local string) *jwt.Import {
	t.Helper()
	activation := jwt.NewActivationClaims(of.Subject)
	activation.ImportSubject, activation.ImportType = jwt.Subject(subject), export.Type
	token, err := activation.Encode(h)
	require.NoError(t, err)
	return &jwt.Import{
		Name: export.Name, Account: h.public, Subject: jwt.Subject(subject), LocalSubject: jwt.RenamingSubject(local), Type: export.Type, Token: token,
	}
}

// store gives the server the JWT of an account.
func (r *realm) store(t *testing.T, name string, change func(*jwt.AccountClaims)) {
	t.Helper()
	claims := jwt.NewAccountClaims(r.accounts[name].public)
	claims.Name = name
	change(claims)
	text, err := claims.Encode(r.operator)
	require.NoError(t, err)
	require.NoError(t, r.resolver.Store(claims.Subject, text))
}

// permissionsIn returns the lists that the files give to a role, as a JWT has them.
func permissionsIn(t *testing.T, role string) jwt.Permissions {
	t.Helper()
	p := newSite(t).permissions(roleOf(role))
	return jwt.Permissions{
		Pub: jwt.Permission{Allow: p.Publish.Allow, Deny: p.Publish.Deny}, Sub: jwt.Permission{Allow: p.Subscribe.Allow, Deny: p.Subscribe.Deny},
	}
}

// user returns the configuration of a user's program. What is given to the user must be signed by one of the account's keys.
func (r *realm) user(t *testing.T, account, signer, inbox string, change func(*jwt.UserClaims)) config.Config {
	t.Helper()
	own := newHolder(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(own.public)
	claims.IssuerAccount = r.accounts[account].public
	change(claims)
	text, err := claims.Encode(r.accounts[signer])
	require.NoError(t, err)
	seed, err := own.Seed()
	require.NoError(t, err)
	credentials, err := jwt.FormatUserConfig(text, seed)
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "user.creds")
	require.NoError(t, os.WriteFile(file, credentials, 0o600))
	c := ordinary()
	c.NATS.URL, c.NATS.CredentialsFile, c.NATS.InboxPrefix = config.URL(r.ClientURL()), file, inbox
	return c
}

// requireDenied publishes what a user may not.
func requireDenied(t *testing.T, c config.Config, subjects ...string) {
	t.Helper()
	connected, err := app.OpenBroker(t.Context(), c, app.BrokerOptions{})
	require.NoError(t, err)
	defer func() { _ = connected.Close(context.Background()) }()
	for _, subject := range subjects {
		require.NoError(t, connected.Conn.Publish(subject, []byte(`{}`)))
		require.NoError(t, connected.Conn.Flush())
		require.ErrorContains(t, connected.Conn.LastError(), `"`+subject+`"`)
	}
}

// TestWithAnOperatorAndJWTs has a worker, a client and analytics do their work with JWTs that hold the same lists, and no more than that.
func TestWithAnOperatorAndJWTs(t *testing.T) {
	t.Parallel()
	r := newRealm(t)
	root, err := app.OpenBroker(t.Context(), r.user(t, "DISCOUNT", "DISCOUNT", "_INBOX_root", func(*jwt.UserClaims) {}), app.BrokerOptions{})
	require.NoError(t, err)
	defer func() { _ = root.Close(context.Background()) }()
	setUp(t, root, asIs)

	worker := r.user(t, "DISCOUNT", "worker of DISCOUNT", "_INBOX_worker", func(claims *jwt.UserClaims) { claims.SetScoped(true) })
	stop, _, err := run(t.Context(), worker)
	require.NoError(t, err)
	defer func() { require.NoError(t, stop()) }()
	shop := r.user(t, "CLIENT_shop", "CLIENT_shop", "_INBOX_publisher.shop", func(claims *jwt.UserClaims) {
		claims.Permissions = permissionsIn(t, "publisher shop")
	})
	asking, err := app.OpenBroker(t.Context(), shop, app.BrokerOptions{})
	require.NoError(t, err)
	defer func() { _ = asking.Close(context.Background()) }()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err = publisher(asking, "shop").Ask(ctx, easyPay("queued", "029"))
	require.NoError(t, err)
	_, err = publisher(asking, "shop").Direct(ctx, easyPay("direct", "029"))
	require.NoError(t, err)
	_, err = publisher(asking, "shop").FetchSealer(ctx)
	require.NoError(t, err)
	require.NoError(t, makeAnalytics(ctx, root))
	analytics := r.user(t, "ANALYTICS", "ANALYTICS", "_INBOX_analytics", func(claims *jwt.UserClaims) { claims.Permissions = permissionsIn(t, "analytics") })
	analysing, err := app.OpenBroker(t.Context(), analytics, app.BrokerOptions{})
	require.NoError(t, err)
	defer func() { _ = analysing.Close(context.Background()) }()
	require.NoError(t, readsTwo(ctx, analysing))

	requireDenied(t, analytics, "$JS.API.STREAM.INFO.DISCOUNT_DEAD", "discount.api.STREAM.MSG.GET.DISCOUNT_RESULTS", "discount.lookup.shop")
	requireDenied(t, worker, "discount.audit.pace.set", "discount.query.easypay.interactive.shop", "$JS.API.STREAM.PURGE.DISCOUNT_QUERIES")
	requireDenied(t, shop, "discount.query.easypay.interactive.pos", "discount.result.k.easypay.shop.completed", "$JS.API.STREAM.INFO.DISCOUNT_DEAD")
}
