package sandbox

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestKeysRoundTrip(t *testing.T) {
	t.Parallel()
	k, err := testKeys()
	require.NoError(t, err)
	kids := map[string]bool{}
	for _, part := range k.parts() {
		require.Equal(t, 2048, (*part.key).N.BitLen())
		require.Regexp(t, `^[1-9]\d{13}$`, *part.kid)
		kids[*part.kid] = true
	}
	require.Len(t, kids, 3)

	dir := filepath.Join(t.TempDir(), "new", "keys")
	require.NoError(t, k.WriteTo(dir))
	again, err := LoadKeys(dir)
	require.NoError(t, err)
	require.Equal(t, k.ClientSignKid, again.ClientSignKid)
	require.True(t, k.ClientSign.Equal(again.ClientSign))
	require.True(t, k.UPIEncrypt.Equal(again.UPIEncrypt))
	require.True(t, k.UPISign.Equal(again.UPISign))
	require.ErrorContains(t, k.WriteTo(dir), "exists", "nothing is overwritten")

	for _, stem := range []string{"client-sign", "upi-encrypt", "upi-sign"} {
		info, err := os.Stat(filepath.Join(dir, stem+".key.pem"))
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		public, err := os.ReadFile(filepath.Join(dir, stem+".pub.pem"))
		require.NoError(t, err)
		block, _ := pem.Decode(public)
		require.Equal(t, "PUBLIC KEY", block.Type)
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		require.NoError(t, err)
		require.IsType(t, &rsa.PublicKey{}, key)
	}
}

func TestLoadKeysSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	k, err := testKeys()
	require.NoError(t, err)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(ec)
	require.NoError(t, err)
	kids := func(kids map[string]string) string { text, _ := json.Marshal(kids); return string(text) }
	for name, test := range map[string]struct{ file, content, want string }{
		"no kids":     {"kids.json", "", "no JSON object"},
		"kids a list": {"kids.json", "[]", "no JSON object"},
		"kid missing": {"kids.json", kids(map[string]string{"client-sign": "1", "upi-sign": "2"}), `no kid for "upi-encrypt"`},
		"no PEM":      {"upi-sign.key.pem", "secret words", "is no PEM file"},
		"no PKCS#8":   {"upi-sign.key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret words")})), "is no PKCS#8 private key"},
		"no RSA":      {"upi-sign.key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), "is no RSA key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			require.NoError(t, k.WriteTo(dir))
			require.NoError(t, os.WriteFile(filepath.Join(dir, test.file), []byte(test.content), 0o600))
			_, err := LoadKeys(dir)
			require.ErrorContains(t, err, test.want)
			require.NotContains(t, err.Error(), "secret words")
		})
	}
	_, err = LoadKeys(filepath.Join(t.TempDir(), "nowhere"))
	require.ErrorIs(t, err, os.ErrNotExist)
}
