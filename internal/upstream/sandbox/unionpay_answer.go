package sandbox

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Usage is how much of an offer a card has used, in the wire form of the API page. Amounts are decimal strings in major units,
// such as "12.50"; counts are digits. DayAmt and DayCnt, and MonthAmt and MonthCnt, are both "" where the offer has no such limit.
type Usage struct {
	DayAmt, DayCnt, MonthAmt, MonthCnt string
	TtlAmt, TtlCnt                     string
	// DiscCurr is the ISO 4217 number of the currency of all amounts.
	DiscCurr string
}

// currencies are ISO 4217 numbers with two decimals: China, Hong Kong, Singapore, the United States.
var currencies = [...]string{"156", "344", "702", "840"}

// usageKey derives the key of the usage hash from the sandbox's seed.
func usageKey(seed uint64) []byte {
	key := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("sandbox usage "), seed))
	return key[:]
}

// usageOf derives a card's usage from a keyed hash: the day within the month, the month within the total. A quarter of the cards
// has no daily limit and another quarter no monthly one.
func usageOf(key []byte, cardNo, pid string) Usage {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(pid + " " + cardNo))
	h := mac.Sum(nil)
	each := 50 * (1 + int64(h[0])%60) // What one use takes off, in hundredths.
	day := int64(h[1]) % 4
	month := day + int64(h[2])%8
	total := month + int64(h[3])%40
	offer := sha256.Sum256([]byte(pid))
	u := Usage{
		TtlAmt: amount(total * each), TtlCnt: strconv.FormatInt(total, 10),
		DiscCurr: currencies[offer[0]%byte(len(currencies))],
	}
	if h[4]%4 != 0 {
		u.DayAmt, u.DayCnt = amount(day*each), strconv.FormatInt(day, 10)
	}
	if h[5]%4 != 0 {
		u.MonthAmt, u.MonthCnt = amount(month*each), strconv.FormatInt(month, 10)
	}
	return u
}

// amount writes hundredths as a decimal string with two places.
func amount(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }

// usageAnswer is the response of the API page.
type usageAnswer struct {
	ProcType, InsCode string
	Usage             Usage
	RefNum            string
	RespCode, RespMsg string
}

// bytes renders the answer, with the members that the fault asks to be wrong. An answer without success carries no figures: the
// API page leaves open whether it would.
func (r usageAnswer) bytes(d *decision) []byte {
	switch {
	case d.is(KindWrongEcho):
		r.RefNum = other(r.RefNum)
	case d.is(KindWrongInsCode):
		r.InsCode = other(r.InsCode)
	case d.is(KindWrongProcType):
		r.ProcType = other(r.ProcType)
	}
	total, count := quote(r.Usage.TtlAmt), quote(r.Usage.TtlCnt)
	if d.is(KindBadNumber) {
		total, count = `"1e999"`, `1e999`
	}
	var b strings.Builder
	b.WriteString(`{"procType":` + quote(r.ProcType) + `,"insCode":` + quote(r.InsCode))
	if r.Usage.DayCnt != "" {
		b.WriteString(`,"dayAmt":` + quote(r.Usage.DayAmt) + `,"dayCnt":` + quote(r.Usage.DayCnt))
	}
	if r.Usage.MonthCnt != "" {
		b.WriteString(`,"monthAmt":` + quote(r.Usage.MonthAmt) + `,"monthCnt":` + quote(r.Usage.MonthCnt))
	}
	if r.Usage.TtlCnt != "" {
		b.WriteString(`,"ttlAmt":` + total + `,"ttlCnt":` + count + `,"discCurr":` + quote(r.Usage.DiscCurr))
	}
	b.WriteString(`,"refNum":` + quote(r.RefNum) + `,"respCode":` + quote(r.RespCode) + `,"respMsg":` + quote(r.RespMsg) + `}`)
	return []byte(b.String())
}

// other returns a value of the same form that differs from this one in its last character.
func other(value string) string {
	if value == "" {
		return "1"
	}
	last := byte('1')
	if value[len(value)-1] == '1' {
		last = '2'
	}
	return value[:len(value)-1] + string(last)
}

// responseHeader is the protected header of an answer's signature. It names no path: an answer has none, and UPI's own code
// leaves UPI-REQPATH out of crit then.
type responseHeader struct {
	Alg       string   `json:"alg"`
	Kid       string   `json:"kid"`
	Crit      []string `json:"crit"`
	UUID      string   `json:"UPI-UUID"`
	Timestamp string   `json:"UPI-TIMESTAMP"`
	AppID     string   `json:"UPI-APPID"`
}

// sign adds the answer's signature, or what the fault wants in its place. The last honest answer is kept for replayedresponse; it
// holds no card data.
func (u *unionPay) sign(a answer, d *decision, now time.Time) answer {
	if u.SignKey == nil || d.is(KindNoSig) {
		return a
	}
	if d.is(KindReplayedResponse) {
		return u.replay(a, now)
	}
	kid := u.SignKid
	if d.is(KindWrongKid) {
		kid = other(kid)
	}
	a.signature = u.detached(kid, a.body, now)
	if d.is(KindWrongSig) {
		a.signature = u.detached(kid, append([]byte(" "), a.body...), now)
	}
	if d.strike == nil {
		kept := a
		u.earlier.Store(&kept)
	}
	return a
}

// replay returns the last honest answer. When there is none, it makes one that was signed an hour ago for another refNum.
func (u *unionPay) replay(a answer, now time.Time) answer {
	if kept := u.earlier.Load(); kept != nil {
		return *kept
	}
	old := usageAnswer{ProcType: "00", InsCode: "000000000", RefNum: "000000000000000", RespCode: UnionPayOK, RespMsg: "Approved",
		Usage: Usage{TtlAmt: "0.00", TtlCnt: "0", DiscCurr: currencies[0]}}
	a.body = old.bytes(&decision{})
	a.signature = u.detached(u.SignKid, a.body, now.Add(-time.Hour))
	return a
}

// detached returns the signature of a body in the form protected..signature (RFC 7515, appendix F).
func (u *unionPay) detached(kid string, body []byte, now time.Time) string {
	var uuid [16]byte
	_, _ = rand.Read(uuid[:]) // Never fails.
	header, err := json.Marshal(responseHeader{
		Alg: "RS256", Kid: kid, Crit: []string{"UPI-UUID", "UPI-TIMESTAMP", "UPI-APPID"},
		UUID: hex.EncodeToString(uuid[:]), Timestamp: strconv.FormatInt(now.Unix(), 10), AppID: u.AppID,
	})
	if err != nil {
		return "" // Can't happen: these are strings.
	}
	protected := base64.RawURLEncoding.EncodeToString(header)
	digest := sha256.Sum256([]byte(protected + "." + base64.RawURLEncoding.EncodeToString(body)))
	signature, err := rsa.SignPKCS1v15(nil, u.SignKey, crypto.SHA256, digest[:])
	if err != nil {
		return "" // A key too small to sign with: the answer goes out unsigned, and the client refuses it.
	}
	return protected + ".." + base64.RawURLEncoding.EncodeToString(signature)
}
