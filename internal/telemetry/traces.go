package telemetry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.uber.org/zap"

	"discountquery.example/worker/internal/trace"
)

// The protocols by which spans are exported (OTEL_EXPORTER_OTLP_PROTOCOL).
const (
	TracesHTTP = "http/protobuf"
	TracesGRPC = "grpc"
)

// Tracing says whether and how spans are exported. The zero value exports none. The OpenTelemetry SDK reads everything else from its own
// variables (OTEL_*): where to, headers, certificates, timeouts, sampling, the service's name.
type Tracing struct {
	// Protocol is TracesHTTP or TracesGRPC; "" turns traces off.
	Protocol string
	// Endpoint is where spans go, as OTEL_EXPORTER_OTLP_TRACES_ENDPOINT would be written; "" obeys the SDK's variables.
	Endpoint string
}

// serviceName is what the service is called unless OTEL_SERVICE_NAME or OTEL_RESOURCE_ATTRIBUTES say otherwise.
const serviceName = "discount-worker"

// flushTimeout is how long a stop tries to export what is left: a collector that does not answer must not hold it up.
const flushTimeout = 3 * time.Second

// Traces is the way of spans to a collector. Nobody waits for it: spans are queued and sent in batches, and dropped if the queue is full.
type Traces struct {
	provider *sdktrace.TracerProvider
	log      *zap.Logger
	// giveUp ends the export under way, and all that come later.
	giveUp context.CancelFunc
}

// NewTraces returns the way to the collector. It does not connect: a collector that is away is no error. build is the version.
func NewTraces(ctx context.Context, tracing Tracing, build string, log *zap.Logger) (*Traces, error) {
	described, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithAttributes(
		attribute.String("service.name", serviceName), attribute.String("service.version", build),
		attribute.String("service.instance.id", rand.Text()),
	), resource.WithFromEnv())
	if err != nil {
		return nil, errors.New("OTEL_RESOURCE_ATTRIBUTES must be name=value pairs with commas between them")
	}
	sender, err := newSender(ctx, tracing)
	if err != nil {
		return nil, err
	}
	life, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	out := &exporter{SpanExporter: sender, life: life, log: log}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(out), sdktrace.WithResource(described), sdktrace.WithoutPanicRecording())
	return &Traces{provider: provider, giveUp: giveUp, log: log}, nil
}

func newSender(ctx context.Context, tracing Tracing) (*otlptrace.Exporter, error) {
	switch tracing.Protocol {
	case TracesHTTP:
		var options []otlptracehttp.Option
		if tracing.Endpoint != "" {
			options = append(options, otlptracehttp.WithEndpointURL(tracing.Endpoint))
		}
		return otlptracehttp.New(ctx, options...)
	case TracesGRPC:
		var options []otlptracegrpc.Option
		if tracing.Endpoint != "" {
			options = append(options, otlptracegrpc.WithEndpointURL(tracing.Endpoint))
		}
		return otlptracegrpc.New(ctx, options...)
	default:
		return nil, fmt.Errorf("unknown protocol %q: it must be %s or %s", tracing.Protocol, TracesHTTP, TracesGRPC)
	}
}

// Tracer returns what begins spans.
func (t *Traces) Tracer() *trace.Tracer { return trace.New(t.provider) }

// Stop exports what is left, for a short while and at most half of the time that ctx leaves, and gives up the rest.
func (t *Traces) Stop(ctx context.Context) {
	within := flushTimeout
	if deadline, limited := ctx.Deadline(); limited {
		within = min(within, time.Until(deadline)/2)
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := t.provider.Shutdown(ctx)
	t.giveUp()
	if err != nil {
		t.log.Warn("spans lost at the stop", zap.String("why", exportTrouble(err)))
	}
}

// exporter stands before the SDK's exporter. It keeps errors to itself: the SDK would print them, with what the collector said.
type exporter struct {
	sdktrace.SpanExporter

	life context.Context //nolint:containedctx // It is the life of the exporter, and each export has a context of its own.
	log  *zap.Logger

	mu   sync.Mutex
	lost int
	told time.Time
}

// tellEvery is how often lost spans are logged at most.
const tellEvery = time.Minute

// ExportSpans implements sdktrace.SpanExporter. It never fails.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	if err := e.SpanExporter.ExportSpans(ctx, spans); err != nil {
		e.failed(len(spans), err)
	}
	return nil
}

// failed logs that spans were lost, unless that was logged not long ago.
func (e *exporter) failed(spans int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost += spans
	if time.Since(e.told) < tellEvery {
		return
	}
	e.log.Warn("spans not exported", zap.Int("lost", e.lost), zap.String("why", exportTrouble(err)))
	e.lost, e.told = 0, time.Now()
}

// exportTrouble returns a word of our own for an error of an exporter. Its text holds what the collector said.
func exportTrouble(err error) string {
	_, unreachable := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded) || os.IsTimeout(err):
		return "no answer in time"
	case unreachable:
		return "collector unreachable"
	default:
		return "export failed"
	}
}
