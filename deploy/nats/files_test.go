package deploy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// copyWith copies the files into a folder, with a change to each.
func copyWith(t *testing.T, change func(name, text string) string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS(".")))
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".conf" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(change(filepath.Base(path), string(text))), 0o600)
	}))
	return dir
}

var variableRe = regexp.MustCompile(`\$(NATS_[A-Z0-9_]+)`)

// variables returns the variables of the environment that the files name.
func variables(t *testing.T) []string {
	t.Helper()
	var all []string
	copyWith(t, func(_, text string) string {
		for _, match := range variableRe.FindAllStringSubmatch(text, -1) {
			all = append(all, match[1])
		}
		return text
	})
	slices.Sort(all)
	return slices.Compact(all)
}

// TestNoVariableHasADefault takes each variable out of the environment: no server comes of it.
func TestNoVariableHasADefault(t *testing.T) {
	t.Parallel()
	_, err := server.ProcessConfigFile("cluster.conf")
	require.NoError(t, err)
	for _, variable := range variables(t) {
		dir := copyWith(t, func(_, text string) string {
			return regexp.MustCompile(`\$`+variable+`\b`).ReplaceAllLiteralString(text, "$ABSENT_"+variable)
		})
		_, err := server.ProcessConfigFile(filepath.Join(dir, "cluster.conf"))
		require.ErrorContains(t, err, "ABSENT_"+variable)
	}
}

// TestEmptyKeyIsRefused sets the users' variables to nothing, and to what is no key.
func TestEmptyKeyIsRefused(t *testing.T) {
	t.Parallel()
	for name, value := range map[string]string{"empty": `""`, "a password": `"secret"`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := copyWith(t, func(_, text string) string { return strings.ReplaceAll(text, "$NATS_WORKER", value) })
			options, err := server.ProcessConfigFile(filepath.Join(dir, "single.conf"))
			if err == nil {
				_, err = server.NewServer(options)
			}
			require.Error(t, err)
		})
	}
}

// TestExampleOfTheEnvironment shows that it names what the files ask for, and holds nothing.
func TestExampleOfTheEnvironment(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("env.example")
	require.NoError(t, err)
	var named []string
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(strings.TrimSpace(line), "="); found && !strings.HasPrefix(line, "#") {
			require.Empty(t, value)
			named = append(named, name)
		}
	}
	require.ElementsMatch(t, variables(t), named)
}

func TestClientsAreMadeFromTheTemplate(t *testing.T) {
	t.Parallel()
	template, err := os.ReadFile("clients/client.conf.template")
	require.NoError(t, err)
	for _, client := range []string{"shop", "pos"} {
		text, err := os.ReadFile("clients/" + client + ".conf")
		require.NoError(t, err)
		made := strings.ReplaceAll(string(template), "NATS_PUBLISHER_CLIENT", "NATS_PUBLISHER_"+strings.ToUpper(client))
		require.Equal(t, strings.ReplaceAll(made, "CLIENT", client), string(text))
	}
}

// TestClosedByDefault reads what the files make of a server.
func TestClosedByDefault(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"single.conf", "cluster.conf"} {
		o, err := server.ProcessConfigFile(file)
		require.NoError(t, err)
		require.Zero(t, o.HTTPPort)
		require.Zero(t, o.HTTPSPort)
		require.Zero(t, o.ProfPort)
		require.Zero(t, o.MQTT.Port)
		require.Zero(t, o.Websocket.Port)
		require.Zero(t, o.LeafNode.Port)
		require.Zero(t, o.Gateway.Port)
		require.Empty(t, o.NoAuthUser)
		require.Empty(t, o.Users, "a user without a key")
		require.Equal(t, "SYS", o.SystemAccount)
		require.False(t, o.Trace || o.Debug)
		require.True(t, o.SyncAlways)
		require.Equal(t, server.AES, o.JetStreamCipher)
		require.NotEmpty(t, o.JetStreamKey)
		require.NotNil(t, o.TLSConfig)
		require.False(t, o.AllowNonTLS)
		require.EqualValues(t, 512<<10, o.MaxPayload)
		require.Equal(t, 1024, o.MaxConn)
		require.EqualValues(t, 16<<20, o.MaxPending)
		require.Equal(t, 5*time.Second, o.WriteDeadline)
		require.Equal(t, 35*time.Second, o.LameDuckDuration)
		require.Len(t, o.Nkeys, len(roles())+1)
		for _, u := range o.Nkeys {
			require.Equal(t, map[string]struct{}{"STANDARD": {}}, u.AllowedConnectionTypes)
		}
	}
}

func TestStrangersGetNoConnection(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.start(t)
	_, err := nats.Connect(s.ClientURL(), nats.RootCAs(os.Getenv("NATS_TLS_CA")))
	require.ErrorIs(t, err, nats.ErrAuthorization)
	_, err = nats.Connect(s.ClientURL(), nats.RootCAs(os.Getenv("NATS_TLS_CA")), nats.UserInfo("admin", "admin"))
	require.ErrorIs(t, err, nats.ErrAuthorization)
	_, err = nats.Connect(s.ClientURL())
	require.ErrorContains(t, err, "certificate")
}

// TestNobodyTakesAllConnections opens as many connections as a client or analytics may have. Then there are no more for it, and for others.
func TestNobodyTakesAllConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.quick()
	s.start(t)
	open := func(variable string) error {
		nkey, err := nats.NkeyOptionFromSeed(ground.seeds[variable])
		require.NoError(t, err)
		connected, err := nats.Connect(s.ClientURL(), nats.RootCAs(os.Getenv("NATS_TLS_CA")), nkey, nats.Timeout(patience), nats.NoReconnect())
		if err == nil {
			t.Cleanup(connected.Close)
		}
		return err
	}
	greedy := []string{"NATS_PUBLISHER_SHOP", "NATS_PUBLISHER_POS", "NATS_ANALYTICS"}
	for _, variable := range greedy {
		for range 64 {
			require.NoError(t, open(variable))
		}
	}
	for _, variable := range greedy {
		require.ErrorContains(t, open(variable), "maximum account active connections exceeded")
	}
	for _, variable := range []string{"NATS_WORKER", "NATS_OPS_VIEW", "NATS_ADMIN", "NATS_SYS"} {
		require.NoError(t, open(variable))
	}
}

// TestClientCertificates turns the variable on that asks for them.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	dir := copyWith(t, func(_, text string) string { return strings.ReplaceAll(text, "$NATS_TLS_VERIFY", "true") })
	s := newSite(t)
	options, err := server.ProcessConfigFile(filepath.Join(dir, "single.conf"))
	require.NoError(t, err)
	options.StoreDir, options.NoSigs = s.options.StoreDir, true
	s.options = options
	s.start(t)
	nkey, err := nats.NkeyOptionFromSeed(ground.seeds["NATS_SETUP"])
	require.NoError(t, err)
	_, err = nats.Connect(s.ClientURL(), nats.RootCAs(os.Getenv("NATS_TLS_CA")), nkey)
	require.Error(t, err)
	own := nats.ClientCert(os.Getenv("NATS_TLS_CERT"), os.Getenv("NATS_TLS_KEY"))
	connected, err := nats.Connect(s.ClientURL(), nats.RootCAs(os.Getenv("NATS_TLS_CA")), nkey, own)
	require.NoError(t, err)
	connected.Close()
}

// TestStoreIsEncrypted looks for what was published in every byte of the store.
func TestStoreIsEncrypted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	roots := s.roots(t, s.files())
	s.start(t)
	root := s.connect(t, roots.root)
	setUp(t, root, asIs)
	const words = "words that nobody should find in the store"
	_, err := root.JS.Publish(t.Context(), "discount.dead.k.easypay.shop.rejected", []byte(words))
	require.NoError(t, err)
	found := func() (hits, size int) {
		require.NoError(t, filepath.WalkDir(s.options.StoreDir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			hits, size = hits+strings.Count(string(content), words), size+len(content)
			return err
		}))
		return hits, size
	}
	hits, size := found()
	require.Zero(t, hits)
	require.Greater(t, size, len(words))
}

// TestTablesOfTheReadme shows that the README tells of every role what the tests know of it.
func TestTablesOfTheReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for _, r := range roles() {
		require.Contains(t, string(text), "| "+r.name+" | "+r.who+" | "+r.may+" | `"+r.file+"` | `"+r.inbox+"` |\n")
	}
	for _, variable := range variables(t) {
		require.Contains(t, string(text), "`"+variable+"`")
	}
}
