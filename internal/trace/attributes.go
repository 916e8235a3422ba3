package trace

import (
	"go.opentelemetry.io/otel/attribute"

	"discountquery.example/worker/internal/fault"
)

// The keys of all attributes. There are no others: what a span may show is decided here.
const (
	provider      attribute.Key = "discount.provider"
	lane          attribute.Key = "discount.lane"
	client        attribute.Key = "discount.client"
	key           attribute.Key = "discount.key"
	deliveries    attribute.Key = "discount.deliveries"
	action        attribute.Key = "discount.action"
	outcome       attribute.Key = "discount.outcome"
	account       attribute.Key = "discount.account"
	attempt       attribute.Key = "discount.attempt"
	waitedSeconds attribute.Key = "discount.waited_seconds"
	kind          attribute.Key = "discount.fault.kind"
	code          attribute.Key = "discount.fault.code"
	status        attribute.Key = "http.response.status_code"
	server        attribute.Key = "server.address"
	system        attribute.Key = "messaging.system"
	operation     attribute.Key = "messaging.operation.type"
)

// Attribute is one key of the allow list.
type Attribute struct {
	Key string
	// Meaning says what its values are, in one sentence.
	Meaning string
}

// Attributes returns the allow list: every key that a span can have.
func Attributes() []Attribute {
	return []Attribute{
		{string(provider), "Provider that is asked: `easypay`, `unionpay`, or `none` if that could not be read."},
		{string(lane), "Lane in which the query is handled: `interactive` or `bulk`."},
		{string(client), "The client's token in the subject."},
		{string(key), "The query's key, a hash: the same as in subjects, results and log lines."},
		{string(deliveries), "How often the message was delivered, this time included."},
		{string(action), "What became of the delivery: `complete`, `fail`, `bury`, `retry`, `skip` or `release`."},
		{string(outcome), "Kind of answer: `ok`, `empty` or `declined`."},
		{string(account), "Name of the provider's account that asks."},
		{string(attempt), "Number of the attempt in this delivery, from 1."},
		{string(waitedSeconds), "Seconds of waiting for the pace: of one attempt, or of all attempts of the delivery."},
		{string(kind), "Kind of the failure, from the closed list."},
		{string(code), "Detail of the failure, from the closed list."},
		{string(status), "HTTP status of the upstream's response; left out if there was none."},
		{string(server), "Host of the upstream, without path and query."},
		{string(system), "Always `nats`."},
		{string(operation), "`process` for a delivery, `send` for a write."},
	}
}

// nats is the messaging system's name in the semantic conventions.
const nats = "nats"

// address returns the provider and the lane of a delivery, also of one that could not be read so far.
func (d Delivery) address() (asked, way string) {
	if d.Provider == "" {
		return "none", "bulk"
	}
	return d.Provider, d.Lane
}

func deliveryAttributes(d Delivery) []attribute.KeyValue {
	asked, way := d.address()
	return []attribute.KeyValue{
		provider.String(asked), lane.String(way), client.String(d.Client), key.String(d.Key),
		deliveries.Int(d.Number), system.String(nats), operation.String("process"),
	}
}

func outcomeAttributes(o Outcome) []attribute.KeyValue {
	attributes := []attribute.KeyValue{action.String(o.Action), waitedSeconds.Float64(o.Waited.Seconds())}
	if o.Answer != "" {
		attributes = append(attributes, outcome.String(o.Answer))
	}
	return attributes
}

func attemptAttributes(a Attempt) []attribute.KeyValue {
	return []attribute.KeyValue{provider.String(a.Provider), lane.String(a.Lane), account.String(a.Account), attempt.Int(a.Number)}
}

func answerAttributes(answer string, httpStatus int) []attribute.KeyValue {
	return []attribute.KeyValue{outcome.String(answer), status.Int(httpStatus)}
}

func sendAttributes() []attribute.KeyValue {
	return []attribute.KeyValue{system.String(nats), operation.String("send")}
}

func faultAttributes(e *fault.Error) []attribute.KeyValue {
	attributes := []attribute.KeyValue{kind.String(e.Kind.String()), code.String(string(e.Code))}
	if e.Status != 0 {
		attributes = append(attributes, status.Int(e.Status))
	}
	return attributes
}
