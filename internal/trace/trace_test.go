package trace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"

	"discountquery.example/worker/internal/fault"
)

// Contexts of publishers, and what nobody may ever see in a span.
const (
	publisher = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
	traceID   = "4bf92f3577b34da6a3ce929d0e0e4736"
	canary    = "6200000000000005"
)

// bundle is a tracer and what it recorded.
type bundle struct {
	*Tracer

	recorded *tracetest.InMemoryExporter
}

func setup(options ...sdktrace.TracerProviderOption) *bundle {
	recorded := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithSyncer(recorded))...)
	return &bundle{Tracer: New(provider), recorded: recorded}
}

// spans returns what was recorded, by name.
func (b *bundle) spans(t *testing.T) map[string]tracetest.SpanStub {
	t.Helper()
	spans := map[string]tracetest.SpanStub{}
	for _, span := range b.recorded.GetSpans() {
		require.NotContains(t, spans, span.Name)
		spans[span.Name] = span
	}
	return spans
}

func delivery() Delivery {
	return Delivery{Provider: "easypay", Lane: "bulk", Client: "shop", Key: "abc", Began: time.Unix(100, 0), Number: 2, Parent: publisher}
}

func first() Attempt {
	return Attempt{Provider: "easypay", Lane: "bulk", Account: "default", Number: 1}
}

func values(span tracetest.SpanStub) map[string]any {
	all := map[string]any{}
	for _, one := range span.Attributes {
		all[string(one.Key)] = one.Value.AsInterface()
	}
	return all
}

func TestTheSpansOfOneQuery(t *testing.T) {
	t.Parallel()
	b := setup()
	ctx, process := b.Begin(t.Context(), delivery())
	Wait(ctx, first()).Waited(1500*time.Millisecond, nil)
	Call(ctx, first(), "easypay.example").Called("ok", 200, nil)
	within, publish := Publish(ctx, Result)
	publish.End(nil)
	process.Settled(Outcome{Action: "complete", Answer: "ok", Waited: time.Second, Settled: true})

	spans := b.spans(t)
	require.Len(t, spans, 4)
	root := spans["process easypay bulk"]
	require.Equal(t, traceID, root.SpanContext.TraceID().String())
	require.Equal(t, "00f067aa0ba902b7", root.Parent.SpanID().String())
	require.True(t, root.Parent.IsRemote())
	require.Equal(t, oteltrace.SpanKindConsumer, root.SpanKind)
	require.True(t, time.Unix(100, 0).Equal(root.StartTime), "a span begins when its delivery was taken up")
	require.Equal(t, map[string]any{
		"discount.provider": "easypay", "discount.lane": "bulk", "discount.client": "shop", "discount.key": "abc", "discount.deliveries": int64(2),
		"messaging.system": "nats", "messaging.operation.type": "process", "discount.action": "complete", "discount.outcome": "ok", "discount.waited_seconds": 1.0,
	}, values(root))
	asked := map[string]any{"discount.provider": "easypay", "discount.lane": "bulk", "discount.account": "default", "discount.attempt": int64(1)}
	for name, want := range map[string]struct {
		kind       oteltrace.SpanKind
		attributes map[string]any
	}{
		"wait for pace":  {oteltrace.SpanKindInternal, with(asked, "discount.waited_seconds", 1.5)},
		"call easypay":   {oteltrace.SpanKindClient, with(asked, "discount.outcome", "ok", "http.response.status_code", int64(200), "server.address", "easypay.example")},
		"publish result": {oteltrace.SpanKindProducer, map[string]any{"messaging.system": "nats", "messaging.operation.type": "send"}},
	} {
		span := spans[name]
		require.Equal(t, root.SpanContext.SpanID(), span.Parent.SpanID(), name)
		require.Equal(t, want.kind, span.SpanKind, name)
		require.Equal(t, want.attributes, values(span), name)
		require.Equal(t, codes.Unset, span.Status.Code, name)
	}
	require.Equal(t, "00-"+traceID+"-"+spans["publish result"].SpanContext.SpanID().String()+"-01", Parent(within))
	require.Equal(t, traceID, ID(ctx))
	require.Equal(t, "discountquery.example/worker/internal/trace", root.InstrumentationScope.Name)
}

func with(attributes map[string]any, pairs ...any) map[string]any {
	all := map[string]any{}
	maps.Copy(all, attributes)
	for i := 0; i < len(pairs); i += 2 {
		all[pairs[i].(string)] = pairs[i+1]
	}
	return all
}

func TestARequestIsServed(t *testing.T) {
	t.Parallel()
	b := setup()
	asked := delivery()
	asked.Asked = true
	_, span := b.Begin(t.Context(), asked)
	span.Settled(Outcome{Settled: true})
	require.Equal(t, oteltrace.SpanKindServer, b.spans(t)["ask"].SpanKind)
}

func TestWhatCouldNotBeReadHasNoProvider(t *testing.T) {
	t.Parallel()
	b := setup()
	_, span := b.Begin(t.Context(), Delivery{Began: time.Now()})
	span.Settled(Outcome{Settled: true})
	require.Equal(t, "none", values(b.spans(t)["process none bulk"])["discount.provider"])
}

func TestParentsThatCantBeReadBeginATraceOfTheirOwn(t *testing.T) {
	t.Parallel()
	for name, parent := range map[string]string{
		"none": "", "words": "order 17", "too short": "00-4bf92f35-00f067aa0ba902b7-01", "upper case": "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
		"no trace": "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "no span": "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
		"forbidden version": "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "a tail": publisher + "-" + canary, "card": canary,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			broken := delivery()
			broken.Parent, broken.Linked = parent, parent
			ctx, span := b.Begin(t.Context(), broken)
			span.Settled(Outcome{Settled: true})
			recorded := b.spans(t)["process easypay bulk"]
			require.False(t, recorded.Parent.IsValid())
			require.NotEqual(t, traceID, ID(ctx))
			require.Len(t, ID(ctx), 32)
			require.Empty(t, recorded.Links)
			require.NotContains(t, fmt.Sprint(recorded), canary)
			require.False(t, Same(parent, Parent(ctx)))
		})
	}
}

func TestALinkedTrace(t *testing.T) {
	t.Parallel()
	b := setup()
	replay := delivery()
	replay.Parent, replay.Linked = "", publisher
	ctx, span := b.Begin(t.Context(), replay)
	span.Settled(Outcome{Settled: true})
	recorded := b.spans(t)["process easypay bulk"]
	require.Len(t, recorded.Links, 1)
	require.Equal(t, traceID, recorded.Links[0].SpanContext.TraceID().String())
	require.False(t, recorded.Parent.IsValid())
	require.NotEqual(t, traceID, ID(ctx))
}

// TestWhatIsNotSampled has no spans but a context: whoever goes on from there must know that the trace is not recorded.
func TestWhatIsNotSampled(t *testing.T) {
	t.Parallel()
	b := setup()
	quiet := delivery()
	quiet.Parent = unsampled
	ctx, process := b.Begin(t.Context(), quiet)
	Wait(ctx, first()).Waited(time.Second, nil)
	Call(ctx, first(), "host").Called("ok", 200, nil)
	within, publish := Publish(ctx, DeadLetter)
	publish.End(errors.New(canary))
	process.Settled(Outcome{Settled: false, Fault: fault.New("", fault.Rejected, fault.BadField)})
	require.Empty(t, b.recorded.GetSpans())
	require.Empty(t, ID(ctx), "there is no such trace to be looked at")
	require.True(t, Same(unsampled, Parent(within)))
	require.Regexp(t, "-00$", Parent(within))
}

func TestFaultsAreClosedWords(t *testing.T) {
	t.Parallel()
	refused := fault.New("call", fault.Unavailable, fault.HTTPStatus)
	refused.Status, refused.Upstream = 503, canary
	for name, test := range map[string]struct {
		err    error
		want   map[string]any
		status codes.Code
	}{
		"none":        {nil, nil, codes.Unset},
		"refused":     {refused, map[string]any{"discount.fault.kind": "unavailable", "discount.fault.code": "http_status", "http.response.status_code": int64(503)}, codes.Error},
		"foreign":     {errors.New(canary), map[string]any{"discount.fault.kind": "unknown", "discount.fault.code": "unclassified"}, codes.Error},
		"wrapped":     {fmt.Errorf("%s: %w", canary, refused), map[string]any{"discount.fault.kind": "unavailable", "discount.fault.code": "http_status", "http.response.status_code": int64(503)}, codes.Error},
		"a stop":      {context.Canceled, map[string]any{"discount.fault.kind": "interrupted", "discount.fault.code": "unclassified"}, codes.Unset},
		"answered":    {fault.New("", fault.Duplicate, fault.AlreadyAnswered), map[string]any{"discount.fault.kind": "duplicate", "discount.fault.code": "already_answered"}, codes.Unset},
		"put off":     {fault.New("", fault.Throttled, fault.Paced), map[string]any{"discount.fault.kind": "throttled", "discount.fault.code": "paced"}, codes.Unset},
		"breaker":     {fault.New("", fault.Unavailable, fault.BreakerOpen), map[string]any{"discount.fault.kind": "unavailable", "discount.fault.code": "breaker_open"}, codes.Unset},
		"rate limits": {fault.New("", fault.Throttled, fault.RateLimited), map[string]any{"discount.fault.kind": "throttled", "discount.fault.code": "rate_limited"}, codes.Error},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup()
			ctx, process := b.Begin(t.Context(), delivery())
			_, span := Publish(ctx, Retry)
			span.End(test.err)
			Call(ctx, first(), "host").Called("", 0, test.err)
			Wait(ctx, first()).Waited(0, test.err)
			outcome := Outcome{Action: "retry", Settled: true}
			if test.err != nil {
				outcome.Fault = fault.From("", test.err)
			}
			process.Settled(outcome)
			for _, recorded := range b.recorded.GetSpans() {
				require.Equal(t, test.status, recorded.Status.Code, recorded.Name)
				require.Empty(t, recorded.Status.Description)
				require.Empty(t, recorded.Events)
				require.NotContains(t, fmt.Sprint(recorded), canary)
				got := values(recorded)
				for key, want := range test.want {
					require.Equal(t, want, got[key], recorded.Name)
				}
			}
			require.Equal(t, with(test.want, "messaging.system", "nats", "messaging.operation.type", "send"), values(b.spans(t)["schedule retry"]))
		})
	}
}

func TestAWriteThatWasNotStoredIsAnError(t *testing.T) {
	t.Parallel()
	b := setup()
	_, span := b.Begin(t.Context(), delivery())
	span.Settled(Outcome{Action: "complete", Answer: "ok", Settled: false})
	require.Equal(t, codes.Error, b.spans(t)["process easypay bulk"].Status.Code)
}

// TestAPanicLeavesNothing ends a span while a panic goes by: its value can be anything.
func TestAPanicLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup()
	ctx, process := b.Begin(t.Context(), delivery())
	require.Panics(t, func() {
		call := Call(ctx, first(), "host")
		defer call.Called("", 0, nil)
		defer Wait(ctx, first()).End(nil)
		defer process.Settled(Outcome{})
		panic(canary)
	})
	require.Len(t, b.spans(t), 3)
	require.NotContains(t, fmt.Sprint(b.recorded.GetSpans()), canary)
}

// TestOffCostsNothing must be alone with its process: it counts what the process allocates.
func TestOffCostsNothing(t *testing.T) { //nolint:paralleltest // See above.
	require.Zero(t, testing.AllocsPerRun(100, func() { spansOf(t.Context(), nil, nil) }))
}

func TestWithoutATracer(t *testing.T) {
	t.Parallel()
	begun, span := (*Tracer)(nil).Begin(t.Context(), delivery())
	require.Equal(t, t.Context(), begun)
	require.Equal(t, Span{}, span)
	require.Empty(t, Parent(begun))
	require.Empty(t, ID(begun))
}

func BenchmarkOff(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		spansOf(b.Context(), nil, nil)
	}
}

func BenchmarkOn(b *testing.B) {
	tracer := New(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(nowhere{})))
	b.ReportAllocs()
	for b.Loop() {
		spansOf(b.Context(), tracer, nil)
	}
}

// nowhere takes spans and keeps none.
type nowhere struct{ sdktrace.SpanProcessor }

func (nowhere) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

func (nowhere) OnEnd(sdktrace.ReadOnlySpan) {}

// spansOf makes the spans of one query with one attempt.
func spansOf(ctx context.Context, tracer *Tracer, failure *fault.Error) {
	ctx, process := tracer.Begin(ctx, Delivery{Provider: "easypay", Lane: "bulk", Client: "shop", Key: "abc", Parent: publisher})
	wait := Wait(ctx, Attempt{Provider: "easypay", Lane: "bulk", Account: "default", Number: 1})
	wait.Waited(time.Second, nil)
	call := Call(ctx, Attempt{Provider: "easypay", Lane: "bulk", Account: "default", Number: 1}, "host")
	call.Called("ok", 200, nil)
	within, publish := Publish(ctx, Result)
	_ = Parent(within)
	publish.End(nil)
	_ = ID(ctx)
	process.Settled(Outcome{Action: "retry", Fault: failure, Settled: true})
}

// FuzzParent reads any text as a trace context: it is gone on with, or there is another trace.
func FuzzParent(f *testing.F) {
	for _, seed := range []string{"", publisher, unsampled, publisher + "-x", "cc" + publisher[2:] + "-more", canary, "00-\x00", "----"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, parent string) {
		b := setup()
		given := delivery()
		given.Parent, given.Linked = parent, parent
		ctx, span := b.Begin(t.Context(), given)
		span.Settled(Outcome{Settled: true})
		require.Len(t, Parent(ctx), len(publisher))
		require.Equal(t, Same(parent, parent), Same(parent, Parent(ctx)), "what can be read is gone on with")
		for _, recorded := range b.recorded.GetSpans() {
			require.Empty(t, recorded.SpanContext.TraceState().String())
			require.Equal(t, Same(parent, parent), len(recorded.Links) == 1)
		}
	})
}

func TestKeysAreTheAllowList(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, one := range Attributes() {
		require.False(t, known[one.Key], one.Key)
		require.NotEmpty(t, one.Meaning)
		known[one.Key] = true
	}
	made := [][]attribute.KeyValue{
		deliveryAttributes(delivery()), outcomeAttributes(Outcome{Answer: "ok"}), attemptAttributes(first()), answerAttributes("ok", 200), sendAttributes(),
		faultAttributes(&fault.Error{Status: 503}), {server.String("host"), waitedSeconds.Float64(1)},
	}
	used := map[string]bool{}
	for _, attributes := range made {
		for _, one := range attributes {
			require.True(t, known[string(one.Key)], one.Key)
			used[string(one.Key)] = true
		}
	}
	require.Len(t, used, len(known), "the list names nothing that no span has")
}
