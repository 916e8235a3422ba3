package unionpay

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"discountquery.example/worker/internal/query"
)

// minKeyBits is the smallest RSA key that RFC 7518 allows for RS256, RSA1_5 and RSA-OAEP (sections 3.3, 4.2 and 4.3).
const minKeyBits = 2048

// validate returns all that is wrong with the options at once, by name and without their values.
func (o Options) validate() error {
	var problems []error
	problems = append(problems, o.fieldProblems()...)
	problems = append(problems, o.Signing.problems()...)
	problems = append(problems, o.Encryption.problems()...)
	problems = append(problems, o.responseProblems()...)
	if _, ok := o.endpoint(); !ok {
		problems = append(problems, errors.New("BaseURL and Path must form an http or https address without user, query and fragment"))
	}
	if _, ok := parseZone(o.TimeZone); !ok {
		problems = append(problems, errors.New(`TimeZone must have the form "GMT+08:00"`))
	}
	return errors.Join(problems...)
}

// fieldProblems checks the configured fields of the body and of the signature's header against their types and lengths.
func (o Options) fieldProblems() []error {
	var problems []error
	for _, field := range []struct {
		rule  rule
		value string
	}{
		{ruleProcType, o.ProcType}, {ruleSignCertID, o.SignCertID}, {ruleEncCertID, o.EncCertID}, {ruleInsCode, o.InsCode},
		{rulePID.optional(), o.PID}, {ruleScenID, o.ScenID}, {ruleResvFld, o.ResvFld}, {ruleLocalTimeZone, o.TimeZone},
		{ruleAppID, o.AppID}, {ruleReqPath, o.ReqPath}, {ruleSignKid, o.Signing.Kid},
	} {
		if !field.rule.allows(field.value) {
			problems = append(problems, fmt.Errorf("%s must be %s", field.rule.name, field.rule))
		}
	}
	return problems
}

func (s Signing) problems() []error {
	switch {
	case s.Key == nil:
		return []error{errors.New("Signing.Key is missing")}
	case s.Key.N == nil || s.Key.N.BitLen() < minKeyBits:
		return []error{fmt.Errorf("Signing.Key must have at least %d bits", minKeyBits)}
	case s.Key.Validate() != nil:
		return []error{errors.New("Signing.Key is not a valid RSA key")}
	default:
		return nil
	}
}

func (e Encryption) problems() []error {
	if e.Mode == EncryptOff {
		return nil
	}
	var problems []error
	if e.Mode != EncryptJWE {
		problems = append(problems, errors.New("Encryption.Mode must be jwe or off"))
	}
	if e.Alg != AlgRSA15 && e.Alg != AlgRSAOAEP256 {
		problems = append(problems, errors.New("Encryption.Alg must be RSA1_5 or RSA-OAEP-256"))
	}
	if e.Enc != EncA128CBCHS256 && e.Enc != EncA128GCM && e.Enc != EncA256GCM {
		problems = append(problems, errors.New("Encryption.Enc must be A128CBC-HS256, A128GCM or A256GCM"))
	}
	if !ruleEncKid.allows(e.Kid) {
		problems = append(problems, fmt.Errorf("%s must be %s", ruleEncKid.name, ruleEncKid))
	}
	if !longEnough(e.Key) {
		problems = append(problems, fmt.Errorf("Encryption.Key must be there and have at least %d bits", minKeyBits))
	}
	return problems
}

func (o Options) responseProblems() []error {
	var problems []error
	switch o.VerifyResponse {
	case VerifyOff:
	case VerifyRequired, VerifyIfPresent:
		if len(o.ResponseKeys) == 0 {
			problems = append(problems, errors.New("ResponseKeys is empty although responses are verified"))
		}
	default:
		problems = append(problems, errors.New("VerifyResponse must be required, if_present or off"))
	}
	for kid, key := range o.ResponseKeys {
		if kid == "" || !longEnough(key) {
			problems = append(problems, fmt.Errorf("ResponseKeys must hold keys of at least %d bits by key id", minKeyBits))
			break
		}
	}
	if o.AmountUnit != UnitMajor && o.AmountUnit != UnitMinor {
		problems = append(problems, errors.New("AmountUnit must be major or minor"))
	}
	for code, class := range o.Codes {
		if cleanCode(code) == "" || !knownClass(class) {
			problems = append(problems, errors.New("Codes must name a known class for codes of 1 to 7 characters of 0-9, A-Z, a-z, _ and -"))
			break
		}
	}
	return problems
}

func longEnough(key *rsa.PublicKey) bool {
	return key != nil && key.N != nil && key.N.BitLen() >= minKeyBits
}

func knownClass(class query.Class) bool {
	switch class {
	case query.ClassOK, query.ClassEmpty, query.ClassDeclined, query.ClassTransient, query.ClassBroken, query.ClassConfig:
		return true
	default:
		return false
	}
}

// endpoint returns the address of the service. The error of url.Parse is not passed on, because it repeats the address with any
// password in it.
func (o Options) endpoint() (*url.URL, bool) {
	if !strings.HasPrefix(o.Path, "/") {
		return nil, false
	}
	address, err := url.Parse(strings.TrimRight(o.BaseURL, "/") + o.Path)
	if err != nil {
		return nil, false
	}
	plain := address.User == nil && address.RawQuery == "" && !address.ForceQuery && address.Fragment == ""
	web := address.Scheme == "http" || address.Scheme == "https"
	return address, web && plain && address.Hostname() != ""
}
