package unionpay

import (
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// sealer turns the plaintext of data into a compact JWE. It is safe for concurrent use.
type sealer struct {
	encrypter jose.Encrypter
}

// newSealer returns a sealer for UnionPay's encryption key, with the header members alg, enc and kid and no others.
//
// RSA1_5 is the default for one reason: UnionPay's security page asks for exactly that, and a gateway that expects it can't read
// anything else. Its known weakness lies with whoever decrypts and tells good padding from bad, and this worker never decrypts
// with it: responses are never decrypted at all, and queries accept no RSA algorithm. This is the only place that names it
// to a library.
func newSealer(e Encryption) (*sealer, error) {
	recipient := jose.Recipient{Algorithm: jose.KeyAlgorithm(e.Alg), Key: e.Key, KeyID: e.Kid}
	encrypter, err := jose.NewEncrypter(jose.ContentEncryption(e.Enc), recipient, nil)
	if err != nil {
		return nil, errors.New("the encryption key can't be used with the algorithms given")
	}
	return &sealer{encrypter: encrypter}, nil
}

// seal returns plaintext as a compact JWE with a fresh content key and initialisation vector.
func (s *sealer) seal(plaintext []byte) (string, error) {
	message, err := s.encrypter.Encrypt(plaintext)
	if err != nil {
		return "", err
	}
	return message.CompactSerialize()
}
