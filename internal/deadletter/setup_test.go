package deadletter

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/worker"
)

func TestMain(m *testing.M) {
	// The race detector needs other ways through the code, not as many as a model does that is checked at random.
	if raceDetector && flag.Set("rapid.checks", "30") != nil {
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait for a condition. Only a test that fails takes so long.
const patience = 30 * time.Second

// A public test number and secrets that must never be seen.
const (
	testCard   = "6200000000000005"
	testToken  = "tokenOfTheCardholder"
	testMobile = "+8613800138000"
)

// bundle is a broker, a real worker whose upstream is a closure, and the letters.
type bundle struct {
	*Letters

	t       testing.TB
	server  *brokertest.Server
	worker  *worker.Worker
	decoder *query.Decoder
	ring    *card.Ring
	keys    string

	mu      sync.Mutex
	calls   map[string]int
	call    func(q *query.Query) error
	subject query.Subjects
}

func setup(t testing.TB, options ...brokertest.Option) *bundle {
	t.Helper()
	dir := t.TempDir()
	_, err := card.NewKeys(dir, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	b := &bundle{t: t, server: brokertest.New(t, options...), ring: ring, keys: dir, calls: map[string]int{}, subject: query.NewSubjects("discount")}
	b.decoder, err = query.NewDecoder(b.subject)
	require.NoError(t, err)
	names := b.server.Topology.Names()
	publisher, err := publish.New(t.Context(), publish.Options{
		JS: b.server.JS, Subjects: b.subject, ResultStream: names.Results(), DeadStream: names.Dead(), RetryStream: names.Retries(), Timeout: 5 * time.Second,
	})
	require.NoError(t, err)
	policy := decide.Policy{Horizon: time.Hour, QuarantineAfter: 3, FirstRetry: 4 * time.Second, MaxRetry: time.Minute}
	b.worker = worker.New(worker.Options{
		Decoder: b.decoder, Unsealer: &card.Unsealer{Ring: ring, MaxSealed: card.MaxSealed},
		Policies: map[query.Lane]decide.Policy{query.Interactive: policy, query.Bulk: policy},
		Caller:   b, Results: publisher, Aside: publisher, Observer: b, Build: "test",
	})
	b.Letters = b.open(nil)
	b.answer()
	return b
}

// open opens the letters once more, as another process would. change may replace parts.
func (b *bundle) open(change func(*Options)) *Letters {
	b.t.Helper()
	names := b.server.Topology.Names()
	o := Options{
		JS: b.server.JS, Names: names, Subjects: b.subject, Ring: b.ring, Actor: "kim@desk", Why: "case 1", Timeout: 5 * time.Second, Patience: patience,
		Providers: []query.Provider{query.EasyPay, query.UnionPay},
		Replayer:  &publish.Replayer{JS: b.server.JS, Subjects: b.subject, Stream: names.Retries(), Timeout: 5 * time.Second},
		Auditor:   &publish.Auditor{JS: b.server.JS, Subjects: b.subject, Stream: names.Audit(), Timeout: 5 * time.Second},
		Resealer:  &publish.Resealer{JS: b.server.JS, Subjects: b.subject, Stream: names.Dead(), Timeout: 5 * time.Second},
	}
	if change != nil {
		change(&o)
	}
	l, err := Open(context.Background(), o)
	require.NoError(b.t, err)
	return l
}

// Call implements worker.Caller.
func (b *bundle) Call(_ context.Context, q *query.Query, _ *card.Details) (query.Answer, []query.Attempt, error) {
	b.mu.Lock()
	call := b.call
	b.calls[q.Key()]++
	b.mu.Unlock()
	attempt := query.Attempt{At: time.Now(), Milliseconds: 3, Status: 200}
	if err := call(q); err != nil {
		attempt.Kind, attempt.Code = fault.KindOf(err).String(), fault.CodeOf(err)
		return query.Answer{}, []query.Attempt{attempt}, err
	}
	return query.Answer{Outcome: query.OutcomeEmpty, AsOf: time.Now(), Upstream: query.Response{Code: "0000", Status: 200}}, []query.Attempt{attempt}, nil
}

// Observe implements worker.Observer.
func (*bundle) Observe(decide.Outcome) {}

// answer makes the upstream answer, refuse makes it refuse with a code of its own.
func (b *bundle) answer() { b.upstream(func(*query.Query) error { return nil }) }

func (b *bundle) refuse(code fault.Code) {
	b.upstream(func(*query.Query) error {
		e := fault.New("call", fault.Rejected, code)
		e.Upstream = "9999"
		return e
	})
}

func (b *bundle) upstream(call func(*query.Query) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.call = call
}

// die takes queries of a client to their deaths, with ids from 0 on, and returns their keys.
func (b *bundle) die(client string, count int, attributes ...string) []string {
	b.t.Helper()
	b.refuse(fault.UpstreamBroken)
	defer b.answer()
	var keys []string
	for i := range count {
		id := fmt.Sprintf("%d", i)
		event := map[string]any{
			"specversion": "1.0", "id": id, "source": "urn:test", "type": query.TypeRequested,
			"data": map[string]any{"mallId": "T5102001", "cardBin": "12345678", "amount": 51004}, "correlationid": "order-" + id,
		}
		for j := 0; j+1 < len(attributes); j += 2 {
			event[attributes[j]] = attributes[j+1]
		}
		b.bury(client, event)
		keys = append(keys, query.Key(client, "urn:test", id))
	}
	return keys
}

// bury hands the worker a message that does not live.
func (b *bundle) bury(client string, event any) {
	b.t.Helper()
	body, err := json.Marshal(event)
	require.NoError(b.t, err)
	b.buryRaw(client, body)
}

func (b *bundle) buryRaw(client string, body []byte) {
	b.t.Helper()
	settlement := b.worker.Handle(context.Background(), query.Delivery{
		Subject: b.subject.Query(query.EasyPay, query.Interactive, client), Data: body, Stream: "DISCOUNT_QUERIES", Sequence: 42,
		Header: map[string][]string{"Content-Type": {query.ContentTypeEvent}, "X-Own": {"kept"}}, Number: 1, Stored: time.Now(),
	})
	require.True(b.t, settlement.Done)
}

// replays returns the replays that were published for a client and are not acked, in the order of the stream.
func (b *bundle) replays(client string) []query.Delivery {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Retries())
	require.NoError(b.t, err)
	var all []query.Delivery
	for next := uint64(1); ; {
		m, err := stream.GetMsg(context.Background(), next, jetstream.WithGetMsgSubject(b.subject.RetryDue(query.EasyPay, query.Bulk, client)))
		if err != nil {
			require.ErrorIs(b.t, err, jetstream.ErrMsgNotFound)
			return all
		}
		all = append(all, query.Delivery{Subject: m.Subject, Data: m.Data, Stream: b.Names.Retries(), Sequence: m.Sequence, Number: 1, Stored: m.Time})
		next = m.Sequence + 1
	}
}

// published returns how many messages the stream of retries holds.
func (b *bundle) published() int {
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Retries())
	if err != nil {
		return 0
	}
	return int(stream.CachedInfo().State.Msgs)
}

// letterOf returns the sequence of the letter that a replay supersedes.
func letterOf(t testing.TB, replay query.Delivery) uint64 {
	t.Helper()
	var retry query.Retry
	require.NoError(t, query.ReadStrict(replay.Data, &retry))
	return retry.Replay.Letter
}

// work lets a worker take every replay of a client once.
func (b *bundle) work(client string) {
	b.t.Helper()
	for _, replay := range b.replays(client) {
		require.True(b.t, b.worker.Handle(context.Background(), replay).Done)
	}
}

// working runs a worker on the replays of EasyPay until the test ends.
func (b *bundle) working() {
	b.t.Helper()
	consumer, err := b.server.JS.Consumer(b.t.Context(), b.Names.Retries(), b.Names.Consumer("easypay", "bulk"))
	require.NoError(b.t, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			batch, err := consumer.Fetch(500, jetstream.FetchMaxWait(100*time.Millisecond))
			if err != nil {
				continue
			}
			for m := range batch.Messages() {
				meta, err := m.Metadata()
				if err != nil {
					continue
				}
				if b.worker.Handle(ctx, query.Delivery{
					Subject: m.Subject(), Data: m.Data(), Stream: meta.Stream, Sequence: meta.Sequence.Stream, Number: int(meta.NumDelivered), Stored: meta.Timestamp,
				}).Done {
					_ = m.DoubleAck(ctx)
				}
			}
		}
	})
	b.t.Cleanup(func() { stop(); running.Wait() })
}

// results returns the statuses of all results of a client, by key and in order.
func (b *bundle) statuses(client string) map[string][]string {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Results())
	require.NoError(b.t, err)
	all := map[string][]string{}
	for next := uint64(1); ; {
		m, err := stream.GetMsg(context.Background(), next, jetstream.WithGetMsgSubject("discount.result.*.easypay."+client+".*"))
		if err != nil {
			require.ErrorIs(b.t, err, jetstream.ErrMsgNotFound)
			return all
		}
		tokens := strings.Split(m.Subject, ".")
		all[tokens[2]] = append(all[tokens[2]], tokens[5])
		next = m.Sequence + 1
	}
}

// requireAnswered checks that each query failed once and was completed once.
func (b *bundle) requireAnswered(client string, keys []string) {
	b.t.Helper()
	statuses := b.statuses(client)
	require.Len(b.t, statuses, len(keys))
	for _, key := range keys {
		require.Equal(b.t, []string{"failed", "completed"}, statuses[key])
	}
}

// begin plans and starts a batch without a canary.
func (b *bundle) begin(l *Letters, filter Filter, change ...func(*Request)) Batch {
	b.t.Helper()
	plan, err := l.PlanReplay(context.Background(), filter)
	require.NoError(b.t, err)
	request := Request{Plan: plan, Rate: 5000, CanaryWait: patience}
	for _, c := range change {
		c(&request)
	}
	batch, err := l.Start(context.Background(), request)
	require.NoError(b.t, err)
	return batch
}

// run runs a batch to its end.
func (b *bundle) run(l *Letters, id string) Batch {
	b.t.Helper()
	batch, err := l.Run(context.Background(), id, nil)
	require.NoError(b.t, err)
	return batch
}

// audits returns the actions that were written down, in order.
func (b *bundle) audits() []query.AuditData {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Audit())
	require.NoError(b.t, err)
	var all []query.AuditData
	for next := uint64(1); ; next++ {
		m, err := stream.GetMsg(context.Background(), next)
		if err != nil {
			require.ErrorIs(b.t, err, jetstream.ErrMsgNotFound)
			return all
		}
		var event struct {
			Data query.AuditData `json:"data"`
		}
		require.NoError(b.t, query.ReadStrict(m.Data, &event))
		require.Equal(b.t, "discount.audit."+string(event.Data.Action), m.Subject)
		all = append(all, event.Data)
	}
}

// actions returns the names of what was written down.
func (b *bundle) actions() []query.AuditAction {
	b.t.Helper()
	var all []query.AuditAction
	for _, data := range b.audits() {
		all = append(all, data.Action)
	}
	return all
}
