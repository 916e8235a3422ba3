package unionpay

import (
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
)

// TestSigningInputOfRFC7515 signs the example of appendix A.2 with its key and compares the signature printed there.
func TestSigningInputOfRFC7515(t *testing.T) {
	t.Parallel()
	input := signingInput("eyJhbGciOiJSUzI1NiJ9", []byte("{\"iss\":\"joe\",\r\n \"exp\":1300819380,\r\n \"http://example.com/is_root\":true}"), false)
	require.Equal(t, "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ", string(input))
	digest := sha256.Sum256(input)
	value, err := rsa.SignPKCS1v15(nil, signingKey(), crypto.SHA256, digest[:])
	require.NoError(t, err)
	require.Equal(t, "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKB"+
		"YNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6Bf"+
		"I7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw", base64.RawURLEncoding.EncodeToString(value))
}

// TestSigningInputOfRFC7797 compares the unencoded form with the example of section 4.2, which uses HMAC.
func TestSigningInputOfRFC7797(t *testing.T) {
	t.Parallel()
	key, err := base64.RawURLEncoding.DecodeString("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
	require.NoError(t, err)
	mac := hmac.New(sha256.New, key)
	mac.Write(signingInput("eyJhbGciOiJIUzI1NiIsImI2NCI6ZmFsc2UsImNyaXQiOlsiYjY0Il19", []byte("$.02"), true))
	require.Equal(t, "A5dxf2s96_n5FLueVuW1Z_vh161FwXZC4YLPff6dmDY", base64.RawURLEncoding.EncodeToString(mac.Sum(nil)))
}

// replaced returns the response's header with old replaced, and requires that it was there.
func replaced(tb testing.TB, old, with string) string {
	tb.Helper()
	require.Contains(tb, responseHeader(), old)
	return strings.Replace(responseHeader(), old, with, 1)
}

func TestSignatureHeaderMembersAreChecked(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	for name, c := range map[string]struct {
		header string
		want   problem
	}{
		"good":                {responseHeader(), noProblem},
		"no alg":              {replaced(t, `"alg":"RS256",`, ``), badAlgorithm},
		"alg none":            {replaced(t, `"RS256"`, `"none"`), badAlgorithm},
		"alg HS256":           {replaced(t, `"RS256"`, `"HS256"`), badAlgorithm},
		"alg PS256":           {replaced(t, `"RS256"`, `"PS256"`), badAlgorithm},
		"alg lower case":      {replaced(t, `"RS256"`, `"rs256"`), badAlgorithm},
		"alg number":          {replaced(t, `"RS256"`, `256`), badAlgorithm},
		"alg other case":      {replaced(t, `"alg"`, `"Alg"`), badAlgorithm},
		"no kid":              {replaced(t, `"kid":"upi-1",`, ``), unknownKey},
		"kid of another":      {replaced(t, `"upi-1"`, `"upi-2"`), unknownKey},
		"kid with a space":    {replaced(t, `"upi-1"`, `" upi-1"`), unknownKey},
		"kid number":          {replaced(t, `"upi-1"`, `1`), unknownKey},
		"kid null":            {replaced(t, `"upi-1"`, `null`), unknownKey},
		"crit unknown name":   {replaced(t, `["UPI-UUID"`, `["UPI-NEW","UPI-UUID"`), badCritical},
		"crit standard name":  {replaced(t, `["UPI-UUID"`, `["alg","UPI-UUID"`), badCritical},
		"crit name twice":     {replaced(t, `["UPI-UUID"`, `["UPI-UUID","UPI-UUID"`), badCritical},
		"crit empty":          {replaced(t, `["UPI-UUID","UPI-TIMESTAMP","UPI-APPID"]`, `[]`), badCritical},
		"crit null":           {replaced(t, `["UPI-UUID","UPI-TIMESTAMP","UPI-APPID"]`, `null`), badCritical},
		"crit text":           {replaced(t, `["UPI-UUID","UPI-TIMESTAMP","UPI-APPID"]`, `"UPI-UUID"`), badCritical},
		"crit of numbers":     {replaced(t, `["UPI-UUID","UPI-TIMESTAMP","UPI-APPID"]`, `[1]`), badCritical},
		"crit nested":         {replaced(t, `["UPI-UUID"`, `[["UPI-UUID"]`), badCritical},
		"crit b64":            {replaced(t, `["UPI-UUID"`, `["b64","UPI-UUID"`), badCritical},
		"crit b64, there":     {strings.Replace(replaced(t, `["UPI-UUID"`, `["b64","UPI-UUID"`), `{`, `{"b64":true,`, 1), badCritical},
		"path named, missing": {replaced(t, `["UPI-UUID"`, `["UPI-REQPATH","UPI-UUID"`), badCritical},
		"path named, there":   {strings.Replace(replaced(t, `["UPI-UUID"`, `["UPI-REQPATH","UPI-UUID"`), `{`, `{"UPI-REQPATH":"/a",`, 1), noProblem},
		"no crit":             {replaced(t, `"crit":["UPI-UUID","UPI-TIMESTAMP","UPI-APPID"],`, ``), noProblem},
		"uuid missing":        {replaced(t, `"UPI-UUID":"00112233445566778899aabbccddeeff",`, ``), badCritical},
		"uuid number":         {replaced(t, `"00112233445566778899aabbccddeeff"`, `12`), badCritical},
		"app id missing":      {replaced(t, `,"UPI-APPID":"00520446"}`, `}`), badCritical},
		"app id null":         {replaced(t, `"00520446"`, `null`), badCritical},
		"timestamp missing":   {replaced(t, `"UPI-TIMESTAMP":"1735758245",`, ``), badCritical},
		"timestamp number":    {replaced(t, `"1735758245"`, `1735758245`), badCritical},
		"timestamp words":     {replaced(t, `"1735758245"`, `"now"`), badTimestamp},
		"timestamp empty":     {replaced(t, `"1735758245"`, `""`), badTimestamp},
		"timestamp signed":    {replaced(t, `"1735758245"`, `"+1735758245"`), badTimestamp},
		"timestamp millis":    {replaced(t, `"1735758245"`, `"1735758245000"`), badTimestamp},
		"timestamp huge":      {replaced(t, `"1735758245"`, `"99999999999999999999"`), badTimestamp},
		"duplicate member":    {replaced(t, `{"alg":"RS256"`, `{"alg":"RS256","alg":"RS256"`), badForm},
		"trailing bytes":      {responseHeader() + `{}`, badForm},
		"not an object":       {`["RS256"]`, badForm},
		"null":                {`null`, badForm},
		"empty":               {``, badForm},
		"invalid UTF-8":       {replaced(t, `"upi-1"`, "\"upi-1\",\"x\":\"\xff\""), badForm},
		"nested deep":         {replaced(t, `{"alg"`, `{"x":`+strings.Repeat("[", 16)+strings.Repeat("]", 16)+`,"alg"`), badForm},
		"unknown member":      {replaced(t, `{"alg"`, `{"typ":{"JOSE":[1]},"alg"`), noProblem},
		"escaped names":       {replaced(t, `"alg"`, `"\u0061lg"`), noProblem},
		"white space":         {replaced(t, `{"alg"`, " {\n \"alg\""), noProblem},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := respond(body, detached(t, responseKey(), c.header, body))
			require.Equal(t, c.want, b.provider.verifier.check(r.Header, r.Body, r.At))
			requireVerdict(t, b, c.header, c.want)
		})
	}
}

// requireVerdict requires that Read fails for every problem and answers without one.
func requireVerdict(t *testing.T, b *bundle, header string, want problem) {
	t.Helper()
	body := b.answer(t, nil)
	_, err := b.exchange.Read(respond(body, detached(t, responseKey(), header, body)))
	if want == noProblem {
		require.NoError(t, err)
		return
	}
	known := requireFault(t, err, fault.Unavailable, fault.BadSignature)
	require.Equal(t, "unionpay: verify response: "+string(want), known.Op)
	require.True(t, known.Sent)
	require.Equal(t, http.StatusOK, known.Status)
}

func TestTimestampWindow(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	for offset, want := range map[time.Duration]problem{
		0: noProblem, 300 * time.Second: noProblem, -300 * time.Second: noProblem, 301 * time.Second: badTimestamp, -301 * time.Second: badTimestamp,
		24 * time.Hour: badTimestamp,
	} {
		r := respond(body, detached(t, responseKey(), responseHeader(), body))
		r.At = now().Add(offset)
		require.Equal(t, want, b.provider.verifier.check(r.Header, r.Body, r.At), offset)
	}
}

func TestSignatureForm(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	good := detached(t, responseKey(), responseHeader(), body)
	header, value, _ := strings.Cut(good, "..")
	raw, err := base64.RawURLEncoding.DecodeString(value)
	require.NoError(t, err)
	stranger := generatedKeys()[1]
	for name, c := range map[string]struct {
		jws  string
		want problem
	}{
		"good":                  {good, noProblem},
		"padded signature":      {header + ".." + base64.URLEncoding.EncodeToString(raw), noProblem},
		"no signature":          {"", noSignature},
		"payload in it":         {header + "." + base64.RawURLEncoding.EncodeToString(body) + "." + value, badForm},
		"one dot":               {header + "." + value, badForm},
		"three dots":            {good + ".", badForm},
		"no value":              {header + "..", badForm},
		"only dots":             {"..", badForm},
		"padding only":          {header + "..==", badForm},
		"too much padding":      {good + "===", badForm},
		"standard base64":       {header + ".." + strings.NewReplacer("-", "+", "_", "/").Replace(value) + "+/", badForm},
		"line break":            {header + ".." + value[:40] + "\n" + value[40:], badForm},
		"space":                 {" " + good, badForm},
		"too long":              {header + ".." + strings.Repeat("A", maxSignature), badForm},
		"cut signature":         {header + ".." + value[:340], doesNotVerify},
		"another signature":     {detached(t, stranger, responseHeader(), body), doesNotVerify},
		"signature of nothing":  {detached(t, responseKey(), responseHeader(), nil), doesNotVerify},
		"our own request's":     {b.exchange.Request.Header["UPI-JWS"][0], unknownKey},
		"header of another JWS": {base64.RawURLEncoding.EncodeToString([]byte(responseHeader()+" ")) + ".." + value, doesNotVerify},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := respond(body, c.jws)
			require.Equal(t, c.want, b.provider.verifier.check(r.Header, r.Body, r.At))
			_, err := b.exchange.Read(r)
			if c.want == noProblem {
				require.NoError(t, err)
				return
			}
			requireFault(t, err, fault.Unavailable, fault.BadSignature)
		})
	}
}

// TestPaddedHeaderIsVerifiedAsReceived covers a sender that pads: the signature is over the characters it sent.
func TestPaddedHeaderIsVerifiedAsReceived(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	header := responseHeader()
	for len(header)%3 == 0 {
		header += " "
	}
	encoded := base64.URLEncoding.EncodeToString([]byte(header))
	require.True(t, strings.HasSuffix(encoded, "="))
	digest := sha256.Sum256([]byte(encoded + "." + base64.RawURLEncoding.EncodeToString(body)))
	value, err := rsa.SignPKCS1v15(nil, responseKey(), crypto.SHA256, digest[:])
	require.NoError(t, err)
	_, err = b.exchange.Read(respond(body, encoded+".."+base64.URLEncoding.EncodeToString(value)))
	require.NoError(t, err)
}

func TestEveryByteOfTheBodyIsSigned(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	jws := detached(t, responseKey(), responseHeader(), body)
	for i := range body {
		tampered := append([]byte(nil), body...)
		tampered[i] ^= 1
		_, err := b.exchange.Read(respond(tampered, jws))
		requireFault(t, err, fault.Unavailable, fault.BadSignature)
	}
	for _, tampered := range [][]byte{append(slices.Clip(body), '\n'), body[:len(body)-1], {}} {
		_, err := b.exchange.Read(respond(tampered, jws))
		requireFault(t, err, fault.Unavailable, fault.BadSignature)
	}
}

func TestHeaderNameInAnyCase(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	body := b.answer(t, nil)
	jws := detached(t, responseKey(), responseHeader(), body)
	for _, name := range []string{"UPI-JWS", "Upi-Jws", "upi-jws"} {
		r := respond(body, "")
		r.Header[name] = []string{jws}
		_, err := b.exchange.Read(r)
		require.NoError(t, err, name)
		r.Header["uPI-JWS"] = []string{jws}
		_, err = b.exchange.Read(r)
		require.Contains(t, requireFault(t, err, fault.Unavailable, fault.BadSignature).Op, "several signatures")
	}
}

func TestVerificationModes(t *testing.T) {
	t.Parallel()
	for mode, c := range map[Verification]struct{ unsigned, forged bool }{
		VerifyRequired: {false, false}, VerifyIfPresent: {true, false}, VerifyOff: {true, true}, "": {false, false},
	} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *Options) { o.VerifyResponse = mode })
			body := b.answer(t, nil)
			_, err := b.exchange.Read(signed(t, body))
			require.NoError(t, err)
			_, err = b.exchange.Read(respond(body, ""))
			require.Equal(t, c.unsigned, err == nil)
			_, err = b.exchange.Read(respond(body, detached(t, generatedKeys()[1], responseHeader(), body)))
			require.Equal(t, c.forged, err == nil)
		})
	}
}

// TestUnencodedPayload covers the switch to RFC 7797 in both directions.
func TestUnencodedPayload(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *Options) { o.Signing.B64InHeader = true })
	jws := b.exchange.Request.Header["UPI-JWS"][0]
	header, value, _ := strings.Cut(jws, "..")
	digest := sha256.Sum256([]byte(header + "." + string(b.body)))
	require.NoError(t, rsa.VerifyPKCS1v15(&signingKey().PublicKey, crypto.SHA256, digest[:], []byte(mustDecode(t, value))))

	body := b.answer(t, nil)
	unencoded := func(header string) string {
		encoded := base64.RawURLEncoding.EncodeToString([]byte(header))
		digest := sha256.Sum256([]byte(encoded + "." + string(body)))
		value, err := rsa.SignPKCS1v15(nil, responseKey(), crypto.SHA256, digest[:])
		require.NoError(t, err)
		return encoded + ".." + base64.RawURLEncoding.EncodeToString(value)
	}
	named := replaced(t, `["UPI-UUID"`, `["b64","UPI-UUID"`)
	for name, c := range map[string]struct {
		jws  string
		good bool
	}{
		"unencoded":              {unencoded(strings.Replace(named, `{`, `{"b64":false,`, 1)), true},
		"encoded and says so":    {detached(t, responseKey(), strings.Replace(named, `{`, `{"b64":true,`, 1), body), true},
		"encoded, nothing said":  {detached(t, responseKey(), responseHeader(), body), true},
		"named, missing":         {unencoded(named), false},
		"not a boolean":          {unencoded(strings.Replace(named, `{`, `{"b64":"false",`, 1)), false},
		"unencoded, not in crit": {unencoded(replaced(t, `{`, `{"b64":false,`)), false},
	} {
		_, err := b.exchange.Read(respond(body, c.jws))
		require.Equal(t, c.good, err == nil, name)
	}
}

func FuzzReadSignature(f *testing.F) {
	good := detached(f, responseKey(), responseHeader(), []byte("{}"))
	for _, seed := range []string{
		good, good + "==", "", ".", "..", "...", "e30..AA", "e30.e30.AA", "bnVsbA..AA", "e30=..AA==", "W10..AA", "eyJhIjoxLCJhIjoyfQ..AA",
		base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("[", 3000))) + "..AA",
		base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"RS256","kid":"upi-1","crit":["b64"],"b64":false}`)) + "..AA",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, what := readSignature(text)
		if what != noProblem {
			require.Equal(t, badForm, what)
			return
		}
		require.True(t, strings.HasPrefix(text, s.encoded+".."))
		require.NotEmpty(t, s.value)
		raw, ok := decodeBase64URL(s.encoded)
		require.True(t, ok)
		var members map[string]any
		require.NoError(t, json.Unmarshal(raw, &members), "what is strict JSON is JSON")
		require.Len(t, members, len(s.members))
		// Nothing that a fuzzer writes is signed by the upstream, but every member must be looked at without a panic.
		v := verifier{mode: VerifyRequired, keys: map[string]*rsa.PublicKey{"upi-1": &generatedKeys()[1].PublicKey}, unencoded: true}
		require.NotEqual(t, noProblem, v.verify(s, []byte("{}"), now()))
	})
}
