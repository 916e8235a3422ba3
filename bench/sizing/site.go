package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// upstreams are both simulations, and the keys with which workers and publishers reach them.
type upstreams struct {
	order

	sandbox *sandbox.Sandbox
	running *sandbox.Running
	sealer  *card.Sealer
}

// startUpstreams starts the simulations, with their keys in dir.
func startUpstreams(ctx context.Context, dir string, p plan) (*upstreams, error) {
	keys, err := sandbox.NewKeys()
	if err != nil {
		return nil, err
	}
	if err := keys.WriteTo(filepath.Join(dir, "upi")); err != nil {
		return nil, err
	}
	if _, err := card.NewKeys(filepath.Join(dir, "keys"), time.Now()); err != nil {
		return nil, err
	}
	ring, err := card.LoadRing(filepath.Join(dir, "keys"))
	if err != nil {
		return nil, err
	}
	u := &upstreams{sandbox: sandbox.New(sandbox.Options{Seed: 1, UnionPay: keys.UnionPay()}), sealer: ring.Sealer()}
	if u.running, err = u.sandbox.Start(ctx, sandbox.Listen{EasyPay: "127.0.0.1:0", UnionPay: "127.0.0.1:0"}); err != nil {
		return nil, err
	}
	u.order = order{
		Dir: dir, EasyPay: u.running.EasyPayURL(), UnionPay: u.running.UnionPayURL(), Slots: p.slots, Sync: p.sync,
		Kids: [3]string{keys.ClientSignKid, keys.UPISignKid, keys.UPIEncryptKid},
	}
	return u, nil
}

// take makes every answer take some time.
func (u *upstreams) take(latency time.Duration) error {
	u.sandbox.Reset()
	if latency == 0 {
		return u.sandbox.SetFaults(nil)
	}
	return u.sandbox.SetFaults([]sandbox.Fault{{Provider: sandbox.Both, Kind: sandbox.KindLatency, Param: latency.String()}})
}

// site is a broker of its own, its workers, and a publisher.
type site struct {
	order

	broker    *child
	store     string
	workers   []*child
	conn      *nats.Conn
	js        jetstream.JetStream
	publisher *client.Client
}

// newSite starts a broker with an empty store.
func newSite(ctx context.Context, u *upstreams, sync bool) (*site, error) {
	dir, err := os.MkdirTemp(u.Dir, "site-")
	if err != nil {
		return nil, err
	}
	o := u.order
	o.Dir, o.Sync = dir, sync
	s := &site{order: u.order, store: filepath.Join(dir, "store")}
	if s.broker, err = spawn(ctx, processBroker, o); err != nil {
		return nil, err
	}
	s.NATS = s.broker.URL
	if s.conn, err = nats.Connect(s.NATS); err != nil {
		s.broker.kill()
		return nil, err
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		s.close()
		return nil, err
	}
	s.publisher = client.New(client.Options{
		Conn: s.conn, JS: s.js, Subjects: subjects(), Name: "shop", ResultStream: names().Results(), Sealer: u.sealer,
	})
	return s, nil
}

// hire starts workers. They are bound to their consumers and begin to pull when it returns; they call themselves ready seconds later, once
// the pulls that find nothing have ended too.
func (s *site) hire(ctx context.Context, count int) error {
	for range count {
		worker, err := spawn(ctx, processWorker, s.order)
		if err != nil {
			return err
		}
		s.workers = append(s.workers, worker)
	}
	return nil
}

// dismiss ends all workers.
func (s *site) dismiss() {
	for _, worker := range s.workers {
		worker.kill()
	}
	s.workers = nil
}

// close ends all processes.
func (s *site) close() {
	s.dismiss()
	s.conn.Close()
	s.broker.kill()
}

// question returns the n-th query of a provider. No two are the same, as in life.
func question(provider query.Provider, n int) (client.Question, error) {
	id := fmt.Sprintf("order-%s-%d", provider, n)
	q := client.Question{Provider: provider, Lane: query.Interactive, Source: "urn:shop:checkout", ID: id, Correlation: id}
	if provider == query.EasyPay {
		amount := int64(50_000 + n)
		q.EasyPay = &query.EasyPayQuestion{CardBin: "12345678", Amount: &amount}
		return q, nil
	}
	number, err := card.ParseNumber("6200000000000005")
	q.UnionPay = &query.UnionPayQuestion{}
	q.Card = &card.Details{Number: number, UserToken: card.NewSecret("tokenOfSomebody" + strconv.Itoa(n))}
	return q, err
}

// publish publishes queries, many at a time.
func (s *site) publish(ctx context.Context, provider query.Provider, from, to int) error {
	next := make(chan int)
	var publishing sync.WaitGroup
	var once sync.Once
	var failed error
	for range 128 {
		publishing.Go(func() {
			for n := range next {
				q, err := question(provider, n)
				if err == nil {
					_, err = s.publisher.Publish(ctx, q)
				}
				if err != nil {
					once.Do(func() { failed = err })
				}
			}
		})
	}
	for n := from; n < to; n++ {
		next <- n
	}
	close(next)
	publishing.Wait()
	return failed
}

// stream returns how many messages a stream holds, and their bytes as the broker counts them.
func (s *site) stream(ctx context.Context, name string) (messages, bytes uint64, err error) {
	opened, err := s.js.Stream(ctx, name)
	if err != nil {
		return 0, 0, err
	}
	state := opened.CachedInfo().State
	return state.Msgs, state.Bytes, nil
}

// await waits until a stream holds so many messages.
func (s *site) await(ctx context.Context, name string, holds func(messages uint64) bool) error {
	for {
		messages, _, err := s.stream(ctx, name)
		if err != nil || holds(messages) {
			return err
		}
		if err := rest(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// page reads an admin page of a worker.
func (c *child) page(ctx context.Context, page string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.Admin+page, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: HTTP %d", page, response.StatusCode)
	}
	return string(text), err
}

// figure returns a metric without labels from a page of metrics.
func figure(page, name string) (float64, error) {
	_, after, found := strings.Cut(page, "\n"+name+" ")
	if !found {
		return 0, fmt.Errorf("no %s on the page of metrics", name)
	}
	line, _, _ := strings.Cut(after, "\n")
	return strconv.ParseFloat(line, 64)
}

// rest waits, unless ctx ends first.
func rest(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
