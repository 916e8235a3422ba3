package unionpay

import (
	"crypto/rsa"
	"io"
	"maps"
	"time"

	"discountquery.example/worker/internal/query"
)

// Verification says what is asked of the signature of a response with status 200.
type Verification string

// The ways to treat a response's signature. The empty value means VerifyRequired.
const (
	// VerifyRequired refuses a response without a valid signature.
	VerifyRequired Verification = "required"
	// VerifyIfPresent refuses a response with an invalid signature and takes one without any.
	VerifyIfPresent Verification = "if_present"
	// VerifyOff does not look at signatures.
	VerifyOff Verification = "off"
)

// EncryptionMode says in which form the card data travels in the field data.
type EncryptionMode string

// The forms of the field data. The empty value means EncryptJWE.
const (
	// EncryptJWE puts a compact JWE string (RFC 7516, section 7.1) in the place of the object.
	EncryptJWE EncryptionMode = "jwe"
	// EncryptOff sends the plain object, for gateways behind a proxy that encrypts. The card number is then on the wire to it.
	EncryptOff EncryptionMode = "off"
)

// AmountUnit says in which unit the upstream writes amounts. Its page does not tell.
type AmountUnit string

// The units of amounts. The empty value means UnitMajor, which the interface's neighbours use.
const (
	// UnitMajor reads "12.50" with currency 156 as twelve and a half yuan.
	UnitMajor AmountUnit = "major"
	// UnitMinor reads "1250" with currency 156 as twelve and a half yuan.
	UnitMinor AmountUnit = "minor"
)

// The algorithms that Encryption can name (RFC 7518, sections 4.1 and 5.1).
const (
	// AlgRSA15 encrypts the content key by RSAES-PKCS1-v1_5. It is the default, because UnionPay's security page asks for it.
	AlgRSA15 = "RSA1_5"
	// AlgRSAOAEP256 encrypts the content key by RSAES-OAEP with SHA-256.
	AlgRSAOAEP256 = "RSA-OAEP-256"
	// EncA128CBCHS256 encrypts the content by AES-128-CBC with HMAC-SHA-256. It is the default.
	EncA128CBCHS256 = "A128CBC-HS256"
	// EncA128GCM encrypts the content by AES-128-GCM.
	EncA128GCM = "A128GCM"
	// EncA256GCM encrypts the content by AES-256-GCM.
	EncA256GCM = "A256GCM"
)

// defaultTimeZone is the zone of localTime when none is configured: that of UnionPay itself.
const defaultTimeZone = "GMT+08:00"

// Options holds all that UnionPay issues at onboarding and all that its public pages leave open. Keys are parsed already.
type Options struct {
	// BaseURL is the scheme and host of the gateway, with an optional path prefix. It has no default.
	BaseURL string
	// Path is the path of the service below BaseURL and starts with a slash. It has no default.
	Path string
	// ReqPath is the member UPI-REQPATH of the signature; empty means Path.
	ReqPath string
	// ProcType is the interface's id, up to 2 letters and digits.
	ProcType string
	// SignCertID is the id of our signing certificate as the body names it, up to 3 letters and digits.
	SignCertID string
	// EncCertID is the id of UnionPay's encryption certificate as the body names it, up to 3 letters and digits.
	EncCertID string
	// InsCode is our institution code, up to 11 characters.
	InsCode string
	// PID is the offer asked about when a query names none, up to 10 digits; may be empty.
	PID string
	// ScenID is the scenario of queries that name none, up to 4 characters; may be empty.
	ScenID string
	// AppID is the member UPI-APPID of the signature, up to 64 characters.
	AppID string
	// ResvFld is the reserved field, up to 500 characters; left out when empty.
	ResvFld string
	// Signing is how requests are signed.
	Signing Signing
	// Encryption is how card data is encrypted.
	Encryption Encryption
	// VerifyResponse says what is asked of the signature of a response.
	VerifyResponse Verification
	// ResponseKeys holds UnionPay's signing keys by their key id. At least one is needed unless VerifyResponse is VerifyOff.
	ResponseKeys map[string]*rsa.PublicKey
	// TimeZone is sent as localTimeZone and is the zone of localTime, for example "GMT+08:00", which is the default.
	TimeZone string
	// Codes overrides the classes of response codes.
	Codes map[string]query.Class
	// AmountUnit is the unit of amounts.
	AmountUnit AmountUnit
	// Rand is the source of the message ids and of the first reference number; nil means crypto/rand. It must be safe for
	// concurrent use. Encryption does not draw from it.
	Rand io.Reader
}

// Signing is how requests are signed: RS256 in a detached JWS (RFC 7515, appendix F).
type Signing struct {
	// Kid is the key id in the signature's header.
	Kid string
	// Key is our signing key, 2048 bits or more.
	Key *rsa.PrivateKey
	// B64InHeader switches to the unencoded payload of RFC 7797: "b64":false stands in the header and in crit, and the body is
	// signed as it is. UnionPay's page cites that RFC, its sample does not use it.
	B64InHeader bool
}

// Encryption is how card data is encrypted. Responses are never decrypted.
type Encryption struct {
	// Mode is the form of the field data.
	Mode EncryptionMode
	// Alg encrypts the content key; empty means AlgRSA15.
	Alg string
	// Enc encrypts the content; empty means EncA128CBCHS256.
	Enc string
	// Kid is the key id in the JWE's header.
	Kid string
	// Key is UnionPay's encryption key, 2048 bits or more. EncryptOff needs none.
	Key *rsa.PublicKey
}

// withDefaults returns a copy with every empty choice made and the maps cloned, so that later changes of the caller's don't reach
// a running provider.
func (o Options) withDefaults() Options {
	o.ReqPath = orDefault(o.ReqPath, o.Path)
	o.TimeZone = orDefault(o.TimeZone, defaultTimeZone)
	o.VerifyResponse = orDefault(o.VerifyResponse, VerifyRequired)
	o.AmountUnit = orDefault(o.AmountUnit, UnitMajor)
	o.Encryption.Mode = orDefault(o.Encryption.Mode, EncryptJWE)
	o.Encryption.Alg = orDefault(o.Encryption.Alg, AlgRSA15)
	o.Encryption.Enc = orDefault(o.Encryption.Enc, EncA128CBCHS256)
	o.ResponseKeys = maps.Clone(o.ResponseKeys)
	o.Codes = maps.Clone(o.Codes)
	return o
}

func orDefault[T ~string](value, fallback T) T {
	if value == "" {
		return fallback
	}
	return value
}

// parseZone reads a zone of the form "GMT+08:00" or "UTC-03:30". It takes no zone names, because their offset changes with the
// season while the field names a fixed one.
func parseZone(text string) (*time.Location, bool) {
	if len(text) != len(defaultTimeZone) || text[:3] != "GMT" && text[:3] != "UTC" || text[6] != ':' {
		return nil, false
	}
	hours, okHours := twoDigits(text[4:6])
	minutes, okMinutes := twoDigits(text[7:9])
	if !okHours || !okMinutes || hours > 14 || minutes > 59 {
		return nil, false
	}
	offset := hours*3600 + minutes*60
	switch text[3] {
	case '+':
		return time.FixedZone(text, offset), true
	case '-':
		return time.FixedZone(text, -offset), true
	default:
		return nil, false
	}
}

func twoDigits(text string) (int, bool) {
	tens, ones := text[0]-'0', text[1]-'0'
	return int(tens)*10 + int(ones), tens <= 9 && ones <= 9
}
