// Package trace records where a query's time went, as OpenTelemetry spans with closed names and attributes. It must never put anything into a
// span that attributes.go does not list: no card data, no error texts, nothing that a publisher wrote freely.
package trace

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	oteltrace "go.opentelemetry.io/otel/trace"

	"discountquery.example/worker/internal/fault"
)

// scope names this room as the one that makes the spans.
const scope = "discountquery.example/worker/internal/trace"

// Tracer begins the span of each delivery. A nil Tracer begins none, and costs nothing. It may be used by many goroutines.
type Tracer struct {
	tracer oteltrace.Tracer
}

// New returns a tracer whose spans go to the provider.
func New(provider oteltrace.TracerProvider) *Tracer { return &Tracer{tracer: provider.Tracer(scope)} }

// Span is one step under way. The zero Span belongs to no trace, and ending it does nothing.
type Span struct {
	span oteltrace.Span
}

// Delivery is what is known of a delivery when its span begins. Its texts are words of closed lists, names that the broker's permissions vouch
// for, and hashes.
type Delivery struct {
	// Provider and Lane are asked; both are empty if that could not be read.
	Provider string
	Lane     string
	// Client is the client's token in the subject, and Key the query's key.
	Client string
	Key    string
	// Began is when it was taken up.
	Began time.Time
	// Number counts the deliveries of the message.
	Number int
	// Asked tells that it is a request whose asker waits for the reply.
	Asked bool
	// Parent is the trace context (the traceparent of W3C Trace Context) that the span goes on with. One that can't be read counts as none,
	// and then the span begins a trace of its own.
	Parent string
	// Linked is the trace context of another trace that has led to this one; "" for none.
	Linked string
}

// Begin begins the span of a delivery, under which all others are made: the context it returns leads to them.
func (t *Tracer) Begin(ctx context.Context, d Delivery) (context.Context, Span) {
	if t == nil {
		return ctx, Span{}
	}
	name, kind := deliveryName(d), oteltrace.SpanKindConsumer
	if d.Asked {
		kind = oteltrace.SpanKindServer
	}
	options := []oteltrace.SpanStartOption{
		oteltrace.WithTimestamp(d.Began), oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(deliveryAttributes(d)...),
	}
	if linked := oteltrace.SpanContextFromContext(extract(context.Background(), d.Linked)); linked.IsValid() {
		options = append(options, oteltrace.WithLinks(oteltrace.Link{SpanContext: linked}))
	}
	ctx, span := t.tracer.Start(extract(ctx, d.Parent), name, options...) //nolint:spancheck // Settled ends it.
	return ctx, Span{span: span}                                          //nolint:spancheck // As above.
}

// deliveryName returns the name of a delivery's span.
func deliveryName(d Delivery) string {
	if d.Asked {
		return "ask"
	}
	asked, way := d.address()
	return "process " + asked + " " + way
}

// Outcome is what became of a delivery.
type Outcome struct {
	// Action is what was decided, Answer the kind of answer that the query got; "" for none.
	Action string
	Answer string
	// Fault is what led to the decision; nil for an answer.
	Fault *fault.Error
	// Waited is how long its attempts waited for their turns.
	Waited time.Duration
	// Settled tells that everything that had to be stored was stored.
	Settled bool
}

// Settled ends the span of a delivery with what became of it.
func (s Span) Settled(o Outcome) {
	if s.span == nil {
		return
	}
	if s.span.IsRecording() {
		s.span.SetAttributes(outcomeAttributes(o)...)
		if o.Fault != nil {
			s.failed(o.Fault)
		}
		if !o.Settled {
			s.span.SetStatus(codes.Error, "")
		}
	}
	s.span.End()
}

// Attempt names one attempt to ask an upstream.
type Attempt struct {
	Provider string
	Lane     string
	// Account is the name of the provider's account that asks.
	Account string
	// Number counts the attempts of this delivery, from 1.
	Number int
}

// Wait begins the span of an attempt's wait for its turn: for a place, an upstream that is up, and the fleet's pace.
func Wait(ctx context.Context, a Attempt) Span {
	parent := oteltrace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return Span{}
	}
	_, span := begin(ctx, parent, "wait for pace", oteltrace.SpanKindInternal, attemptAttributes(a))
	return span
}

// Waited ends the span of a wait, which took so long. err tells why there was no turn.
func (s Span) Waited(took time.Duration, err error) {
	if s.span == nil {
		return
	}
	s.span.SetAttributes(waitedSeconds.Float64(took.Seconds()))
	s.End(err)
}

// Call begins the span of one attempt on the wire, to a host.
func Call(ctx context.Context, a Attempt, host string) Span {
	parent := oteltrace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return Span{}
	}
	attributes := append(attemptAttributes(a), server.String(host))
	_, span := begin(ctx, parent, "call "+a.Provider, oteltrace.SpanKindClient, attributes)
	return span
}

// Called ends the span of an attempt with the kind of its answer and the HTTP status of that, or with its failure.
func (s Span) Called(answer string, status int, err error) {
	if s.span == nil {
		return
	}
	if err == nil {
		s.span.SetAttributes(answerAttributes(answer, status)...)
	}
	s.End(err)
}

// Write is something that is published, and the name of its span.
type Write string

// What is published.
const (
	Result     Write = "publish result"
	DeadLetter Write = "publish dead letter"
	Retry      Write = "schedule retry"
)

// Publish begins the span of a write. The context it returns is what Parent reads for whoever goes on from there.
func Publish(ctx context.Context, what Write) (context.Context, Span) {
	parent := oteltrace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, Span{}
	}
	return begin(ctx, parent, string(what), oteltrace.SpanKindProducer, sendAttributes())
}

func begin(
	ctx context.Context, parent oteltrace.Span, name string, kind oteltrace.SpanKind, attributes []attribute.KeyValue,
) (context.Context, Span) {
	tracer := parent.TracerProvider().Tracer(scope)
	ctx, span := tracer.Start(ctx, name, oteltrace.WithSpanKind(kind), oteltrace.WithAttributes(attributes...)) //nolint:spancheck // End ends it.
	return ctx, Span{span: span}                                                                                //nolint:spancheck // As above.
}

// End ends a span with the fault that err is, if it is not nil.
func (s Span) End(err error) {
	if s.span == nil {
		return
	}
	if err != nil {
		s.failed(fault.From("", err))
	}
	s.span.End()
}

// failed notes a fault by its closed words. What costs a query nothing marks no span as failed: a stop, a result that is there already, an
// account that puts the query off, and that it is set apart.
func (s Span) failed(e *fault.Error) {
	s.span.SetAttributes(faultAttributes(e)...)
	putOff := e.Code == fault.BreakerOpen || e.Code == fault.Paced || e.Code == fault.SetApart
	if e.Kind != fault.Interrupted && e.Kind != fault.Duplicate && !putOff {
		s.span.SetStatus(codes.Error, "")
	}
}

// Parent returns the trace context of the span that ctx leads to, as a traceparent of W3C Trace Context; "" if there is none.
func Parent(ctx context.Context) string {
	if !oteltrace.SpanContextFromContext(ctx).IsValid() {
		return ""
	}
	var written carrier
	propagation.TraceContext{}.Inject(ctx, &written)
	return written.parent
}

// Same tells whether two trace contexts belong to the same trace.
func Same(one, other string) bool {
	of := oteltrace.SpanContextFromContext(extract(context.Background(), one))
	return of.IsValid() && of.TraceID() == oteltrace.SpanContextFromContext(extract(context.Background(), other)).TraceID()
}

// ID returns the id of the trace that ctx leads to, as 32 hexadecimal digits; "" if there is none, or if it is not recorded.
func ID(ctx context.Context) string {
	current := oteltrace.SpanContextFromContext(ctx)
	if !current.IsSampled() {
		return ""
	}
	return current.TraceID().String()
}

// extract returns ctx with the trace context given, or as it is if that can't be read. A tracestate is left where it is: it is free text of
// whoever published, and would be exported with each span.
func extract(ctx context.Context, parent string) context.Context {
	if parent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, &carrier{parent: parent})
}

// carrier carries the traceparent and nothing else.
type carrier struct {
	parent string
}

// traceParent is the only field that is carried.
const traceParent = "traceparent"

// Get implements propagation.TextMapCarrier.
func (c *carrier) Get(field string) string {
	if field == traceParent {
		return c.parent
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c *carrier) Set(field, value string) {
	if field == traceParent {
		c.parent = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (*carrier) Keys() []string { return []string{traceParent} }
