package deploy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/config"
)

// ground is what all tests stand on: certificates, and the keys of the users that the files name. The public ones are in the environment, as
// they are where a server runs.
var ground struct {
	dir string
	// seeds holds the files with the private keys by the name of the variable that holds the public one.
	seeds map[string]string
	// config is what the programs of all users have in common, and stop ends the simulated upstream that it names.
	config config.Config
	stop   func() error
}

// nodeVariable names the configuration of a server that this binary is to be instead of running tests.
const nodeVariable = "DISCOUNT_TEST_NODE"

func TestMain(m *testing.M) {
	if file := os.Getenv(nodeVariable); file != "" {
		os.Exit(beNode(file))
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(tests{m}, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(ground.dir)
		os.Exit(code)
	}))
}

// tests are all tests, and the end of what they share.
type tests struct{ *testing.M }

func (m tests) Run() int {
	code := m.M.Run()
	_ = ground.stop()
	return code
}

// beNode runs one server from its files until the standard input ends.
func beNode(file string) int {
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	options.NoSigs = true
	node, err := server.NewServer(options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	node.ConfigureLogger()
	node.Start()
	_, _ = io.Copy(io.Discard, os.Stdin)
	node.Shutdown()
	node.WaitForShutdown()
	return 0
}

// prepare makes certificates and keys and sets the variables that the files ask for.
func prepare() error {
	dir, err := os.MkdirTemp("", "deploy-nats-")
	if err != nil {
		return err
	}
	ground.dir, ground.seeds = dir, map[string]string{}
	clients, err := newAuthority(dir, "clients")
	if err != nil {
		return err
	}
	nodes, err := newAuthority(dir, "nodes")
	if err != nil {
		return err
	}
	variables := map[string]string{
		"NATS_SERVER_NAME": "test", "NATS_LISTEN": "127.0.0.1:-1", "NATS_STORE_DIR": filepath.Join(dir, "store"), "NATS_TLS_VERIFY": "false",
		"NATS_TLS_CA": clients.file, "NATS_TLS_CERT": clients.cert, "NATS_TLS_KEY": clients.key, "NATS_JETSTREAM_KEY": "k-" + rand.Text(),
		"NATS_CLUSTER_LISTEN": "127.0.0.1:-1", "NATS_ROUTE_1": "nats://127.0.0.1:1", "NATS_ROUTE_2": "nats://127.0.0.1:2",
		"NATS_ROUTE_3":        "nats://127.0.0.1:3",
		"NATS_CLUSTER_TLS_CA": nodes.file, "NATS_CLUSTER_TLS_CERT": nodes.cert, "NATS_CLUSTER_TLS_KEY": nodes.key,
	}
	for _, r := range append(roles(), role{variable: "NATS_SYS"}) {
		public, file, err := newKey(dir, r.variable)
		if err != nil {
			return err
		}
		variables[r.variable], ground.seeds[r.variable] = public, file
	}
	for name, value := range variables {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	ground.config, err = startUpstream()
	return err
}

// newKey makes a user's key and writes its seed into a file.
func newKey(dir, name string) (public, file string, err error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return "", "", err
	}
	if public, err = pair.PublicKey(); err != nil {
		return "", "", err
	}
	seed, err := pair.Seed()
	if err != nil {
		return "", "", err
	}
	file = filepath.Join(dir, name+".nk")
	return public, file, os.WriteFile(file, seed, 0o600)
}

// authority has signed one certificate, which serves as a server's and as a client's.
type authority struct {
	file, cert, key string
}

func newAuthority(dir, name string) (authority, error) {
	a := authority{
		file: filepath.Join(dir, name+"-ca.pem"), cert: filepath.Join(dir, name+".pem"), key: filepath.Join(dir, name+".key"),
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name + " authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, NotBefore: root.NotBefore, NotAfter: root.NotAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return a, err
	}
	leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return a, err
	}
	if err := writeCertificate(a.file, root, root, rootKey, rootKey); err != nil {
		return a, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(leafKey)
	if err != nil {
		return a, err
	}
	if err := writePEM(a.key, "PRIVATE KEY", private); err != nil {
		return a, err
	}
	return a, writeCertificate(a.cert, leaf, root, leafKey, rootKey)
}

func writeCertificate(file string, of, by *x509.Certificate, ofKey, byKey *ecdsa.PrivateKey) error {
	der, err := x509.CreateCertificate(rand.Reader, of, by, &ofKey.PublicKey, byKey)
	if err != nil {
		return err
	}
	return writePEM(file, "CERTIFICATE", der)
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}
