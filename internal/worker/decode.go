package worker

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// decode reads the delivery into the case. A scheduled retry is opened first: inside lies the original message.
func (w *Worker) decode(c *work) (err error) {
	defer c.recoverPanic(&err)
	c.origin = query.Origin{
		Stream: c.delivery.Stream, Sequence: c.delivery.Sequence, Subject: c.delivery.Subject,
		Stored: c.delivery.Stored, Deliveries: c.delivery.Number,
	}
	c.original = query.Original{Subject: c.delivery.Subject, Header: ownHeaders(c.delivery.Header), Data: c.delivery.Data}
	message := c.delivery
	if c.scheduled = w.Decoder.IsRetry(c.delivery.Subject); c.scheduled {
		if err := w.openRetry(c); err != nil {
			return w.anonymous(c, err)
		}
		message.Subject, message.Header, message.Data = c.original.Subject, c.original.Header, c.original.Data
	}
	q, err := w.Decoder.Decode(message)
	c.query = q
	if q.Replay = c.replay; c.replay != nil {
		q.Expires = time.Time{} // That time has long passed: nobody but an operator waits now.
	}
	if err != nil {
		return w.anonymous(c, err)
	}
	if c.direct {
		c.hurry()
	}
	return nil
}

// openRetry reads a scheduled retry and takes over its history.
func (w *Worker) openRetry(c *work) error {
	var retry query.Retry
	if err := query.ReadStrict(c.delivery.Data, &retry); err != nil {
		return err
	}
	plaintext, err := c.keys.Ring.Open(retry.Payload, len(c.delivery.Data))
	if err != nil {
		return err
	}
	var original query.Original // Reading into what is there would write over the message, which others read after us.
	if err := query.ReadStrict(plaintext, &original); err != nil {
		return err
	}
	c.original = original
	c.origin, c.received, c.attempts = retry.Origin, retry.FirstSeen, retry.Attempts
	c.rounds, c.replay, c.parent = retry.Rounds, retry.Replay, retry.TraceParent
	return nil
}

// anonymous gives a message that could not be read the identity of its place in the stream, if it has none of its own, so that its
// dead letter has an address.
func (w *Worker) anonymous(c *work, err error) error {
	q := c.query
	if q.Provider == "" {
		q.Provider, q.Lane, q.Client = "none", query.Bulk, "none"
	}
	if q.ID == "" {
		q.Source = "urn:discountquery:stream:" + c.origin.Stream
		q.ID = strconv.FormatUint(c.origin.Sequence, 10)
		c.nameless = true
	}
	return fault.From("decode", err)
}

// ownHeaders returns the headers a publisher wrote, less those with which the broker is steered: carried on, they would drop, refuse
// or even purge (Nats-Msg-Id, Nats-Expected-*, Nats-Rollup). The message id stays, under its own key, because it can be the query's id.
func ownHeaders(headers map[string][]string) map[string][]string {
	own := make(map[string][]string, len(headers))
	for name, values := range headers {
		if !utf8.ValidString(name) {
			continue // It can't be stored, and two such names could become one.
		}
		if lower := strings.ToLower(name); !strings.HasPrefix(lower, "nats-") || lower == "nats-msg-id" {
			own[name] = values
		}
	}
	if len(own) == 0 {
		return nil
	}
	return own
}
