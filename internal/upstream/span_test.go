package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/trace"
)

// traced returns a context under a span, and what is recorded below it.
func traced(t *testing.T) (context.Context, *tracetest.InMemoryExporter) {
	t.Helper()
	recorded := tracetest.NewInMemoryExporter()
	tracer := trace.New(sdktrace.NewTracerProvider(sdktrace.WithSyncer(recorded)))
	ctx, _ := tracer.Begin(t.Context(), trace.Delivery{Provider: "easypay", Lane: "bulk", Began: time.Now()})
	return ctx, recorded
}

func valuesOf(span tracetest.SpanStub) map[string]any {
	all := map[string]any{}
	for _, one := range span.Attributes {
		all[string(one.Key)] = one.Value.AsInterface()
	}
	return all
}

// TestEachAttemptIsASpan asks an upstream that fails once. Its address holds secrets, as that of a provider could.
func TestEachAttemptIsASpan(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			http.Error(w, canary, http.StatusBadGateway)
		}
	}))
	t.Cleanup(server.Close)
	b := setupServed(t, server.URL)
	b.Account, b.Retry.MaxAttempts = "bank", 3
	b.wait = func(ctx context.Context, _ *query.Query) error {
		require.NotEmpty(t, trace.Parent(ctx))
		return nil
	}
	var traces []string
	b.OnAttempt = func(ctx context.Context, _ query.Provider, _ time.Duration, _ error) {
		traces = append(traces, trace.ID(ctx))
	}
	ctx, recorded := traced(t)
	_, attempts, err := b.ask(ctx)
	require.NoError(t, err)
	require.Len(t, attempts, 2)
	require.Equal(t, []string{trace.ID(ctx), trace.ID(ctx)}, traces)

	spans := recorded.GetSpans()
	names := make([]string, len(spans))
	for i, span := range spans {
		names[i] = span.Name
		require.Equal(t, "bank", valuesOf(span)["discount.account"])
		require.EqualValues(t, i/2+1, valuesOf(span)["discount.attempt"])
		require.Equal(t, trace.ID(ctx), span.SpanContext.TraceID().String())
	}
	require.Equal(t, []string{"wait for pace", "call easypay", "wait for pace", "call easypay"}, names)
	failed, answered := spans[1], spans[3]
	require.Equal(t, codes.Error, failed.Status.Code)
	require.EqualValues(t, http.StatusBadGateway, valuesOf(failed)["http.response.status_code"])
	require.Equal(t, "unavailable", valuesOf(failed)["discount.fault.kind"])
	require.Equal(t, codes.Unset, answered.Status.Code)
	require.EqualValues(t, http.StatusOK, valuesOf(answered)["http.response.status_code"])
	require.Equal(t, "ok", valuesOf(answered)["discount.outcome"])
	require.Equal(t, "127.0.0.1", valuesOf(answered)["server.address"], "the host, and nothing of the path")
	require.NotContains(t, fmt.Sprint(spans), canary)
}

func TestAWaitThatEndsWithoutACall(t *testing.T) {
	t.Parallel()
	b := setup(roundTripper(func(*http.Request) (*http.Response, error) {
		t.Error("it was asked")
		return nil, http.ErrServerClosed
	}))
	b.wait = func(context.Context, *query.Query) error { return fault.New("pace", fault.Interrupted, fault.Stopped) }
	ctx, recorded := traced(t)
	_, attempts, err := b.ask(ctx)
	require.Error(t, err)
	require.Empty(t, attempts)
	spans := recorded.GetSpans()
	require.Len(t, spans, 1)
	require.Equal(t, "wait for pace", spans[0].Name)
	require.Equal(t, "stopped", valuesOf(spans[0])["discount.fault.code"])
	require.Contains(t, valuesOf(spans[0]), "discount.waited_seconds")
}

// TestAPanicOfAProviderEndsItsSpan has a provider panic with a secret in its hand.
func TestAPanicOfAProviderEndsItsSpan(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(server.Close)
	b := setupServed(t, server.URL)
	b.read = func(Response) (query.Answer, error) { panic(canary) }
	ctx, recorded := traced(t)
	require.Panics(t, func() { _, _, _ = b.ask(ctx) })
	spans := recorded.GetSpans()
	require.Len(t, spans, 2)
	require.Equal(t, "call easypay", spans[1].Name)
	require.Empty(t, spans[1].Events)
	require.NotContains(t, fmt.Sprint(spans), canary)
}
