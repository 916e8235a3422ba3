package app

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector is an OTLP collector over HTTP that keeps what it is sent.
type collector struct {
	address string

	mu     sync.Mutex
	bodies []string
	spans  []*tracepb.Span
	keys   map[string]bool
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{keys: map[string]bool{}}
	server := httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(server.Close)
	c.address = server.URL + "/v1/traces"
	return c
}

// tracing returns the options of a worker that exports its spans here.
func (c *collector) tracing() Tracing { return Tracing{Protocol: TracesHTTP, Endpoint: c.address} }

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var request collectorpb.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &request) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies = append(c.bodies, string(body))
	for _, resource := range request.GetResourceSpans() {
		for _, attribute := range resource.GetResource().GetAttributes() {
			c.keys[attribute.GetKey()] = true
		}
		for _, scope := range resource.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
}

// all returns the spans that have come.
func (c *collector) all() spans {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(spans(nil), c.spans...)
}

// everything returns all that has come, byte by byte.
func (c *collector) everything() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.bodies, "\n")
}

// spans are spans in the order in which they ended.
type spans []*tracepb.Span

func (s spans) named(name string) spans {
	return s.that(func(span *tracepb.Span) bool { return span.GetName() == name })
}

// about returns the spans with an attribute.
func (s spans) about(key, value string) spans {
	return s.that(func(span *tracepb.Span) bool { return attributesOf(span)[key] == value })
}

// below returns the spans whose parent is the one given.
func (s spans) below(parent *tracepb.Span) spans {
	return s.that(func(span *tracepb.Span) bool { return string(span.GetParentSpanId()) == string(parent.GetSpanId()) })
}

func (s spans) that(is func(*tracepb.Span) bool) spans {
	var found spans
	for _, span := range s {
		if is(span) {
			found = append(found, span)
		}
	}
	return found
}

func (s spans) names() []string {
	names := make([]string, len(s))
	for i, span := range s {
		names[i] = span.GetName()
	}
	return names
}

// one returns the only span.
func (s spans) one(t *testing.T) *tracepb.Span {
	t.Helper()
	require.Len(t, s, 1, "%v", s.names())
	return s[0]
}

// attributesOf returns the attributes whose values are text.
func attributesOf(span *tracepb.Span) map[string]string {
	all := map[string]string{}
	for _, attribute := range span.GetAttributes() {
		all[attribute.GetKey()] = attribute.GetValue().GetStringValue()
	}
	return all
}

func traceOf(span *tracepb.Span) string { return hex.EncodeToString(span.GetTraceId()) }

// contextOf returns a span's trace context as it stands in events.
func contextOf(span *tracepb.Span) string {
	return "00-" + traceOf(span) + "-" + hex.EncodeToString(span.GetSpanId()) + "-01"
}
