package tail

import (
	"context"
	"errors"
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

// fill stores some of everything.
func (b *bundle) fill() {
	b.t.Helper()
	b.complete(asked(query.EasyPay, query.Interactive, "shop", "1"))
	b.fail(asked(query.EasyPay, query.Bulk, "shop", "2"), query.ReasonRejected, fault.UpstreamBroken)
	b.complete(asked(query.UnionPay, query.Bulk, "mall", "3"))
	b.fail(asked(query.UnionPay, query.Interactive, "mall", "4"), query.ReasonExpired, fault.DeadlinePassed)
	b.fail(asked(query.UnionPay, query.Interactive, "shop", "5"), query.ReasonExhausted, fault.Timeout)
}

func TestFilterPicks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	all := []string{
		"completed 1", "failed 2", "dead 2 rejected", "completed 3", "failed 4", "failed 5", "dead 5 exhausted",
	}
	for name, test := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":               {Filter{}, all},
		"results":           {Filter{What: Results}, []string{"completed 1", "failed 2", "completed 3", "failed 4", "failed 5"}},
		"dead letters":      {Filter{What: DeadLetters}, []string{"dead 2 rejected", "dead 5 exhausted"}},
		"provider":          {Filter{Provider: query.EasyPay}, []string{"completed 1", "failed 2", "dead 2 rejected"}},
		"client":            {Filter{Client: "mall"}, []string{"completed 3", "failed 4"}},
		"lane":              {Filter{Lane: query.Bulk}, []string{"failed 2", "dead 2 rejected", "completed 3"}},
		"completed":         {Filter{Status: query.Completed}, []string{"completed 1", "completed 3"}},
		"failed":            {Filter{Status: query.Failed}, []string{"failed 2", "failed 4", "failed 5"}},
		"expired":           {Filter{Reason: query.ReasonExpired}, []string{"failed 4"}},
		"rejected":          {Filter{Reason: query.ReasonRejected}, []string{"failed 2", "dead 2 rejected"}},
		"code":              {Filter{Code: "timeout"}, []string{"failed 5", "dead 5 exhausted"}},
		"key":               {Filter{Key: query.Key("shop", "urn:test", "2")}, []string{"failed 2", "dead 2 rejected"}},
		"query id":          {Filter{QueryID: "3"}, []string{"completed 3"}},
		"order":             {Filter{Order: "order-5", What: DeadLetters}, []string{"dead 5 exhausted"}},
		"nothing like that": {Filter{Client: "nobody"}, []string{}},
		"two that exclude each other": {
			Filter{Provider: query.EasyPay, Client: "mall"}, []string{},
		},
		"several": {Filter{Provider: query.UnionPay, Client: "shop", Lane: query.Interactive, Code: "timeout", What: Results}, []string{"failed 5"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bundle{Reader: b.Reader, t: t, server: b.server}
			require.Equal(t, test.want, b.read(Request{Filter: test.filter, Last: All}))
			require.Equal(t, test.want, b.read(Request{Filter: test.filter, Last: MaxLast}), "backwards it is the same")
		})
	}
}

// TestTheBrokerPicks counts what comes over the wire: what a subject can tell is not read and thrown away here.
func TestTheBrokerPicks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	for name, test := range map[string]struct {
		filter Filter
		want   int
	}{
		"all":       {Filter{}, 7},
		"client":    {Filter{Client: "mall"}, 2},
		"completed": {Filter{Status: query.Completed}, 2},
		"reason":    {Filter{Reason: query.ReasonRejected}, 3 + 1},
		"code":      {Filter{Code: "nothing"}, 3 + 2},
		"expired":   {Filter{Reason: query.ReasonExpired}, 3},
		"key":       {Filter{Key: query.Key("shop", "urn:test", "2")}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := 0
			sources, err := b.open(t.Context(), Request{Filter: test.filter, Last: All}, func(Notice) {})
			require.NoError(t, err)
			for _, s := range sources {
				require.NoError(t, s.walk(t.Context(), func(m *stored, pending uint64) (mood, error) {
					if m != nil {
						read++
					}
					if pending == 0 {
						return enough, nil
					}
					return onward, nil
				}))
			}
			require.Equal(t, test.want, read)
		})
	}
}

func TestFilterThatNothingCouldMeet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for says, request := range map[string]Request{
		"the client has":           {Filter: Filter{Client: "a.b"}},
		"the provider has":         {Filter: Filter{Provider: ">"}},
		"the key has":              {Filter: Filter{Key: "*"}},
		"no such reason":           {Filter: Filter{Reason: "tired"}},
		"has no reason":            {Filter: Filter{Status: query.Completed, Code: "timeout"}},
		"has no outcome":           {Filter: Filter{What: DeadLetters, Status: query.Failed}},
		"leaves no dead letter":    {Filter: Filter{What: DeadLetters, Reason: query.ReasonExpired}},
		"the last 10000 events at": {Last: MaxLast + 1},
		"the last 10000 events":    {Last: -2},
	} {
		err := b.Read(t.Context(), request, func(Event) error { return nil })
		require.ErrorContains(t, err, says)
	}
}

func TestLastOfMany(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i := range 1200 { // More than one window, whose sparse events lie in its oldest part.
		client := "shop"
		if i%400 == 7 {
			client = "rare"
		}
		b.complete(asked(query.EasyPay, query.Bulk, client, fmt.Sprint(i)))
	}
	for name, test := range map[string]struct {
		request Request
		want    []string
	}{
		"none":          {Request{}, []string{}},
		"three":         {Request{Last: 3}, []string{"completed 1197", "completed 1198", "completed 1199"}},
		"rare":          {Request{Last: 2, Filter: Filter{Client: "rare"}}, []string{"completed 407", "completed 807"}},
		"all that rare": {Request{Last: 5, Filter: Filter{Client: "rare"}}, []string{"completed 7", "completed 407", "completed 807"}},
		"one by its id": {Request{Last: 5, Filter: Filter{QueryID: "12"}}, []string{"completed 12"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bundle{Reader: b.Reader, t: t, server: b.server}
			require.Equal(t, test.want, b.read(test.request))
		})
	}
	require.Len(t, b.read(Request{Last: All}), 1200)
	require.Len(t, b.read(Request{Last: 700}), 700)
}

func TestSince(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	var border time.Time
	require.NoError(t, b.Read(t.Context(), Request{Last: All}, func(e Event) error {
		if e.Query.ID == "3" {
			border = e.Stored
		}
		return nil
	}))
	after := []string{"completed 3", "failed 4", "failed 5", "dead 5 exhausted"}
	require.Equal(t, after, b.read(Request{Since: border, Last: All}))
	require.Equal(t, after, b.read(Request{Since: border, Last: 100}))
	require.Equal(t, after[2:], b.read(Request{Since: border, Last: 2}))
	require.Empty(t, b.read(Request{Since: time.Now().Add(time.Hour), Last: All}))
	require.Empty(t, b.read(Request{Since: time.Now().Add(time.Hour), Last: 3}))
}

func TestNothingStoredYet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Empty(t, b.read(Request{Last: All}))
	require.Empty(t, b.read(Request{Last: 5}))
	require.Empty(t, b.read(Request{Since: time.Now(), Last: All}))
}

func TestFollowGoesOnWhereThePastEnds(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]int{"all": All, "some": 5, "none": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.fill()
			f := b.followAs(Request{Last: last})
			switch last {
			case All:
				require.Len(t, f.lines(7), 7)
			case 5:
				require.Equal(t, []string{"dead 2 rejected", "completed 3", "failed 4", "failed 5", "dead 5 exhausted"}, f.lines(5))
			}
			b.begun("DISCOUNT_RESULTS", "DISCOUNT_DEAD")
			b.complete(asked(query.EasyPay, query.Bulk, "shop", "6"))
			event := f.next()
			require.Equal(t, "completed 6", line(event))
			require.True(t, event.Live)
			b.fail(asked(query.EasyPay, query.Bulk, "shop", "7"), query.ReasonRejected, fault.UpstreamBroken)
			require.ElementsMatch(t, []string{"failed 7", "dead 7 rejected"}, f.lines(2))
			f.stop()
			f.wait()
			b.requireShortLived("DISCOUNT_RESULTS")
			b.requireShortLived("DISCOUNT_DEAD")
		})
	}
}

// TestFollowThroughARestart stores events before, between and after restarts of the broker.
func TestFollowThroughARestart(t *testing.T) {
	t.Parallel()
	b := setup(t, brokertest.SyncAlways())
	b.fill()
	f := b.followAs(Request{})
	b.begun("DISCOUNT_RESULTS", "DISCOUNT_DEAD")
	var want []string
	for round := range 3 {
		b.server.Stop()
		require.Eventually(t, func() bool { return len(f.told()) > 2*round }, patience, time.Millisecond)
		b.server.Resume(t)
		for i := range 20 {
			id := fmt.Sprintf("%d-%d", round, i)
			b.complete(asked(query.EasyPay, query.Bulk, "shop", id))
			want = append(want, "completed "+id)
		}
		require.Equal(t, want[20*round:], f.lines(20), "nothing is missed, nothing is told twice")
	}
	require.Eventually(t, func() bool { return len(f.told()) == 6 }, patience, time.Millisecond)
	require.Equal(t, []NoticeKind{Lost, Back, Lost, Back, Lost, Back}, f.told())
	b.fail(asked(query.EasyPay, query.Bulk, "shop", "end"), query.ReasonRejected, fault.UpstreamBroken)
	require.ElementsMatch(t, []string{"failed end", "dead end rejected"}, f.lines(2))
}

// TestFollowAfterARestartBeforeTheFirstConsumer stops the broker between the last events of the past and the consumers that follow.
func TestFollowAfterARestartBeforeTheFirstConsumer(t *testing.T) {
	t.Parallel()
	b := setup(t, brokertest.SyncAlways())
	b.fill()
	f := b.followWith(Request{Last: 1}, sync.OnceFunc(func() {
		b.server.Stop()
		require.Eventually(t, func() bool { return !b.server.JS.Conn().IsConnected() }, patience, time.Millisecond)
	}))
	f.next()
	require.Eventually(t, func() bool { return len(f.told()) > 0 }, patience, time.Millisecond)
	b.server.Resume(t)
	b.complete(asked(query.EasyPay, query.Bulk, "shop", "later"))
	require.Equal(t, []string{"completed later"}, f.lines(1))
}

// shortWinded gives consumers that break after two messages each.
type shortWinded struct{ jetstream.JetStream }

type shortConsumer struct{ jetstream.Consumer }

type shortMessages struct {
	jetstream.MessagesContext

	left int
}

// OrderedConsumer implements jetstream.JetStream.
func (s shortWinded) OrderedConsumer(ctx context.Context, stream string, config jetstream.OrderedConsumerConfig) (jetstream.Consumer, error) {
	consumer, err := s.JetStream.OrderedConsumer(ctx, stream, config)
	return shortConsumer{consumer}, err
}

// Messages implements jetstream.Consumer.
func (c shortConsumer) Messages(options ...jetstream.PullMessagesOpt) (jetstream.MessagesContext, error) {
	messages, err := c.Consumer.Messages(options...)
	return &shortMessages{MessagesContext: messages, left: 2}, err
}

// Next implements jetstream.MessagesContext.
func (m *shortMessages) Next(options ...jetstream.NextOpt) (jetstream.Msg, error) {
	if m.left == 0 {
		return nil, jetstream.ErrConsumerDeleted
	}
	m.left--
	return m.MessagesContext.Next(options...)
}

// TestConsumersThatBreak has each consumer give two messages only: others go on where it was, from the beginning, a time or the end.
func TestConsumersThatBreak(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	results := []string{"completed 1", "failed 2", "completed 3", "failed 4", "failed 5"}
	b.Reader.JS = shortWinded{b.server.JS}
	only := Filter{What: Results}
	require.Equal(t, results, b.read(Request{Last: All, Filter: only}))
	require.Equal(t, results, b.read(Request{Last: All, Since: time.Now().Add(-time.Hour), Filter: only}))
	require.Equal(t, results[1:], b.read(Request{Last: 4, Filter: only}))
	f := b.followAs(Request{Last: All, Filter: only})
	want := results
	for i := range 7 {
		id := fmt.Sprint("new", i)
		b.complete(asked(query.EasyPay, query.Bulk, "shop", id))
		want = append(want, "completed "+id)
	}
	require.Equal(t, want, f.lines(len(want)))
}

// TestStopWhileTheBrokerIsAway must not take long although nobody answers.
func TestStopWhileTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.followAs(Request{})
	b.begun("DISCOUNT_RESULTS", "DISCOUNT_DEAD")
	b.server.Stop()
	require.Eventually(t, func() bool { return len(f.told()) > 0 }, patience, time.Millisecond)
	f.stop()
	f.wait()
	b.server.Resume(t)
	b.server.Reconnected(t)
}

// TestConsumerThatIsDeleted has somebody delete the consumers while they are read.
func TestConsumerThatIsDeleted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.followAs(Request{Filter: Filter{What: Results}})
	for round := range 3 {
		b.begun("DISCOUNT_RESULTS")
		stream, err := b.server.JS.Stream(t.Context(), "DISCOUNT_RESULTS")
		require.NoError(t, err)
		names := stream.ConsumerNames(t.Context())
		for name := range names.Name() {
			_ = stream.DeleteConsumer(t.Context(), name) // The reader may have deleted it itself.
		}
		id := fmt.Sprint(round)
		b.complete(asked(query.EasyPay, query.Bulk, "shop", id))
		require.Equal(t, []string{"completed " + id}, f.lines(1))
	}
}

func TestBrokenEventsAreTold(t *testing.T) {
	t.Parallel()
	b := setup(t)
	q := asked(query.EasyPay, query.Bulk, "shop", "1")
	completed := query.CompletedData{Query: q.Asked(), Outcome: query.OutcomeOK}
	event, err := query.NewEvent(q, query.TypeCompleted, "x", time.Now(), completed).Encode()
	require.NoError(t, err)
	other := query.Key("shop", "urn:test", "other")
	for subject, data := range map[string]string{
		b.Subjects.Result(q.Key(), "easypay", "a", "completed"):  `{"type":`,
		b.Subjects.Result(q.Key(), "easypay", "b", "completed"):  `{}`,
		b.Subjects.Result(q.Key(), "easypay", "c", "completed"):  `{"type":"discount.query.completed.v1","data":{"query":[]}}`,
		b.Subjects.Result(q.Key(), "easypay", "d", "completed"):  `{"type":"discount.query.failed.v1","data":7}`,
		b.Subjects.Result(q.Key(), "easypay", "e", "failed"):     string(event),
		b.Subjects.Result(other, "easypay", "f", "completed"):    string(event),
		b.Subjects.Dead(q.Key(), "easypay", "g", "rejected"):     string(event),
		b.Subjects.Dead(q.Key(), "easypay", "h", "rejected"):     `{"type":"discount.query.dead.v1","data":{"reason":"exhausted"}}`,
		b.Subjects.Dead(q.Key(), "easypay", "i", "rejected"):     `{"type":"discount.query.dead.v1","data":null,"data":{}}`,
		b.Subjects.Dead(q.Key(), "easypay", "j.k.l", "rejected"): ``,
	} {
		b.storeRaw(subject, []byte(data))
	}
	b.complete(q)
	told, lines := map[uint64]string{}, []string(nil)
	require.NoError(t, b.Read(t.Context(), Request{Last: All, OnNotice: func(n Notice) {
		if n.Kind == CaughtUp {
			require.Equal(t, []string{"completed 1"}, lines, "it is told behind the past")
			return
		}
		require.Equal(t, Unreadable, n.Kind)
		told[n.Sequence] += n.Stream + " " + n.Why + " "
	}}, func(e Event) error {
		lines = append(lines, line(e))
		return nil
	}))
	require.Equal(t, []string{"completed 1"}, lines)
	all := fmt.Sprint(told)
	for _, code := range []string{"bad_json", "unsupported_type", "bad_subject", "DISCOUNT_RESULTS", "DISCOUNT_DEAD"} {
		require.Contains(t, all, code)
	}
}

func TestErrorOfTheReader(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	full := errors.New("the disk is full")
	for name, request := range map[string]Request{
		"past": {Last: All}, "last": {Last: 3}, "past of one who follows": {Last: All, Follow: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			count := 0
			err := b.Read(t.Context(), request, func(Event) error {
				if count++; count == 2 {
					return full
				}
				return nil
			})
			require.Equal(t, full, err)
			require.Equal(t, 2, count)
		})
	}
	t.Run("what comes", func(t *testing.T) {
		t.Parallel()
		ended := make(chan error, 1)
		go func() {
			ended <- b.Read(t.Context(), Request{Last: All, Follow: true, Filter: Filter{Client: "new"}}, func(Event) error { return full })
		}()
		b.begun("DISCOUNT_RESULTS")
		b.complete(asked(query.EasyPay, query.Bulk, "new", "1"))
		select {
		case err := <-ended:
			require.Equal(t, full, err)
		case <-time.After(patience):
			require.FailNow(t, "reading does not end")
		}
	})
}

func TestBrokerThatCannotBeRead(t *testing.T) {
	t.Parallel()
	empty := brokertest.Start(t)
	options := Options{JS: empty.JS, Names: empty.Topology.Names(), Subjects: query.NewSubjects("discount"), Timeout: 5 * time.Second, Patience: time.Second}
	err := New(options).Read(t.Context(), Request{Last: All}, nil)
	require.Equal(t, fault.BrokerRefused, fault.CodeOf(err))
	require.ErrorContains(t, err, "stream DISCOUNT_RESULTS")

	b := setup(t)
	b.server.Stop()
	b.Reader.Timeout = time.Second
	err = b.Read(t.Context(), Request{Last: All}, nil)
	require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))
	require.ErrorContains(t, err, "lacks a right")
	b.server.Resume(t)
	b.server.Reconnected(t)
}

func TestContextThatHasEnded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill()
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, b.Read(ctx, Request{Last: All, Follow: true}, func(Event) error { cancel(); return nil }))
	require.NoError(t, b.Read(ctx, Request{Last: All}, func(Event) error { return errors.New("nothing may come") }))
	require.NoError(t, b.Read(ctx, Request{Last: 3}, func(Event) error { return errors.New("nothing may come") }))
}
