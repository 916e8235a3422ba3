package worker

import (
	"context"
	"time"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// replyTimeout is how long the result of a query is tried to be stored whose asker waits.
const replyTimeout = 5 * time.Second

// Ask handles a query whose asker waits for the reply, and returns its result event, completed or failed, once it is stored. Another
// result that is stored for the query already is returned as it is. No call is under way after until.
//
// The query is in no stream. An Interrupted fault means that it was not finished and is forgotten, because ctx was cancelled or the
// broker could not store its result: asking again is safe. A Malformed fault means that the message has no identity to which a result
// could be addressed; nothing is stored of it, because whoever asked is there to mend it.
func (w *Worker) Ask(ctx context.Context, delivery query.Delivery, until time.Time) ([]byte, error) {
	c := w.newCase(delivery)
	c.direct, c.until = true, until
	defer w.leave(c)
	ctx, err := w.read(ctx, c)
	if err == nil {
		err = w.ask(ctx, c)
	}
	verdict := decide.Settle(w.policy(c), c.query, c.facts(), err)
	err = verdict.Failure()
	if verdict.Action != decide.Release && !c.nameless {
		verdict, err = w.storeReply(ctx, c, verdict)
	}
	w.observe(ctx, c, verdict, err == nil)
	if err != nil {
		return nil, err
	}
	return c.result, nil
}

// storeReply carries out a verdict although the time of the query may be over.
func (w *Worker) storeReply(ctx context.Context, c *work, verdict decide.Verdict) (decide.Verdict, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), replyTimeout)
	defer cancel()
	verdict, err := w.settle(ctx, c, verdict)
	if err == nil && c.result == nil {
		err = fault.New("read result", fault.Interrupted, fault.NotStored)
	}
	return verdict, err
}

// hurry gives a query whose asker waits a deadline that the asker will live to see.
func (c *work) hurry() {
	c.query.Direct = true
	if c.query.Expires.IsZero() || c.query.Expires.After(c.until) {
		c.query.Expires = c.until
	}
}
