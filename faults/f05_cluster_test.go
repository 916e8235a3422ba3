//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestCluster breaks a cluster of three brokers that keeps everything three times: F5, F6, F7 and F36. One cluster serves all of them, one
// after the other, because it takes most of a small machine.
func TestCluster(t *testing.T) { //nolint:tparallel // The faults come one after the other: together they would take the majority.
	t.Parallel()
	s := newSite(t, siteOptions{nodes: 3, unionPay: true, settings: []string{"lanes: {interactive: {slots: 8, horizon: 30m}, bulk: {slots: 2, horizon: 30m}}"}})
	s.slowPace(t, fmt.Sprintf("%d/s", clusterRate), clusterBurst)
	l := newLoad(s)
	var workers []*worker
	for range 2 {
		workers = append(workers, s.startWorker(t))
	}
	l.publish(t.Context(), 20)
	require.Empty(t, s.quiesce(t, soon))
	t.Run("F06 consumer leader steps down", func(t *testing.T) { s.stepConsumersDown(t, l) })
	t.Run("F32 pace leader steps down", func(t *testing.T) { s.stepPaceDown(t, l) })
	t.Run("F07 stream leader steps down", func(t *testing.T) { s.raceWriters(t) })
	t.Run("F05 leader killed", func(t *testing.T) { s.killLeaders(t, l) })
	t.Run("F36 broker cut off", func(t *testing.T) { s.cutBrokerOff(t, l, workers) })
	t.Run("F36 broker silent", func(t *testing.T) { s.stopBroker(t, l) })
	s.finish(t, l, 2*soon, 30)
	s.requireClusterPace(t)
	for _, w := range workers {
		require.False(t, w.ended(), "the workers have to live through it")
		w.awaitReady(t)
	}
}

// clusterRate and clusterBurst are EasyPay's pace in the cluster: far above what most of its faults need, and below what F32 asks for.
const (
	clusterRate  = 50
	clusterBurst = 10
)

// stepPaceDown makes the leader of the bucket of the pace step down again and again under a backlog. Whoever leads, no call may begin beyond the
// pace, and the calls have to go on.
func (s *site) stepPaceDown(t *testing.T, l *load) {
	t.Helper()
	asked, confirmed := s.upstream.asked(), l.count()
	waiting := func() int { return l.count() - confirmed - (s.upstream.asked() - asked) }
	ctx, cancel := context.WithCancel(t.Context())
	var publishing sync.WaitGroup
	stop := func() { cancel(); publishing.Wait() }
	t.Cleanup(stop)
	for range 3 {
		publishing.Go(func() {
			for ctx.Err() == nil {
				if waiting() < 2*clusterRate {
					l.of(t.Context(), query.EasyPay)
				} else {
					pause(ctx, 10*time.Millisecond)
				}
			}
		})
	}
	require.Eventually(t, func() bool { return waiting() >= clusterRate }, soon, 10*time.Millisecond, "the pace does not bind")
	stepdowns := times(2, 5)
	for range stepdowns {
		leader := s.leaderOf(t, "KV_discount_pace")
		require.Eventually(t, func() bool {
			_, _ = s.conn.Request("$JS.API.STREAM.LEADER.STEPDOWN.KV_discount_pace", nil, time.Second) // One that is not answered is repeated.
			return s.leaderOf(t, "KV_discount_pace") != leader
		}, soon, 50*time.Millisecond)
		before := s.upstream.arrivals(sandbox.EasyPay)
		require.Eventually(t, func() bool { return s.upstream.arrivals(sandbox.EasyPay) >= before+clusterRate }, soon, 10*time.Millisecond, "the calls go on")
	}
	require.Positive(t, waiting(), "the pace did not bind")
	stop()
	require.Empty(t, s.quiesce(t, soon))
	t.Logf("F32: %d step-downs of the leader of the pace", stepdowns)
	s.requireClusterPace(t)
}

// requireClusterPace judges every window of the calls to EasyPay that are noted in results, by when they began.
func (s *site) requireClusterPace(t *testing.T) {
	t.Helper()
	var starts []time.Duration
	var first time.Time
	s.each(t, resultsStream, func(message jetstream.Msg) {
		var event struct {
			Data struct {
				Attempts []query.Attempt `json:"attempts"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal(message.Data(), &event))
		if !strings.Contains(message.Subject(), ".easypay.") {
			return
		}
		for _, attempt := range event.Data.Attempts {
			if first.IsZero() {
				first = attempt.At
			}
			starts = append(starts, attempt.At.Sub(first))
		}
	})
	slices.Sort(starts)
	require.NotEmpty(t, starts)
	t.Logf("I4: %d calls began; the fullest window holds %.1f more than %d/s x window, the burst is %d", len(starts), fullest(starts, clusterRate), clusterRate, clusterBurst)
	require.Zero(t, sandbox.Violations(starts, clusterRate, clusterBurst+int(clusterRate*noted.Seconds())), "I4: calls that began beyond rate x window + burst")
}

// stepConsumersDown makes the leader of a consumer step down again and again and measures by how much a query is late then.
func (s *site) stepConsumersDown(t *testing.T, l *load) {
	t.Helper()
	var delays []time.Duration
	for range times(3, 20) {
		// A consumer that has no leader yet does not answer.
		require.Eventually(t, func() bool {
			_, err := s.conn.Request("$JS.API.CONSUMER.LEADER.STEPDOWN."+queriesStream+".easypay-interactive", nil, time.Second)
			return err == nil
		}, soon, 10*time.Millisecond)
		began := time.Now()
		s.awaitResult(t, l.of(t.Context(), query.EasyPay))
		delays = append(delays, time.Since(began))
	}
	slices.Sort(delays)
	t.Logf("F6: %d step-downs, delay p50 %s, worst %s (target 2.5 s)", len(delays), delays[len(delays)/2], delays[len(delays)-1])
}

// awaitResult waits until a query has its result.
func (s *site) awaitResult(t *testing.T, key string) {
	t.Helper()
	require.Eventually(t, func() bool { return s.hasResult(t.Context(), key) }, soon, 10*time.Millisecond)
}

// hasResult tells whether the result of a query can be read.
func (s *site) hasResult(ctx context.Context, key string) bool {
	stream, err := s.js.Stream(ctx, resultsStream)
	if err != nil {
		return false
	}
	_, err = stream.GetLastMsgForSubject(ctx, query.NewSubjects("discount").ResultGuard(key))
	return err == nil
}

// raceWriters lets three writers store a result for each key at the same time while the stream's leader steps down again and again: each key must get
// one.
func (s *site) raceWriters(t *testing.T) {
	t.Helper()
	const writers, lanes = 3, 4
	least, wanted := int64(times(150, 800)), int64(times(2, 10))
	before := len(s.read(t).results)
	var racers []*publish.Publisher
	for range writers { // Before the first step-down, because binding to a stream takes its leader.
		writer, err := publish.New(t.Context(), publish.Options{
			JS: s.js, Subjects: query.NewSubjects("discount"), ResultStream: resultsStream, DeadStream: deadStream, RetryStream: retriesStream,
			Timeout: 2 * time.Second,
		})
		require.NoError(t, err)
		racers = append(racers, writer)
	}
	var ids, refused, stepdowns atomic.Int64
	var writing, stepping sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	stepping.Go(func() {
		for ctx.Err() == nil {
			reply, err := s.conn.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+resultsStream, nil)
			if err == nil && strings.Contains(string(reply.Data), `"success":true`) {
				stepdowns.Add(1)
			}
			pause(ctx, 500*time.Millisecond)
		}
	})
	for range lanes {
		writing.Go(func() {
			for t.Context().Err() == nil && (ids.Load() < least || stepdowns.Load() < wanted) {
				q := &query.Query{Client: "racer", Source: source, ID: fmt.Sprint(ids.Add(1)), Provider: query.EasyPay, Lane: query.Interactive}
				var racing sync.WaitGroup
				for _, writer := range racers {
					racing.Go(func() {
						if writer.StoreResult(t.Context(), q, query.Completed, []byte(`{"data":{}}`)) != nil {
							refused.Add(1)
						}
					})
				}
				racing.Wait()
			}
		})
	}
	writing.Wait()
	cancel()
	stepping.Wait()
	books, keys := s.read(t), int(ids.Load())
	require.Len(t, books.results, before+keys, "keys without a result")
	for key, stored := range books.results {
		require.Len(t, stored, 1, "two results of %s", key)
	}
	// Whoever did not write the stored one was told so; one whose confirmation got lost was told so about itself.
	second := int(refused.Load()) - keys*(writers-1)
	require.GreaterOrEqual(t, second, 0)
	t.Logf("F7: %d keys, %d writers, %d step-downs, two outcomes 0, none 0, confirmations lost %d", keys, writers, stepdowns.Load(), second)
}

// killLeaders kills the broker that leads the results, under load, and starts it again.
func (s *site) killLeaders(t *testing.T, l *load) {
	t.Helper()
	publishing := l.run(t, 20)
	var stalls []time.Duration
	for range times(1, 4) {
		pause(t.Context(), 500*time.Millisecond)
		victim := s.leaderOf(t, resultsStream)
		victim.kill()
		began := time.Now()
		s.awaitResult(t, l.one(t.Context()))
		stalls = append(stalls, time.Since(began))
		victim.run(t)
		s.awaitReplicas(t)
	}
	publishing.stop()
	slices.Sort(stalls)
	require.Empty(t, s.quiesce(t, soon))
	// The brokers take 4 to 9 seconds until they elect another leader; the rest is the worker's.
	t.Logf("F5: %d kills, a query published at the kill was answered after p50 %s, worst %s (target 6 s); slowest confirmation %s",
		len(stalls), stalls[len(stalls)/2], stalls[len(stalls)-1], l.slowest)
}

// leaderOf returns the broker that leads a stream.
func (s *site) leaderOf(t *testing.T, stream string) *natsServer {
	t.Helper()
	var leader *natsServer
	require.Eventually(t, func() bool {
		info, err := s.streamInfo(t.Context(), stream)
		if err != nil || info.Cluster == nil {
			return false
		}
		for _, n := range s.brokers {
			if n.name == info.Cluster.Leader {
				leader = n
			}
		}
		return leader != nil
	}, soon, 50*time.Millisecond)
	return leader
}

func (s *site) streamInfo(ctx context.Context, name string) (*jetstream.StreamInfo, error) {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	return stream.CachedInfo(), nil
}

// awaitReplicas waits until every stream has two followers that are up to date: killing the next one before would be two faults at once.
func (s *site) awaitReplicas(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		for _, name := range []string{queriesStream, retriesStream, resultsStream, deadStream} {
			info, err := s.streamInfo(t.Context(), name)
			if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
				return false
			}
			if !inStep(info.Cluster) {
				return false
			}
		}
		return true
	}, soon, 100*time.Millisecond)
	s.awaitConsumers(t)
}

// awaitConsumers waits until each broker has what it must of the consumers as well, which can take a minute after one was cut off: with one more
// broker away until then, a consumer has no majority and delivers nothing. A broker that never gets there is not this test's concern.
func (s *site) awaitConsumers(t *testing.T) {
	t.Helper()
	began := time.Now()
	for ctx := within(t, soon); ctx.Err() == nil; pause(ctx, 200*time.Millisecond) {
		if s.consumersInStep(ctx) {
			t.Logf("all consumers in step after %s", time.Since(began))
			return
		}
	}
	t.Logf("some consumers not in step after %s", time.Since(began))
}

func (s *site) consumersInStep(ctx context.Context) bool {
	for _, name := range []string{queriesStream, retriesStream} {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			return false
		}
		consumers, all := stream.ListConsumers(ctx), true
		for info := range consumers.Info() { // To the end, because the client would wait for ever to hand over the rest.
			all = all && inStep(info.Cluster)
		}
		if !all || consumers.Err() != nil {
			return false
		}
	}
	return true
}

// inStep tells whether all replicas are there and have what the leader has.
func inStep(cluster *jetstream.ClusterInfo) bool {
	return cluster != nil && !slices.ContainsFunc(cluster.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
}
