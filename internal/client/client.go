// Package client is the publisher's side: it publishes a query, waits for its result and reads a stored one. It must never ack, decide or
// call an upstream.
package client

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// ErrNoResult is returned when there is no result: not stored, or not there in time.
var ErrNoResult = errors.New("no result")

// Options are the parts of a Client.
type Options struct {
	Conn     *nats.Conn
	JS       jetstream.JetStream
	Subjects query.Subjects
	// Name is the client's token in subjects.
	Name string
	// ResultStream is where stored results are read.
	ResultStream string
	// Sealer seals card data. It may be nil for providers that need none.
	Sealer *card.Sealer
	// Pins are the thumbprints (RFC 7638, SHA-256, unpadded base64url) of the workers' keys that FetchSealer takes. With none it takes whatever
	// key is served, and so trusts everybody who may serve one: who has the workers' NATS key, and who administers the broker.
	Pins []string
}

// Client publishes queries and gets their results. It may be used by many goroutines.
type Client struct {
	Options
}

// New returns a client of the given parts.
func New(options Options) *Client { return &Client{Options: options} }

// Question is a query to be published.
type Question struct {
	Provider query.Provider
	Lane     query.Lane
	// Source and ID identify the query among those of this client. An empty ID gets a random one.
	Source string
	ID     string
	// Expires is the deadline; zero for none.
	Expires time.Time
	// MaxAge is how old an answer to the same question may be; nil to have the upstream asked. It counts in whole seconds.
	MaxAge *time.Duration
	// Correlation is echoed in the result.
	Correlation string
	// TraceParent is the trace context (W3C traceparent) of whoever asks, with which the worker's spans go on; "" for none.
	TraceParent string
	// EasyPay or UnionPay is the question itself.
	EasyPay  *query.EasyPayQuestion
	UnionPay *query.UnionPayQuestion
	// Card is the card data of a query for UnionPay. It is sealed before it leaves.
	Card *card.Details
}

// Result is a result as it was stored.
type Result struct {
	// Key is the query's key.
	Key string
	// Status says whether the query was completed or failed.
	Status query.Status
	// Event is the CloudEvent's JSON.
	Event []byte
}

// request is a query as a CloudEvent in structured mode.
type request struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"`
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Expires     time.Time `json:"expirytime,omitzero"`
	MaxAge      *int64    `json:"maxage,omitzero"`
	Correlation string    `json:"correlationid,omitempty"`
	TraceParent string    `json:"traceparent,omitempty"`
	Data        any       `json:"data"`
}

// unionPayData is the data of a query for UnionPay: the question and its sealed card data.
type unionPayData struct {
	query.UnionPayQuestion

	Data string `json:"data"`
}

// Publish publishes a question and returns its key once the broker has stored it.
func (c *Client) Publish(ctx context.Context, question Question) (string, error) {
	if question.ID == "" {
		question.ID = NewID()
	}
	message, err := c.message(question)
	if err != nil {
		return "", err
	}
	if _, err := c.publish(ctx, question, message); err != nil {
		return "", err
	}
	return query.Key(c.Name, question.Source, question.ID), nil
}

// PublishEvent publishes an event as it is, whatever is in it. question says where it goes and what it is known by; nothing else of it is used.
func (c *Client) PublishEvent(ctx context.Context, question Question, event []byte) error {
	message := nats.NewMsg(c.Subjects.Query(question.Provider, question.Lane, c.Name))
	message.Header.Set("Content-Type", query.ContentTypeEvent)
	message.Data = event
	_, err := c.publish(ctx, question, message)
	return err
}

// publish stores a query and tells whether the broker knew it already.
func (c *Client) publish(ctx context.Context, question Question, message *nats.Msg) (known bool, err error) {
	ack, err := c.JS.PublishMsg(ctx, message, jetstream.WithMsgID(c.Name+"/"+question.Source+"/"+question.ID))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return false, fmt.Errorf("publish query: nobody serves %s in lane %s on this broker: %w", question.Provider, question.Lane, err)
	case err != nil:
		return false, fmt.Errorf("publish query: %w", err)
	default:
		return ack.Duplicate, nil
	}
}

// Ask publishes a question and waits for its result until ctx ends. It listens before it publishes, so that no result is missed.
// ErrNoResult means that the query was stored and will still be answered.
func (c *Client) Ask(ctx context.Context, question Question) (Result, error) {
	if question.ID == "" {
		question.ID = NewID()
	}
	key := query.Key(c.Name, question.Source, question.ID)
	results := make(chan *nats.Msg, 1)
	subscription, err := c.Conn.ChanSubscribe(c.Subjects.ResultOf(key, c.Name), results)
	if err != nil {
		return Result{}, fmt.Errorf("listen for result: %w", err)
	}
	defer func() { _ = subscription.Unsubscribe() }() // The connection may be gone, and the subscription with it.
	message, err := c.message(question)
	if err != nil {
		return Result{}, err
	}
	known, err := c.publish(ctx, question, message)
	if err != nil {
		return Result{}, err
	}
	if known {
		if result, err := c.Lookup(ctx, key); err == nil {
			return result, nil // It was asked before, and its result has long been published.
		}
	}
	select {
	case message := <-results:
		return resultOf(key, message.Subject, message.Data), nil
	case <-ctx.Done():
		return Result{Key: key}, fmt.Errorf("query %s was stored, but its result did not come in time: %w", key, ErrNoResult)
	}
}

// Result returns the stored result of the query with key, or ErrNoResult. If results can't be read, the error is Unavailable with the code
// BrokerUnreachable, also for want of a right, or BrokerRefused.
func (c *Client) Result(ctx context.Context, key string) (Result, error) {
	stream, err := c.JS.Stream(ctx, c.ResultStream)
	if err != nil {
		return Result{}, c.unread("open results", err)
	}
	message, err := stream.GetLastMsgForSubject(ctx, c.Subjects.ResultGuard(key))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Result{Key: key}, fmt.Errorf("query %s: %w", key, ErrNoResult)
	}
	if err != nil {
		return Result{}, c.unread("read result", err)
	}
	return resultOf(key, message.Subject, message.Data), nil
}

// unread returns the error of results that could not be read, and says what to do.
func (c *Client) unread(what string, err error) error {
	switch refused, ok := errors.AsType[*jetstream.APIError](err); {
	case errors.Is(err, context.Canceled):
		return fault.Because(what, fault.Interrupted, fault.Stopped, err)
	case errors.Is(err, jetstream.ErrStreamNotFound):
		err = fault.Because(what, fault.Unavailable, fault.BrokerRefused, err)
		return fmt.Errorf("the broker has no stream %s, see what is missing with `worker setup`: %w", c.ResultStream, err)
	case ok:
		err = fault.Because(what, fault.Unavailable, fault.BrokerRefused, err)
		return fmt.Errorf("the broker refused it (%d): %w", refused.ErrorCode, err)
	default:
		err = fault.Because(what, fault.Unavailable, fault.BrokerUnreachable, err)
		return fmt.Errorf("no answer: the broker is away, or this user lacks a right: %w", err)
	}
}

func (c *Client) message(question Question) (*nats.Msg, error) {
	if question.Source == "" {
		return nil, errors.New("a query needs a source: without one it has no identity, and nobody could be told its result")
	}
	data, err := c.data(question)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(request{
		SpecVersion: "1.0", ID: question.ID, Source: question.Source, Type: query.TypeRequested, Time: time.Now().UTC(),
		ContentType: "application/json", Expires: question.Expires.UTC(), MaxAge: seconds(question.MaxAge),
		Correlation: question.Correlation, TraceParent: question.TraceParent, Data: data,
	}, json.Deterministic(true), jsontext.AllowInvalidUTF8(false))
	if err != nil {
		return nil, errors.New("encode query: its fields are not valid text")
	}
	message := nats.NewMsg(c.Subjects.Query(question.Provider, question.Lane, c.Name))
	message.Header.Set("Content-Type", query.ContentTypeEvent)
	message.Data = body
	return message, nil
}

// seconds returns an age in whole seconds, nil for none.
func seconds(age *time.Duration) *int64 {
	if age == nil {
		return nil
	}
	whole := int64(*age / time.Second)
	return &whole
}

// data returns the data of the query. Card data is sealed to the worker and bound to this query.
func (c *Client) data(question Question) (any, error) {
	if question.UnionPay == nil && question.EasyPay == nil {
		return nil, errors.New("a query needs the question for its provider")
	}
	if question.UnionPay == nil {
		return question.EasyPay, nil
	}
	if c.Sealer == nil || question.Card == nil {
		return nil, errors.New("a query for unionpay needs card data and the worker's public key")
	}
	sealed, err := c.Sealer.SealDetails(*question.Card, card.Binding{ID: question.ID, Source: question.Source, Type: query.TypeRequested})
	if err != nil {
		return nil, err
	}
	return unionPayData{UnionPayQuestion: *question.UnionPay, Data: sealed}, nil
}

// NewID returns a random id for a query.
func NewID() string {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // It never fails: it ends the program instead.
	return hex.EncodeToString(id)
}

// ReadResultSubject returns the key and the status that the subject of a result names.
func ReadResultSubject(subject string) (key string, status query.Status) {
	tokens := strings.Split(subject, ".")
	if len(tokens) < resultTokens {
		return "", ""
	}
	tail := tokens[len(tokens)-resultTokens:]
	return tail[0], query.Status(tail[3])
}

// resultTokens is how many tokens a result's subject has from its key on: key, provider, client, status.
const resultTokens = 4

func resultOf(key, subject string, event []byte) Result {
	_, status := ReadResultSubject(subject)
	return Result{Key: key, Status: status, Event: event}
}
