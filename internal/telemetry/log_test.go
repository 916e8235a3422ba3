package telemetry

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// canary stands in everything that a publisher writes freely. testCard is a published test number.
const (
	canary   = "canary7391"
	testCard = "6200000000000005"
)

// safeBuffer can be read while a log writes to it.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

var started = time.Date(2026, 3, 2, 9, 15, 0, 0, time.UTC)

// outcome returns the outcome of a query full of canaries, with the action given.
func outcome(action decide.Action, changes ...func(*decide.Outcome)) decide.Outcome {
	amount := int64(51004)
	o := decide.Outcome{
		Query: &query.Query{
			Client: "shop", Source: "urn:" + canary + testCard, ID: canary + testCard, Correlation: canary, TraceParent: canary, TraceState: canary,
			Provider: query.EasyPay, Lane: query.Interactive,
			EasyPay:  &query.EasyPayQuestion{MallID: canary, CardCd: canary, CardBin: testCard, Amount: &amount},
			UnionPay: &query.UnionPayQuestion{PID: canary, ScenID: canary, Data: query.Conceal([]byte(canary))},
		},
		Verdict: decide.Verdict{Action: action}, Received: started.Add(-time.Second), Started: started, Finished: started.Add(250 * time.Millisecond),
		Attempts: []query.Attempt{{At: started, Upstream: canary}, {At: started}}, Deliveries: 3, Waited: 40 * time.Millisecond, Settled: true,
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// failing makes an outcome that of a fault.
func failing(reason query.Reason, kind fault.Kind, code fault.Code) func(*decide.Outcome) {
	return func(o *decide.Outcome) {
		failure := fault.Because("easypay: read", kind, code, &json.UnsupportedValueError{Str: canary})
		failure.Status, failure.Upstream = 503, "VTIM"
		o.Verdict.Reason, o.Verdict.Fault = reason, failure
	}
}

// observe returns the lines that the outcomes leave in a log of the level and format given.
func observe(t *testing.T, level, format string, outcomes ...decide.Outcome) []string {
	t.Helper()
	var out safeBuffer
	log, sink, err := NewLog(&out, level, format)
	require.NoError(t, err)
	recorder := NewRecorder(log, NewMetrics("test", []query.Provider{query.EasyPay}))
	for _, o := range outcomes {
		recorder.Observe(o)
	}
	sink.Close()
	if out.String() == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestOneWideLineForEachAction(t *testing.T) {
	t.Parallel()
	key := query.Key("shop", "urn:"+canary+testCard, canary+testCard)
	common := `,"key":"` + key + `","provider":"easypay","lane":"interactive","client":"shop","deliveries":3,"attempts":2,` +
		`"age_s":1.25,"took_s":0.25,"waited_s":0.04,"settled":true`
	failed := func(kind, code string) string {
		return `,"kind":"` + kind + `","code":"` + code + `","operation":"easypay: read","http_status":503,"upstream_code":"VTIM"}`
	}
	for name, test := range map[string]struct {
		outcome decide.Outcome
		want    string
	}{
		"complete": {
			outcome(decide.Complete, func(o *decide.Outcome) {
				o.Answer = &query.Answer{
					Outcome: query.OutcomeOK, Offers: []query.Offer{{ID: canary}, {ID: canary}},
					Upstream: query.Response{Code: "0000", Message: canary, Reference: canary, Dialect: "A"},
				}
			}),
			`{"level":"info","msg":"query complete"` + common + `,"outcome":"ok","offers":2,"upstream_code":"0000","dialect":"A"}`,
		},
		"fail": {
			outcome(decide.Fail, failing(query.ReasonExpired, fault.Expired, fault.DeadlinePassed)),
			`{"level":"info","msg":"query fail"` + common + `,"reason":"expired"` + failed("expired", "deadline_passed"),
		},
		"bury": {
			outcome(decide.Bury, failing(query.ReasonRejected, fault.Rejected, fault.BadField)),
			`{"level":"warn","msg":"query bury"` + common + `,"reason":"rejected"` + failed("rejected", "bad_field"),
		},
		"retry": {
			outcome(decide.Retry, failing("", fault.Unavailable, fault.HTTPStatus), func(o *decide.Outcome) { o.Verdict.At = started.Add(time.Minute) }),
			`{"level":"warn","msg":"query retry"` + common + strings.TrimSuffix(failed("unavailable", "http_status"), "}") + `,"retry_at":"2026-03-02T09:16:00Z"}`,
		},
		"release": {
			outcome(decide.Release, failing("", fault.Interrupted, fault.Stopped)),
			`{"level":"info","msg":"query release"` + common + failed("interrupted", "stopped"),
		},
		"skip": {
			outcome(decide.Skip, failing("", fault.Duplicate, fault.AlreadyAnswered)),
			`{"level":"info","msg":"query skip"` + common + failed("duplicate", "already_answered"),
		},
		"replayed, which the client asked in its lane": {
			outcome(decide.Skip, replayed),
			`{"level":"info","msg":"query skip"` + common + `}`,
		},
		"not settled": {
			outcome(decide.Skip, func(o *decide.Outcome) { o.Settled = false }),
			`{"level":"error","msg":"query skip"` + strings.Replace(common, "true", "false", 1) + `}`,
		},
		"panicked": {
			outcome(decide.Retry, func(o *decide.Outcome) { o.Stack = "goroutine 1\nmain.go:7" }),
			`{"level":"error","msg":"query retry"` + common + `,"stack":"goroutine 1\nmain.go:7"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			lines := observe(t, "debug", "json", test.outcome)
			require.Len(t, lines, 1)
			var line map[string]any
			require.NoError(t, json.Unmarshal([]byte(lines[0]), &line))
			at, err := time.Parse(time.RFC3339Nano, line["time"].(string))
			require.NoError(t, err)
			require.WithinRange(t, at, before.Truncate(time.Second), time.Now())
			delete(line, "time")
			got, err := json.Marshal(line)
			require.NoError(t, err)
			require.JSONEq(t, test.want, string(got))
			requireClean(t, lines[0])
		})
	}
}

// requireClean checks that nothing of what a publisher wrote, and no digit of a card, is in a line.
func requireClean(t *testing.T, line string) {
	t.Helper()
	for _, secret := range []string{canary, testCard, testCard[:8], "51004", "concealed"} {
		require.NotContains(t, line, secret)
	}
}

func TestConsoleFormat(t *testing.T) {
	t.Parallel()
	lines := observe(t, "info", "console", outcome(decide.Bury, failing(query.ReasonRejected, fault.Rejected, fault.BadField)))
	require.Len(t, lines, 1)
	require.Regexp(t, `^\d\d:\d\d:\d\d\.\d{3}\tWARN\tquery bury\t\{"key": "[a-z2-7]{26}", .*"code": "bad_field".*\}$`, lines[0])
	requireClean(t, lines[0])
}

func TestLevels(t *testing.T) {
	t.Parallel()
	all := []decide.Outcome{
		outcome(decide.Complete), outcome(decide.Skip), outcome(decide.Release), outcome(decide.Fail), outcome(decide.Bury),
		outcome(decide.Retry), outcome(decide.Complete, func(o *decide.Outcome) { o.Settled = false }),
		outcome(decide.Retry, failing("", fault.Throttled, fault.Paced), func(o *decide.Outcome) { o.Verdict.Fault.After = time.Second }),
	}
	for level, want := range map[string]int{"debug": 8, "info": 7, "warn": 3, "error": 1} {
		require.Len(t, observe(t, level, "json", all...), want, level)
	}
	_, _, err := NewLog(&safeBuffer{}, "loud", "json")
	require.ErrorContains(t, err, "log level")
}

func TestLogIsFlushed(t *testing.T) {
	t.Parallel()
	var out safeBuffer
	log, sink, err := NewLog(&out, "info", "json")
	require.NoError(t, err)
	log.Info("by itself, within a second or so")
	require.Eventually(t, func() bool { return out.String() != "" }, 30*time.Second, 10*time.Millisecond)
	log.Info("last", zap.Int("n", 1))
	sink.Close()
	require.True(t, strings.HasSuffix(out.String(), "\"n\":1}\n"), "%s", out.String())
	sink.Close()
}

func TestObserverIsSafeForManyGoroutines(t *testing.T) {
	t.Parallel()
	var out safeBuffer
	log, sink, err := NewLog(&out, "info", "json")
	require.NoError(t, err)
	recorder := NewRecorder(log, NewMetrics("test", []query.Provider{query.EasyPay}))
	var observing sync.WaitGroup
	for range 8 {
		observing.Go(func() {
			for range 50 {
				recorder.Observe(outcome(decide.Complete))
			}
		})
	}
	observing.Wait()
	sink.Close()
	require.Equal(t, 400, strings.Count(out.String(), "\n"))
}

func BenchmarkObserve(b *testing.B) {
	log, sink, err := NewLog(&discard{}, "info", "json")
	require.NoError(b, err)
	defer sink.Close()
	recorder, o := NewRecorder(log, NewMetrics("test", []query.Provider{query.EasyPay})), outcome(decide.Complete)
	b.ReportAllocs()
	for b.Loop() {
		recorder.Observe(o)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
