package sandbox

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
)

// usageRequest is the body of a query, as the API page's table has it. Values are strings, so that no leading zero is lost.
type usageRequest struct {
	ProcType      *string `json:"procType"`
	SignCertID    *string `json:"signCertId"`
	EncCertID     *string `json:"encCertId"`
	InsCode       *string `json:"insCode"`
	PID           *string `json:"pid"`
	ScenID        *string `json:"scenId"`
	RefNum        *string `json:"refNum"`
	LocalTime     *string `json:"localTime"`
	LocalTimeZone *string `json:"localTimeZone"`
	ResvFld       *string `json:"resvFld"`
	Data          *string `json:"data"`
}

// secretFields is the plaintext of data. It lives for one call and is never printed.
type secretFields struct {
	UserToken *string `json:"userToken"`
	CardNo    *string `json:"cardNo"`
	Mobile    *string `json:"mobile"`
}

// parseUsageRequest reads what it can. The second result is false when the body isn't an object of the known members.
func parseUsageRequest(body []byte) (*usageRequest, bool) {
	var q usageRequest
	err := json.Unmarshal(body, &q, json.RejectUnknownMembers(true))
	return &q, err == nil
}

// account returns a well-formed insCode, or "": what a client sends by mistake in its place is not kept.
func (q *usageRequest) account() string {
	if code := text(q.InsCode); len(code) <= 11 && isAlnum(code) {
		return code
	}
	return ""
}

func (q *usageRequest) facts() facts {
	return facts{pid: text(q.PID), insCode: text(q.InsCode), scenID: text(q.ScenID)}
}

// text returns the string, or "" when there is none.
func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// class is a type letter group of the API page.
type class uint8

const (
	classN   class = iota // n: digits.
	classAN               // an: letters and digits.
	classANS              // ans: letters, digits and signs.
)

// fieldRule is one line of the API page's table.
type fieldRule struct {
	name     string
	value    *string
	class    class
	min, max int
	optional bool
}

// ok reports whether the field's value fits the table.
func (f *fieldRule) ok() bool {
	if f.value == nil {
		return f.optional
	}
	v := *f.value
	if len(v) < f.min || len(v) > f.max {
		return false
	}
	switch f.class {
	case classN:
		return isDigits(v)
	case classAN:
		return isAlnum(v)
	case classANS:
		return strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r > '~' }) < 0
	}
	return false
}

// malformed returns the name of the first field that breaks its rule, or "".
func malformed(rules []fieldRule) string {
	for i := range rules {
		if !rules[i].ok() {
			return rules[i].name
		}
	}
	return ""
}

// rules returns the table of the API page. Lengths are maxima but for the fields whose form leaves no choice.
func (q *usageRequest) rules() []fieldRule {
	return []fieldRule{
		{"procType", q.ProcType, classAN, 2, 2, false},
		{"signCertId", q.SignCertID, classAN, 3, 3, false},
		{"encCertId", q.EncCertID, classAN, 3, 3, false},
		{"insCode", q.InsCode, classANS, 1, 11, false},
		{"pid", q.PID, classN, 1, 10, false},
		{"scenId", q.ScenID, classANS, 1, 4, true},
		{"refNum", q.RefNum, classN, 1, 15, false},
		{"localTime", q.LocalTime, classN, 14, 14, false},
		{"localTimeZone", q.LocalTimeZone, classANS, 1, 9, false},
		{"resvFld", q.ResvFld, classANS, 1, 500, true},
		{"data", q.Data, classANS, 1, maxRequestBody, false},
	}
}

// echo returns a field's value for the answer when it is well-formed, and "" otherwise: a card number that a client puts into the
// wrong field doesn't come back.
func (q *usageRequest) echo(name string) string {
	for _, rule := range q.rules() {
		if rule.name == name && rule.ok() {
			return text(rule.value)
		}
	}
	return ""
}

// check looks for what UnionPay would refuse by its own code. Messages name fields and never values. The refNum is remembered
// only when all else is right.
func (u *unionPay) check(q *usageRequest, known bool) (code, message string) {
	if !known {
		return UnionPayBadFormat, "Not an object of the known fields"
	}
	if name := malformed(q.rules()); name != "" {
		return UnionPayBadFormat, "Format error: " + name
	}
	if _, err := time.Parse("20060102150405", *q.LocalTime); err != nil {
		return UnionPayBadFormat, "Format error: localTime"
	}
	switch {
	case u.ProcType != "" && *q.ProcType != u.ProcType:
		return UnionPayBadProcType, "Unknown procType"
	case u.InsCode != "" && *q.InsCode != u.InsCode:
		return UnionPayBadInstitution, "Unknown insCode"
	case u.SignCertID != "" && *q.SignCertID != u.SignCertID:
		return UnionPayBadCertificate, "Unknown signCertId"
	case u.EncCertID != "" && *q.EncCertID != u.EncCertID:
		return UnionPayBadCertificate, "Unknown encCertId"
	case !u.refNums.add(*q.InsCode + " " + *q.RefNum):
		return UnionPayDuplicate, "Duplicate refNum"
	}
	return UnionPayOK, "Approved"
}

// usage opens the data and returns the card's usage of the offer. All that can be wrong with a ciphertext gets one code, so that
// the answer tells nothing about it.
func (u *unionPay) usage(q *usageRequest) (usage Usage, code, message string) {
	secret, ok := u.open(*q.Data)
	if !ok {
		return Usage{}, UnionPayUndecryptable, "Can't decrypt: data"
	}
	rules := []fieldRule{
		{"userToken", secret.UserToken, classAN, 1, 50, false},
		{"cardNo", secret.CardNo, classN, 12, 19, false},
		{"mobile", secret.Mobile, classANS, 1, 30, true},
	}
	if name := malformed(rules); name != "" {
		return Usage{}, UnionPayBadFormat, "Format error: " + name
	}
	return usageOf(u.usageKey, *secret.CardNo, *q.PID), UnionPayOK, "Approved"
}

// jweHeader is the header of a caller's JWE. Other members, such as zip, are refused.
type jweHeader struct {
	Alg string `json:"alg"`
	Enc string `json:"enc"`
	Kid string `json:"kid"`
}

// algorithm returns the key algorithm of an accepted pair: UPI's own, and the two stronger ones.
func (h *jweHeader) algorithm() (jwa.KeyEncryptionAlgorithm, bool) {
	switch h.Alg + "+" + h.Enc {
	case "RSA1_5+A128CBC-HS256":
		return jwa.RSA1_5(), true
	case "RSA-OAEP-256+A128GCM", "RSA-OAEP-256+A256GCM":
		return jwa.RSA_OAEP_256(), true
	}
	return jwa.KeyEncryptionAlgorithm{}, false
}

// open decrypts a compact JWE. It reports false for whatever is wrong; the library's error could quote the plaintext and ends here.
func (u *unionPay) open(token string) (*secretFields, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 5 {
		return nil, false
	}
	for _, part := range parts {
		if _, err := strictBase64.DecodeString(part); err != nil || part == "" {
			return nil, false
		}
	}
	raw, _ := strictBase64.DecodeString(parts[0]) // Decoded above without an error.
	var h jweHeader
	if err := json.Unmarshal(raw, &h, json.RejectUnknownMembers(true)); err != nil {
		return nil, false
	}
	alg, accepted := h.algorithm()
	key := u.DecryptKeys[h.Kid]
	if !accepted || key == nil {
		return nil, false
	}
	plain, err := jwe.Decrypt([]byte(token), jwe.WithKey(alg, key))
	if err != nil {
		return nil, false
	}
	var secret secretFields
	if err := json.Unmarshal(plain, &secret, json.RejectUnknownMembers(true)); err != nil {
		return nil, false
	}
	return &secret, true
}
