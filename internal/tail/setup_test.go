package tail

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// patience bounds every wait for a condition. Only a test that fails takes so long.
const patience = 40 * time.Second

// bundle is a server that holds results and dead letters, and a reader.
type bundle struct {
	*Reader

	t      testing.TB
	server *brokertest.Server
}

func setup(t testing.TB, options ...brokertest.Option) *bundle {
	t.Helper()
	server := brokertest.New(t, options...)
	return &bundle{t: t, server: server, Reader: New(Options{
		JS: server.JS, Names: server.Topology.Names(), Subjects: query.NewSubjects("discount"), Timeout: 5 * time.Second, Patience: patience,
	})}
}

// asked is a query of a client.
func asked(provider query.Provider, lane query.Lane, client, id string) *query.Query {
	return &query.Query{Provider: provider, Lane: lane, Client: client, Source: "urn:test", ID: id, Correlation: "order-" + id}
}

// store publishes an event.
func (b *bundle) store(subject string, event query.Event) {
	b.t.Helper()
	text, err := event.Encode()
	require.NoError(b.t, err)
	b.storeRaw(subject, text)
}

// storeRaw publishes what may be no event. A broker that restarts is waited for.
func (b *bundle) storeRaw(subject string, data []byte) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_, err := b.server.JS.Publish(ctx, subject, data)
		return err == nil
	}, patience, 10*time.Millisecond)
}

// complete stores the completed result of a query.
func (b *bundle) complete(q *query.Query, changes ...func(*query.CompletedData)) {
	b.t.Helper()
	data := query.CompletedData{
		Query: q.Asked(), Outcome: query.OutcomeOK, Upstream: query.Response{Code: "0000"}, Attempts: []query.Attempt{{}},
		Timing: query.Timing{TotalMS: 120},
	}
	for _, change := range changes {
		change(&data)
	}
	b.store(b.Subjects.Result(q.Key(), q.Provider, q.Client, "completed"), query.NewEvent(q, query.TypeCompleted, "result.0", time.Now(), data))
}

// fail stores the failed result of a query and, unless it expired, its dead letter.
func (b *bundle) fail(q *query.Query, reason query.Reason, code fault.Code) {
	b.t.Helper()
	attempts := []query.Attempt{{}, {}}
	failed := query.FailedData{
		Query: q.Asked(), Reason: reason, Kind: "rejected", Code: code, Attempts: attempts, DeadLetter: reason != query.ReasonExpired,
		Timing: query.Timing{TotalMS: 2000}, Card: &query.CardRef{Fingerprint: "f", KeyID: "k", LastFour: "0005"},
	}
	b.store(b.Subjects.Result(q.Key(), q.Provider, q.Client, "failed"), query.NewEvent(q, query.TypeFailed, "result.0", time.Now(), failed))
	if reason == query.ReasonExpired {
		return
	}
	dead := query.DeadData{
		Query: q.Asked(), Reason: reason, Kind: "rejected", Code: code, Attempts: attempts, FirstSeen: time.Now().Add(-3 * time.Second),
		Payload: "sealed", Revision: 2,
	}
	b.store(b.Subjects.Dead(q.Key(), q.Provider, q.Client, string(reason)), query.NewEvent(q, query.TypeDead, "dead.0", time.Now(), dead))
}

// line is what a test expects of an event.
func line(e Event) string {
	if e.What == DeadLetters {
		return fmt.Sprintf("dead %s %s", e.Query.ID, e.Reason)
	}
	return fmt.Sprintf("%s %s", e.Status, e.Query.ID)
}

// read reads all that a request picks without following.
func (b *bundle) read(request Request) []string {
	b.t.Helper()
	lines := []string{}
	require.NoError(b.t, b.Read(b.t.Context(), request, func(e Event) error {
		require.False(b.t, e.Live)
		lines = append(lines, line(e))
		return nil
	}))
	return lines
}

// following is a reader that follows.
type following struct {
	t      testing.TB
	stop   context.CancelFunc
	events chan Event
	ended  chan error

	mu      sync.Mutex
	notices []Notice
}

// followAs follows as a request says.
func (b *bundle) followAs(request Request) *following {
	b.t.Helper()
	return b.followWith(request, func() {})
}

// followWith follows as a request says and calls a function at each event.
func (b *bundle) followWith(request Request, each func()) *following {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	f := &following{t: b.t, stop: stop, events: make(chan Event, 10_000), ended: make(chan error, 1)}
	request.Follow = true
	request.OnNotice = func(n Notice) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.notices = append(f.notices, n)
	}
	go func() {
		f.ended <- b.Read(ctx, request, func(e Event) error {
			each()
			f.events <- e
			return nil
		})
	}()
	b.t.Cleanup(func() {
		stop()
		f.wait()
	})
	return f
}

// wait waits until reading has ended, and checks that it ended without an error.
func (f *following) wait() {
	f.t.Helper()
	select {
	case err := <-f.ended:
		require.NoError(f.t, err)
		f.ended <- nil
	case <-time.After(patience):
		require.FailNow(f.t, "reading does not end")
	}
}

// next returns the next event.
func (f *following) next() Event {
	f.t.Helper()
	select {
	case e := <-f.events:
		return e
	case <-time.After(patience):
		require.FailNow(f.t, "no event comes")
		return Event{}
	}
}

// lines returns the next events as lines.
func (f *following) lines(count int) []string {
	f.t.Helper()
	var lines []string
	for range count {
		lines = append(lines, line(f.next()))
	}
	return lines
}

// told returns the kinds of the notices so far, but for the end of the past.
func (f *following) told() []NoticeKind {
	f.mu.Lock()
	defer f.mu.Unlock()
	var kinds []NoticeKind
	for _, n := range f.notices {
		if n.Kind != CaughtUp {
			kinds = append(kinds, n.Kind)
		}
	}
	return kinds
}

// begun waits until a reader that only follows has its consumers.
func (b *bundle) begun(streams ...string) {
	b.t.Helper()
	for _, name := range streams {
		require.Eventually(b.t, func() bool { return b.consumers(name) > 0 }, patience, 5*time.Millisecond)
	}
}

// consumers returns how many consumers a stream has.
func (b *bundle) consumers(name string) int {
	b.t.Helper()
	var bound jetstream.Stream
	require.Eventually(b.t, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		var err error
		bound, err = b.server.JS.Stream(ctx, name)
		return err == nil
	}, patience, 10*time.Millisecond)
	return bound.CachedInfo().State.Consumers
}

// requireShortLived checks that the broker itself will do away with the consumers of a stream.
func (b *bundle) requireShortLived(name string) {
	b.t.Helper()
	stream, err := b.server.JS.Stream(b.t.Context(), name)
	require.NoError(b.t, err)
	all := stream.ListConsumers(b.t.Context())
	for info := range all.Info() {
		require.Empty(b.t, info.Config.Durable)
		require.LessOrEqual(b.t, info.Config.InactiveThreshold, inactive)
		require.True(b.t, info.Config.MemoryStorage)
		require.Equal(b.t, jetstream.AckNonePolicy, info.Config.AckPolicy)
	}
	require.NoError(b.t, all.Err())
}
