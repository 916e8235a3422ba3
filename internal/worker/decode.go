package worker

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// decode reads the delivery into the case.
func (w *Worker) decode(c *work) error {
	c.origin = query.Origin{
		Stream: c.delivery.Stream, Sequence: c.delivery.Sequence, Subject: c.delivery.Subject,
		Stored: c.delivery.Stored, Deliveries: c.delivery.Number,
	}
	c.original = query.Original{Subject: c.delivery.Subject, Header: ownHeaders(c.delivery.Header), Data: c.delivery.Data}
	if err := w.readQuery(c); err != nil {
		return c.anonymous(err)
	}
	if c.direct {
		c.hurry()
	}
	return nil
}

// readQuery reads the query of the case. A scheduled retry is opened first: inside lies the original message.
func (w *Worker) readQuery(c *work) (err error) {
	defer c.recoverPanic(&err)
	message := c.delivery
	if c.scheduled = w.Decoder.IsRetry(c.delivery.Subject); c.scheduled {
		if err := c.openRetry(); err != nil {
			return err
		}
		message.Subject, message.Header, message.Data = c.original.Subject, c.original.Header, c.original.Data
	}
	q, err := w.Decoder.Decode(message)
	c.asks(q)
	return err
}

// asks says which query the case is about.
func (c *work) asks(q *query.Query) {
	c.query = q
	if q.Replay = c.replay; c.replay != nil {
		q.Expires = time.Time{} // That time has long passed: nobody but an operator waits now.
	}
}

// openRetry reads a scheduled retry and takes over its history. Of one whose key is gone it is known all the same who asked what, so that it gets
// its result, and a letter with the payload as it is, which can be replayed once the key is given back.
func (c *work) openRetry() error {
	var retry query.Retry
	if err := query.ReadStrict(c.delivery.Data, &retry); err != nil {
		return err
	}
	plaintext, err := c.keys.Ring.Open(retry.Payload, len(c.delivery.Data))
	if err != nil && retry.Asked == nil {
		return err
	}
	c.origin, c.received, c.attempts = retry.Origin, retry.FirstSeen, retry.Attempts
	c.rounds, c.crashes, c.replay, c.parent = retry.Rounds, retry.Crashes, retry.Replay, retry.TraceParent
	if retry.Asked != nil {
		c.asks(retry.Asked.Query())
	}
	if err != nil {
		c.sealed = retry.Payload
		return err
	}
	var original query.Original // Reading into what is there would write over the message, which others read after us.
	if err := query.ReadStrict(plaintext, &original); err != nil {
		return err
	}
	c.original = original
	return nil
}

// anonymous gives a message that could not be read the identity of its place in the stream, if it has none of its own, so that its
// dead letter has an address. What panics is malformed: it would panic again, and without its identity there is nowhere to put it off to.
func (c *work) anonymous(err error) error {
	q := c.query
	if q.Provider == "" {
		q.Provider, q.Lane, q.Client = "none", query.Bulk, "none"
	}
	if q.ID == "" {
		q.Source = "urn:discountquery:stream:" + c.origin.Stream
		q.ID = strconv.FormatUint(c.origin.Sequence, 10)
		c.nameless = true
	}
	unread := fault.From("decode", err)
	if unread.Kind == fault.Unknown {
		return fault.New(unread.Op, fault.Malformed, unread.Code)
	}
	return unread
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
