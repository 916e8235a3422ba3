package unionpay

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// The types of PEM blocks (RFC 7468) that hold keys.
const (
	blockPKCS1Private   = "RSA PRIVATE KEY"
	blockPKCS8Private   = "PRIVATE KEY"
	blockPKCS8Encrypted = "ENCRYPTED PRIVATE KEY"
	blockPKCS1Public    = "RSA PUBLIC KEY"
	blockPublic         = "PUBLIC KEY"
	blockCertificate    = "CERTIFICATE"
)

// LoadKey reads an RSA private key from a PEM file in PKCS #1 or PKCS #8. Its errors name the file and never show its content.
func LoadKey(file string) (*rsa.PrivateKey, error) {
	data, err := readKeyFile(file)
	if err != nil {
		return nil, fmt.Errorf("load private key: %w", err)
	}
	defer clear(data)
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("load private key %s: %w", file, err)
	}
	return key, nil
}

// LoadPublicKey reads an RSA public key from a PEM file: a public key in PKCS #1 or SPKI, or an X.509 certificate, of which only the
// key is used. Its errors name the file and never show its content.
func LoadPublicKey(file string) (*rsa.PublicKey, error) {
	data, err := readKeyFile(file)
	if err != nil {
		return nil, fmt.Errorf("load public key: %w", err)
	}
	key, err := parsePublicKey(data)
	if err != nil {
		return nil, fmt.Errorf("load public key %s: %w", file, err)
	}
	return key, nil
}

// readKeyFile reads the file. Somebody may have put the key itself where its path belongs; that must not end up in the error.
func readKeyFile(file string) ([]byte, error) {
	if strings.Contains(file, "-----BEGIN") || strings.ContainsAny(file, "\r\n") {
		return nil, errors.New("a file's path is needed, not the key itself")
	}
	return os.ReadFile(file)
}

func parseKey(data []byte) (*rsa.PrivateKey, error) {
	block, err := findBlock(data, blockPKCS1Private, blockPKCS8Private, blockPKCS8Encrypted)
	if err != nil {
		return nil, err
	}
	if block.Type == blockPKCS8Encrypted || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the key is encrypted with a passphrase; store it decrypted and protect the file")
	}
	if block.Type == blockPKCS1Private {
		key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
		if err != nil {
			return nil, errors.New("not a valid PKCS #1 RSA key")
		}
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a valid PKCS #8 key")
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return key, nil
}

func parsePublicKey(data []byte) (*rsa.PublicKey, error) {
	block, err := findBlock(data, blockPKCS1Public, blockPublic, blockCertificate)
	if err != nil {
		return nil, err
	}
	if block.Type == blockPKCS1Public {
		key, err := x509.ParsePKCS1PublicKey(block.Bytes)
		if err != nil {
			return nil, errors.New("not a valid PKCS #1 RSA public key")
		}
		return key, nil
	}
	parsed, err := parseSPKI(block)
	if err != nil {
		return nil, err
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, errors.New("not an RSA key")
	}
	return key, nil
}

func parseSPKI(block *pem.Block) (any, error) {
	if block.Type == blockCertificate {
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errors.New("not a valid X.509 certificate")
		}
		return certificate.PublicKey, nil
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a valid public key")
	}
	return key, nil
}

// findBlock returns the first PEM block of one of the types wanted. The errors say what the file holds instead, as far as that is
// known, because taking the wrong half of a pair is the usual mistake.
func findBlock(data []byte, wanted ...string) (*pem.Block, error) {
	held := ""
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if slices.Contains(wanted, block.Type) {
			return block, nil
		}
		held = orDefault(held, describeBlock(block.Type))
	}
	if held == "" {
		return nil, errors.New("the file holds no PEM block (a DER or PFX file must be converted first)")
	}
	return nil, fmt.Errorf("the file holds %s, %s is needed", held, describeBlock(wanted[0]))
}

func describeBlock(blockType string) string {
	switch blockType {
	case blockPKCS1Private, blockPKCS8Private, blockPKCS8Encrypted:
		return "an RSA private key"
	case blockPKCS1Public, blockPublic:
		return "an RSA public key"
	case blockCertificate:
		return "a certificate"
	default:
		return "a PEM block of another kind"
	}
}
