package unionpay

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
)

// signatureHeader carries the detached JWS in requests and responses.
const signatureHeader = "UPI-JWS"

// The members that UnionPay adds to the protected header (UnionPay's security page).
const (
	memberUUID      = "UPI-UUID"
	memberTimestamp = "UPI-TIMESTAMP"
	memberAppID     = "UPI-APPID"
	memberReqPath   = "UPI-REQPATH"
	memberB64       = "b64"
)

// protected is the protected header of a request's signature.
type protected struct {
	Alg       string   `json:"alg"`
	Kid       string   `json:"kid"`
	B64       *bool    `json:"b64,omitzero"`
	Crit      []string `json:"crit"`
	UUID      string   `json:"UPI-UUID"`
	Timestamp string   `json:"UPI-TIMESTAMP"`
	AppID     string   `json:"UPI-APPID"`
	ReqPath   string   `json:"UPI-REQPATH"`
}

// signer makes the value of the header UPI-JWS. The JWS is written by hand: it is one hash and one signature, and the JOSE
// libraries refuse to verify the names that UnionPay puts into crit.
type signer struct {
	signing Signing
	appID   string
	reqPath string
	random  io.Reader
}

// sign returns the detached JWS over body with a message id and a timestamp that no other request has: UnionPay takes an id once
// a day and a timestamp for 300 seconds.
func (s *signer) sign(now time.Time, body []byte) (string, error) {
	uuid, err := messageID(s.random)
	if err != nil {
		return "", err
	}
	header, err := json.Marshal(s.header(uuid, now))
	if err != nil {
		return "", err
	}
	encoded := base64.RawURLEncoding.EncodeToString(header)
	digest := sha256.Sum256(signingInput(encoded, body, s.signing.B64InHeader))
	// PKCS #1 v1.5 signatures need no randomness (RFC 8017, section 8.2.1).
	signature, err := rsa.SignPKCS1v15(nil, s.signing.Key, crypto.SHA256, digest[:])
	if err != nil {
		return "", err
	}
	return encoded + ".." + base64.RawURLEncoding.EncodeToString(signature), nil
}

func (s *signer) header(uuid string, now time.Time) protected {
	header := protected{
		Alg: "RS256", Kid: s.signing.Kid,
		Crit: []string{memberUUID, memberTimestamp, memberAppID, memberReqPath},
		UUID: uuid, Timestamp: strconv.FormatInt(now.Unix(), 10), AppID: s.appID, ReqPath: s.reqPath,
	}
	if s.signing.B64InHeader {
		encoded := false
		header.B64 = &encoded
		header.Crit = append(header.Crit, memberB64)
	}
	return header
}

// signingInput returns what is signed: the encoded header, a dot, and the body in base64url (RFC 7515, section 5.1), or the body
// as it is (RFC 7797, section 3).
func signingInput(header string, body []byte, unencoded bool) []byte {
	input := make([]byte, 0, len(header)+1+base64.RawURLEncoding.EncodedLen(len(body)))
	input = append(input, header...)
	input = append(input, '.')
	if unencoded {
		return append(input, body...)
	}
	return base64.RawURLEncoding.AppendEncode(input, body)
}
