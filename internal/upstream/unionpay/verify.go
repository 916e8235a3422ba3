package unionpay

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxSignature bounds the value of the header UPI-JWS.
	maxSignature = 8 << 10
	// maxSkew is how far a timestamp may be from our clock, in seconds (UnionPay's FAQ on security).
	maxSkew = 300
)

// problem says in closed words what is wrong with a signature; empty means nothing. It becomes part of an error's text, so that ops
// can tell a wrong clock from a wrong key.
type problem string

// The problems a signature can have.
const (
	noProblem         problem = ""
	noSignature       problem = "no signature"
	badForm           problem = "not a detached signature"
	badAlgorithm      problem = "refused algorithm"
	unknownKey        problem = "unknown key id"
	badCritical       problem = "refused critical member"
	badTimestamp      problem = "timestamp out of range"
	doesNotVerify     problem = "does not verify"
	severalSignatures problem = "several signatures"
)

// verifier checks the signatures of responses. It is written by hand for the reason given at signer.
type verifier struct {
	mode      Verification
	keys      map[string]*rsa.PublicKey
	unencoded bool
}

// check verifies the signature in header over the raw body, before anybody reads the body.
func (v *verifier) check(header http.Header, body []byte, at time.Time) problem {
	if v.mode == VerifyOff {
		return noProblem
	}
	values := valuesOf(header, signatureHeader)
	switch {
	case len(values) == 0 && v.mode == VerifyIfPresent:
		return noProblem
	case len(values) == 0:
		return noSignature
	case len(values) > 1:
		return severalSignatures
	}
	s, what := readSignature(values[0])
	if what != noProblem {
		return what
	}
	return v.verify(s, body, at)
}

func (v *verifier) verify(s signature, body []byte, at time.Time) problem {
	if alg, _ := s.text("alg"); alg != "RS256" {
		return badAlgorithm
	}
	kid, _ := s.text("kid")
	key, ok := v.keys[kid]
	if !ok {
		return unknownKey
	}
	unencoded, ok := s.critical(v.unencoded)
	if !ok {
		return badCritical
	}
	if !s.timely(at) {
		return badTimestamp
	}
	digest := sha256.Sum256(signingInput(s.encoded, body, unencoded))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], s.value) != nil {
		return doesNotVerify
	}
	return noProblem
}

// valuesOf returns the values of a header whatever its case: net/http canonicalises names on HTTP/1.1, other readers don't.
func valuesOf(header http.Header, name string) []string {
	var values []string
	for key, all := range header {
		if strings.EqualFold(key, name) {
			values = append(values, all...)
		}
	}
	return values
}

// signature is a detached JWS that was read but not verified.
type signature struct {
	// encoded is the protected header as received: the signature is over these characters.
	encoded string
	members map[string]jsontext.Value
	value   []byte
}

// readSignature reads a detached JWS: header, two dots, signature.
func readSignature(text string) (signature, problem) {
	encoded, rest, ok := strings.Cut(text, ".")
	if !ok || len(text) > maxSignature || !strings.HasPrefix(rest, ".") {
		return signature{}, badForm
	}
	header, okHeader := decodeBase64URL(encoded)
	value, okValue := decodeBase64URL(rest[1:])
	if !okHeader || !okValue || len(value) == 0 || !shallow(header) {
		return signature{}, badForm
	}
	s := signature{encoded: encoded, value: value}
	if err := json.Unmarshal(header, &s.members); err != nil || s.members == nil {
		return signature{}, badForm
	}
	return s, noProblem
}

// decodeBase64URL decodes base64url with or without padding: one of UnionPay's own helpers pads. Line breaks, which the standard
// decoder would skip, are refused.
func decodeBase64URL(text string) ([]byte, bool) {
	bare := strings.TrimRight(text, "=")
	if strings.ContainsAny(bare, "\r\n") || len(text)-len(bare) > 2 {
		return nil, false
	}
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(bare)
	return decoded, err == nil
}

// text returns the member name if it is a string.
func (s signature) text(name string) (string, bool) {
	value, ok := s.members[name]
	if !ok || value.Kind() != '"' {
		return "", false
	}
	text, err := jsontext.AppendUnquote(nil, value)
	return string(text), err == nil
}

// critical checks the member crit (RFC 7515, section 4.1.11): it may name UnionPay's own members only, each of which must then be
// there as a string, and b64 where that is configured. A header without crit is fine; UnionPay may leave the path out of responses.
// It returns whether the body was signed unencoded.
func (s signature) critical(allowB64 bool) (unencoded, ok bool) {
	value, there := s.members["crit"]
	if !there {
		return false, true
	}
	var names []string
	if value.Kind() != '[' || json.Unmarshal(value, &names) != nil || len(names) == 0 {
		return false, false
	}
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		if seen[name] {
			return false, false
		}
		seen[name] = true
		switch name {
		case memberUUID, memberTimestamp, memberAppID, memberReqPath:
			_, ok = s.text(name)
		case memberB64:
			kind := s.members[name].Kind()
			unencoded = kind == 'f'
			ok = allowB64 && (kind == 'f' || kind == 't')
		default:
			ok = false
		}
		if !ok {
			return false, false
		}
	}
	return unencoded, true
}

// timely tells whether the timestamp, if there is one, is at most 300 seconds away from at.
func (s signature) timely(at time.Time) bool {
	if _, there := s.members[memberTimestamp]; !there {
		return true
	}
	text, ok := s.text(memberTimestamp)
	if !ok || len(text) > 12 || !isDigits(text) {
		return false
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	skew := at.Unix() - seconds
	return err == nil && skew >= -maxSkew && skew <= maxSkew
}

// isDigits tells whether text is one or more digits.
func isDigits(text string) bool {
	for i := range len(text) {
		if !typeN.allows(text[i]) {
			return false
		}
	}
	return text != ""
}
