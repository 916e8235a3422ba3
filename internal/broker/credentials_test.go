package broker_test

import (
	"os"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
)

// decentral is an operator with one account, and issues its users.
type decentral struct {
	account nkeys.KeyPair
	server  *server.Server
}

func newDecentral(t *testing.T) *decentral {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	require.NoError(t, err)
	operatorKey, err := operator.PublicKey()
	require.NoError(t, err)
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	accountKey, err := account.PublicKey()
	require.NoError(t, err)
	signed, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	require.NoError(t, err)
	resolver := &server.MemAccResolver{}
	require.NoError(t, resolver.Store(accountKey, signed))
	srv := guarded(t, func(o *server.Options) {
		o.JetStream, o.TrustedKeys, o.AccountResolver = false, []string{operatorKey}, resolver
	})
	return &decentral{account: account, server: srv}
}

// user returns a new user's public key and the content of its credentials file.
func (d *decentral) user(t *testing.T) (public, credentials string) {
	t.Helper()
	seed, public := userKey(t)
	signed, err := jwt.NewUserClaims(public).Encode(d.account)
	require.NoError(t, err)
	content, err := jwt.FormatUserConfig(signed, []byte(seed))
	require.NoError(t, err)
	return public, string(content)
}

func (d *decentral) connected(t *testing.T, public string) bool {
	t.Helper()
	list, err := d.server.Connz(&server.ConnzOptions{Username: true})
	require.NoError(t, err)
	return len(list.Conns) == 1 && list.Conns[0].AuthorizedUser == public
}

func TestCredentialsFileIsReadAgain(t *testing.T) {
	t.Parallel()
	d := newDecentral(t)
	first, credentials := d.user(t)
	file := write(t, "user.creds", credentials)
	nc := connect(t, broker.Options{URL: d.server.ClientURL(), CredentialsFile: file})
	require.True(t, d.connected(t, first))

	second, credentials := d.user(t)
	require.NoError(t, os.WriteFile(file, []byte(credentials), 0o600))
	require.NoError(t, nc.ForceReconnect())
	require.Eventually(t, func() bool { return d.connected(t, second) }, 20*time.Second, 5*time.Millisecond)
}
