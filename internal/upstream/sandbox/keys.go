package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"
)

const keyBits = 2048

// Keys are both sides' keys of a simulated UnionPay account. They are for the sandbox and for tests only: a real account's keys
// never belong in one place.
type Keys struct {
	// ClientSign signs the caller's requests, under ClientSignKid.
	ClientSign    *rsa.PrivateKey
	ClientSignKid string
	// UPIEncrypt opens the caller's JWE, which names UPIEncryptKid.
	UPIEncrypt    *rsa.PrivateKey
	UPIEncryptKid string
	// UPISign signs the answers, under UPISignKid.
	UPISign    *rsa.PrivateKey
	UPISignKid string
}

// keyPart is one of the keys, with the stem of its files.
type keyPart struct {
	stem string
	key  **rsa.PrivateKey
	kid  *string
}

func (k *Keys) parts() []keyPart {
	return []keyPart{
		{"client-sign", &k.ClientSign, &k.ClientSignKid},
		{"upi-encrypt", &k.UPIEncrypt, &k.UPIEncryptKid},
		{"upi-sign", &k.UPISign, &k.UPISignKid},
	}
}

// NewKeys makes three RSA keys of 2,048 bits, all at the same time because each takes long. Their kids are 14 digits, as certificate
// ids of UPI are, and follow from the public keys: keys of different origin never share one.
func NewKeys() (Keys, error) {
	var k Keys
	var g errgroup.Group
	for _, part := range k.parts() {
		g.Go(func() error {
			key, err := rsa.GenerateKey(rand.Reader, keyBits)
			if err != nil {
				return fmt.Errorf("make key %s: %w", part.stem, err)
			}
			*part.key = key
			*part.kid, err = kidOf(&key.PublicKey)
			return err
		})
	}
	return k, g.Wait()
}

// kidOf derives a kid from a public key.
func kidOf(key *rsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("derive kid: %w", err)
	}
	sum := sha256.Sum256(der)
	digits := make([]byte, 14)
	for i := range digits {
		digits[i] = '0' + sum[i]%10
	}
	digits[0] = '1' + sum[0]%9
	return string(digits), nil
}

// UnionPay returns options that hold these keys in their places and nothing else.
func (k *Keys) UnionPay() UnionPayOptions {
	return UnionPayOptions{
		ClientKeys:  map[string]crypto.PublicKey{k.ClientSignKid: &k.ClientSign.PublicKey},
		DecryptKeys: map[string]*rsa.PrivateKey{k.UPIEncryptKid: k.UPIEncrypt},
		SignKey:     k.UPISign,
		SignKid:     k.UPISignKid,
	}
}

// kidsFile holds the kids by file stem, as a JSON object.
const kidsFile = "kids.json"

// WriteTo writes the keys into a directory, which is made when it is missing: client-sign.key.pem and client-sign.pub.pem,
// upi-encrypt.key.pem and .pub.pem, upi-sign.key.pem and .pub.pem (PKCS#8 and SPKI; private keys are readable by their owner only),
// and kids.json. It never overwrites a file: that is an error.
func (k *Keys) WriteTo(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	kids := make(map[string]string)
	for _, part := range k.parts() {
		kids[part.stem] = *part.kid
		private, err := x509.MarshalPKCS8PrivateKey(*part.key)
		if err != nil {
			return fmt.Errorf("write key %s: %w", part.stem, err)
		}
		if err := writePEM(filepath.Join(dir, part.stem+".key.pem"), "PRIVATE KEY", private, 0o600); err != nil {
			return err
		}
		public, err := x509.MarshalPKIXPublicKey(&(*part.key).PublicKey)
		if err != nil {
			return fmt.Errorf("write key %s: %w", part.stem, err)
		}
		if err := writePEM(filepath.Join(dir, part.stem+".pub.pem"), "PUBLIC KEY", public, 0o644); err != nil {
			return err
		}
	}
	list, err := json.Marshal(kids, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return fmt.Errorf("write kids: %w", err)
	}
	return writeNew(filepath.Join(dir, kidsFile), append(list, '\n'), 0o644)
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	return writeNew(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// writeNew writes a file that doesn't exist yet.
func writeNew(path string, content []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	_, writeErr := f.Write(content)
	if err := errors.Join(writeErr, f.Close()); err != nil {
		return fmt.Errorf("write keys: %w", err)
	}
	return nil
}

// LoadKeys reads what WriteTo wrote. It needs the three private keys and kids.json.
func LoadKeys(dir string) (Keys, error) {
	var k Keys
	list, err := os.ReadFile(filepath.Join(dir, kidsFile))
	if err != nil {
		return Keys{}, fmt.Errorf("load keys: %w", err)
	}
	var kids map[string]string
	if err := json.Unmarshal(list, &kids); err != nil {
		return Keys{}, fmt.Errorf("load keys: %s is no JSON object of strings", kidsFile)
	}
	for _, part := range k.parts() {
		if *part.kid = kids[part.stem]; *part.kid == "" {
			return Keys{}, fmt.Errorf("load keys: %s has no kid for %s", kidsFile, strconv.Quote(part.stem))
		}
		if *part.key, err = loadPrivate(filepath.Join(dir, part.stem+".key.pem")); err != nil {
			return Keys{}, err
		}
	}
	return k, nil
}

// loadPrivate reads one private key. What is wrong with its content isn't passed on, because it could quote the content.
func loadPrivate(path string) (*rsa.PrivateKey, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, fmt.Errorf("load keys: %s is no PEM file", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("load keys: %s is no PKCS#8 private key", path)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("load keys: %s is no RSA key", path)
	}
	return key, nil
}
