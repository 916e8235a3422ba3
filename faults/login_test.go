//go:build faults

package faults

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
)

// login is a way in which workers log in to the broker.
type login struct {
	// setting is what a worker is told, with the directory of its mounted Secret in the place of DIR.
	setting string
	// admin is how everybody else logs in.
	admin []nats.Option
	// issue makes the next identity, which the broker does not know yet.
	issue func(t *testing.T) identity
	// broker returns the configuration of a broker that lets these identities in and no others.
	broker func(t *testing.T, known ...identity) string
}

// identity is one version of a worker's credentials.
type identity struct {
	// files are what the mounted Secret holds.
	files map[string]string
	// name is what the broker knows of it.
	name string
}

// login returns the settings of a site whose workers log in with what is mounted.
func (l login) options(t *testing.T, mounted *secret, known ...identity) siteOptions {
	t.Helper()
	return siteOptions{broker: l.broker(t, known...), login: strings.ReplaceAll(l.setting, "DIR", mounted.dir), user: l.admin}
}

// asAdmin is how everybody else logs in where users stand in the broker's configuration.
func asAdmin() []nats.Option { return []nats.Option{nats.UserInfo("admin", "admin")} }

// withPassword logs in with a name and the password in a file. The broker knows one password for a name: the first of those it is to know.
func withPassword(*testing.T) login {
	issued := 0
	return login{
		setting: `, user: worker, password_file: "DIR/password"`, admin: asAdmin(),
		issue: func(*testing.T) identity {
			issued++
			name := "password-" + strconv.Itoa(issued)
			return identity{map[string]string{"password": name + "\n"}, name}
		},
		broker: func(_ *testing.T, known ...identity) string {
			return fmt.Sprintf("authorization { users: [ {user: admin, password: admin}, {user: worker, password: %q} ] }\n", known[0].name)
		},
	}
}

// withNKey logs in with the NKey seed in a file.
func withNKey(*testing.T) login {
	return login{
		setting: `, nkey_file: "DIR/worker.nk"`, admin: asAdmin(),
		issue: func(t *testing.T) identity {
			t.Helper()
			seed, public := newUserKey(t)
			return identity{map[string]string{"worker.nk": seed}, public}
		},
		broker: func(_ *testing.T, known ...identity) string {
			users := "{user: admin, password: admin}"
			for _, one := range known {
				users += fmt.Sprintf(", {nkey: %s}", one.name)
			}
			return "authorization { users: [ " + users + " ] }\n"
		},
	}
}

// withCredentials logs in with the JWT and seed in one file. The broker trusts an operator, whose account revokes what it is not to know.
func withCredentials(t *testing.T) login {
	t.Helper()
	operator, operatorKey := newKey(t, nkeys.CreateOperator)
	account, accountKey := newKey(t, nkeys.CreateAccount)
	_, systemKey := newKey(t, nkeys.CreateAccount)
	operatorClaims := jwt.NewOperatorClaims(operatorKey)
	operatorClaims.SystemAccount = systemKey
	trusted, system := encode(t, operatorClaims, operator), encode(t, jwt.NewAccountClaims(systemKey), operator)
	var issued []identity
	user := func(t *testing.T) (signed, seed, public string) {
		t.Helper()
		seed, public = newUserKey(t)
		return encode(t, jwt.NewUserClaims(public), account), seed, public
	}
	signed, seed, _ := user(t)
	return login{
		setting: `, credentials_file: "DIR/worker.creds"`, admin: []nats.Option{nats.UserJWTAndSeed(signed, seed)},
		issue: func(t *testing.T) identity {
			t.Helper()
			signed, seed, public := user(t)
			file, err := jwt.FormatUserConfig(signed, []byte(seed))
			require.NoError(t, err)
			issued = append(issued, identity{map[string]string{"worker.creds": string(file)}, public})
			return issued[len(issued)-1]
		},
		broker: func(t *testing.T, known ...identity) string {
			t.Helper()
			claims := jwt.NewAccountClaims(accountKey)
			claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
			for _, one := range issued {
				if !slices.ContainsFunc(known, func(k identity) bool { return k.name == one.name }) {
					claims.Revoke(one.name)
				}
			}
			return fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n %s: %s\n %s: %s\n}\n",
				trusted, systemKey, accountKey, encode(t, claims, operator), systemKey, system)
		},
	}
}

func newUserKey(t *testing.T) (seed, public string) {
	t.Helper()
	pair, public := newKey(t, nkeys.CreateUser)
	text, err := pair.Seed()
	require.NoError(t, err)
	return string(text), public
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	return pair, public
}

func encode(t *testing.T, claims interface {
	Encode(pair nkeys.KeyPair) (string, error)
}, by nkeys.KeyPair) string {
	t.Helper()
	signed, err := claims.Encode(by)
	require.NoError(t, err)
	return signed
}
