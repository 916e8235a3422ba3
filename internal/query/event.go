package query

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/fault"
)

// ContentTypeEvent is the content type of a CloudEvent in structured mode (CloudEvents 1.0, JSON event format).
const ContentTypeEvent = "application/cloudevents+json"

// EventSource is the source attribute of every event this worker writes.
const EventSource = "urn:discountquery:worker"

// Event is a CloudEvent in structured mode, as this worker writes it. Data points to one of CompletedData, FailedData and DeadData.
type Event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	DataSchema  string    `json:"dataschema"`
	Correlation string    `json:"correlationid,omitzero"`
	TraceParent string    `json:"traceparent,omitzero"`
	TraceState  string    `json:"tracestate,omitzero"`
	Data        any       `json:"data"`
}

// NewEvent returns the event of the given type about q. Its subject is the query's key and its id is the key, a dot and a suffix
// that is the same whoever writes it, so that a repeated write is seen as one.
func NewEvent(q *Query, eventType, suffix string, at time.Time, data any) Event {
	key := q.Key()
	return Event{
		SpecVersion: "1.0", ID: key + "." + suffix, Source: EventSource, Type: eventType, Subject: key,
		Time: at.UTC(), ContentType: "application/json", DataSchema: SchemaURI(eventType),
		Correlation: q.Correlation, TraceParent: q.TraceParent, TraceState: q.TraceState, Data: data,
	}
}

// SchemaURI returns the address of the JSON Schema of an event type's data.
func SchemaURI(eventType string) string {
	return "https://discountquery.example/schemas/" + eventType[len("discount."):] + ".json"
}

// Encode returns the event as JSON. Bytes that are not UTF-8 are replaced, not refused: they can stand in the subject of a message that
// could not be read, whose dead letter would otherwise never be written.
func (e Event) Encode() ([]byte, error) {
	b, err := json.Marshal(e, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return nil, fmt.Errorf("encode event %s: %w", e.Type, err)
	}
	return b, nil
}

// ReadDead reads the data of a dead letter's event. What is no such event is Malformed.
func ReadDead(event []byte) (DeadData, error) {
	var envelope struct {
		Type string   `json:"type"`
		Data DeadData `json:"data"`
	}
	if err := ReadStrict(event, &envelope); err != nil {
		return DeadData{}, err
	}
	if envelope.Type != TypeDead {
		return DeadData{}, fault.New("read dead letter", fault.Malformed, fault.UnsupportedType)
	}
	return envelope.Data, nil
}

// ReadFailed reads the data of a failed result's event. It returns false for any other event.
func ReadFailed(event []byte) (FailedData, bool) {
	var envelope struct {
		Type string     `json:"type"`
		Data FailedData `json:"data"`
	}
	if ReadStrict(event, &envelope) != nil || envelope.Type != TypeFailed {
		return FailedData{}, false
	}
	return envelope.Data, true
}
