package unionpay

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pemFile writes blocks of the given types and contents to a file.
func pemFile(tb testing.TB, blocks ...*pem.Block) string {
	tb.Helper()
	var data []byte
	for _, block := range blocks {
		data = append(data, pem.EncodeToMemory(block)...)
	}
	return file(tb, data)
}

func file(tb testing.TB, data []byte) string {
	tb.Helper()
	name := filepath.Join(tb.TempDir(), "key.pem")
	require.NoError(tb, os.WriteFile(name, data, 0o600))
	return name
}

// keyBlocks holds one key pair in every form, and an EC pair.
type keyBlocks struct {
	pkcs1, pkcs8, pkcs1Public, spki, certificate, ecPKCS8, ecSPKI *pem.Block
}

func blocksOf(tb testing.TB, key *rsa.PrivateKey) keyBlocks {
	tb.Helper()
	must := func(data []byte, err error) []byte {
		require.NoError(tb, err)
		return data
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(tb, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: now(), NotAfter: now().Add(time.Hour),
	}
	return keyBlocks{
		pkcs1:       &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)},
		pkcs8:       &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))},
		pkcs1Public: &pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&key.PublicKey)},
		spki:        &pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&key.PublicKey))},
		certificate: &pem.Block{Type: "CERTIFICATE", Bytes: must(x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key))},
		ecPKCS8:     &pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(ec))},
		ecSPKI:      &pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(&ec.PublicKey))},
	}
}

func TestLoadKey(t *testing.T) {
	t.Parallel()
	blocks := blocksOf(t, responseKey())
	for name, path := range map[string]string{
		"PKCS #1":                pemFile(t, blocks.pkcs1),
		"PKCS #8":                pemFile(t, blocks.pkcs8),
		"behind a certificate":   pemFile(t, blocks.certificate, blocks.pkcs8),
		"behind text and blocks": file(t, append([]byte("Bag Attributes\n"), pem.EncodeToMemory(blocks.pkcs1)...)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := LoadKey(path)
			require.NoError(t, err)
			require.True(t, key.Equal(responseKey()))
		})
	}
}

func TestLoadPublicKey(t *testing.T) {
	t.Parallel()
	blocks := blocksOf(t, responseKey())
	for name, path := range map[string]string{
		"PKCS #1":            pemFile(t, blocks.pkcs1Public),
		"SPKI":               pemFile(t, blocks.spki),
		"certificate":        pemFile(t, blocks.certificate),
		"first of the chain": pemFile(t, blocks.certificate, blocksOf(t, generatedKeys()[1]).certificate),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key, err := LoadPublicKey(path)
			require.NoError(t, err)
			require.True(t, key.Equal(&responseKey().PublicKey))
		})
	}
}

func TestLoadKeyErrors(t *testing.T) {
	t.Parallel()
	blocks := blocksOf(t, responseKey())
	encrypted := &pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: blocks.pkcs1.Bytes}
	cut := func(b *pem.Block) *pem.Block { return &pem.Block{Type: b.Type, Bytes: b.Bytes[:len(b.Bytes)-9]} }
	for name, c := range map[string]struct {
		load func(string) error
		path string
		want string
	}{
		"private: missing":            {loadPrivate, filepath.Join(t.TempDir(), "none.pem"), "no such file"},
		"private: empty":              {loadPrivate, file(t, nil), "no PEM block"},
		"private: DER":                {loadPrivate, file(t, blocks.pkcs8.Bytes), "no PEM block"},
		"private: public key":         {loadPrivate, pemFile(t, blocks.spki), "holds an RSA public key, an RSA private key is needed"},
		"private: certificate":        {loadPrivate, pemFile(t, blocks.certificate), "holds a certificate, an RSA private key is needed"},
		"private: other block":        {loadPrivate, pemFile(t, &pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6}}), "a PEM block of another kind"},
		"private: PKCS #8 passphrase": {loadPrivate, pemFile(t, &pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: blocks.pkcs8.Bytes}), "encrypted with a passphrase"},
		"private: PKCS #1 passphrase": {loadPrivate, pemFile(t, encrypted), "encrypted with a passphrase"},
		"private: EC":                 {loadPrivate, pemFile(t, blocks.ecPKCS8), "not an RSA key"},
		"private: cut PKCS #1":        {loadPrivate, pemFile(t, cut(blocks.pkcs1)), "not a valid PKCS #1"},
		"private: cut PKCS #8":        {loadPrivate, pemFile(t, cut(blocks.pkcs8)), "not a valid PKCS #8"},
		"private: the key itself":     {loadPrivate, string(pem.EncodeToMemory(blocks.pkcs8)), "a file's path is needed"},
		"private: key on one line":    {loadPrivate, strings.ReplaceAll(string(pem.EncodeToMemory(blocks.pkcs8)), "\n", " "), "a file's path is needed"},
		"public: missing":             {loadPublic, filepath.Join(t.TempDir(), "none.pem"), "no such file"},
		"public: empty":               {loadPublic, file(t, nil), "no PEM block"},
		"public: private key":         {loadPublic, pemFile(t, blocks.pkcs8), "holds an RSA private key, an RSA public key is needed"},
		"public: EC":                  {loadPublic, pemFile(t, blocks.ecSPKI), "not an RSA key"},
		"public: cut PKCS #1":         {loadPublic, pemFile(t, cut(blocks.pkcs1Public)), "not a valid PKCS #1"},
		"public: cut SPKI":            {loadPublic, pemFile(t, cut(blocks.spki)), "not a valid public key"},
		"public: cut certificate":     {loadPublic, pemFile(t, cut(blocks.certificate)), "not a valid X.509 certificate"},
		"public: the key itself":      {loadPublic, string(pem.EncodeToMemory(blocks.spki)), "a file's path is needed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.load(c.path)
			require.ErrorContains(t, err, c.want)
			requireNoKeyMaterial(t, err.Error(), blocks)
		})
	}
}

func loadPrivate(path string) error { _, err := LoadKey(path); return err }

func loadPublic(path string) error { _, err := LoadPublicKey(path); return err }

// requireNoKeyMaterial requires that text repeats no line of the key's PEM form.
func requireNoKeyMaterial(tb testing.TB, text string, blocks keyBlocks) {
	tb.Helper()
	for _, block := range []*pem.Block{blocks.pkcs1, blocks.pkcs8} {
		for line := range strings.Lines(string(pem.EncodeToMemory(block))) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
				require.NotContains(tb, text, line)
			}
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	blocks := blocksOf(f, responseKey())
	for _, block := range []*pem.Block{blocks.pkcs1, blocks.pkcs8, blocks.pkcs1Public, blocks.spki, blocks.certificate, blocks.ecPKCS8, blocks.ecSPKI} {
		f.Add(pem.EncodeToMemory(block))
	}
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := parseKey(data); err == nil {
			require.NoError(t, key.Validate())
		}
		if key, err := parsePublicKey(data); err == nil {
			require.NotNil(t, key.N)
		}
	})
}
