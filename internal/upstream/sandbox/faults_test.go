package sandbox

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding/korean"
)

const plainInquiry = `{"mallId":"T0000001","cardCd":"016","amount":60000}`

// strike is one case: a fault, and what both providers' clients must then see. A nil check means that the kind isn't for that one.
type strike struct {
	text    string
	easy    func(t *testing.T, b *bundle, r reply)
	union   func(t *testing.T, b *bundle, r reply)
	outcome Outcome
	// leaves makes the client go away once the fault has struck.
	leaves bool
}

func status(code int, header, value string) func(*testing.T, *bundle, reply) {
	return func(t *testing.T, _ *bundle, r reply) {
		require.NoError(t, r.err)
		require.Equal(t, code, r.StatusCode)
		if header != "" {
			require.Equal(t, value, r.Header.Get(header))
		}
	}
}

func broken(t *testing.T, _ *bundle, r reply) { require.Error(t, r.err) }

// spoiled checks that the body arrived as HTTP 200 with a good signature, where there is one, and hands it to the check.
func spoiled(check func(t *testing.T, body []byte)) func(*testing.T, *bundle, reply) {
	return func(t *testing.T, b *bundle, r reply) {
		require.NoError(t, r.err)
		require.Equal(t, http.StatusOK, r.StatusCode)
		if r.Header.Get("UPI-JWS") != "" {
			_, err := b.signed(t, r)
			require.NoError(t, err, "damaged answers are signed after the damage")
		}
		check(t, r.body)
	}
}

func notJSON(t *testing.T, body []byte) { require.False(t, json.Valid(body), "%.80q", body) }

func member(name, want string) func(*testing.T, *bundle, reply) {
	return func(t *testing.T, b *bundle, r reply) {
		if r.Header.Get("UPI-JWS") != "" {
			_, err := b.signed(t, r)
			require.NoError(t, err)
		}
		require.Equal(t, want, r.object(t)[name])
	}
}

func contains(part string) func(*testing.T, []byte) {
	return func(t *testing.T, body []byte) { require.Contains(t, string(body), part) }
}

// strikes holds at least one case for every kind; the test below insists on it.
func strikes() map[string]strike {
	both := func(text string, o Outcome, check func(*testing.T, *bundle, reply)) strike {
		return strike{text: text, easy: check, union: check, outcome: o}
	}
	easy := func(text string, o Outcome, check func(*testing.T, *bundle, reply)) strike {
		return strike{text: text, easy: check, outcome: o}
	}
	union := func(text string, o Outcome, check func(*testing.T, *bundle, reply)) strike {
		return strike{text: text, union: check, outcome: o}
	}
	leaving := func(s strike) strike { s.leaves = true; return s }
	return map[string]strike{
		"down":             both("down", Silent, broken),
		"reset":            both("reset", Silent, broken),
		"hang":             leaving(both("hang", Silent, broken)),
		"slow body":        leaving(both("slowbody", Spoiled, broken)),
		"slow body, quick": both("slowbody=1us", Spoiled, spoiled(func(t *testing.T, body []byte) { require.True(t, json.Valid(body)) })),
		"endless":          leaving(both("endless=1ms", Spoiled, broken)),
		"cut":              both("cut", Spoiled, broken),
		"latency":          leaving(both("latency=10s", Silent, broken)),
		"limit":            both("limit=0.01/1", Throttled, status(http.StatusTooManyRequests, "Retry-After", "100")),
		"status":           both("status=502", Failed, status(http.StatusBadGateway, "Retry-After", "")),
		"status, retry":    both("status=503/7", Failed, status(http.StatusServiceUnavailable, "Retry-After", "7")),
		"status 401":       both("status=401", Unauthorized, status(http.StatusUnauthorized, "", "")),
		"429":              both("429", Throttled, status(http.StatusTooManyRequests, "Retry-After", "1")),
		"429 seconds":      both("429=1500ms", Throttled, status(http.StatusTooManyRequests, "Retry-After", "2")),
		"429 negative":     both("429=-1", Throttled, status(http.StatusTooManyRequests, "Retry-After", "-1")),
		"429 1970":         both("429=date:1970", Throttled, status(http.StatusTooManyRequests, "Retry-After", "Thu, 01 Jan 1970 00:00:00 GMT")),
		"429 garbage":      both("429=garbage", Throttled, status(http.StatusTooManyRequests, "Retry-After", "soon, maybe")),
		"429 bare":         both("429=none", Throttled, status(http.StatusTooManyRequests, "Retry-After", "")),
		"redirect":         both("redirect", Failed, status(http.StatusTemporaryRedirect, "Location", "/moved")),
		"redirect away":    both(`redirect="http://x.invalid/#y"`, Failed, status(http.StatusTemporaryRedirect, "Location", "http://x.invalid/#y")),
		"html":             both("html", Spoiled, status(http.StatusOK, "Content-Type", "text/html; charset=utf-8")),
		"garbage":          both("garbage", Spoiled, spoiled(notJSON)),
		"truncated":        both("truncated", Spoiled, spoiled(notJSON)),
		"empty":            both("empty", Spoiled, spoiled(func(t *testing.T, body []byte) { require.Empty(t, body) })),
		"huge":             both("huge", Spoiled, spoiled(func(t *testing.T, body []byte) { require.Len(t, body, 10<<20) })),
		"huge, smaller":    both("huge=300000", Spoiled, spoiled(func(t *testing.T, body []byte) { require.Len(t, body, 300_000); require.True(t, json.Valid(body)) })),
		"bom":              both("bom", Spoiled, spoiled(func(t *testing.T, body []byte) { require.True(t, bytes.HasPrefix(body, []byte("\xef\xbb\xbf{"))) })),
		"deep":             both("deep", Spoiled, spoiled(contains(strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)))),
		"bad number":       both("badnumber", Spoiled, spoiled(contains(":1e999"))),
		"dupkeys": {
			text: "dupkeys", outcome: Spoiled,
			easy:  spoiled(contains(`{"resCd":"0","resCd":"0000"`)),
			union: spoiled(contains(`{"procType":"0","procType":"01"`)),
		},
		"gzip": both("gzip", Spoiled, func(t *testing.T, b *bundle, r reply) {
			spoiled(func(*testing.T, []byte) {})(t, b, r)
			require.Equal(t, "gzip", r.Header.Get("Content-Encoding"))
			require.Positive(t, unzip(t, r.body))
		}),
		"gzip bomb": both("gzip=bomb", Spoiled, func(t *testing.T, _ *bundle, r reply) {
			require.NoError(t, r.err)
			require.Less(t, len(r.body), 200_000)
			require.EqualValues(t, bombPart, unzip(t, r.body[:len(r.body)/bombParts]), "one part of many")
			require.EqualValues(t, 3*bombPart, unzip(t, r.body[:3*len(r.body)/bombParts]), "the parts are one stream")
		}),
		"code":           {text: "code=99", outcome: Declined, easy: member("resCd", "99"), union: member("respCode", "99")},
		"code, success":  {text: "code=00", outcome: Declined, easy: member("resCd", "00")},
		"dialect":        easy("dialect=C", Answered, member("res_cd", "0000")),
		"numbers":        easy("numbers=string", Answered, spoiled(contains(`"calcAuthLimitRate":"41.07"`))),
		"list":           easy("list=null", Answered, spoiled(contains(`"couponList":null`))),
		"cp949":          easy("cp949", Answered, inCP949("application/json; charset=euc-kr")),
		"cp949, bare":    easy("cp949=undeclared", Answered, inCP949("application/json")),
		"cp949, lie":     easy("cp949=utf8", Answered, inCP949("application/json; charset=utf-8")),
		"msgresponse":    union("msgresponse", Unauthorized, refusal401(`{"MsgResponse":`)),
		"msgresponse, l": union("msgresponse=lower", Unauthorized, refusal401(`{"msgResponse":`)),
		"nosig": union("nosig", Spoiled, func(t *testing.T, _ *bundle, r reply) {
			require.Equal(t, "00", r.object(t)["respCode"])
			require.Empty(t, r.Header.Get("UPI-JWS"))
		}),
		"wrongsig": union("wrongsig", Spoiled, func(t *testing.T, b *bundle, r reply) {
			_, err := b.signed(t, r)
			require.Error(t, err)
		}),
		"wrongkid": union("wrongkid", Spoiled, func(t *testing.T, b *bundle, r reply) {
			protected, err := b.signed(t, r)
			require.NoError(t, err)
			require.NotEqual(t, b.keys.UPISignKid, protected["kid"])
		}),
		"wrongecho":     union("wrongecho", Spoiled, spoiled(contains(`"refNum":"000000000000422"`))),
		"wronginscode":  union("wronginscode", Spoiled, spoiled(contains(`"insCode":"100120151"`))),
		"wrongproctype": union("wrongproctype", Spoiled, spoiled(contains(`"procType":"02"`))),
		"replayedresponse": union("replayedresponse", Spoiled, spoiled(func(t *testing.T, body []byte) {
			require.NotContains(t, string(body), `"refNum":"000000000000421"`)
			require.Contains(t, string(body), `"respCode":"00"`)
		})),
	}
}

func inCP949(contentType string) func(*testing.T, *bundle, reply) {
	return func(t *testing.T, _ *bundle, r reply) {
		require.NoError(t, r.err)
		require.Equal(t, contentType, r.Header.Get("Content-Type"))
		text, err := korean.EUCKR.NewDecoder().Bytes(r.body)
		require.NoError(t, err)
		require.Contains(t, string(text), "국민카드")
	}
}

func refusal401(start string) func(*testing.T, *bundle, reply) {
	return func(t *testing.T, b *bundle, r reply) {
		status(http.StatusUnauthorized, "", "")(t, b, r)
		require.True(t, strings.HasPrefix(string(r.body), start))
	}
}

func unzip(t *testing.T, body []byte) int64 {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(body))
	require.NoError(t, err)
	n, err := io.Copy(io.Discard, zip)
	require.NoError(t, err)
	return n
}

func TestEveryKindOfFault(t *testing.T) {
	t.Parallel()
	covered := map[Kind]bool{}
	for name, test := range strikes() {
		kind, _ := cutAt(test.text, "=")
		covered[Kind(kind)] = true
		for provider, check := range map[Provider]func(*testing.T, *bundle, reply){EasyPay: test.easy, UnionPay: test.union} {
			if check == nil {
				continue
			}
			t.Run(name+" "+string(provider), func(t *testing.T) {
				t.Parallel()
				b := setup(t)
				b.faults(t, string(provider)+":"+test.text)
				if kind == string(KindLimit) {
					require.NoError(t, b.send(t, t.Context(), provider, "000000000000420").err)
				}
				ctx, leave := context.WithCancel(t.Context())
				defer leave()
				if test.leaves {
					go b.afterStrike(ctx, provider, Kind(kind), leave)
				}
				check(t, b, b.send(t, ctx, provider, "000000000000421"))
				b.settled(t, provider)
				st := b.Stats().Providers[provider]
				require.EqualValues(t, 1, st.Fired[Kind(kind)])
				require.EqualValues(t, 1, st.Outcomes[test.outcome.String()], "%v", st.Outcomes)
			})
		}
	}
	for _, rule := range kindRules {
		require.True(t, covered[rule.kind], "no case for %s", rule.kind)
	}
}

// afterStrike calls back once a fault has struck.
func (b *bundle) afterStrike(ctx context.Context, p Provider, k Kind, then func()) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx.Err() == nil && b.Stats().Providers[p].Fired[k] == 0 {
		<-tick.C
	}
	then()
}

// question is a good request to either provider.
func (b *bundle) question(t *testing.T, ctx context.Context, p Provider, refNum string) *http.Request {
	t.Helper()
	if p == EasyPay {
		return b.easyRequest(t, ctx, plainInquiry)
	}
	c := b.upi()
	c.fields["refNum"] = refNum
	return b.request(t, ctx, c)
}

// send asks either provider a good question.
func (b *bundle) send(t *testing.T, ctx context.Context, p Provider, refNum string) reply {
	t.Helper()
	return b.do(t, b.question(t, ctx, p, refNum))
}

// settled waits until no request is being handled.
func (b *bundle) settled(t *testing.T, p Provider) {
	t.Helper()
	require.Eventually(t, func() bool { return b.Stats().Providers[p].InFlight == 0 }, 5*time.Second, time.Millisecond)
}

func TestReplayedResponseSendsTheEarlierAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.send(t, t.Context(), UnionPay, "42")
	b.faults(t, "unionpay:wrongecho")
	b.send(t, t.Context(), UnionPay, "44")
	b.faults(t, "unionpay:replayedresponse")
	second := b.send(t, t.Context(), UnionPay, "43")
	require.Equal(t, first.body, second.body, "the last honest one, not the damaged one between")
	require.Equal(t, first.Header.Get("UPI-JWS"), second.Header.Get("UPI-JWS"))
}

func TestRetryAfterDates(t *testing.T) {
	t.Parallel()
	now := time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC)
	for param, want := range map[string]string{
		"date:90s": "Thu, 02 Jan 2025 03:05:35 GMT", "date:-1h": "Thu, 02 Jan 2025 02:04:05 GMT", "date:9999": "Fri, 01 Jan 9999 00:00:00 GMT",
		"0": "0", "1000000000": "1000000000", "250ms": "1", "none": "", "1h": "3600",
	} {
		retry, err := readRetry(param)
		require.NoError(t, err)
		require.Equal(t, want, retry.header(now), param)
	}
}

// hits returns which of n calls in a row a fault strikes.
func hits(t *testing.T, seed uint64, text string, n int) []int {
	t.Helper()
	faults, err := ParseFaults(text)
	require.NoError(t, err)
	p, err := arm(faults, seed)
	require.NoError(t, err)
	var struck []int
	for i := range n {
		if hit, _ := p.easyPay[0].strikes(&facts{mall: "T0000001"}); hit {
			struck = append(struck, i)
		}
	}
	return struck
}

func TestWhenAFaultStrikes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]int{
		"easypay:reset":                            {0, 1, 2, 3, 4, 5},
		"easypay:reset#2":                          {0, 1},
		"easypay:reset%3":                          {2, 5},
		"easypay:reset%2#2":                        {1, 3},
		"easypay:reset@1":                          {0, 1, 2, 3, 4, 5},
		"easypay:reset[mall=T0000001]":             {0, 1, 2, 3, 4, 5},
		"easypay:reset[mall=T0000002]":             nil,
		"easypay:reset[mall=T0000001][cardCd=008]": nil,
	} {
		require.Equal(t, want, hits(t, 1, text, 6), text)
	}
	tenth := hits(t, 1, "easypay:reset@0.1", 10_000)
	require.InDelta(t, 1000, len(tenth), 120)
	require.Equal(t, tenth, hits(t, 1, "easypay:reset@0.1", 10_000), "the same seed draws the same")
	require.NotEqual(t, tenth, hits(t, 2, "easypay:reset@0.1", 10_000))
	require.Len(t, hits(t, 1, "easypay:reset@0.1#7", 10_000), 7)
}

func TestFaultsAimAtOneCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faults(t, "easypay:status=503[mall=T0000002],easypay:code=9999[cardCd=016][amount=70000],unionpay:status=500[pid=42]")
	require.Equal(t, http.StatusOK, b.easy(t, plainInquiry).StatusCode)
	require.Equal(t, http.StatusServiceUnavailable, b.easy(t, `{"mallId":"T0000002"}`).StatusCode)
	require.Equal(t, "9999", b.easy(t, `{"mallId":"T0000001","cardCd":"016","amount":"70000"}`).object(t)["resCd"])
	require.Equal(t, http.StatusOK, b.ask(t, b.upi()).StatusCode)
	aimed := b.upi()
	aimed.fields["pid"] = "42"
	require.Equal(t, http.StatusInternalServerError, b.ask(t, aimed).StatusCode)
}

func TestFaultsCombine(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faults(t, "easypay:dialect=C,easypay:numbers=string,easypay:cp949,easypay:latency=5ms,easypay:latency=5ms-10ms,easypay:garbage#1,easypay:empty#1")
	start := time.Now()
	require.False(t, json.Valid(b.easy(t, plainInquiry).body), "garbage came first")
	require.GreaterOrEqual(t, time.Since(start), 10*time.Millisecond, "both latencies count")
	require.Empty(t, b.easy(t, plainInquiry).body, "the second was not used up by the first call")
	r := b.easy(t, plainInquiry)
	require.Equal(t, "application/json; charset=euc-kr", r.Header.Get("Content-Type"))
	require.Contains(t, string(r.body), `"calc_auth_limit_rate":"41.07"`)

	b.faults(t, "easypay:status=500,easypay:limit=0.001/1,easypay:down%3")
	var codes []int
	for range 3 {
		r := b.easy(t, plainInquiry)
		if r.err != nil {
			codes = append(codes, 0)
			continue
		}
		codes = append(codes, r.StatusCode)
	}
	require.Equal(t, []int{500, 429, 0}, codes, "an outage comes before a limit, and a limit before the rest")
}

func TestWrongRequestsMeetTheirRefusalNotTheFault(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.faults(t, "*:status=503")
	require.Equal(t, http.StatusBadRequest, b.easy(t, "{").StatusCode)
	c := b.upi()
	c.protected["kid"] = "1"
	require.Equal(t, http.StatusUnauthorized, b.ask(t, c).StatusCode)
	b.faults(t, "*:down")
	require.Error(t, b.easy(t, "{").err, "an outage is for all")
	require.Error(t, b.ask(t, b.upi()).err)
}

// Faults are changed while many calls are under way; the race detector watches, and no call may go without an outcome.
func TestFaultsChangeUnderLoad(t *testing.T) {
	t.Parallel()
	s := New(Options{Seed: 3})
	handler := s.EasyPay()
	stop := make(chan struct{})
	var changer, callers sync.WaitGroup
	changer.Go(func() {
		texts := []string{"", "easypay:status=503@0.5", "easypay:limit=1000/5,easypay:dialect=rotate", "easypay:429#10,easypay:garbage%2"}
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				faults, _ := ParseFaults(texts[i%len(texts)])
				_ = s.SetFaults(faults)
				_ = s.Stats()
				_ = s.Faults()
			}
		}
	})
	for range 4 {
		callers.Go(func() {
			for range 500 {
				handler.ServeHTTP(httptest.NewRecorder(), inProcess(plainInquiry))
			}
		})
	}
	callers.Wait()
	close(stop)
	changer.Wait()
	st := s.Stats().Providers[EasyPay]
	require.EqualValues(t, 2000, st.Arrivals)
	require.Zero(t, st.Outcomes[Pending.String()])
	require.Zero(t, st.InFlight)
	require.Positive(t, st.Outcomes[Answered.String()])
}

func inProcess(body string) *http.Request {
	req := httptest.NewRequest(http.MethodPost, EasyPayPath, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	return req
}

func TestLatencyRangeStaysInside(t *testing.T) {
	t.Parallel()
	set, err := readLatency("10ms-20ms")
	require.NoError(t, err)
	a := &armed{set: set, seed: 5}
	var seen []time.Duration
	for range 200 {
		a.seen.Add(1)
		d := a.delay()
		require.GreaterOrEqual(t, d, 10*time.Millisecond)
		require.Less(t, d, 20*time.Millisecond)
		seen = append(seen, d)
	}
	slices.Sort(seen)
	require.Less(t, seen[0], 11*time.Millisecond)
	require.Greater(t, seen[199], 19*time.Millisecond)
	require.Greater(t, len(slices.Compact(seen)), 190, fmt.Sprint(seen))
}

// Every field that a condition can name is read from its own place.
func TestConditionsReadTheirOwnField(t *testing.T) {
	t.Parallel()
	f := facts{mall: "mall", cardCd: "cardCd", cardBin: "cardBin", amount: "amount", pid: "pid", insCode: "insCode", scenID: "scenId"}
	for field := range conditionFields {
		require.Equal(t, field, f.get(field))
	}
	require.Empty(t, f.get("cardNo"))
}
