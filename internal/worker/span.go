package worker

import (
	"context"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/trace"
)

// read decodes the delivery and begins its span, to which the context that it returns leads. All rounds of a query go on with the trace of its
// publisher, or with that of its first round if it came without one. A replay has its own, linked to the one in which the query died: who
// replays is not whom the publisher waited for.
func (w *Worker) read(ctx context.Context, c *work) (context.Context, error) {
	err := w.decode(c)
	if w.Tracer == nil {
		return ctx, err
	}
	parent, linked := c.parent, ""
	switch {
	case parent != "":
	case c.replay != nil:
		linked = c.replay.TraceParent
	default:
		parent = c.query.TraceParent
	}
	ctx, c.span = w.Tracer.Begin(ctx, trace.Delivery{
		Provider: string(c.query.Provider), Lane: string(c.query.Way()), Client: c.query.Client, Key: c.query.Key(),
		Began: c.started, Number: c.delivery.Number, Asked: c.direct, Parent: parent, Linked: linked,
	})
	if c.parent == "" {
		c.parent = trace.Parent(ctx)
	}
	return ctx, err
}

// observe ends the delivery's span and tells the observer what became of it.
func (w *Worker) observe(ctx context.Context, c *work, verdict decide.Verdict, settled bool) {
	outcome := c.outcome(verdict, settled)
	outcome.Trace = trace.ID(ctx)
	ended := trace.Outcome{Action: verdict.Action.String(), Fault: verdict.Fault, Waited: c.waited, Settled: settled}
	if outcome.Answer != nil {
		ended.Answer = string(outcome.Answer.Outcome)
	}
	c.span.Settled(ended)
	w.Observer.Observe(outcome)
}

// stamped returns an event as one that was published by the span that ctx leads to, so that its readers can go on from there. Without a span it
// repeats the trace context of its query.
func stamped(ctx context.Context, event query.Event) query.Event {
	parent := trace.Parent(ctx)
	if parent == "" {
		return event
	}
	if !trace.Same(parent, event.TraceParent) {
		event.TraceState = "" // It belongs to the publisher's trace, and this is another one.
	}
	event.TraceParent = parent
	return event
}
