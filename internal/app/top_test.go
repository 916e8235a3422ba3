package app

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
	"discountquery.example/worker/internal/top"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// openTop opens a top and has it read results until the test ends.
func (s *site) openTop(t *testing.T) *Top {
	t.Helper()
	gathers, err := OpenTop(t.Context(), s.Config)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { gathers.Run(ctx) })
	t.Cleanup(func() {
		stop()
		running.Wait()
		gathers.Close(context.Background())
	})
	select {
	case <-gathers.CaughtUp():
	case <-time.After(patience):
		require.FailNow(t, "the past is not read")
	}
	return gathers
}

// until looks again and again until a snapshot is as it should be.
func until(t *testing.T, gathers *Top, so func(top.Snapshot) bool) top.Snapshot {
	t.Helper()
	var s top.Snapshot
	require.Eventually(t, func() bool {
		s = gathers.Snapshot(t.Context())
		return so(s)
	}, patience, 10*time.Millisecond)
	return s
}

func TestTopOfTwoWorkers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Breaker.MinCalls, s.Breaker.OpenFor = 3, time.Hour
	s.on(t, brokertest.New)
	first := s.run(t)
	s.run(t)
	for i := range 20 {
		_, err := first.Publish(t.Context(), easyPay(fmt.Sprint(i), "008", query.Bulk))
		require.NoError(t, err)
	}
	gathers := s.openTop(t)
	shown := until(t, gathers, func(s top.Snapshot) bool {
		return len(s.Problems) == 0 && len(s.Replicas) == 2 && s.Replicas[0].Ready && s.Replicas[1].Ready &&
			s.Replicas[0].Calls+s.Replicas[1].Calls >= 20 && s.Accounts[0].Count > 0 && s.Accounts[0].Pace.Now > 0
	})
	require.Len(t, shown.Accounts, 2)
	easypay := shown.Accounts[0]
	require.Equal(t, "easypay/default", easypay.Account)
	require.Positive(t, *easypay.P99)
	require.InDelta(t, 1000, easypay.Pace.Ceiling, 0)
	require.Equal(t, map[string]int{"closed": 2}, easypay.Breakers)
	require.Len(t, shown.Lanes, 4)
	require.Equal(t, shown.Accounts[0].Count, shown.Lanes[1].Count)
	require.Zero(t, shown.Lanes[0].Count, "nobody waits")
	for _, replica := range shown.Replicas {
		require.Equal(t, "test", replica.Build)
		require.Positive(t, replica.Slots)
		require.Len(t, replica.Accounts, 2)
		require.Positive(t, replica.Accounts[0].Limit)
	}

	pace, err := OpenPace(t.Context(), s.Config)
	require.NoError(t, err)
	defer pace.Close(t.Context())
	account, err := pace.Account("unionpay")
	require.NoError(t, err)
	require.NoError(t, pace.Pause(t.Context(), account, PaceAuthor{By: "kim"}))
	until(t, gathers, func(s top.Snapshot) bool { return s.Accounts[1].Pace != nil && s.Accounts[1].Pace.Paused })

	s.fail(t, of("666", sandbox.KindCode, "Z123"), of("777", sandbox.KindStatus, "503"))
	_, err = first.Publish(t.Context(), easyPay("dies", "666", query.Interactive))
	require.NoError(t, err)
	shown = until(t, gathers, func(s top.Snapshot) bool {
		for _, d := range s.Dead {
			if d.Provider == "easypay" && d.Reason == "rejected" && d.Count == 1 && d.Change == 1 {
				return len(s.Lanes) == 4 && s.Lanes[0].Count == 1
			}
		}
		return false
	})
	require.Positive(t, shown.Accounts[0].Count)

	for i := range 40 {
		_, err = first.Publish(t.Context(), easyPay(fmt.Sprint("down", i), "777", query.Bulk))
		require.NoError(t, err)
	}
	shown = until(t, gathers, func(s top.Snapshot) bool { return s.Accounts[0].Breakers["open"] > 0 })
	require.NotEmpty(t, shown.Replicas, "a worker whose upstream is down tells it")
	until(t, gathers, func(s top.Snapshot) bool { // Figures may be missing from any one snapshot of a busy machine.
		return s.Scheduled != nil && s.Lanes[1].Waiting+s.Lanes[1].InFlight+s.Lanes[1].Due+*s.Scheduled > 0
	})
}

func TestTopWithoutWorkers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.on(t, brokertest.New)
	shown := s.openTop(t).Snapshot(t.Context())
	require.Equal(t, []string{"no replica answers stats requests"}, shown.Problems)
	require.Len(t, shown.Accounts, 2)
	require.Zero(t, shown.Accounts[0].Pace.Now)
	require.Len(t, shown.Lanes, 4)
}

func TestTopOfABrokerThatHoldsNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.on(t, brokertest.Start)
	gathers := s.openTop(t)
	shown := until(t, gathers, func(s top.Snapshot) bool { return len(s.Problems) == 4 })
	for _, part := range []string{"the broker's figures can't be read", "the pace can't be read", "no replica answers", "the results can't be read"} {
		require.Contains(t, fmt.Sprint(shown.Problems), part)
	}
	require.Len(t, shown.Accounts, 2)
}

// TestTopKnowsTheAccountOfAResult has one of two accounts asked.
func TestTopKnowsTheAccountOfAResult(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Providers.EasyPay.Accounts = map[string]*config.EasyPayAccount{"outlet": {
		MallIDs: []string{"T0000002"}, Pace: s.Providers.EasyPay.Pace, Concurrency: s.Providers.EasyPay.Concurrency,
	}}
	s.on(t, brokertest.New)
	worker := s.run(t)
	question := easyPay("1", "008", query.Bulk)
	question.EasyPay.MallID = "T0000002"
	_, err := worker.Publish(t.Context(), question)
	require.NoError(t, err)
	shown := until(t, s.openTop(t), func(s top.Snapshot) bool { return s.Accounts[1].Count == 1 })
	require.Equal(t, "easypay/outlet", shown.Accounts[1].Account)
	require.Zero(t, shown.Accounts[0].Count)
}

// TestStateOfAReplica looks at the whole of what a worker tells to everybody on the broker.
func TestStateOfAReplica(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	worker := s.run(t)
	worker.ready(t)
	_, err := worker.Publish(t.Context(), unionPay(t, "1", query.Interactive))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return worker.Calls() == 1 }, patience, time.Millisecond)
	var found []ask.Found
	require.Eventually(t, func() bool {
		found, err = ask.Replicas(t.Context(), worker.broker.Conn, query.NewSubjects("discount"), listen)
		require.NoError(t, err)
		return len(found) == 1 && found[0].Held == 0
	}, patience, 10*time.Millisecond)
	require.True(t, found[0].Ready)
	require.EqualValues(t, 1, found[0].Calls)
	require.Empty(t, found[0].NotReady)
	reply, err := worker.broker.Conn.RequestWithContext(t.Context(), "$SRV.STATS.discount", nil)
	require.NoError(t, err)
	for _, secret := range []string{testCard, testToken, "T5102001", "urn:shop", "nats://", s.Cards.KeysDir} {
		require.NotContains(t, string(reply.Data), secret)
	}
	worker.health.Unready("broker", "away from 10.0.0.7")
	found, err = ask.Replicas(t.Context(), worker.broker.Conn, query.NewSubjects("discount"), listen)
	require.NoError(t, err)
	require.Equal(t, []string{"broker"}, found[0].NotReady, "the part, and not what it says")
	worker.health.Ready("broker")
}

func TestTailOfAWorker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.on(t, brokertest.New)
	worker := s.run(t)
	_, err := worker.Publish(t.Context(), unionPay(t, "1", query.Interactive))
	require.NoError(t, err)
	reader, err := OpenTail(t.Context(), s.Config)
	require.NoError(t, err)
	defer reader.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got tail.Event
	require.NoError(t, reader.Read(ctx, tail.Request{Last: tail.All, Follow: true}, func(e tail.Event) error {
		got = e
		cancel()
		return nil
	}))
	require.Equal(t, "0005", got.Card.LastFour)
	require.Equal(t, query.Completed, got.Status)
	require.NotContains(t, fmt.Sprintf("%+v", got), testCard)
	require.NotContains(t, string(got.Raw), testCard)

	s.NATS.URL = "nats://127.0.0.1:1"
	_, err = OpenTail(t.Context(), s.Config)
	require.ErrorContains(t, err, "no NATS server answers")
	_, err = OpenTop(t.Context(), s.Config)
	require.ErrorContains(t, err, "no NATS server answers")
}

// TestTopShowsReplaysAtWork stores a batch as a replay does, and one that has ended.
func TestTopShowsReplaysAtWork(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.on(t, brokertest.New)
	bucket, err := server.JS.KeyValue(t.Context(), server.Topology.Names().ReplaysBucket())
	require.NoError(t, err)
	store(t, bucket, "batch.r1", `{"id":"r1","state":"running","total":10,"seen":4,"rate":50,"actor":"kim@desk"}`)
	store(t, bucket, "batch.r2", `{"id":"r2","state":"done","total":10,"seen":10}`)
	shown := s.openTop(t).Snapshot(t.Context())
	require.Len(t, shown.Replays, 1)
	require.Equal(t, top.Batch{ID: "r1", Total: 10, Seen: 4, Rate: 50, Actor: "kim@desk"}, shown.Replays[0])
}

func store(t *testing.T, bucket jetstream.KeyValue, key, value string) {
	t.Helper()
	_, err := bucket.PutString(t.Context(), key, value)
	require.NoError(t, err)
}
