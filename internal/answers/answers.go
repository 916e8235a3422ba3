// Package answers lets queries that say how old an answer may be share the answers of others: those of this process, those in a bucket
// that all workers know, and those of calls under way. It must never give an older answer to a query that did not allow it, keep a
// failure, or hold card data.
package answers

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Caller asks an upstream, at the pace of the fleet.
type Caller interface {
	// Call returns the answer, every attempt it made, and a *fault.Error if there is no answer. details is nil for providers
	// that need no card data.
	Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error)
}

// Bucket is the part of a jetstream.KeyValue that is used.
type Bucket interface {
	Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error)
	Put(ctx context.Context, key string, value []byte) (uint64, error)
}

// Options are the parts of a Cache. All of them are needed but Bucket and OnTrouble.
type Options struct {
	Caller Caller
	// Bucket holds answers for all workers. Without one, answers are shared within the process only.
	Bucket Bucket
	// Accounts says for each provider in whose name it is asked.
	Accounts map[query.Provider]Account
	// Fingerprint returns a keyed hash of a card number, the same for the same number in all workers, and the id of its key:
	// card.Ring.Fingerprint.
	Fingerprint func(card.Number) (fingerprint, keyID string)
	// Keep is the age at which an answer is given to nobody any more, whatever a query allows: the TTL of the bucket.
	Keep time.Duration
	// Size is how many answers the process keeps at most.
	Size int
	// Timeout bounds one exchange with the bucket. What takes longer than a call to the upstream helps nobody.
	Timeout time.Duration
	// OnTrouble is told what could not be done with the bucket. It is never the end of a query. err can be the broker's client's own.
	OnTrouble func(what string, err error)
}

// Bounds that nobody needs to set.
const (
	// maxSkew is how far the clocks of two workers may differ. An answer from further in the future has a wrong time.
	maxSkew = 5 * time.Second
	// rest is how long the bucket is left alone after an exchange with it failed, so that not every query waits for it in vain.
	rest = 5 * time.Second
)

// Cache stands before a Caller. It may be used by many goroutines.
type Cache struct {
	Options

	mu      sync.Mutex
	recent  recent
	flights map[string]*flight
	// resting is when the bucket is tried again.
	resting time.Time
}

// New returns a cache of the given parts.
func New(options Options) *Cache {
	return &Cache{Options: options, recent: newRecent(options.Size), flights: map[string]*flight{}}
}

// Call returns an answer to q as the Caller does. If q has a MaxAge, that can be the answer to another query with the same question: then it
// is marked as shared and there are no attempts. Without one the upstream is asked. What an answer points to may be another query's too, so
// it is for reading only.
//
// A query that follows another's call shares its answer, and its failure if that is the upstream's. The leader's own end (its deadline, a
// shutdown, a fault of its query, a panic) is not shared: one of those who follow it takes over. The end of ctx ends only this query's
// wait: an Expired fault if it is a deadline, an Interrupted one if not.
func (c *Cache) Call(ctx context.Context, q *query.Query, details *card.Details) (query.Answer, []query.Attempt, error) {
	key, ok := c.key(q, details)
	if !ok {
		return c.Caller.Call(ctx, q, details)
	}
	if q.MaxAge == nil {
		answer, attempts, err := c.Caller.Call(ctx, q, details)
		if err == nil {
			c.remember(key, answer)
		}
		return answer, attempts, err
	}
	came := time.Now()
	for {
		known, f, leads := c.enter(key, q)
		if known != nil {
			return shared(*known), nil, nil
		}
		if leads {
			return c.lead(ctx, q, details, key, f)
		}
		if err := f.wait(ctx); err != nil {
			return query.Answer{}, nil, err
		}
		// An answer that came after the question is as good as one of its own. An older one is remembered by now, and may still fit. What was
		// found is an older one, even if the clock of the worker that asked for it was ahead.
		if f.asked && !f.answer.AsOf.Before(came) {
			return shared(*f.answer), nil, nil
		}
		if f.failure != nil {
			return query.Answer{}, nil, f.failure
		}
	}
}

// lead asks for all who have the same question.
func (c *Cache) lead(
	ctx context.Context, q *query.Query, details *card.Details, key string, f *flight,
) (query.Answer, []query.Attempt, error) {
	answer, attempts, err := c.ask(ctx, q, details, key, f)
	if f.answer != nil && !answer.Shared && *q.MaxAge > 0 {
		c.write(ctx, key, answer)
	}
	return answer, attempts, err
}

// ask looks into the bucket and then asks the upstream. When it returns, or panics, those who follow go on.
func (c *Cache) ask(
	ctx context.Context, q *query.Query, details *card.Details, key string, f *flight,
) (query.Answer, []query.Attempt, error) {
	defer c.land(key, f)
	if known, ok := c.read(ctx, key, *q.MaxAge); ok {
		f.answer = &known
		return shared(known), nil, nil
	}
	answer, attempts, err := c.Caller.Call(ctx, q, details)
	switch {
	case err == nil && keepable(answer.Outcome):
		f.answer, f.asked = &answer, true
	case err != nil && ctx.Err() == nil && ofUpstream(fault.KindOf(err)):
		f.failure = err
	}
	return answer, attempts, err
}

// read returns the bucket's answer if it fits.
func (c *Cache) read(ctx context.Context, key string, maxAge time.Duration) (query.Answer, bool) {
	if maxAge == 0 || !c.reachable() {
		return query.Answer{}, false
	}
	within, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	entry, err := c.Bucket.Get(within, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return query.Answer{}, false
	}
	if err != nil {
		c.failed(ctx, readAnswer, err)
		return query.Answer{}, false
	}
	answer, err := decode(entry.Value())
	switch {
	case err == nil:
		return answer, c.fits(answer, maxAge)
	case fault.CodeOf(err) != fault.UnsupportedType: // A worker of another build may well have written it.
		c.trouble(readAnswer, err)
	}
	return query.Answer{}, false
}

// write puts an answer into the bucket, for the other workers.
func (c *Cache) write(ctx context.Context, key string, answer query.Answer) {
	if !c.reachable() {
		return
	}
	value, err := encode(answer)
	if err != nil {
		c.trouble(keepAnswer, err)
		return
	}
	within, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	if _, err := c.Bucket.Put(within, key, value); err != nil {
		c.failed(ctx, keepAnswer, err)
	}
}

// reachable tells whether there is a bucket that works, as far as one knows.
func (c *Cache) reachable() bool {
	if c.Bucket == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return !time.Now().Before(c.resting)
}

// failed notes an exchange with the bucket that failed, unless it was the query's own end.
func (c *Cache) failed(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	c.mu.Lock()
	c.resting = time.Now().Add(rest)
	c.mu.Unlock()
	c.trouble(what, err)
}

func (c *Cache) trouble(what string, err error) {
	if c.OnTrouble != nil {
		c.OnTrouble(what, err)
	}
}

// fits tells whether an answer is young enough. How old one from the future is nobody knows, so that who wants none but new ones does not
// get it.
func (c *Cache) fits(answer query.Answer, maxAge time.Duration) bool {
	age := time.Since(answer.AsOf)
	if age < 0 {
		return age >= -maxSkew && maxAge > 0
	}
	return age <= min(maxAge, c.Keep)
}

// keepable tells whether others may have an answer. One that was declined may have been declined for a part of the question that is not
// in its key, like a cardholder's token.
func keepable(outcome query.Outcome) bool {
	return outcome == query.OutcomeOK || outcome == query.OutcomeEmpty
}

// shared returns an answer as others get it.
func shared(answer query.Answer) query.Answer {
	answer.Shared = true
	return answer
}
