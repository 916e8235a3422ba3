package sandbox

import (
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// The reasons for HTTP 401.
const (
	reasonNoSignature  reason = "signature header missing or repeated"
	reasonForm         reason = "signature is not protected..signature in base64url"
	reasonProtected    reason = "protected header malformed"
	reasonAlg          reason = "alg is not RS256"
	reasonCrit         reason = "crit is not the four names"
	reasonAppID        reason = "UPI-APPID differs"
	reasonReqPath      reason = "UPI-REQPATH differs"
	reasonTimestamp    reason = "UPI-TIMESTAMP outside the window"
	reasonUUID         reason = "UPI-UUID malformed"
	reasonKid          reason = "kid unknown"
	reasonBadSignature reason = "signature doesn't verify"
	reasonUUIDSeen     reason = "UPI-UUID seen before"
)

// criticalNames are the header members that a request must mark as critical, as UPI's security page has them.
var criticalNames = [...]string{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID", "UPI-REQPATH"}

// strictBase64 reads base64url without padding, refusing everything else, as UPI does.
var strictBase64 = base64.RawURLEncoding.Strict()

// protectedHeader is the header of a caller's signature. Other members, and members of another type, are refused.
type protectedHeader struct {
	Alg       string   `json:"alg"`
	Kid       string   `json:"kid"`
	Crit      []string `json:"crit"`
	UUID      string   `json:"UPI-UUID"`
	Timestamp string   `json:"UPI-TIMESTAMP"`
	AppID     string   `json:"UPI-APPID"`
	ReqPath   string   `json:"UPI-REQPATH"`
}

// authenticate checks a request's detached signature over the body as received (RFC 7515, appendix F), and all that its header
// must say. It returns "" when all is well. UPI refuses a missing mandatory header with 401, and Content-Type is one. A UUID is
// remembered only once the signature holds.
func (u *unionPay) authenticate(header http.Header, body []byte, now time.Time) reason {
	if !mediaTypeJSON(header.Get("Content-Type")) {
		return reasonContentType
	}
	values := header.Values(signatureHeader)
	if len(values) != 1 || values[0] == "" {
		return reasonNoSignature
	}
	protected, signature, detached := strings.Cut(values[0], "..")
	if _, err := strictBase64.DecodeString(signature); err != nil || !detached || signature == "" {
		return reasonForm
	}
	raw, err := strictBase64.DecodeString(protected)
	if err != nil {
		return reasonForm
	}
	var h protectedHeader
	if err := json.Unmarshal(raw, &h, json.RejectUnknownMembers(true)); err != nil {
		return reasonProtected
	}
	uuid, why := u.checkHeader(&h, now)
	if why != "" {
		return why
	}
	key, known := u.ClientKeys[h.Kid]
	if !known {
		return reasonKid
	}
	if _, err := jws.Verify([]byte(values[0]), jws.WithKey(jwa.RS256(), key), jws.WithDetachedPayload(body),
		jws.WithCritValidation(true), jws.WithCritExtension(criticalNames[:]...)); err != nil {
		return reasonBadSignature
	}
	if !u.uuids.add(uuid) {
		return reasonUUIDSeen
	}
	return ""
}

// checkHeader checks the header's members, from the plain to the variable, and returns the UUID.
func (u *unionPay) checkHeader(h *protectedHeader, now time.Time) (uuid [16]byte, why reason) {
	if h.Alg != "RS256" {
		return uuid, reasonAlg
	}
	crit, want := slices.Sorted(slices.Values(h.Crit)), slices.Sorted(slices.Values(criticalNames[:]))
	if !slices.Equal(crit, want) {
		return uuid, reasonCrit
	}
	if h.AppID != u.AppID {
		return uuid, reasonAppID
	}
	if h.ReqPath != u.ReqPath {
		return uuid, reasonReqPath
	}
	seconds, err := strconv.ParseInt(h.Timestamp, 10, 64)
	if err != nil || len(h.Timestamp) > 12 || now.Sub(time.Unix(seconds, 0)).Abs() > timestampWindow {
		return uuid, reasonTimestamp
	}
	if n, err := hex.Decode(uuid[:], []byte(h.UUID[:min(len(h.UUID), 32)])); err != nil || n != 16 || len(h.UUID) != 32 {
		return uuid, reasonUUID
	}
	return uuid, ""
}
