package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
)

// demoMall is the merchant id of the demo: KICC prints it in its own examples.
const demoMall = "T5102001"

// publishers is how many queries are on their way to the broker at once.
const publishers = 16

// testCards are numbers of the schemes' public test ranges.
var testCards = []string{"6200000000000005", "6205500000000000004"}

// tally follows the queries of a demo.
type tally struct {
	mu        sync.Mutex
	sent      map[string]time.Time
	statuses  map[string][]query.Status
	latencies []time.Duration
	done      chan struct{}
	want      int
}

// ask publishes the demo's queries, waits for their results and counts what is stored in the end.
func (d *demo) ask(ctx context.Context, url string) (summary Summary, err error) {
	connected, publisher, err := d.publisher(ctx, url)
	if err != nil {
		return Summary{}, err
	}
	defer func() { err = errors.Join(err, connected.Close(context.WithoutCancel(ctx))) }()
	t := &tally{sent: map[string]time.Time{}, statuses: map[string][]query.Status{}, done: make(chan struct{}), want: d.total()}
	if t.want == 0 {
		close(t.done)
	}
	began := time.Now()
	stop, err := t.follow(ctx, connected, app.Topology(d.config).Names().Results())
	if err != nil {
		return Summary{}, err
	}
	defer stop()
	reporting, endReports := context.WithCancel(ctx)
	var reports sync.WaitGroup
	reports.Go(func() { d.report(reporting, t) })
	defer reports.Wait()
	defer endReports()
	if err := d.fail(ctx, publisher, t); err != nil {
		return t.summary(began), err
	}
	if err := d.publish(ctx, publisher, t); err != nil {
		return t.summary(began), err
	}
	select {
	case <-t.done:
	case <-time.After(patience):
	case <-ctx.Done():
		return t.summary(began), fmt.Errorf("demo was interrupted: %w", context.Cause(ctx))
	}
	summary = t.summary(began)
	summary.Dead, err = deadLetters(ctx, connected, app.Topology(d.config).Names().Dead(), d.total()-d.Queries)
	return summary, err
}

// follow reads results from the stream, where each stands once however often it was written.
func (t *tally) follow(ctx context.Context, connected *app.Broker, stream string) (stop func(), err error) {
	ordered, err := connected.JS.OrderedConsumer(ctx, stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("follow results: %w", err)
	}
	following, err := ordered.Consume(func(message jetstream.Msg) { t.add(message.Subject()) })
	if err != nil {
		return nil, fmt.Errorf("follow results: %w", err)
	}
	return func() {
		following.Stop()
		<-following.Closed()
	}, nil
}

// total is how many queries are asked altogether.
func (d *demo) total() int {
	total := d.Queries
	for _, f := range d.failures() {
		total += f.count
	}
	return total
}

// publish publishes every query and notes when.
func (d *demo) publish(ctx context.Context, publisher *client.Client, t *tally) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(publishers)
	for i := range d.Queries {
		if ctx.Err() != nil {
			break // One failed, or the demo was interrupted: sealing the rest would only take time.
		}
		group.Go(func() error {
			question, err := d.question(i)
			if err != nil {
				return err
			}
			t.send(query.Key(publisher.Name, question.Source, question.ID))
			_, err = publisher.Publish(ctx, question)
			return err
		})
	}
	return group.Wait()
}

// question returns the i-th query. The first are the examples of the two API pages, the others are variations of them.
func (d *demo) question(i int) (client.Question, error) {
	question := client.Question{
		Provider: query.EasyPay, Lane: query.Interactive, Source: "urn:demo:checkout", ID: "order-" + strconv.Itoa(i),
		Correlation: "order-" + strconv.Itoa(i),
	}
	if i%5 == 4 {
		question.Lane = query.Bulk
	}
	if i%4 == 1 {
		number, err := card.ParseNumber(testCards[i/4%len(testCards)])
		if err != nil {
			return question, err
		}
		question.Provider = query.UnionPay
		question.UnionPay = &query.UnionPayQuestion{}
		question.Card = &card.Details{UserToken: card.NewSecret("demo" + strconv.Itoa(i)), Number: number}
		return question, nil
	}
	amount := int64(51004 + 10_000*(i%40))
	question.EasyPay = &query.EasyPayQuestion{MallID: demoMall, Amount: &amount}
	if i%3 == 0 {
		question.EasyPay.CardBin = "12345678"
	} else {
		question.EasyPay.CardCd = []string{"008", "026", "029", "A16"}[i%4]
	}
	return question, nil
}

func (t *tally) send(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sent[key] = time.Now()
}

// add notes a result by its subject: the key is its third token from the prefix on, the status its last.
func (t *tally) add(subject string) {
	key, status := client.ReadResultSubject(subject)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.statuses[key] = append(t.statuses[key], status)
	if len(t.statuses[key]) > 1 {
		return
	}
	t.latencies = append(t.latencies, time.Since(t.sent[key]))
	if len(t.statuses) == t.want {
		close(t.done)
	}
}

// report tells the progress ten times a second.
func (d *demo) report(ctx context.Context, t *tally) {
	if d.OnProgress == nil {
		return
	}
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			d.OnProgress(t.progress(d.total()))
		case <-ctx.Done():
			d.OnProgress(t.progress(d.total()))
			return
		}
	}
}

func (t *tally) progress(of int) Progress {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := Progress{Sent: len(t.sent), Of: of}
	p.Completed, p.Failed = t.count()
	return p
}

func (t *tally) count() (completed, failed int) {
	for _, statuses := range t.statuses {
		if statuses[0] == query.Completed {
			completed++
		} else {
			failed++
		}
	}
	return completed, failed
}

func (t *tally) summary(began time.Time) Summary {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Summary{Sent: len(t.sent), Seconds: time.Since(began).Seconds()}
	s.Completed, s.Failed = t.count()
	for key := range t.sent {
		if len(t.statuses[key]) == 0 {
			s.Missing++
		}
	}
	for _, statuses := range t.statuses {
		s.Duplicates += len(statuses) - 1
	}
	slices.Sort(t.latencies)
	s.P50, s.P99 = quantile(t.latencies, 50), quantile(t.latencies, 99)
	return s
}

// quantile returns the given percentile of sorted durations in milliseconds.
func quantile(sorted []time.Duration, percent int) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[(len(sorted)-1)*percent/100].Microseconds()) / 1000
}

// deadLetters counts the dead letters. It waits until there are as many as must come: the letter of a query is written after its result.
func deadLetters(ctx context.Context, connected *app.Broker, stream string, want int) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		dead, err := connected.JS.Stream(ctx, stream)
		if err != nil {
			return 0, fmt.Errorf("count dead letters: %w", err)
		}
		if count := int(dead.CachedInfo().State.Msgs); count >= want { //nolint:gosec // It is far below the limit of an int.
			return count, nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return 0, fmt.Errorf("count dead letters: there are fewer than %d: %w", want, context.Cause(ctx))
		}
	}
}
