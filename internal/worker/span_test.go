package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/trace"
)

// The publisher's trace context.
const (
	publisherTrace  = "4bf92f3577b34da6a3ce929d0e0e4736"
	publisherSpan   = "00f067aa0ba902b7"
	publisherParent = "00-" + publisherTrace + "-" + publisherSpan + "-01"
)

// traced returns a worker with a tracer, and what that recorded.
func traced(t testing.TB) (*bundle, *tracetest.InMemoryExporter) {
	t.Helper()
	b := setup(t)
	recorded := tracetest.NewInMemoryExporter()
	b.Tracer = trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(recorded)))
	return b, recorded
}

// published returns the delivery of a query that came with a trace context.
func (b *bundle) published(id string) query.Delivery {
	return b.delivery(query.EasyPay, id, map[string]any{"mallId": "T5102001", "cardCd": "008"},
		map[string]any{"traceparent": publisherParent, "tracestate": "shop=17"})
}

// due returns the delivery of the n-th scheduled retry.
func (b *bundle) due(n int) query.Delivery {
	return query.Delivery{
		Subject: b.subjects.RetryDue(query.EasyPay, query.Interactive, "shop"), Data: b.store.retries[n].body,
		Stream: "DISCOUNT_RETRIES", Sequence: uint64(n + 1), Number: 1, Stored: time.Now(),
	}
}

// named returns the recorded spans of a name, in the order in which they ended.
func named(recorded *tracetest.InMemoryExporter, name string) tracetest.SpanStubs {
	var found tracetest.SpanStubs
	for _, span := range recorded.GetSpans() {
		if span.Name == name {
			found = append(found, span)
		}
	}
	return found
}

// contextOf returns the trace context of an event.
func contextOf(t *testing.T, event []byte) (parent, state string) {
	t.Helper()
	var envelope struct {
		TraceParent string `json:"traceparent"`
		TraceState  string `json:"tracestate"`
	}
	require.NoError(t, query.ReadStrict(event, &envelope))
	return envelope.TraceParent, envelope.TraceState
}

func parentOf(span tracetest.SpanStub) string {
	return "00-" + span.SpanContext.TraceID().String() + "-" + span.SpanContext.SpanID().String() + "-01"
}

func TestAResultLeadsToTheSpanThatPublishedIt(t *testing.T) {
	t.Parallel()
	b, recorded := traced(t)
	require.Equal(t, done, b.Handle(t.Context(), b.published("1")))
	process, publish := named(recorded, "process easypay interactive"), named(recorded, "publish result")
	require.Len(t, process, 1)
	require.Len(t, publish, 1)
	require.Equal(t, publisherTrace, process[0].SpanContext.TraceID().String())
	require.Equal(t, publisherSpan, process[0].Parent.SpanID().String())
	require.Equal(t, process[0].SpanContext.SpanID(), publish[0].Parent.SpanID())
	parent, state := contextOf(t, b.store.results[keyOf("1")])
	require.Equal(t, parentOf(publish[0]), parent)
	require.Equal(t, "shop=17", state, "the publisher's state goes on with its trace")
	require.Equal(t, publisherTrace, b.store.last(t).Trace)
	require.NotContains(t, fmt.Sprint(recorded.GetSpans()), "shop=17", "and is in no span")
}

func TestAllRoundsAreInOneTrace(t *testing.T) {
	t.Parallel()
	for name, attributes := range map[string]map[string]any{
		"the publisher's": {"traceparent": publisherParent}, "their own": nil, "their own, of a bad context": {"traceparent": "order 17"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, recorded := traced(t)
			b.fail(fault.Unavailable, fault.Timeout)
			delivery := b.delivery(query.EasyPay, "1", map[string]any{"cardCd": "008"}, attributes)
			for round := range 3 {
				require.Equal(t, done, b.Handle(t.Context(), delivery))
				delivery = b.due(round)
			}
			b.fail(fault.Rejected, fault.UpstreamBroken)
			require.Equal(t, done, b.Handle(t.Context(), delivery))

			rounds := named(recorded, "process easypay interactive")
			require.Len(t, rounds, 4)
			first := rounds[0].SpanContext
			require.Equal(t, name == "the publisher's", first.TraceID().String() == publisherTrace)
			for _, later := range rounds[1:] {
				require.Equal(t, first.TraceID(), later.SpanContext.TraceID())
				require.Equal(t, first.SpanID(), later.Parent.SpanID(), "rounds stand beside each other, however many there are")
			}
			require.Len(t, named(recorded, "schedule retry"), 3)
			letter, _ := contextOf(t, b.store.dead[keyOf("1")])
			require.Equal(t, parentOf(named(recorded, "publish dead letter")[0]), letter)
			failed, _ := contextOf(t, b.store.results[keyOf("1")])
			require.Equal(t, parentOf(named(recorded, "publish result")[0]), failed)
		})
	}
}

// TestAReplayHasATraceOfItsOwn asks a dead query again, twice.
func TestAReplayHasATraceOfItsOwn(t *testing.T) {
	t.Parallel()
	b, recorded := traced(t)
	b.fail(fault.Unavailable, fault.Timeout)
	require.Equal(t, done, b.Handle(t.Context(), b.published("1")))
	var retry query.Retry
	require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
	require.True(t, trace.Same(publisherParent, retry.TraceParent))
	retry.TraceParent = ""
	retry.Replay = &query.Replay{ReplayRef: query.ReplayRef{Revision: 1, Batch: "b1", Actor: "kim"}, TraceParent: publisherParent}
	body, err := json.Marshal(retry)
	require.NoError(t, err)
	due := query.Delivery{Subject: b.subjects.RetryDue(query.EasyPay, query.Bulk, "shop"), Data: body, Number: 1, Stored: time.Now()}
	recorded.Reset()
	require.Equal(t, done, b.Handle(t.Context(), due))
	b.fail(fault.Rejected, fault.UpstreamBroken)
	due.Data = b.store.retries[1].body
	require.Equal(t, done, b.Handle(t.Context(), due))

	rounds := named(recorded, "process easypay bulk")
	require.Len(t, rounds, 2)
	replay := rounds[0]
	require.NotEqual(t, publisherTrace, replay.SpanContext.TraceID().String())
	require.False(t, replay.Parent.IsValid(), "nobody's child")
	require.Len(t, replay.Links, 1)
	require.Equal(t, publisherTrace, replay.Links[0].SpanContext.TraceID().String())
	require.Equal(t, replay.SpanContext.TraceID(), rounds[1].SpanContext.TraceID(), "a further round is a round of the replay")
	require.Empty(t, rounds[1].Links)
	parent, state := contextOf(t, b.store.dead[keyOf("1")])
	require.Equal(t, parentOf(named(recorded, "publish dead letter")[0]), parent)
	require.Empty(t, state, "the publisher's state belongs to another trace")
}

func TestARequestIsASpanToo(t *testing.T) {
	t.Parallel()
	b, recorded := traced(t)
	asked := b.published("1")
	asked.Subject = b.subjects.Ask(query.EasyPay, "shop")
	event, err := b.Ask(t.Context(), asked, inTime())
	require.NoError(t, err)
	span := named(recorded, "ask")
	require.Len(t, span, 1)
	require.Equal(t, oteltrace.SpanKindServer, span[0].SpanKind)
	require.Equal(t, publisherSpan, span[0].Parent.SpanID().String())
	parent, _ := contextOf(t, event)
	require.Equal(t, parentOf(named(recorded, "publish result")[0]), parent, "the reply is what was stored")
}

func TestSpansOfQueriesThatGoWrong(t *testing.T) {
	t.Parallel()
	panics := func(b *bundle) {
		b.call = func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
			panic("card " + testCard)
		}
	}
	for name, test := range map[string]struct {
		breaks   func(b *bundle)
		delivery func(b *bundle) query.Delivery
		span     string
		action   decide.Action
		code     fault.Code
		status   codes.Code
	}{
		"panic":     {panics, func(b *bundle) query.Delivery { return b.easyPay("1") }, "process easypay interactive", decide.Retry, fault.Panicked, codes.Error},
		"malformed": {nil, func(b *bundle) query.Delivery { return malformed(b, `{"cardCd":"`+testCard+`"`) }, "process easypay interactive", decide.Bury, fault.BadJSON, codes.Error},
		"unknown subject": {nil, func(*bundle) query.Delivery {
			return query.Delivery{Subject: "discount.query.visa." + testCard + ".x", Number: 1, Stored: time.Now()}
		}, "process none bulk", decide.Bury, fault.BadSubject, codes.Error},
		"stopping":        {func(b *bundle) { b.fail(fault.Interrupted, fault.Stopped) }, func(b *bundle) query.Delivery { return b.easyPay("1") }, "process easypay interactive", decide.Release, fault.Stopped, codes.Unset},
		"answered before": {func(b *bundle) { b.store.results[keyOf("1")] = []byte(`{}`) }, func(b *bundle) query.Delivery { return b.easyPay("1") }, "process easypay interactive", decide.Skip, fault.AlreadyAnswered, codes.Unset},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, recorded := traced(t)
			if test.breaks != nil {
				test.breaks(b)
			}
			require.Equal(t, done, b.Handle(t.Context(), test.delivery(b)))
			spans := named(recorded, test.span)
			require.Len(t, spans, 1)
			attributes := map[string]any{}
			for _, one := range spans[0].Attributes {
				attributes[string(one.Key)] = one.Value.AsInterface()
			}
			require.Equal(t, test.action.String(), attributes["discount.action"])
			require.Equal(t, string(test.code), attributes["discount.fault.code"])
			require.Equal(t, test.status, spans[0].Status.Code)
			require.NotContains(t, fmt.Sprint(recorded.GetSpans()), testCard)
		})
	}
}

// TestNoSpanHoldsASecret sends a card down every way, with an upstream that answers, fails, refuses and panics with all it knows.
func TestNoSpanHoldsASecret(t *testing.T) {
	t.Parallel()
	b, recorded := traced(t)
	secrets := errors.New(testCard + testToken + testMobile)
	answer := b.call
	failing := func(kind fault.Kind, code fault.Code) func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
		return func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
			failure := fault.Because(secrets.Error(), kind, code, secrets)
			failure.Upstream = testCard
			return query.Answer{}, nil, failure
		}
	}
	for id, call := range map[string]func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error){
		"answered": answer, "retried": failing(fault.Unavailable, fault.Timeout), "dead": failing(fault.Rejected, fault.UpstreamBroken),
		"stopped": failing(fault.Interrupted, fault.Stopped),
		"foreign": func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
			return query.Answer{}, nil, secrets
		},
		"panic": func(context.Context, *query.Query, *card.Details) (query.Answer, []query.Attempt, error) {
			panic(secrets)
		},
	} {
		b.call = call
		require.Equal(t, done, b.Handle(t.Context(), b.unionPay(t, id, bindingOf(id))))
	}
	require.Equal(t, done, b.Handle(t.Context(), malformed(b, `{"cardNo":"`+testCard+`","userToken":"`+testToken+`"`)))
	require.Equal(t, done, b.Handle(t.Context(), b.unionPay(t, "dead", bindingOf("dead"))), "once more")

	known := map[string]bool{}
	for _, attribute := range trace.Attributes() {
		known[attribute.Key] = true
	}
	require.Len(t, named(recorded, "process unionpay interactive"), 7)
	for _, span := range recorded.GetSpans() {
		for _, one := range span.Attributes {
			require.True(t, known[string(one.Key)], one.Key)
		}
		require.Empty(t, span.Events)
		require.Empty(t, span.Status.Description)
		for _, secret := range []string{testCard, testToken, testMobile} {
			require.NotContains(t, fmt.Sprintf("%+v", span), secret, span.Name)
		}
	}
}

func malformed(b *bundle, data string) query.Delivery {
	return query.Delivery{Subject: b.subjects.Query(query.EasyPay, query.Interactive, "shop"), Data: []byte(data), Number: 1, Stored: time.Now()}
}

// TestWithoutATracerContextsPassThrough shows what events and retries hold while traces are off, also in a fleet where they are on elsewhere.
func TestWithoutATracerContextsPassThrough(t *testing.T) {
	t.Parallel()
	b := setup(t)
	answer := b.call
	b.fail(fault.Unavailable, fault.Timeout)
	require.Equal(t, done, b.Handle(t.Context(), b.published("1")))
	require.NotContains(t, string(b.store.retries[0].body), "traceparent", "the publisher's is sealed with its message")
	var retry query.Retry
	require.NoError(t, query.ReadStrict(b.store.retries[0].body, &retry))
	const elsewhere = "00-" + publisherTrace + "-1111111111111111-01"
	retry.TraceParent = elsewhere
	body, err := json.Marshal(retry)
	require.NoError(t, err)
	b.store.retries[0].body = body
	require.Equal(t, done, b.Handle(t.Context(), b.due(0)))
	require.NoError(t, query.ReadStrict(b.store.retries[1].body, &retry))
	require.Equal(t, elsewhere, retry.TraceParent)

	b.call = answer
	require.Equal(t, done, b.Handle(t.Context(), b.due(1)))
	parent, state := contextOf(t, b.store.results[keyOf("1")])
	require.Equal(t, publisherParent, parent)
	require.Equal(t, "shop=17", state)
	require.Empty(t, b.store.last(t).Trace)
}
