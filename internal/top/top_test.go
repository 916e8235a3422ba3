package top

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/gauge"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
)

// world is everything that a Top looks at.
type world struct {
	*Top

	mu       sync.Mutex
	figures  gauge.Figures
	paces    []Pace
	replicas []ask.Found
	batches  []Batch
	// errs are the errors of the parts, by their name.
	errs map[string]error
	// read is what happens when the results are read. requests are what was asked for.
	read     func(ctx context.Context, request tail.Request, f func(tail.Event) error) error
	requests []tail.Request
}

// figuresOf adapts a world to Figures, whose method has the name of that of Events.
type figuresOf struct{ *world }

func (f figuresOf) Read(context.Context) (gauge.Figures, error) { return f.figures, f.errs["figures"] }

// Read implements Events.
func (w *world) Read(ctx context.Context, request tail.Request, f func(tail.Event) error) error {
	w.mu.Lock()
	w.requests = append(w.requests, request)
	w.mu.Unlock()
	return w.read(ctx, request, f)
}

func setup() *world {
	w := &world{errs: map[string]error{}}
	w.read = func(ctx context.Context, request tail.Request, _ func(tail.Event) error) error {
		request.OnNotice(tail.Notice{Kind: tail.CaughtUp})
		<-ctx.Done()
		return nil
	}
	w.replicas = []ask.Found{{ID: "x", Replica: ask.Replica{Ready: true}}}
	w.Top = New(Options{
		Events: w, Figures: figuresOf{w}, Accounts: []string{"unionpay/default", "easypay/default"},
		Paces:     func(context.Context) ([]Pace, error) { return w.paces, w.errs["paces"] },
		Replicas:  func(context.Context) ([]ask.Found, error) { return w.replicas, w.errs["replicas"] },
		Batches:   func(context.Context) ([]Batch, error) { return w.batches, w.errs["batches"] },
		AccountOf: func(e tail.Event) string { return string(e.Query.Provider) + "/default" },
	})
	return w
}

// result is a result of a provider in a lane.
func result(provider query.Provider, lane query.Lane, status query.Status, took time.Duration) tail.Event {
	return tail.Event{Live: true, Status: status, Took: took, Query: query.Asked{Provider: provider, Lane: lane}}
}

func TestSnapshotPutsEverythingTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setup()
		w.paces = []Pace{{Account: "easypay/default", Ceiling: 400, Now: 80}}
		w.replicas = []ask.Found{
			{ID: "a", Replica: ask.Replica{Ready: true, Accounts: []ask.ReplicaAccount{{Account: "easypay/default", Breaker: "open"}}}},
			{ID: "b", Replica: ask.Replica{Accounts: []ask.ReplicaAccount{{Account: "easypay/default", Breaker: "closed"}}}},
		}
		w.figures = gauge.Figures{
			Queues: []gauge.Queue{
				{Provider: "easypay", Lane: "bulk", Kind: gauge.QueueQuery, Backlog: 7, AckPending: 1, OldestAge: time.Second},
				{Provider: "easypay", Lane: "interactive", Kind: gauge.QueueQuery, Backlog: 1},
				{Provider: "easypay", Lane: "bulk", Kind: gauge.QueueRetry, Backlog: 2, AckPending: 3, OldestAge: time.Minute},
			},
			Scheduled: 9, Streams: []gauge.Stream{{Name: "RESULTS", Messages: 5, Full: 0.5}},
			Dead: []gauge.Letters{{Provider: "easypay", Reason: "rejected", Count: 4}, {Provider: gauge.Other, Reason: gauge.Other, Count: 0}},
		}
		for range 30 {
			require.NoError(t, w.add(result(query.EasyPay, query.Interactive, query.Completed, 100*time.Millisecond)))
		}
		require.NoError(t, w.add(result(query.EasyPay, query.Bulk, query.Failed, 10*time.Second)))
		time.Sleep(time.Second)
		s := w.Snapshot(t.Context())
		require.Empty(t, s.Problems)

		require.Len(t, s.Accounts, 2)
		easypay, unionpay := s.Accounts[0], s.Accounts[1]
		require.Equal(t, "easypay/default", easypay.Account)
		require.InDelta(t, 3, easypay.Completed, 1e-9)
		require.InDelta(t, 0.1, easypay.Failed, 1e-9)
		require.InEpsilon(t, 100, *easypay.P50, 0.05)
		require.InEpsilon(t, 10_000, *easypay.P99, 0.05)
		require.Equal(t, &w.paces[0], easypay.Pace)
		require.Equal(t, map[string]int{"open": 1, "closed": 1}, easypay.Breakers)
		require.Nil(t, unionpay.Pace)
		require.Nil(t, unionpay.P50)

		require.Len(t, s.Lanes, 2)
		require.Equal(t, "interactive", s.Lanes[0].Lane, "those that somebody waits for come first")
		require.InEpsilon(t, 100, *s.Lanes[0].P99, 0.05)
		bulk := s.Lanes[1]
		require.InEpsilon(t, 10_000, *bulk.P50, 0.05)
		bulk.Rates = Rates{}
		require.Equal(t, Lane{Provider: "easypay", Lane: "bulk", Waiting: 7, Due: 2, InFlight: 4, Oldest: 60_000}, bulk)
		require.EqualValues(t, 9, *s.Scheduled)
		require.Equal(t, []Stream{{"RESULTS", 5, 0.5}}, s.Streams)
		require.Len(t, s.Replicas, 2)
		require.EqualValues(t, 4, s.Dead[0].Count)
		require.Zero(t, s.Dead[0].Change)

		w.figures.Dead = []gauge.Letters{{Provider: "easypay", Reason: "rejected", Count: 1}, {Provider: "unionpay", Reason: "exhausted", Count: 3}}
		s = w.Snapshot(t.Context())
		require.EqualValues(t, -3, s.Dead[0].Change)
		require.EqualValues(t, 3, s.Dead[1].Change)
	})
}

func TestReplaysAreAskedForOnlyIfThereAreSome(t *testing.T) {
	t.Parallel()
	w := setup()
	w.batches = []Batch{{ID: "r1", Total: 10}}
	require.Empty(t, w.Snapshot(t.Context()).Replays)
	w.figures.Replays = map[string]uint64{"running": 1}
	require.Equal(t, w.batches, w.Snapshot(t.Context()).Replays)
}

func TestWhatCannotBeReadIsTold(t *testing.T) {
	t.Parallel()
	w := setup()
	w.errs = map[string]error{
		"figures":  fault.New("read", fault.Unavailable, fault.BrokerUnreachable),
		"paces":    errors.New("the secret 6200000000000005"),
		"replicas": context.DeadlineExceeded,
		"batches":  errors.New("x"),
	}
	w.replicas = nil
	w.figures = gauge.Figures{Replays: map[string]uint64{"running": 1}, Dead: []gauge.Letters{{Provider: "easypay", Reason: "rejected", Count: 1}}}
	s := w.Snapshot(t.Context())
	require.Equal(t, []string{
		"the broker's figures can't be read (broker_unreachable)", "the pace can't be read", "the replicas can't be read", "the replays can't be read",
	}, s.Problems)
	require.Nil(t, s.Scheduled)
	require.Empty(t, s.Lanes)
	require.Len(t, s.Dead, 1, "what could be read is there")
	require.Len(t, s.Accounts, 2, "the configured accounts are always there")

	w = setup()
	w.replicas = nil
	require.Equal(t, []string{"no replica answers stats requests"}, w.Snapshot(t.Context()).Problems)
}

func TestRunReadsTheLastMinuteAndGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setup()
		began := time.Now()
		w.read = func(ctx context.Context, request tail.Request, f func(tail.Event) error) error {
			past := result(query.EasyPay, query.Bulk, query.Completed, time.Second)
			past.Live, past.Stored = false, time.Now().Add(-30*time.Second)
			require.NoError(t, f(past))
			ahead := past
			ahead.Stored = time.Now().Add(time.Hour) // By the clock of a broker that is wrong.
			require.NoError(t, f(ahead))
			request.OnNotice(tail.Notice{Kind: tail.CaughtUp})
			request.OnNotice(tail.Notice{Kind: tail.Unreadable})
			require.NoError(t, f(result(query.EasyPay, query.Bulk, query.Failed, time.Second)))
			<-ctx.Done()
			return nil
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx)
		}()
		<-w.CaughtUp()
		synctest.Wait()
		require.Len(t, w.requests, 1)
		require.Equal(t, tail.Results, w.requests[0].Filter.What)
		require.Equal(t, began.Add(-time.Minute), w.requests[0].Since)
		require.True(t, w.requests[0].Follow)
		require.Equal(t, tail.All, w.requests[0].Last)
		rates := w.Snapshot(t.Context()).Accounts[0].Rates
		require.EqualValues(t, 3, rates.Count)
		time.Sleep(time.Second)
		rates = w.Snapshot(t.Context()).Accounts[0].Rates
		require.InDelta(t, 0.1, rates.Completed, 1e-9, "the one of half a minute ago does not count any more")
		require.InDelta(t, 0.1, rates.Failed, 1e-9)
		time.Sleep(40 * time.Second)
		require.EqualValues(t, 2, w.Snapshot(t.Context()).Accounts[0].Count)
		stop()
		<-ended
	})
}

func TestResultsThatCannotBeReadAreReadAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := setup()
		tries := 0
		w.read = func(ctx context.Context, request tail.Request, f func(tail.Event) error) error {
			if tries++; tries < 3 {
				require.NoError(t, f(result(query.EasyPay, query.Bulk, query.Failed, time.Second)))
				return fault.New("read", fault.Unavailable, fault.BrokerUnreachable)
			}
			require.NoError(t, f(result(query.EasyPay, query.Bulk, query.Failed, time.Second)))
			request.OnNotice(tail.Notice{Kind: tail.CaughtUp})
			<-ctx.Done()
			return nil
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.Run(ctx)
		}()
		<-w.CaughtUp()
		require.Equal(t, []string{"the results can't be read (broker_unreachable)"}, w.Snapshot(t.Context()).Problems)
		time.Sleep(3 * again)
		s := w.Snapshot(t.Context())
		require.Empty(t, s.Problems)
		require.EqualValues(t, 1, s.Accounts[0].Count, "what was read before counts once")
		stop()
		<-ended
	})
}

func TestALostConnectionIsTold(t *testing.T) {
	t.Parallel()
	w := setup()
	w.note(tail.Notice{Kind: tail.Lost})
	w.errs["paces"] = errors.New("x")
	require.Equal(t, []string{"connection lost, waiting for the broker", "the pace can't be read"}, w.Snapshot(t.Context()).Problems)
	w.note(tail.Notice{Kind: tail.Back})
	require.Equal(t, []string{"the pace can't be read"}, w.Snapshot(t.Context()).Problems)
}

func TestAccountsThatAreNotConfiguredAreShownToo(t *testing.T) {
	t.Parallel()
	w := setup()
	require.NoError(t, w.add(result("visa", query.Bulk, query.Failed, time.Second)))
	var names []string
	for _, a := range w.Snapshot(t.Context()).Accounts {
		names = append(names, a.Account)
	}
	require.Equal(t, []string{"easypay/default", "unionpay/default", "visa/default"}, names)
}
