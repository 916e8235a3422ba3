package app

import (
	"context"

	"discountquery.example/worker/internal/telemetry"
)

// Tracing says whether and how spans are exported.
type Tracing = telemetry.Tracing

// The protocols by which spans are exported.
const (
	TracesHTTP = telemetry.TracesHTTP
	TracesGRPC = telemetry.TracesGRPC
)

// startTraces prepares the export of spans, if there is to be any. What it starts is stopped late, when the last query has ended and the
// broker is left: nobody waits for it then.
func (a *App) startTraces(ctx context.Context) error {
	if a.Tracing.Protocol == "" {
		return nil
	}
	traces, err := telemetry.NewTraces(ctx, a.Tracing, a.Build, a.log)
	if err != nil {
		return err
	}
	a.lifecycle.onStop("traces", func(ctx context.Context) error { traces.Stop(ctx); return nil })
	a.tracer = traces.Tracer()
	return nil
}
