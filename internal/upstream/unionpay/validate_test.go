package unionpay

import (
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

func TestNewTakesWhatIsRight(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"as it is":            func(*Options) {},
		"no pid":              func(o *Options) { o.PID = "" },
		"shortest fields":     func(o *Options) { o.ProcType, o.SignCertID, o.EncCertID, o.InsCode = "1", "1", "1", "1" },
		"OAEP and GCM":        func(o *Options) { o.Encryption.Alg, o.Encryption.Enc = AlgRSAOAEP256, EncA256GCM },
		"small GCM":           func(o *Options) { o.Encryption.Enc = EncA128GCM },
		"no encryption":       func(o *Options) { o.Encryption = Encryption{Mode: EncryptOff} },
		"no verification":     func(o *Options) { o.VerifyResponse, o.ResponseKeys = VerifyOff, nil },
		"optional signatures": func(o *Options) { o.VerifyResponse = VerifyIfPresent },
		"minor units":         func(o *Options) { o.AmountUnit = UnitMinor },
		"plain http":          func(o *Options) { o.BaseURL = "http://127.0.0.1:8080/" },
		"IPv6":                func(o *Options) { o.BaseURL = "https://[::1]:8443" },
		"all classes": func(o *Options) {
			o.Codes = map[string]query.Class{
				"00": query.ClassBroken, "01": query.ClassOK, "10": query.ClassEmpty, "A_-": query.ClassDeclined, "10000": query.ClassTransient, "E0": query.ClassConfig,
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			change(&o)
			_, err := New(o)
			require.NoError(t, err)
		})
	}
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	t.Parallel()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	require.NoError(t, err)
	odd := *signingKey()
	odd.D = new(big.Int).Add(odd.D, big.NewInt(2))
	for name, c := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"procType":           {func(o *Options) { o.ProcType = "" }, "procType must be 1 to 2 letters and digits"},
		"signCertId":         {func(o *Options) { o.SignCertID = "1234" }, "signCertId must be 1 to 3 letters and digits"},
		"encCertId":          {func(o *Options) { o.EncCertID = "1-2" }, "encCertId must be 1 to 3 letters and digits"},
		"insCode":            {func(o *Options) { o.InsCode = "123456789012" }, "insCode must be 1 to 11 printable ASCII characters"},
		"pid":                {func(o *Options) { o.PID = "12x" }, "pid must be 0 to 10 digits"},
		"scenId":             {func(o *Options) { o.ScenID = "12345" }, "scenId must be 0 to 4 printable ASCII characters"},
		"resvFld":            {func(o *Options) { o.ResvFld = "가" }, "resvFld must be 0 to 500 printable ASCII characters"},
		"appId":              {func(o *Options) { o.AppID = "" }, "UPI-APPID must be 1 to 64 printable ASCII characters"},
		"reqPath":            {func(o *Options) { o.ReqPath = "/a\n" }, "UPI-REQPATH must be"},
		"kid":                {func(o *Options) { o.Signing.Kid = "" }, "the signing kid must be"},
		"no signing key":     {func(o *Options) { o.Signing.Key = nil }, "Signing.Key is missing"},
		"empty signing key":  {func(o *Options) { o.Signing.Key = &rsa.PrivateKey{} }, "Signing.Key must have at least 2048 bits"},
		"small signing key":  {func(o *Options) { o.Signing.Key = small }, "Signing.Key must have at least 2048 bits"},
		"wrong signing key":  {func(o *Options) { o.Signing.Key = &odd }, "Signing.Key is not a valid RSA key"},
		"mode":               {func(o *Options) { o.Encryption.Mode = "JWE" }, "Encryption.Mode must be jwe or off"},
		"alg":                {func(o *Options) { o.Encryption.Alg = "RSA-OAEP" }, "Encryption.Alg must be RSA1_5 or RSA-OAEP-256"},
		"enc":                {func(o *Options) { o.Encryption.Enc = "A256CBC-HS512" }, "Encryption.Enc must be"},
		"encryption kid":     {func(o *Options) { o.Encryption.Kid = "" }, "the encryption kid must be"},
		"no encryption key":  {func(o *Options) { o.Encryption.Key = nil }, "Encryption.Key must be there"},
		"small encryption":   {func(o *Options) { o.Encryption.Key = &small.PublicKey }, "Encryption.Key must be there and have at least 2048 bits"},
		"verification":       {func(o *Options) { o.VerifyResponse = "on" }, "VerifyResponse must be required, if_present or off"},
		"no response keys":   {func(o *Options) { o.ResponseKeys = nil }, "ResponseKeys is empty"},
		"small response key": {func(o *Options) { o.ResponseKeys = map[string]*rsa.PublicKey{"a": &small.PublicKey} }, "ResponseKeys must hold"},
		"response key nil":   {func(o *Options) { o.ResponseKeys = map[string]*rsa.PublicKey{"a": nil} }, "ResponseKeys must hold"},
		"response kid empty": {func(o *Options) { o.ResponseKeys = map[string]*rsa.PublicKey{"": &responseKey().PublicKey} }, "ResponseKeys must hold"},
		"unit":               {func(o *Options) { o.AmountUnit = "cents" }, "AmountUnit must be major or minor"},
		"class":              {func(o *Options) { o.Codes = map[string]query.Class{"01": "good"} }, "Codes must name a known class"},
		"code empty":         {func(o *Options) { o.Codes = map[string]query.Class{"": query.ClassOK} }, "Codes must name a known class"},
		"code too long":      {func(o *Options) { o.Codes = map[string]query.Class{"12345678": query.ClassOK} }, "Codes must name a known class"},
		"code with a space":  {func(o *Options) { o.Codes = map[string]query.Class{"0 0": query.ClassOK} }, "Codes must name a known class"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			c.change(&o)
			p, err := New(o)
			require.Nil(t, p)
			require.ErrorContains(t, err, "configure unionpay: ")
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "\n", "one problem, one line")
		})
	}
}

func TestNewRefusesAddresses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Options){
		"no base":          func(o *Options) { o.BaseURL = "" },
		"no scheme":        func(o *Options) { o.BaseURL = "gateway.example" },
		"another scheme":   func(o *Options) { o.BaseURL = "ftp://gateway.example" },
		"no host":          func(o *Options) { o.BaseURL = "https://:443" },
		"user":             func(o *Options) { o.BaseURL = "https://me:hunter2@gateway.example" },
		"broken user":      func(o *Options) { o.BaseURL = "https://me:hunter2%zz@gateway.example" },
		"query":            func(o *Options) { o.Path = "/a?b=hunter2" },
		"empty query":      func(o *Options) { o.Path = "/a?" },
		"fragment":         func(o *Options) { o.Path = "/a#b" },
		"no path":          func(o *Options) { o.Path, o.ReqPath = "", "/a" },
		"path of no slash": func(o *Options) { o.Path = ".evil.example/a" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options(t)
			change(&o)
			_, err := New(o)
			require.ErrorContains(t, err, "BaseURL and Path must form")
			require.NotContains(t, err.Error(), "hunter2")
		})
	}
}

func TestNewRefusesZones(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"GMT+8", "Asia/Seou", "GMT+15:00", "GMT+08:60", "gmt+08:00", "GMT 08:00", "GMT+0a:00", "GMT+08-00", "GMT+/8:00", "가가가"} {
		o := options(t)
		o.TimeZone = zone
		_, err := New(o)
		require.ErrorContains(t, err, "TimeZone must have the form", zone)
	}
}

func TestNewNamesAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Options{})
	require.Error(t, err)
	for _, part := range []string{"procType", "signCertId", "encCertId", "insCode", "UPI-APPID", "UPI-REQPATH", "the signing kid", "Signing.Key",
		"the encryption kid", "Encryption.Key", "ResponseKeys", "BaseURL"} {
		require.ErrorContains(t, err, part)
	}
	require.NotContains(t, err.Error(), "TimeZone", "what has a default needs no value")
	require.Greater(t, strings.Count(err.Error(), "\n"), 8)
}

func TestProviderKeepsItsOwnMaps(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Codes = map[string]query.Class{"10": query.ClassEmpty}
	p, err := New(o)
	require.NoError(t, err)
	delete(o.ResponseKeys, "upi-1")
	o.Codes["10"] = query.ClassOK
	require.Contains(t, p.verifier.keys, "upi-1")
	require.Equal(t, query.ClassEmpty, p.classes["10"])
}
