package app

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/trace"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// The publisher's trace context.
const (
	publisherTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	publisherSpan   = "00f067aa0ba902b7"
	publisherParent = "00-" + publisherTrace + "-" + publisherSpan + "-01"
)

// testMobile is a number of the cardholder's.
const testMobile = "+8613800138000"

// traced returns a question with the publisher's trace context.
func traced(question client.Question) client.Question {
	question.TraceParent = publisherParent
	return question
}

// TestTracesOfTheWholeWay sends queries down every way, to a collector that keeps what it gets, and looks at the trees when the worker is gone.
func TestTracesOfTheWholeWay(t *testing.T) {
	t.Parallel()
	s, c := newSite(t), newCollector(t)
	s.tracing = c.tracing()
	outage := of("016", sandbox.KindStatus, "503")
	outage.Count = 4
	s.fail(t, of("027", sandbox.KindCode, "9999"), outage)
	r := s.run(t)
	r.ready(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()

	holder := unionPay(t, "answered", query.Interactive)
	holder.Card.Mobile = card.NewSecret(testMobile)
	answered, err := r.Ask(ctx, traced(holder))
	require.NoError(t, err)
	direct, err := r.Direct(ctx, traced(easyPay("direct", "008", query.Interactive)))
	require.NoError(t, err)
	retried, err := r.Publish(ctx, easyPay("retried", "016", query.Bulk))
	require.NoError(t, err)
	r.resultOf(t, retried)
	dead, err := r.Publish(ctx, traced(easyPay("dead", "027", query.Interactive)))
	require.NoError(t, err)
	letter := r.letterOf(t, dead)
	s.fail(t)
	r.replay(t, s, dead)
	r.malformed(t)
	figures := r.figures(t)
	r.stop()
	r.wait(t)
	require.Empty(t, s.lines("spans"), "none was lost")

	all := c.all()
	t.Logf("%d spans in %d bytes", len(all), len(c.everything()))
	t.Run("answered", func(t *testing.T) {
		t.Parallel()
		requireAnswered(t, all, "process unionpay interactive", "call unionpay", answered)
	})
	t.Run("direct", func(t *testing.T) { t.Parallel(); requireAnswered(t, all, "ask", "call easypay", direct) })
	t.Run("retried", func(t *testing.T) { t.Parallel(); requireRounds(t, all.about("discount.key", retried), all) })
	t.Run("dead and replayed", func(t *testing.T) { t.Parallel(); requireReplay(t, all, dead, letter) })
	t.Run("only what may be shown", func(t *testing.T) { t.Parallel(); requireAllowed(t, c) })
	require.NotEmpty(t, s.lines(`"trace_id":"`+publisherTrace+`"`, answered.Key), "the log names the trace")
	for _, name := range []string{"query_age_seconds", "upstream_attempt_seconds"} {
		require.Regexp(t, `discount_worker_`+name+`_bucket\{[^}]*provider="unionpay"[^}]*\} 1 # \{trace_id="`+publisherTrace+`"\}`, figures)
	}
}

// figures returns the metrics as a scraper that knows OpenMetrics gets them.
func (r *running) figures(t *testing.T) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.AdminAddr()+"/metrics", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

// letterOf waits for the dead letter of a query and returns its trace context.
func (r *running) letterOf(t *testing.T, key string) string {
	t.Helper()
	_, subject := r.deadOf(t, r.Subjects.DeadGuard(key))
	stream, err := r.broker.JS.Stream(t.Context(), r.topology.Names().Dead())
	require.NoError(t, err)
	message, err := stream.GetLastMsgForSubject(t.Context(), subject)
	require.NoError(t, err)
	return parentOf(t, message.Data)
}

func parentOf(t *testing.T, event []byte) string {
	t.Helper()
	var envelope struct {
		TraceParent string `json:"traceparent"`
	}
	require.NoError(t, json.Unmarshal(event, &envelope))
	return envelope.TraceParent
}

// replay has a dead query asked again and waits for its answer.
func (r *running) replay(t *testing.T, s *site, key string) {
	t.Helper()
	settings := s.Config
	settings.NATS.URL = config.URL(r.ClientURL())
	letters, err := OpenDeadLetters(t.Context(), settings, DeadLettersOptions{Actor: "kim", Why: "test"})
	require.NoError(t, err)
	defer letters.Close(t.Context())
	plan, err := letters.PlanReplay(t.Context(), deadletter.Filter{Client: "shop"})
	require.NoError(t, err)
	require.Equal(t, 1, plan.Ready)
	batch, err := letters.Start(t.Context(), deadletter.Request{Plan: plan, Rate: 100, CanaryWait: patience})
	require.NoError(t, err)
	_, err = letters.Run(t.Context(), batch.ID, nil)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		result, err := r.Result(t.Context(), key)
		return err == nil && result.Status == query.Completed
	}, patience, 20*time.Millisecond)
}

// malformed publishes what can't be read, with card data where none belongs.
func (r *running) malformed(t *testing.T) {
	t.Helper()
	subject := r.Subjects.Query(query.EasyPay, query.Interactive, "shop")
	header := nats.Header{"Nats-Msg-Id": {"bad " + testCard}, "Traceparent": {testCard}, "Tracestate": {"card=" + testCard}}
	_, err := r.broker.JS.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Data: []byte(`{"cardNo":"` + testCard + `"}`), Header: header})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.count(t, r.topology.Names().Dead()) == 2 }, patience, 20*time.Millisecond)
}

// requireAnswered checks the tree of a query that was answered at once.
func requireAnswered(t *testing.T, all spans, name, call string, result client.Result) {
	root := all.named(name).about("discount.key", result.Key).one(t)
	require.Equal(t, publisherTrace, traceOf(root))
	require.Equal(t, publisherSpan, hex.EncodeToString(root.GetParentSpanId()), "a child of the publisher's span")
	require.Equal(t, "complete", attributesOf(root)["discount.action"])
	below := all.below(root)
	require.Equal(t, []string{"wait for pace", call, "publish result"}, below.names())
	require.Equal(t, "default", attributesOf(below[1])["discount.account"])
	require.Equal(t, "127.0.0.1", attributesOf(below[1])["server.address"])
	require.Equal(t, contextOf(below[2]), parentOf(t, result.Event), "readers go on from the span that published it")
	for _, span := range below {
		require.Equal(t, publisherTrace, traceOf(span))
		require.GreaterOrEqual(t, span.GetStartTimeUnixNano(), root.GetStartTimeUnixNano())
		require.LessOrEqual(t, span.GetEndTimeUnixNano(), root.GetEndTimeUnixNano())
	}
}

// requireRounds checks the trace of a query that came without one and was answered in its second round.
func requireRounds(t *testing.T, rounds, all spans) {
	require.Len(t, rounds, 2)
	first, second := rounds[0], rounds[1]
	require.NotEqual(t, publisherTrace, traceOf(first))
	require.Empty(t, first.GetParentSpanId())
	require.Equal(t, traceOf(first), traceOf(second))
	require.Equal(t, first.GetSpanId(), second.GetParentSpanId())
	require.Equal(t, "retry", attributesOf(first)["discount.action"])
	require.Equal(t, "unavailable", attributesOf(first)["discount.fault.kind"])
	below := all.below(first)
	require.Len(t, below.named("wait for pace"), 3)
	require.Len(t, below.named("call easypay"), 3)
	require.Len(t, below.named("schedule retry"), 1)
	for _, failed := range below.named("call easypay") {
		require.Equal(t, tracepb.Status_STATUS_CODE_ERROR, failed.GetStatus().GetCode())
		require.Equal(t, "http_status", attributesOf(failed)["discount.fault.code"])
	}
	require.Len(t, all.below(second).named("call easypay"), 2)
	require.Len(t, all.below(second).named("publish result"), 1)
}

// requireReplay checks the two traces of a query that died and was asked again.
func requireReplay(t *testing.T, all spans, key, letter string) {
	rounds := all.about("discount.key", key)
	require.Equal(t, []string{"process easypay interactive", "process easypay bulk"}, rounds.names())
	died, replay := rounds[0], rounds[1]
	require.Equal(t, publisherTrace, traceOf(died))
	buried := all.below(died).named("publish dead letter").one(t)
	require.Equal(t, contextOf(buried), letter, "the letter keeps the trace")
	require.NotEqual(t, publisherTrace, traceOf(replay), "a trace of its own")
	require.Empty(t, replay.GetParentSpanId())
	require.Len(t, replay.GetLinks(), 1)
	require.Equal(t, buried.GetTraceId(), replay.GetLinks()[0].GetTraceId())
	require.Equal(t, buried.GetSpanId(), replay.GetLinks()[0].GetSpanId())
	require.Equal(t, []string{"wait for pace", "call easypay", "publish result"}, all.below(replay).names())
}

// requireAllowed checks that nothing left the worker but closed names and listed attributes.
func requireAllowed(t *testing.T, c *collector) {
	names := []string{
		"process easypay interactive", "process easypay bulk", "process unionpay interactive", "ask", "wait for pace", "call easypay", "call unionpay",
		"publish result", "publish dead letter", "schedule retry",
	}
	var keys []string
	for _, attribute := range trace.Attributes() {
		keys = append(keys, attribute.Key)
	}
	seen := map[string]bool{}
	for _, span := range c.all() {
		require.Contains(t, names, span.GetName())
		seen[span.GetName()] = true
		require.Empty(t, span.GetEvents())
		require.Empty(t, span.GetTraceState())
		require.Empty(t, span.GetStatus().GetMessage())
		for key := range attributesOf(span) {
			require.Contains(t, keys, key)
		}
		for _, link := range span.GetLinks() {
			require.Empty(t, link.GetAttributes())
		}
	}
	require.Len(t, seen, len(names), "every kind of span was there")
	for key := range c.keys {
		require.True(t, slices.Contains([]string{
			"service.name", "service.version", "service.instance.id", "telemetry.sdk.name", "telemetry.sdk.language", "telemetry.sdk.version",
		}, key), key)
	}
	for _, secret := range []string{testCard, testToken, testMobile, "urn:shop", "order ", "tracestate"} {
		require.NotContains(t, c.everything(), secret)
	}
}

// TestWithoutTracingContextsPassThrough answers a query of a publisher that traces: its result repeats what it came with.
func TestWithoutTracingContextsPassThrough(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	result, err := r.Ask(ctx, traced(easyPay("1", "008", query.Interactive)))
	require.NoError(t, err)
	require.Equal(t, publisherParent, parentOf(t, result.Event))
	require.Nil(t, r.tracer)
	require.Empty(t, s.lines("trace_id"))
}

func TestUnknownProtocolStopsTheStart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := New(t.Context(), Options{Config: s.Config, Log: s.log, Tracing: Tracing{Protocol: "http/json"}})
	require.ErrorContains(t, err, `start traces: unknown protocol "http/json": it must be http/protobuf or grpc`)
}

// TestACollectorThatHangsHoldsNothingUp asks and stops while the collector takes connections and says nothing.
func TestACollectorThatHangsHoldsNothingUp(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{TracesHTTP, TracesGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.tracing = Tracing{Protocol: protocol, Endpoint: "http://" + hanging(t)}
			s.Shutdown.Grace = patience
			r := s.run(t)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := r.Ask(ctx, easyPay("1", "008", query.Interactive))
			require.NoError(t, err)
			began := time.Now()
			r.stop()
			r.wait(t)
			t.Logf("the stop took %s of a grace of %s", time.Since(began), s.Shutdown.Grace)
			require.Len(t, s.lines("spans lost at the stop", "no answer in time"), 1)
			require.Len(t, s.lines(`"msg":"query complete"`, `"settled":true`), 1)
		})
	}
}

// hanging returns the address of a listener that takes connections, as far as anybody can see, and never says anything.
func hanging(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}
