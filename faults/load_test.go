//go:build faults

package faults

import (
	"context"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
)

// The publisher of every test.
const (
	shop   = "shop"
	source = "urn:shop"
)

// load publishes queries and keeps the journal of those that the broker has confirmed. A query whose confirmation does not come is
// published again under the same id until it does, as the outbox of an honest publisher would.
type load struct {
	client    *client.Client
	lane      query.Lane
	providers []query.Provider

	mu sync.Mutex
	// last is the amount of the newest query; each has its own.
	last int64
	// journal holds the confirmed queries: key to amount.
	journal map[string]int64
	// again counts publishes that had to be repeated.
	again int
	// slowest is the longest time that one query took to be confirmed.
	slowest time.Duration
}

// newLoad returns a load on a site, for all of its providers in turn.
func newLoad(s *site) *load {
	return &load{
		client:    client.New(client.Options{Conn: s.conn, JS: s.js, Subjects: query.NewSubjects("discount"), Name: shop, Sealer: s.ring.Sealer()}),
		lane:      query.Interactive,
		providers: s.providers,
		journal:   map[string]int64{},
	}
}

// publish publishes n queries, one after the other, and returns when all are confirmed or ctx ends.
func (l *load) publish(ctx context.Context, n int) {
	for range n {
		l.one(ctx)
	}
}

// one publishes one query, for the provider whose turn it is, and returns its key.
func (l *load) one(ctx context.Context) string {
	l.mu.Lock()
	turn := l.last
	l.mu.Unlock()
	return l.of(ctx, l.providers[turn%int64(len(l.providers))])
}

// of publishes one query for a provider and returns its key.
func (l *load) of(ctx context.Context, provider query.Provider) string {
	l.mu.Lock()
	l.last++
	amount := 100_000 + l.last
	l.mu.Unlock()
	began := time.Now()
	question := question(provider, amount)
	question.Lane = l.lane
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 2*time.Second)
		key, err := l.client.Publish(try, question)
		cancel()
		if err == nil {
			l.note(key, amount, time.Since(began))
			return key
		}
		l.mu.Lock()
		l.again++
		l.mu.Unlock()
		pause(ctx, 20*time.Millisecond)
	}
	return ""
}

func (l *load) note(key string, amount int64, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.journal[key] = amount
	l.slowest = max(l.slowest, took)
}

// question returns the query about an amount. Its id follows from it.
func question(provider query.Provider, amount int64) client.Question {
	asked := client.Question{Provider: provider, Lane: query.Interactive, Source: source, ID: "order-" + strconv.FormatInt(amount, 10)}
	if provider == query.UnionPay {
		number, err := card.ParseNumber([]string{"6200000000000005", "6205500000000000004"}[amount/2%2])
		if err != nil {
			return asked // It has no card then, and can't be published.
		}
		asked.UnionPay = &query.UnionPayQuestion{PID: strconv.FormatInt(amount, 10)}
		asked.Card = &card.Details{UserToken: card.NewSecret("shopper" + strconv.FormatInt(amount, 10)), Number: number}
		return asked
	}
	asked.EasyPay = &query.EasyPayQuestion{CardBin: "12345678", Amount: &amount}
	return asked
}

// running is a load that publishes until it is stopped.
type running struct {
	stop func()
}

// run publishes queries at a rate until the returned load is stopped. Stopping waits for the last confirmation.
func (l *load) run(t *testing.T, perSecond int) running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	publishing.Go(func() {
		every := time.NewTicker(time.Second / time.Duration(perSecond))
		defer every.Stop()
		for ctx.Err() == nil {
			l.one(t.Context())
			select {
			case <-every.C:
			case <-ctx.Done():
			}
		}
	})
	stop := sync.OnceFunc(func() {
		cancel()
		publishing.Wait()
	})
	t.Cleanup(stop)
	return running{stop: stop}
}

// confirmed returns a copy of the journal.
func (l *load) confirmed() map[string]int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.journal)
}

// count returns how many queries are confirmed.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.journal)
}

// repeated returns how many publishes had to be repeated.
func (l *load) repeated() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.again
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
