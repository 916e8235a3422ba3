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
	"discountquery.example/worker/internal/trace"
)

// releaseTimeout is how long a stopping worker tries to store what came of a query, or to schedule one that it could not finish.
const releaseTimeout = 2 * time.Second

// lastMoment returns a context that outlives the given one by releaseTimeout: an answer that is at hand when the worker has to stop is stored all
// the same.
func lastMoment(ctx context.Context) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(releaseTimeout, cancel) })
	return late, func() {
		stop()
		cancel()
	}
}

// settle carries out a verdict and returns it, or the one that took its place because it could not be stored.
func (w *Worker) settle(ctx context.Context, c *work, verdict decide.Verdict) (decide.Verdict, error) {
	err := w.store(ctx, c, verdict)
	if !c.turns(verdict, err) {
		return verdict, err
	}
	verdict = decide.Settle(w.policy(c), c.query, c.facts(), err)
	return verdict, w.store(ctx, c, verdict)
}

// turns tells whether a verdict that could not be stored becomes another one. A query whose answer or next round is larger than the broker takes
// fails, because it would be too large the next time too. One whose result is not taken now is released as the worker stops: the retries lie in
// another stream, and a message that is given back comes nearer to its quarantine. One that can't be read never is, and may hold what must not be
// kept. What is released already just keeps its place.
func (c *work) turns(verdict decide.Verdict, err error) bool {
	switch {
	case err == nil, verdict.Action == decide.Release:
		return false
	case fault.CodeOf(err) == fault.TooLarge:
		return true
	default:
		unread := fault.KindOf(verdict.Failure()) == fault.Malformed
		return fault.KindOf(err) == fault.Interrupted && verdict.Action != decide.Retry && !unread && !c.direct
	}
}

// store carries out a verdict. When it returns nil, everything is confirmed by the broker. It fails only if ctx
// ended some seconds before, or if something is larger than the broker takes.
func (w *Worker) store(ctx context.Context, c *work, verdict decide.Verdict) error {
	ctx, done := lastMoment(ctx)
	defer done()
	var err error
	switch verdict.Action {
	case decide.Complete:
		err = w.complete(ctx, c)
	case decide.Fail:
		err = w.fail(ctx, c, verdict, false)
	case decide.Bury:
		err = w.bury(ctx, c, verdict)
	case decide.Retry:
		err = w.retry(ctx, c, verdict)
	case decide.Release:
		// The worker is stopping. A scheduled round costs the query no delivery; if the broker is away too, the message is given back.
		short, cancel := context.WithTimeout(ctx, releaseTimeout)
		defer cancel()
		verdict.At, verdict.Rounds = time.Now().Add(releaseDelay), c.rounds
		err = w.retry(short, c, verdict)
	case decide.Skip:
		return w.repair(ctx, c)
	}
	if fault.KindOf(err) == fault.Duplicate {
		c.result = nil
		return w.repair(ctx, c)
	}
	return err
}

func (w *Worker) complete(ctx context.Context, c *work) error {
	data := query.CompletedData{
		Query: c.query.Asked(), Outcome: c.answer.Outcome, Offers: c.answer.Offers, Best: c.answer.Best(), Usage: c.answer.Usage,
		Card: c.cardRef, Upstream: c.answer.Upstream, AsOf: c.answer.AsOf.UTC(), Shared: c.answer.Shared,
		Timing: c.timing(), Attempts: c.attempts, Replay: c.query.ReplayRef(),
	}
	return w.storeResult(ctx, c, query.Completed, query.NewEvent(c.query, query.TypeCompleted, c.suffix("result"), data.Timing.Finished, &data))
}

func (w *Worker) storeResult(ctx context.Context, c *work, status query.Status, event query.Event) error {
	ctx, span := trace.Publish(ctx, trace.Result)
	encoded, err := stamped(ctx, event).Encode()
	if err == nil {
		err = w.Results.StoreResult(ctx, c.query, status, encoded)
	}
	if err == nil {
		c.result = encoded
	}
	span.End(err)
	return err
}

func (w *Worker) fail(ctx context.Context, c *work, verdict decide.Verdict, deadLetter bool) error {
	data := query.FailedData{
		Query: c.query.Asked(), Reason: verdict.Reason, Kind: verdict.Fault.Kind.String(), Code: verdict.Fault.Code,
		Upstream: response(verdict.Fault), Card: c.cardRef, DeadLetter: deadLetter, Timing: c.timing(), Attempts: c.attempts, Replay: c.query.ReplayRef(),
	}
	return w.storeResult(ctx, c, query.Failed, query.NewEvent(c.query, query.TypeFailed, c.suffix("result"), data.Timing.Finished, &data))
}

// bury publishes the failed result first and writes the dead letter after it. Of several who hold the query the guard of the results lets
// one decide how it ends, so that no query that is answered has a letter. A crash between the two leaves a message that is delivered
// again, and a result that says that its letter is owed.
func (w *Worker) bury(ctx context.Context, c *work, verdict decide.Verdict) error {
	if !c.nameless {
		if err := w.fail(ctx, c, verdict, true); err != nil {
			return err
		}
	}
	return w.storeLetter(ctx, c, query.DeadData{
		Reason: verdict.Reason, Kind: verdict.Fault.Kind.String(), Code: verdict.Fault.Code, Upstream: response(verdict.Fault), Attempts: c.attempts,
	})
}

// repair does what is left to do for a query that has its result: if that one owes a dead letter, whoever wrote it may have died before it
// wrote the letter.
func (w *Worker) repair(ctx context.Context, c *work) error {
	if c.result == nil {
		result, err := w.Results.Result(ctx, c.query)
		if err != nil {
			return err
		}
		c.result = result
	}
	failed, ok := query.ReadFailed(c.result)
	if !ok || !failed.DeadLetter {
		return nil
	}
	letter, err := w.Aside.DeadLetter(ctx, c.query)
	if err != nil || letter != nil {
		return err
	}
	return w.storeLetter(ctx, c, query.DeadData{
		Reason: failed.Reason, Kind: failed.Kind, Code: failed.Code, Upstream: failed.Upstream, Attempts: failed.Attempts,
	})
}

// storeLetter writes a dead letter whose end is given. Verification values, PINs and tracks must not be kept in any form (PCI DSS 3.3.1), so that a
// letter of a query that held some says nothing of what was sent. Nor does one that would be larger than the broker takes.
func (w *Worker) storeLetter(ctx context.Context, c *work, data query.DeadData) error {
	ended := fault.New("", fault.ParseKind(data.Kind), data.Code)
	ended.Upstream, ended.Status = data.Upstream.Code, data.Upstream.Status
	data.Query, data.Cause = c.query.Asked(), query.Cause(c.query.Provider, data.Reason, ended)
	data.FirstSeen, data.Origin, data.Worker = c.received, c.origin, w.Build
	data.Revision, data.Replay = c.query.Revision(), c.query.ReplayRef()
	var err error
	switch {
	case data.Code == fault.ForbiddenCardData:
		data.Payload, err = c.seal(c.emptied())
	case c.sealed != "":
		data.Payload = c.sealed
	default:
		data.Payload, err = c.seal(c.original)
	}
	if err == nil {
		err = w.sendLetter(ctx, c, data)
	}
	if fault.CodeOf(err) != fault.TooLarge {
		return err
	}
	data.Emptied = true
	if data.Payload, err = c.seal(c.emptied()); err != nil {
		return err
	}
	return w.sendLetter(ctx, c, data)
}

// emptied returns what is left of a message that is not to be kept.
func (c *work) emptied() query.Original { return query.Original{Subject: c.original.Subject} }

func (w *Worker) sendLetter(ctx context.Context, c *work, data query.DeadData) error {
	ctx, span := trace.Publish(ctx, trace.DeadLetter)
	event, err := stamped(ctx, query.NewEvent(c.query, query.TypeDead, c.suffix("dead"), time.Now(), &data)).Encode()
	if err == nil {
		err = w.Aside.StoreDead(ctx, c.query, data.Reason, event)
	}
	span.End(err)
	return err
}

func (w *Worker) retry(ctx context.Context, c *work, next decide.Verdict) error {
	payload, err := c.seal(c.original)
	if err != nil {
		return err
	}
	asked := c.query.Asked()
	body, err := json.Marshal(query.Retry{
		Origin: c.origin, FirstSeen: c.received, Attempts: c.attempts, Rounds: next.Rounds, Crashes: next.Crashes,
		Replay: c.query.Replay, TraceParent: c.parent, Asked: &asked, Payload: payload,
	})
	if err != nil {
		return fmt.Errorf("encode retry: %w", err)
	}
	ctx, span := trace.Publish(ctx, trace.Retry)
	err = w.Aside.ScheduleRetry(ctx, c.query, next.At, body)
	span.End(err)
	return err
}

// seal seals a message as its publisher wrote it to the worker's own key, whatever was in it.
func (c *work) seal(original query.Original) (string, error) {
	plaintext, err := json.Marshal(original, jsontext.AllowInvalidUTF8(true)) // A header may hold any bytes.
	if err != nil {
		return "", fmt.Errorf("encode original: %w", err)
	}
	return c.keys.Ring.Seal(plaintext)
}

// suffix makes the ids of a query's events differ by what they are and by replay, and by nothing else.
func (c *work) suffix(what string) string {
	return fmt.Sprintf("%s.%d", what, c.query.Revision())
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
