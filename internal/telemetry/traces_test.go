package telemetry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/trace"
)

// bound is how long a test waits for what must happen.
const bound = 30 * time.Second

// textLog returns a log that writes at once, and what it wrote.
func textLog() (*zap.Logger, *safeBuffer) {
	out := &safeBuffer{}
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(out), zap.DebugLevel)), out
}

// spanOf makes one span.
func spanOf(traces *Traces) {
	_, span := traces.Tracer().Begin(context.Background(), trace.Delivery{Provider: "easypay", Lane: "bulk", Key: "abc", Began: time.Now()})
	span.Settled(trace.Outcome{Action: "complete", Settled: true})
}

// collector returns a collector that does what it is told.
func collector(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	return server.URL
}

func TestSpansReachTheCollectorAtTheStop(t *testing.T) {
	t.Parallel()
	type request struct{ method, path, contentType, body string }
	requests := make(chan request, 1)
	address := collector(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests <- request{method: r.Method, path: r.URL.Path, contentType: r.Header.Get("Content-Type"), body: string(body)}
	})
	log, out := textLog()
	traces, err := NewTraces(t.Context(), Tracing{Protocol: TracesHTTP, Endpoint: address + "/v1/traces"}, "v1.2.3", log)
	require.NoError(t, err)
	spanOf(traces)
	traces.Stop(t.Context())
	got := <-requests
	require.Equal(t, http.MethodPost, got.method)
	require.Equal(t, "/v1/traces", got.path)
	require.Equal(t, "application/x-protobuf", got.contentType)
	for _, text := range []string{"process easypay bulk", "service.name", serviceName, "service.version", "v1.2.3", "service.instance.id", "telemetry.sdk.name"} {
		require.Contains(t, got.body, text)
	}
	require.Empty(t, out.String())
	spanOf(traces) // A late one is dropped and hurts nobody.
}

// grpcCollector is a collector over gRPC.
type grpcCollector struct {
	collectorpb.UnimplementedTraceServiceServer

	requests chan *collectorpb.ExportTraceServiceRequest
}

func (c grpcCollector) Export(
	_ context.Context, request *collectorpb.ExportTraceServiceRequest,
) (*collectorpb.ExportTraceServiceResponse, error) {
	c.requests <- request
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func TestSpansReachACollectorOverGRPC(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, c := grpc.NewServer(), grpcCollector{requests: make(chan *collectorpb.ExportTraceServiceRequest, 1)}
	collectorpb.RegisterTraceServiceServer(server, c)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); require.NoError(t, <-served) })
	log, out := textLog()
	traces, err := NewTraces(t.Context(), Tracing{Protocol: TracesGRPC, Endpoint: "http://" + listener.Addr().String()}, "v1", log)
	require.NoError(t, err)
	spanOf(traces)
	require.NoError(t, traces.provider.ForceFlush(t.Context()))
	require.Equal(t, "process easypay bulk", (<-c.requests).GetResourceSpans()[0].GetScopeSpans()[0].GetSpans()[0].GetName())
	traces.Stop(t.Context())
	require.Empty(t, out.String())
}

func TestUnknownProtocol(t *testing.T) {
	t.Parallel()
	log, _ := textLog()
	for _, protocol := range []string{"", "http/json", "udp"} {
		_, err := NewTraces(t.Context(), Tracing{Protocol: protocol}, "v1", log)
		require.ErrorContains(t, err, "it must be http/protobuf or grpc", protocol)
	}
}

// TestCollectorsThatDoNotTakeSpans are heard of once, and not in their own words.
func TestCollectorsThatDoNotTakeSpans(t *testing.T) {
	t.Parallel()
	away, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, away.Close())
	refuses := collector(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, canary, http.StatusForbidden) })
	for name, test := range map[string]struct {
		tracing Tracing
		says    string
	}{
		"away":    {Tracing{Protocol: TracesHTTP, Endpoint: "http://" + away.Addr().String()}, "collector unreachable"},
		"refuses": {Tracing{Protocol: TracesHTTP, Endpoint: refuses}, "export failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, out := textLog()
			traces, err := NewTraces(t.Context(), test.tracing, "v1", log)
			require.NoError(t, err)
			for range 2 {
				spanOf(traces)
				require.NoError(t, traces.provider.ForceFlush(t.Context()), "the SDK hears of no error: it would print it")
			}
			traces.Stop(t.Context())
			require.Equal(t, 1, strings.Count(out.String(), "spans not exported"))
			require.Contains(t, out.String(), `"why":"`+test.says+`"`)
			require.NotContains(t, out.String(), canary)
			require.NotContains(t, out.String(), "127.0.0.1")
		})
	}
}

// TestACollectorThatNeverAnswersHoldsNobodyUp stops while a batch is on its way to it, over each protocol.
func TestACollectorThatNeverAnswersHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{TracesHTTP, TracesGRPC} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			log, out := textLog()
			traces, err := NewTraces(t.Context(), Tracing{Protocol: protocol, Endpoint: "http://" + silent(t)}, "v1", log)
			require.NoError(t, err)
			spanOf(traces)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			traces.Stop(ctx)
			took := time.Since(began)
			t.Logf("the stop took %s", took)
			require.NoError(t, ctx.Err(), "it leaves time to whatever is stopped after it")
			require.Less(t, took, bound)
			require.Contains(t, out.String(), `"spans lost at the stop"`)
			require.Contains(t, out.String(), `"why":"no answer in time"`)
		})
	}
}

// silent returns the address of a server that takes connections and never says anything.
func silent(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		var taken []net.Conn
		for {
			connection, err := listener.Accept()
			if err != nil {
				break
			}
			taken = append(taken, connection)
		}
		for _, connection := range taken {
			_ = connection.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// failing is an exporter that fails, or waits for its end.
type failingExporter struct {
	sdktrace.SpanExporter

	err   error
	hangs bool
}

func (f failingExporter) ExportSpans(ctx context.Context, _ []sdktrace.ReadOnlySpan) error {
	if f.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func TestLostSpansAreToldOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, out := textLog()
		e := &exporter{SpanExporter: failingExporter{err: errors.New(canary)}, life: t.Context(), log: log}
		lines := func() int { return strings.Count(out.String(), "spans not exported") }
		for range 59 {
			require.NoError(t, e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 2)))
			require.Equal(t, 1, lines())
			time.Sleep(time.Second)
		}
		time.Sleep(time.Second)
		require.NoError(t, e.ExportSpans(t.Context(), make([]sdktrace.ReadOnlySpan, 2)))
		require.Equal(t, 2, lines())
		require.Contains(t, out.String(), `"lost":118`, "all that were lost since")
		require.NotContains(t, out.String(), canary)
	})
}

func TestGivingUpEndsAnExport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, _ := textLog()
		life, giveUp := context.WithCancel(t.Context())
		e := &exporter{SpanExporter: failingExporter{hangs: true}, life: life, log: log}
		ended := make(chan error, 1)
		go func() { ended <- e.ExportSpans(context.Background(), nil) }()
		synctest.Wait()
		require.Empty(t, ended)
		giveUp()
		require.NoError(t, <-ended)
		require.NoError(t, e.ExportSpans(context.Background(), nil), "and so does any later one")
	})
}

func TestExportTroublesAreClosedWords(t *testing.T) {
	t.Parallel()
	for want, errs := range map[string][]error{
		"no answer in time":     {context.DeadlineExceeded, &url.Error{URL: canary, Err: context.DeadlineExceeded}, os.ErrDeadlineExceeded},
		"collector unreachable": {&url.Error{URL: canary, Err: &net.OpError{Op: "dial", Err: errors.New(canary)}}},
		"export failed":         {errors.New(canary), context.Canceled},
	} {
		for _, err := range errs {
			require.Equal(t, want, exportTrouble(err))
		}
	}
}

func TestExemplarsNameTheTrace(t *testing.T) {
	t.Parallel()
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	m := NewMetrics("test", both())
	recorder := NewRecorder(zap.NewNop(), m)
	recorder.Observe(outcome(decide.Complete))
	require.NotContains(t, page(t, m), "trace_id", "without a trace there is no exemplar")
	recorder.Observe(outcome(decide.Complete, func(o *decide.Outcome) { o.Trace = id }))
	m.Attempt("easypay", "default", time.Second, nil, id)
	shown := page(t, m)
	for _, name := range []string{"query_age_seconds", "pace_wait_seconds", "upstream_attempt_seconds"} {
		require.Regexp(t, `discount_worker_`+name+`_bucket\{[^}]*\} [0-9]+ # \{trace_id="`+id+`"\}`, shown)
	}
}

// page returns the metrics as a server that knows OpenMetrics gets them.
func page(t *testing.T, m *Metrics) string {
	t.Helper()
	admin := httptest.NewServer(NewAdmin(NewHealth(), m.Registry()).Handler)
	defer admin.Close()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin.URL+"/metrics", http.NoBody)
	require.NoError(t, err)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return string(body)
}

func TestLogLinesNameTheTrace(t *testing.T) {
	t.Parallel()
	lines := observe(t, "info", "json", outcome(decide.Complete), outcome(decide.Complete, func(o *decide.Outcome) { o.Trace = "4bf92f" }))
	require.NotContains(t, lines[0], "trace_id")
	require.Contains(t, lines[1], `"trace_id":"4bf92f"`)
}
