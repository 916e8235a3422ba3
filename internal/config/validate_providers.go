package config

import (
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// The forms of what the providers assign. The lengths are those of the interfaces' field tables.
var (
	mallID       = regexp.MustCompile(`^[A-Za-z0-9]{8}$`)
	percentage   = regexp.MustCompile(`^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$`)
	responseCode = regexp.MustCompile(`^[0-9A-Za-z_-]{1,16}$`)
	procType     = regexp.MustCompile(`^[A-Za-z0-9]{2}$`)
	certID       = regexp.MustCompile(`^[A-Za-z0-9]{3}$`)
	insCode      = regexp.MustCompile(`^[!-~]{1,11}$`)
	programme    = regexp.MustCompile(`^[0-9]{1,10}$`)
	reserved     = regexp.MustCompile(`^[ -~]{1,500}$`)
	scenario     = regexp.MustCompile(`^[!-~]{1,4}$`)
	headerText   = regexp.MustCompile(`^[!-~]{1,64}$`)
	urlPath      = regexp.MustCompile(`^/[A-Za-z0-9._~/-]*$`)
	zoneOffset   = regexp.MustCompile(`^(GMT|UTC)[+-](0[0-9]|1[0-4]):[0-5][0-9]$`)
)

// currentHosts are the hosts of EasyPay's current edition. The legacy edition has hosts of its own.
var currentHosts = []string{"testpgapi.easypay.co.kr", "pgapi.easypay.co.kr"}

func (c Config) validateEasyPay(v *validator) {
	const key = "providers.easypay"
	v.easyPay(key, c.Providers.EasyPay)
	v.easyPayAccounts(key, c.Providers.EasyPay)
}

// easyPay checks the settings of the provider, or those that hold for one account.
func (v *validator) easyPay(key string, p EasyPay) {
	v.oneOf(key+".variant", p.Variant, "current", "legacy")
	v.oneOf(key+".amount_as", p.AmountAs, "number", "string")
	v.oneOf(key+".charset", p.Charset, "auto", "utf-8", "cp949")
	v.matches(key+".path", p.Path, urlPath, "must begin with / and hold no query; or empty for the variant's own")
	v.matches(key+".mall_id", p.MallID, mallID, "must be 8 letters or digits; or empty")
	v.check(percentage.MatchString(p.NearlyExhausted), key+".nearly_exhausted",
		"must be a percentage from 0 to 100 with at most two decimals, such as 95 or 99.5")
	v.provider(key, p.Enabled, p.BaseURL, p.Codes, p.Pace, p.TLS)
	v.concurrency(key+".concurrency", p.Concurrency)
	v.intBetween(key+".max_connections", p.MaxConnections, 0, 10_000)
	v.timeout(key+".timeout", p.Timeout)
	address, err := url.Parse(string(p.BaseURL))
	if p.Variant == "legacy" && err == nil && slices.Contains(currentHosts, address.Hostname()) {
		v.add(key+".base_url", "is a host of the current edition; the legacy one is on https://testpg.easypay.co.kr (test) and https://pg.easypay.co.kr")
	}
}

func (c Config) validateUnionPay(v *validator) {
	const key = "providers.unionpay"
	v.unionPay(key, c.Providers.UnionPay)
	v.unionPayAccounts(key, c.Providers.UnionPay)
}

// unionPay checks the settings of the provider, or those that hold for one account.
func (v *validator) unionPay(key string, p UnionPay) {
	v.matches(key+".path", p.Path, urlPath, "must begin with / and hold no query")
	v.matches(key+".req_path", p.ReqPath, urlPath, "must begin with / and hold no query; or empty for the same as path")
	v.matches(key+".proc_type", p.ProcType, procType, "must be 2 letters or digits")
	v.matches(key+".sign_cert_id", p.SignCertID, certID, "must be 3 letters or digits")
	v.matches(key+".enc_cert_id", p.EncCertID, certID, "must be 3 letters or digits")
	v.matches(key+".ins_code", p.InsCode, insCode, "must be at most 11 printable characters without spaces")
	v.matches(key+".pid", p.PID, programme, "must be at most 10 digits; or empty")
	v.matches(key+".scen_id", p.ScenID, scenario, "must be at most 4 printable characters without spaces; or empty")
	v.matches(key+".resv_fld", p.ResvFld, reserved, "must be at most 500 printable characters; or empty")
	v.matches(key+".app_id", p.AppID, headerText, "must be at most 64 printable characters without spaces")
	v.matches(key+".jws.kid", p.JWS.KID, headerText, "must be at most 64 printable characters without spaces")
	v.matches(key+".encryption.kid", p.Encryption.KID, headerText, "must be at most 64 printable characters without spaces")
	v.check(zoneOffset.MatchString(p.TimeZone), key+".time_zone", "must be nine characters such as GMT+08:00")
	v.oneOf(key+".amount_unit", p.AmountUnit, "major", "minor")
	v.oneOf(key+".response.verify", p.Response.Verify, "required", "if_present", "off")
	v.oneOf(key+".encryption.mode", p.Encryption.Mode, "jwe", "off")
	v.oneOf(key+".encryption.alg", p.Encryption.Alg, "RSA1_5", "RSA-OAEP-256")
	v.oneOf(key+".encryption.enc", p.Encryption.Enc, "A128CBC-HS256", "A128GCM", "A256GCM")
	v.provider(key, p.Enabled, p.BaseURL, p.Codes, p.Pace, p.TLS)
	v.concurrency(key+".concurrency", p.Concurrency)
	v.intBetween(key+".max_connections", p.MaxConnections, 0, 10_000)
	v.timeout(key+".timeout", p.Timeout)
	if p.Enabled {
		v.unionPayNeeds(key, p)
	}
}

// unionPayNeeds checks that an enabled UnionPay has what only UnionPay can assign.
func (v *validator) unionPayNeeds(key string, p UnionPay) {
	needs := []struct{ name, value, from string }{
		{"path", p.Path, "the path that UnionPay gave you"},
		{"proc_type", p.ProcType, "the interface id that UnionPay gave you"},
		{"sign_cert_id", p.SignCertID, "the id of your signing certificate"},
		{"enc_cert_id", p.EncCertID, "the id of UnionPay's encryption certificate"},
		{"ins_code", p.InsCode, "your institution code"},
		{"app_id", p.AppID, "your application id"},
		{"jws.kid", p.JWS.KID, "the id of your signing certificate"},
		{"jws.private_key_file", p.JWS.PrivateKeyFile, "the file of your signing key"},
	}
	for _, need := range needs {
		v.check(need.value != "", key+"."+need.name, "is missing; give "+need.from+", or set providers.unionpay.enabled to false")
	}
	if p.Encryption.Mode == "jwe" {
		v.check(p.Encryption.KID != "", key+".encryption.kid", "is missing; give the id of UnionPay's encryption certificate")
		v.check(p.Encryption.PublicKeyFile != "", key+".encryption.public_key_file", "is missing; give the file of UnionPay's encryption certificate")
	}
	if p.Response.Verify != "off" {
		v.check(len(p.Response.KeyFiles) > 0, key+".response.key_files",
			"is empty; give UnionPay's signing keys as id and file, or set "+key+".response.verify to off")
	}
	for _, kid := range slices.Sorted(maps.Keys(p.Response.KeyFiles)) {
		ok := headerText.MatchString(kid) && p.Response.KeyFiles[kid] != ""
		v.check(ok, key+".response.key_files", "must have an id of at most 64 printable characters and a file in each row")
	}
}

// provider checks what all providers have.
func (v *validator) provider(key string, enabled bool, base URL, codes map[string]string, pace Pace, tls TLS) {
	v.baseURL(key+".base_url", enabled, base)
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		if !responseCode.MatchString(code) {
			v.add(key+".codes", "must have response codes of 1 to 16 letters, digits, - and _ as names")
			continue
		}
		v.oneOf(key+".codes."+code, codes[code], "ok", "empty", "declined", "transient", "broken", "config")
	}
	v.check(pace.Rate.Interval() > 0, key+".pace.rate", "must be at least one call in a time, such as 10/s")
	v.intBetween(key+".pace.burst", pace.Burst, 1, 10_000)
	v.pair(key+".tls", tls)
}

// concurrency checks how many calls may be under way.
func (v *validator) concurrency(key string, c Concurrency) {
	v.intBetween(key+".min", c.Min, 1, 10_000)
	v.intBetween(key+".max", c.Max, 0, 10_000)
	v.check(c.Max == 0 || c.Min <= c.Max, key+".min", "must not be larger than max; set max to 0 for no limit")
}

// baseURL checks an upstream's address. Card data never travels unencrypted, except to this same machine.
func (v *validator) baseURL(key string, enabled bool, base URL) {
	if base == "" {
		v.check(!enabled, key, "is missing; give the address, such as https://host")
		return
	}
	address, err := url.Parse(string(base))
	if err != nil || address.Hostname() == "" || !slices.Contains([]string{"https", "http"}, address.Scheme) {
		v.add(key, "must be an address such as https://host or https://host:8443")
		return
	}
	bare := address.User == nil && address.RawQuery == "" && address.Fragment == "" && strings.Trim(address.Path, "/") == ""
	v.check(bare, key, "must be a scheme, host and port only; the path has a key of its own, and user names and queries are not used")
	v.check(address.Scheme == "https" || loopback(address.Hostname()), key, "must begin with https://; plain http is for loopback hosts only")
}

// matches checks the form of a value that may be empty.
func (v *validator) matches(key, value string, form *regexp.Regexp, text string) {
	v.check(value == "" || form.MatchString(value), key, text)
}
