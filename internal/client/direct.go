package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/strict"
)

// ErrBadReply is returned for a reply that is neither the event that was requested nor a refusal.
var ErrBadReply = errors.New("the reply is not the event that was requested")

// headerRetryAfter is the header of a refusal that says after how many seconds to try again.
const headerRetryAfter = "Discount-Retry-After"

// Refusal is the reply of a worker that has no event for a request.
type Refusal struct {
	// Status means what it means in HTTP: 400, 413, 503 or 504.
	Status int
	// Reason is one of the service's words, such as "overloaded".
	Reason string
	// RetryAfter is how long to wait before the next try, 0 if another try is of no use.
	RetryAfter time.Duration
}

// Error returns what the worker said.
func (r *Refusal) Error() string {
	text := fmt.Sprintf("the worker refused: %s (%d)", r.Reason, r.Status)
	if r.RetryAfter > 0 {
		text += fmt.Sprintf(", try again in %s", r.RetryAfter)
	}
	return text
}

// Direct asks a question beside the queue and returns the result that comes as the reply. The end of ctx is the question's deadline if it has
// none of its own. The lane counts for nothing: somebody waits.
//
// A *Refusal means that the worker had no result in time. ErrNoResult means that no reply came until ctx ended: a result may be stored all
// the same and can be looked up by the key that is returned.
func (c *Client) Direct(ctx context.Context, question Question) (Result, error) {
	if question.ID == "" {
		question.ID = NewID()
	}
	if deadline, ok := ctx.Deadline(); ok && question.Expires.IsZero() {
		question.Expires = deadline
	}
	message, err := c.message(question)
	if err != nil {
		return Result{}, err
	}
	message.Subject = c.Subjects.Ask(question.Provider, c.Name)
	return c.request(ctx, "ask", message, query.Key(c.Name, question.Source, question.ID))
}

// Lookup returns the stored result of this client's query with key. It needs no right to read the results themselves. ErrNoResult means that
// there is none, or that no reply came until ctx ended.
func (c *Client) Lookup(ctx context.Context, key string) (Result, error) {
	body, err := json.Marshal(map[string]string{"key": key})
	if err != nil {
		return Result{}, errors.New("encode lookup: the key is not valid text")
	}
	message := nats.NewMsg(c.Subjects.Lookup(c.Name))
	message.Data = body
	return c.request(ctx, "look up", message, key)
}

// request sends a request whose reply must be the result of the query with key.
func (c *Client) request(ctx context.Context, what string, message *nats.Msg, key string) (Result, error) {
	reply, err := c.Conn.RequestMsgWithContext(ctx, message)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return Result{}, fmt.Errorf("%s: nobody serves %s on this broker: %w", what, message.Subject, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return Result{Key: key}, fmt.Errorf("%s: no reply about query %s in time: %w", what, key, ErrNoResult)
	case err != nil:
		return Result{}, fmt.Errorf("%s: %w", what, err)
	}
	if refusal := readRefusal(reply.Header); refusal != nil {
		if refusal.Status == statusNotFound {
			return Result{Key: key}, fmt.Errorf("query %s: %w", key, ErrNoResult)
		}
		return Result{Key: key}, fmt.Errorf("%s: %w", what, refusal)
	}
	status, err := readStatus(reply.Data, key)
	if err != nil {
		return Result{Key: key}, fmt.Errorf("%s: %w", what, err)
	}
	return Result{Key: key, Status: status, Event: reply.Data}, nil
}

// statusNotFound is the status of a lookup that found nothing.
const statusNotFound = 404

// readRefusal returns the refusal in a reply's headers, nil if it is none. Words that the service does not use are not passed on.
func readRefusal(header nats.Header) *Refusal {
	code := header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return nil
	}
	refusal := &Refusal{Reason: header.Get(micro.ErrorHeader)}
	refusal.Status, _ = strconv.Atoi(code)
	if !query.IsToken(refusal.Reason) {
		refusal.Reason = "unknown"
	}
	if seconds, err := strconv.ParseUint(header.Get(headerRetryAfter), 10, 16); err == nil {
		refusal.RetryAfter = time.Duration(seconds) * time.Second
	}
	return refusal
}

// readStatus returns the status of a result event, which must be about the query with key.
func readStatus(event []byte, key string) (query.Status, error) {
	var head struct {
		Type    string `json:"type"`
		Subject string `json:"subject"`
	}
	if strict.Read(event, &head) != nil || head.Subject != key {
		return "", ErrBadReply
	}
	switch head.Type {
	case query.TypeCompleted:
		return query.Completed, nil
	case query.TypeFailed:
		return query.Failed, nil
	default:
		return "", ErrBadReply
	}
}
