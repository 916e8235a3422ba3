package query

import (
	"errors"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/strict"
	"discountquery.example/worker/schemas"
)

// Limits of the text attributes of a query.
const (
	maxAttribute   = 256
	maxTraceState  = 512
	maxCorrelation = 128
)

// Decoder reads deliveries into queries. It may be used by many goroutines.
type Decoder struct {
	subjects Subjects
	schemas  *schemas.Set
}

// NewDecoder returns a decoder of queries on the subjects below prefix.
func NewDecoder(subjects Subjects) (*Decoder, error) {
	set, err := schemas.Compile()
	if err != nil {
		return nil, err
	}
	return &Decoder{subjects: subjects, schemas: set}, nil
}

// IsRetry tells whether subject is that of a scheduled retry that came due.
func (d *Decoder) IsRetry(subject string) bool {
	address, err := d.subjects.Parse(subject)
	return err == nil && address.Retry
}

// envelope holds the CloudEvents attributes of a query, whichever mode they came in.
type envelope struct {
	SpecVersion string         `json:"specversion"`
	ID          string         `json:"id"`
	Source      string         `json:"source"`
	Type        string         `json:"type"`
	Time        string         `json:"time"`
	ContentType string         `json:"datacontenttype"`
	Expires     string         `json:"expirytime"`
	MaxAge      integer        `json:"maxage"`
	Correlation string         `json:"correlationid"`
	TraceParent string         `json:"traceparent"`
	TraceState  string         `json:"tracestate"`
	Data        jsontext.Value `json:"data"`
	DataBase64  jsontext.Value `json:"data_base64"`
}

// Decode reads one delivery. It accepts CloudEvents in structured mode, in binary mode and bare data, whose id is the Nats-Msg-Id
// header and whose source is the client's token. Everything else is Malformed.
//
// With an error it still returns the query as far as it was read: the address, and the identity if it is known, so that a
// failed result can be addressed to whoever asked.
func (d *Decoder) Decode(delivery Delivery) (*Query, error) {
	q := &Query{}
	address, err := d.subjects.Parse(delivery.Subject)
	if err != nil {
		return q, err
	}
	q.Provider, q.Lane, q.Client = address.Provider, address.Lane, address.Client
	e, err := openEnvelope(delivery, q.Client)
	if isAttribute(e.ID) && isAttribute(e.Source) {
		q.ID, q.Source = e.ID, e.Source
	}
	if err != nil {
		return q, err
	}
	if err := q.setAttributes(e); err != nil {
		return q, err
	}
	return q, d.setQuestion(q, e.Data)
}

// openEnvelope finds out the mode of a message and returns its attributes and data.
func openEnvelope(delivery Delivery, client string) (envelope, error) {
	var e envelope
	mediaType, _, _ := strings.Cut(header(delivery.Header, "content-type"), ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	switch {
	case mediaType == ContentTypeEvent:
		return structuredEnvelope(delivery.Data)
	case strings.HasPrefix(mediaType, "application/cloudevents"):
		return e, fault.New("read envelope", fault.Malformed, fault.UnsupportedType)
	case header(delivery.Header, "ce-specversion") != "":
		return binaryEnvelope(delivery), nil
	}
	id := header(delivery.Header, "nats-msg-id")
	if err := ReadStrict(delivery.Data, &e); err != nil {
		return envelope{ID: id, Source: client}, err // Nothing says that it is not bare data, whose identity stands outside of it.
	}
	if e.SpecVersion != "" {
		return e, nil // A structured event without its content type: nothing else has this member.
	}
	return envelope{
		SpecVersion: "1.0", Type: TypeRequested, ID: id, Source: client,
		Expires: header(delivery.Header, "ce-expirytime"), MaxAge: integer(header(delivery.Header, "ce-maxage")),
		Correlation: header(delivery.Header, "ce-correlationid"),
		TraceParent: header(delivery.Header, "traceparent"), TraceState: header(delivery.Header, "tracestate"),
		Data: delivery.Data,
	}, nil
}

// structuredEnvelope reads an event. CloudEvents lets attributes be numbers, which only one attribute of a query is; an event with another
// one still has its identity, so that whoever asked gets a result.
func structuredEnvelope(data []byte) (envelope, error) {
	var e envelope
	err := ReadStrict(data, &e)
	if err == nil {
		return e, nil
	}
	var identity struct {
		ID     string `json:"id"`
		Source string `json:"source"`
	}
	if ReadStrict(data, &identity) != nil {
		return envelope{}, err
	}
	return envelope{ID: identity.ID, Source: identity.Source}, fault.Because("read envelope", fault.Malformed, fault.BadEnvelope, err)
}

// binaryEnvelope reads the attributes from ce- headers (CloudEvents NATS protocol binding 1.0).
func binaryEnvelope(delivery Delivery) envelope {
	attribute := func(name string) string {
		value := header(delivery.Header, "ce-"+name)
		if plain, err := url.PathUnescape(value); err == nil {
			return plain
		}
		return value
	}
	return envelope{
		SpecVersion: attribute("specversion"), ID: attribute("id"), Source: attribute("source"), Type: attribute("type"),
		Time: attribute("time"), ContentType: header(delivery.Header, "content-type"), Expires: attribute("expirytime"),
		MaxAge: integer(attribute("maxage")), Correlation: attribute("correlationid"),
		TraceParent: attribute("traceparent"), TraceState: attribute("tracestate"), Data: delivery.Data,
	}
}

// setAttributes checks the CloudEvents attributes and takes them over.
func (q *Query) setAttributes(e envelope) error {
	bad := fault.New("read envelope", fault.Malformed, fault.BadEnvelope)
	if e.SpecVersion != "1.0" || q.ID == "" || e.DataBase64 != nil || !isJSONType(e.ContentType) {
		return bad
	}
	if e.Type != TypeRequested {
		return fault.New("read envelope", fault.Malformed, fault.UnsupportedType)
	}
	var timeOK, expiresOK, maxAgeOK bool
	q.Time, timeOK = readTime(e.Time)
	q.Expires, expiresOK = readTime(e.Expires)
	q.MaxAge, maxAgeOK = readMaxAge(string(e.MaxAge))
	if !timeOK || !expiresOK || !maxAgeOK ||
		len(e.Correlation) > maxCorrelation || len(e.TraceParent) > maxAttribute || len(e.TraceState) > maxTraceState ||
		!isPrintable(e.Correlation) || !isPrintable(e.TraceParent) || !isPrintable(e.TraceState) {
		return bad
	}
	q.Correlation, q.TraceParent, q.TraceState = e.Correlation, e.TraceParent, e.TraceState
	return nil
}

// setQuestion reads the data into the provider's question, after its schema allowed it.
func (d *Decoder) setQuestion(q *Query, data jsontext.Value) error {
	if len(data) == 0 {
		return fault.New("read query", fault.Malformed, fault.BadSchema)
	}
	var wire struct {
		MallID  string          `json:"mallId"`
		CardCd  string          `json:"cardCd"`
		CardBin string          `json:"cardBin"`
		Amount  *jsontext.Value `json:"amount"`
		PID     string          `json:"pid"`
		ScenID  string          `json:"scenId"`
		Data    jsontext.Value  `json:"data"`
	}
	if err := d.schemas.ValidateQuery(string(q.Provider), data); err != nil {
		return fault.Because("read query", fault.Malformed, violationCode(err, data), err)
	}
	if err := ReadStrict(data, &wire); err != nil {
		return err
	}
	if q.Provider == UnionPay {
		q.UnionPay = &UnionPayQuestion{PID: wire.PID, ScenID: wire.ScenID, Data: Conceal(wire.Data)}
		return nil
	}
	q.EasyPay = &EasyPayQuestion{MallID: wire.MallID, CardCd: wire.CardCd, CardBin: wire.CardBin}
	if wire.Amount == nil {
		return nil
	}
	amount, err := readWon(*wire.Amount)
	q.EasyPay.Amount = amount
	return err
}

// violationCode tells what is wrong with data that its schema refuses. The schemas allow no member they don't name, so sensitive
// authentication data never passes them; it has a code of its own all the same, because its publisher must stop sending it.
func violationCode(err error, data []byte) fault.Code {
	if violation, ok := errors.AsType[*schemas.Violation](err); ok && violation.Keyword == schemas.KeywordJSON {
		return fault.BadJSON
	}
	if strict.HoldsAuthenticationData(data) {
		return fault.ForbiddenCardData
	}
	return fault.BadSchema
}

// header returns the first value of the header with the lower-case name given. NATS keeps the case of names, publishers don't agree on it.
// Of several spellings the exact one counts, else the first in byte order: a message has the same identity at each delivery.
func header(headers map[string][]string, name string) string {
	if values := headers[name]; len(values) > 0 {
		return values[0]
	}
	spelling := ""
	for key, values := range headers {
		if len(values) > 0 && strings.EqualFold(key, name) && (spelling == "" || key < spelling) {
			spelling = key
		}
	}
	if spelling == "" {
		return ""
	}
	return headers[spelling][0]
}

// readTime reads an RFC 3339 time of this or the next century. A time that is refused is returned as zero, because it can lie beyond
// the years that JSON can hold, and an event that can't be written would never settle its query.
func readTime(text string) (time.Time, bool) {
	if text == "" {
		return time.Time{}, true
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 2000 || t.Year() >= 2200 {
		return time.Time{}, false
	}
	return t.UTC(), true
}

func isAttribute(text string) bool {
	return text != "" && len(text) <= maxAttribute && isPrintable(text)
}

// isPrintable tells whether text is UTF-8 without control characters. A line end would make identities ambiguous: the key joins with it.
func isPrintable(text string) bool {
	if !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			return false
		}
	}
	return true
}

func isJSONType(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	return mediaType == "" || mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
}
