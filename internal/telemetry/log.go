// Package telemetry shows what the worker does: the log, the metrics and the health pages. It must never show card data, a payload or
// anything that a publisher wrote freely, and it decides nothing.
package telemetry

import (
	"fmt"
	"io"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"discountquery.example/worker/internal/decide"
)

// NewLog returns a log that writes to out, and the sink between them, which must be closed at the end. format is "json" or "console".
func NewLog(out io.Writer, level, format string) (*zap.Logger, *Sink, error) {
	threshold, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, nil, fmt.Errorf("log level: %w", err)
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey, encoding.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if format == "console" {
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoding.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	sink := newSink(out)
	return zap.New(zapcore.NewCore(encoder, sink, threshold)), sink, nil
}

// Recorder turns outcomes into log lines and metrics.
type Recorder struct {
	log     *zap.Logger
	metrics *Metrics
}

// NewRecorder returns a recorder that writes to both.
func NewRecorder(log *zap.Logger, metrics *Metrics) *Recorder {
	return &Recorder{log: log, metrics: metrics}
}

// Observe writes the one wide line of a delivery and counts it. The line names the query by its key, which is a hash: its id, its
// source and its correlation are free text of the publisher. Its lane is the one that the client asked in, as results have it; metrics and
// spans have the one in which the query is handled, which is bulk for a replay.
func (r *Recorder) Observe(o decide.Outcome) {
	r.metrics.observe(o)
	entry := r.log.Check(levelOf(o), "query "+o.Verdict.Action.String())
	if entry == nil {
		return
	}
	fields := []zap.Field{
		zap.String("key", o.Query.Key()), zap.String("provider", string(o.Query.Provider)), zap.String("lane", string(o.Query.Lane)),
		zap.String("client", o.Query.Client), zap.Int("deliveries", o.Deliveries), zap.Int("attempts", len(o.Attempts)),
		zap.Duration("age_s", o.Finished.Sub(o.Received)), zap.Duration("took_s", o.Finished.Sub(o.Started)),
		zap.Duration("waited_s", o.Waited), zap.Bool("settled", o.Settled),
	}
	if o.Answer != nil {
		fields = append(fields, zap.String("outcome", string(o.Answer.Outcome)), zap.Int("offers", len(o.Answer.Offers)),
			zap.String("upstream_code", o.Answer.Upstream.Code), zap.String("dialect", o.Answer.Upstream.Dialect))
	}
	entry.Write(append(fields, verdictFields(o)...)...)
}

func verdictFields(o decide.Outcome) []zap.Field {
	var fields []zap.Field
	if o.Verdict.Reason != "" {
		fields = append(fields, zap.String("reason", string(o.Verdict.Reason)))
	}
	if failure := o.Verdict.Fault; failure != nil {
		fields = append(fields, zap.String("kind", failure.Kind.String()), zap.String("code", string(failure.Code)),
			zap.String("operation", failure.Op), zap.Int("http_status", failure.Status), zap.String("upstream_code", failure.Upstream))
	}
	if !o.Verdict.At.IsZero() {
		fields = append(fields, zap.Time("retry_at", o.Verdict.At))
	}
	if o.Trace != "" {
		fields = append(fields, zap.String("trace_id", o.Trace))
	}
	if o.Stack != "" {
		fields = append(fields, zap.String("stack", o.Stack))
	}
	return fields
}

func levelOf(o decide.Outcome) zapcore.Level {
	switch {
	case !o.Settled || o.Stack != "":
		return zapcore.ErrorLevel
	case o.Verdict.PutOff():
		return zapcore.DebugLevel // Of a backlog there can be thousands in a second, and the breaker and the pace have told why.
	case o.Verdict.Action == decide.Bury || o.Verdict.Action == decide.Retry:
		return zapcore.WarnLevel
	default:
		return zapcore.InfoLevel
	}
}
