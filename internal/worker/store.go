package worker

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// releaseTimeout is how long a stopping worker tries to schedule a query it could not finish.
const releaseTimeout = 2 * time.Second

// store carries out a verdict. When it returns nil, everything is confirmed by the broker. It fails only if ctx ended before.
func (w *Worker) store(ctx context.Context, c *work, verdict decide.Verdict) error {
	var err error
	switch verdict.Action {
	case decide.Complete:
		err = w.complete(ctx, c)
	case decide.Fail:
		err = w.fail(ctx, c, verdict, false)
	case decide.Bury:
		err = w.bury(ctx, c, verdict)
	case decide.Retry:
		err = w.retry(ctx, c, verdict.At, c.rounds+1)
	case decide.Release:
		// The worker is stopping. A scheduled round costs the query no delivery; if the broker is away too, the message is given back.
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		err = w.retry(short, c, time.Now().Add(releaseDelay), c.rounds)
	case decide.Skip:
	}
	if fault.KindOf(err) == fault.Duplicate {
		return nil // Somebody was first: the query has its result.
	}
	return err
}

func (w *Worker) complete(ctx context.Context, c *work) error {
	data := query.CompletedData{
		Query: c.query.Asked(), Outcome: c.answer.Outcome, Offers: c.answer.Offers, Best: c.answer.Best(), Usage: c.answer.Usage,
		Card: c.cardRef, Upstream: c.answer.Upstream, AsOf: c.answer.AsOf.UTC(), Timing: c.timing(), Attempts: c.attempts,
	}
	event, err := query.NewEvent(c.query, query.TypeCompleted, c.suffix("result"), data.Timing.Finished, &data).Encode()
	if err != nil {
		return err
	}
	return w.Results.StoreResult(ctx, c.query, query.Completed, event)
}

func (w *Worker) fail(ctx context.Context, c *work, verdict decide.Verdict, deadLetter bool) error {
	data := query.FailedData{
		Query: c.query.Asked(), Reason: verdict.Reason, Kind: verdict.Fault.Kind.String(), Code: verdict.Fault.Code,
		Upstream: response(verdict.Fault), Card: c.cardRef, DeadLetter: deadLetter, Timing: c.timing(), Attempts: c.attempts,
	}
	event, err := query.NewEvent(c.query, query.TypeFailed, c.suffix("result"), data.Timing.Finished, &data).Encode()
	if err != nil {
		return err
	}
	return w.Results.StoreResult(ctx, c.query, query.Failed, event)
}

// bury writes the dead letter first and the failed result after it: a crash between the two leaves a message that is delivered
// again and finds its letter written.
func (w *Worker) bury(ctx context.Context, c *work, verdict decide.Verdict) error {
	payload, err := w.sealOriginal(c)
	if err != nil {
		return err
	}
	data := query.DeadData{
		Query: c.query.Asked(), Reason: verdict.Reason, Kind: verdict.Fault.Kind.String(), Code: verdict.Fault.Code,
		Upstream: response(verdict.Fault), Cause: query.Cause(c.query.Provider, verdict.Reason, verdict.Fault),
		FirstSeen: c.received, Origin: c.origin, Attempts: c.attempts, Worker: w.Build, Revision: c.revision, Payload: payload,
	}
	event, err := query.NewEvent(c.query, query.TypeDead, c.suffix("dead"), time.Now(), &data).Encode()
	if err != nil {
		return err
	}
	if err := w.Aside.StoreDead(ctx, c.query, verdict.Reason, event); err != nil {
		return err
	}
	if c.nameless {
		return nil
	}
	return w.fail(ctx, c, verdict, true)
}

func (w *Worker) retry(ctx context.Context, c *work, at time.Time, rounds int) error {
	payload, err := w.sealOriginal(c)
	if err != nil {
		return err
	}
	body, err := json.Marshal(query.Retry{
		Origin: c.origin, FirstSeen: c.received, Attempts: c.attempts, Rounds: rounds, Revision: c.revision, Payload: payload,
	})
	if err != nil {
		return fmt.Errorf("encode retry: %w", err)
	}
	return w.Aside.ScheduleRetry(ctx, c.query, at, body)
}

// sealOriginal seals the message as its publisher wrote it to the worker's own key, whatever was in it.
func (w *Worker) sealOriginal(c *work) (string, error) {
	plaintext, err := json.Marshal(c.original, jsontext.AllowInvalidUTF8(true)) // A header may hold any bytes.
	if err != nil {
		return "", fmt.Errorf("encode original: %w", err)
	}
	return w.Unsealer.Ring.Seal(plaintext)
}

// suffix makes the ids of a query's events differ by what they are and by replay, and by nothing else.
func (c *work) suffix(what string) string {
	return fmt.Sprintf("%s.%d", what, c.revision)
}

func (c *work) timing() query.Timing {
	now := time.Now().UTC()
	return query.Timing{
		Received: c.received.UTC(), Finished: now, TotalMS: now.Sub(c.received).Milliseconds(), CallMS: c.calling.Milliseconds(),
	}
}

// response returns what a fault knows of the upstream's response.
func response(e *fault.Error) query.Response {
	return query.Response{Code: e.Upstream, Status: e.Status}
}
