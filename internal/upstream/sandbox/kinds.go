package sandbox

import (
	"fmt"
	"slices"
	"strings"
)

// Kind names a way to misbehave.
type Kind string

// The kinds of fault. FaultHelp says what each does and which parameter it takes.
const (
	KindDown    Kind = "down"
	KindLimit   Kind = "limit"
	KindDialect Kind = "dialect"
	KindNumbers Kind = "numbers"
	KindList    Kind = "list"
	KindCP949   Kind = "cp949"
	KindLatency Kind = "latency"

	KindStatus   Kind = "status"
	Kind429      Kind = "429"
	KindHang     Kind = "hang"
	KindReset    Kind = "reset"
	KindRedirect Kind = "redirect"
	KindHTML     Kind = "html"
	KindEndless  Kind = "endless"

	KindSlowBody  Kind = "slowbody"
	KindCut       Kind = "cut"
	KindHuge      Kind = "huge"
	KindGarbage   Kind = "garbage"
	KindTruncated Kind = "truncated"
	KindEmpty     Kind = "empty"
	KindGzip      Kind = "gzip"
	KindBOM       Kind = "bom"
	KindDeep      Kind = "deep"
	KindDupKeys   Kind = "dupkeys"
	KindBadNumber Kind = "badnumber"
	KindCode      Kind = "code"

	KindMsgResponse      Kind = "msgresponse"
	KindNoSig            Kind = "nosig"
	KindWrongSig         Kind = "wrongsig"
	KindWrongKid         Kind = "wrongkid"
	KindWrongEcho        Kind = "wrongecho"
	KindWrongInsCode     Kind = "wronginscode"
	KindWrongProcType    Kind = "wrongproctype"
	KindReplayedResponse Kind = "replayedresponse"
)

// role is the moment at which a kind acts. A plan is sorted by the first two.
type role uint8

const (
	roleOutage  role = iota // The call never gets in.
	roleLimit               // The call is counted against a limit.
	roleShape               // The answer takes another valid form; shapes combine with everything.
	roleDelay               // The answer comes later; delays add up.
	roleReplace             // Something else comes instead of the answer.
	roleAlter               // The answer is built, then damaged.
)

// kindRule is one line of the table of kinds.
type kindRule struct {
	kind  Kind
	on    Provider
	role  role
	param string
	about string
	read  func(param string) (setting, error)
}

// kindRules is the table of kinds, in the order of FaultHelp.
var kindRules = [...]kindRule{
	{KindDown, Both, roleOutage, "", "resets every connection, before anything else is looked at", readNone},
	{KindLimit, Both, roleLimit, "=RATE/BURST", "lets BURST calls in at once and RATE per second after; the rest get 429 with Retry-After", readLimit},
	{KindDialect, EasyPay, roleShape, "=A|B|C|rotate", "chooses the dialect of the answer", readDialect},
	{KindNumbers, EasyPay, roleShape, "=plain|string|empty|null|mixed", "chooses how numbers and absent numbers are written", readNumbers},
	{KindList, EasyPay, roleShape, "=full|empty|null|missing", "chooses the coupon list of the answer", readList},
	{KindCP949, EasyPay, roleShape, "[=declared|undeclared|utf8]", "answers in CP949 and declares euc-kr, nothing, or wrongly utf-8", readCP949},
	{KindLatency, Both, roleDelay, "=DURATION[-DURATION]", "answers later, by a fixed time or one drawn from a range", readLatency},
	{KindStatus, Both, roleReplace, "=CODE[/RETRY]", "answers HTTP CODE, 400 to 599, with RETRY as Retry-After", readStatus},
	{Kind429, Both, roleReplace, "[=RETRY]", "answers HTTP 429; RETRY defaults to 1s", read429},
	{KindHang, Both, roleReplace, "", "never answers: holds the call until the client goes", readNone},
	{KindReset, Both, roleReplace, "", "reads the request, then resets the connection", readNone},
	{KindRedirect, Both, roleReplace, "[=URL]", "answers HTTP 307 to URL, by default to /moved on the same host", readURL},
	{KindHTML, Both, roleReplace, "", "answers HTTP 200 with an HTML page, as a firewall does", readNone},
	{KindEndless, Both, roleReplace, "[=DURATION]", "answers HTTP 200 with a chunked body without end, 16 KiB every DURATION (10ms)", readPause("10ms")},
	{KindSlowBody, Both, roleAlter, "[=DURATION]", "sends the answer one byte every DURATION (1s)", readPause("1s")},
	{KindCut, Both, roleAlter, "", "promises the whole answer, sends half and closes", readNone},
	{KindHuge, Both, roleAlter, "[=BYTES]", "pads the answer, validly, to BYTES (10485760)", readNumber(10<<20, 1<<26)},
	{KindGarbage, Both, roleAlter, "", "sends bytes that are no JSON", readNone},
	{KindTruncated, Both, roleAlter, "", "sends the first half of the answer as if it were all", readNone},
	{KindEmpty, Both, roleAlter, "", "sends no bytes", readNone},
	{KindGzip, Both, roleAlter, "[=bomb]", "compresses the answer unasked; bomb: 100 MB of it", readWord("bomb")},
	{KindBOM, Both, roleAlter, "", "puts a byte order mark before the answer", readNone},
	{KindDeep, Both, roleAlter, "[=LEVELS]", "adds a member of LEVELS (10000) nested arrays", readNumber(10_000, 1_000_000)},
	{KindDupKeys, Both, roleAlter, "", "sends the first member twice, with two values", readNone},
	{KindBadNumber, Both, roleAlter, "", "writes the first rate or the total as 1e999", readNone},
	{KindCode, Both, roleAlter, "=CODE", "answers with this resCd or respCode", readCode},
	{KindMsgResponse, UnionPay, roleReplace, "[=lower]", "answers HTTP 401 with MsgResponse E0; lower: spelt msgResponse", readWord("lower")},
	{KindNoSig, UnionPay, roleAlter, "", "leaves the signature out", readNone},
	{KindWrongSig, UnionPay, roleAlter, "", "sends a signature that doesn't verify", readNone},
	{KindWrongKid, UnionPay, roleAlter, "", "signs under an unknown kid", readNone},
	{KindWrongEcho, UnionPay, roleAlter, "", "echoes another refNum", readNone},
	{KindWrongInsCode, UnionPay, roleAlter, "", "echoes another insCode", readNone},
	{KindWrongProcType, UnionPay, roleAlter, "", "echoes another procType", readNone},
	{KindReplayedResponse, UnionPay, roleAlter, "", "sends the signed answer to an earlier call again", readNone},
}

// usage returns how the kind is written.
func (r *kindRule) usage() string { return string(r.kind) + r.param }

// rule finds the kind's line in the table and checks that it fits the provider.
func (f Fault) rule() (*kindRule, error) {
	if f.Provider != EasyPay && f.Provider != UnionPay && f.Provider != Both {
		return nil, fmt.Errorf("unknown provider %q; known: %s, %s, %s", f.Provider, EasyPay, UnionPay, Both)
	}
	for i := range kindRules {
		r := &kindRules[i]
		if r.kind != f.Kind {
			continue
		}
		if r.on != Both && r.on != f.Provider {
			return nil, fmt.Errorf("%s strikes %s only", r.kind, r.on)
		}
		return r, nil
	}
	return nil, fmt.Errorf("unknown kind %q; known for %s: %s", f.Kind, f.Provider, knownKinds(f.Provider))
}

func knownKinds(p Provider) string {
	var names []string
	for _, r := range kindRules {
		if r.on == Both || r.on == p {
			names = append(names, string(r.kind))
		}
	}
	return strings.Join(names, ", ")
}

func knownConditions(p Provider) string {
	var names []string
	for field, owner := range conditionFields {
		if owner == p {
			names = append(names, field)
		}
	}
	if len(names) == 0 {
		return "none, a condition needs one provider"
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// FaultHelp returns the grammar of faults and the table of kinds as plain text, for a command's help and the admin page.
func FaultHelp() string {
	var b strings.Builder
	b.WriteString(faultGrammar)
	for _, r := range kindRules {
		where := ""
		if r.on != Both {
			where = " (" + string(r.on) + " only)"
		}
		fmt.Fprintf(&b, "  %-42s %s%s\n", r.usage(), r.about, where)
	}
	return b.String()
}

const faultGrammar = `Faults are a list, separated by commas or new lines:

  PROVIDER:KIND[=PARAM][@RATE][#COUNT][%EVERY][[FIELD=VALUE]]...

  PROVIDER  easypay, unionpay, or * for both
  PARAM     as the kind says; in double quotes when it holds , @ # % [ ] or a quote
  @RATE     strikes this share of the matching calls, such as 0.1
  #COUNT    strikes at most so many times
  %EVERY    strikes each so many-th matching call
  [F=V]     strikes only calls with this field: mall, cardCd, cardBin, amount; pid, insCode, scenId
  RETRY     Retry-After: 2s (in seconds), 120 (as it stands), date:2s (an HTTP date then), date:1970 (that year), garbage, none

All latencies add up and all shapes combine; of the other faults the first in the list that strikes is the one that shows.
Example: easypay:latency=200ms@0.1,unionpay:status=503@0.05,easypay:429=2s#5,unionpay:wrongsig[pid=1234567890]

Kinds:
`
