package base

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// authority is one certificate of the bundle.
type authority struct {
	subject string
	sum     [sha256.Size]byte
	der     []byte
}

// Certificates returns the authorities that Mozilla trusts, in PEM, sorted by subject. They come from a Go module that its checksum
// pins. Authorities that are trusted for a part of their certificates only are left out, because PEM has no place for such a limit.
func Certificates() ([]byte, error) {
	var all []authority
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		parsed, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return nil, fmt.Errorf("read an authority: %w", err)
		}
		all = append(all, authority{subject: parsed.Subject.String(), sum: sha256.Sum256(root.Certificate), der: root.Certificate})
	}
	slices.SortFunc(all, func(a, b authority) int {
		if order := strings.Compare(a.subject, b.subject); order != 0 {
			return order
		}
		return bytes.Compare(a.sum[:], b.sum[:])
	})
	var text bytes.Buffer
	for _, one := range all {
		fmt.Fprintf(&text, "# %s\n# SHA-256 %x\n", one.subject, one.sum)
		if err := pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: one.der}); err != nil {
			return nil, fmt.Errorf("write an authority: %w", err)
		}
	}
	return text.Bytes(), nil
}
