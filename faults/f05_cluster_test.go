//go:build faults

package faults

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// TestCluster breaks a cluster of three brokers that keeps everything three times: F5, F6, F7 and F36. One cluster serves all of them, one
// after the other, because it takes most of a small machine.
func TestCluster(t *testing.T) { //nolint:tparallel // The faults come one after the other: together they would take the majority.
	t.Parallel()
	s := newSite(t, siteOptions{nodes: 3, settings: []string{"lanes: {interactive: {slots: 8, horizon: 30m}, bulk: {slots: 2, horizon: 30m}}"}})
	l := newLoad(s)
	var workers []*worker
	for range 2 {
		workers = append(workers, s.startWorker(t))
	}
	l.publish(t.Context(), 20)
	require.Empty(t, s.quiesce(t, soon))
	t.Run("F06 consumer leader steps down", func(t *testing.T) { s.stepConsumersDown(t, l) })
	t.Run("F07 stream leader steps down", func(t *testing.T) { s.raceWriters(t) })
	t.Run("F05 leader killed", func(t *testing.T) { s.killLeaders(t, l) })
	t.Run("F36 broker cut off", func(t *testing.T) { s.stopBroker(t, l) })
	s.finish(t, l, 2*soon, 30)
	for _, w := range workers {
		require.False(t, w.ended(), "the workers have to live through it")
		w.awaitReady(t)
	}
}

// stepConsumersDown makes the leader of a consumer step down again and again and measures by how much a query is late then.
func (s *site) stepConsumersDown(t *testing.T, l *load) {
	t.Helper()
	var delays []time.Duration
	for range times(3, 40) {
		_, err := s.conn.RequestWithContext(within(t, 5*time.Second), "$JS.API.CONSUMER.LEADER.STEPDOWN."+queriesStream+".easypay-interactive", nil)
		require.NoError(t, err)
		began := time.Now()
		key := l.one(t.Context())
		s.awaitResult(t, key)
		delays = append(delays, time.Since(began))
	}
	slices.Sort(delays)
	t.Logf("F6: %d step-downs, delay p50 %s, worst %s", len(delays), delays[len(delays)/2], delays[len(delays)-1])
	require.LessOrEqual(t, delays[len(delays)*99/100], 2500*time.Millisecond)
}

// awaitResult waits until a query has its result.
func (s *site) awaitResult(t *testing.T, key string) {
	t.Helper()
	require.Eventually(t, func() bool {
		stream, err := s.js.Stream(t.Context(), resultsStream)
		if err != nil {
			return false
		}
		_, err = stream.GetLastMsgForSubject(t.Context(), query.NewSubjects("discount").ResultGuard(key))
		return err == nil
	}, soon, 10*time.Millisecond)
}

// raceWriters lets three writers store a result for each key at the same time while the stream's leader steps down: each key must get one.
func (s *site) raceWriters(t *testing.T) {
	t.Helper()
	const writers = 3
	ids := times(150, 5000)
	before := len(s.read(t).results)
	var refused, stepdowns int
	var mu sync.Mutex
	var writing, stepping sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	stepping.Go(func() {
		for ctx.Err() == nil {
			if _, err := s.conn.RequestWithContext(ctx, "$JS.API.STREAM.LEADER.STEPDOWN."+resultsStream, nil); err == nil {
				stepdowns++
			}
			pause(ctx, 1500*time.Millisecond)
		}
	})
	for range writers {
		writer, err := publish.New(t.Context(), publish.Options{
			JS: s.js, Subjects: query.NewSubjects("discount"), ResultStream: resultsStream, DeadStream: deadStream, RetryStream: retriesStream,
			Timeout: 2 * time.Second,
		})
		require.NoError(t, err)
		for part := range 4 {
			writing.Go(func() {
				for id := part; id < ids; id += 4 {
					q := &query.Query{Client: "racer", Source: source, ID: fmt.Sprint(id), Provider: query.EasyPay, Lane: query.Interactive}
					err := writer.StoreResult(t.Context(), q, query.Completed, []byte(`{"data":{}}`))
					mu.Lock()
					if err != nil {
						refused++
					}
					mu.Unlock()
				}
			})
		}
	}
	writing.Wait()
	cancel()
	stepping.Wait()
	books := s.read(t)
	require.Len(t, books.results, before+ids, "keys without a result")
	for key, stored := range books.results {
		require.Len(t, stored, 1, "two results of %s", key)
	}
	// Whoever did not write the stored one was told so; one whose confirmation got lost was told so about itself.
	require.GreaterOrEqual(t, refused, ids*(writers-1))
	t.Logf("F7: %d keys, %d writers, %d step-downs, two outcomes 0, none 0, confirmations lost %d", ids, writers, stepdowns, refused-ids*(writers-1))
}

// killLeaders kills the broker that leads the results, under load, and starts it again.
func (s *site) killLeaders(t *testing.T, l *load) {
	t.Helper()
	publishing := l.run(t, 20)
	var stalls []time.Duration
	for range times(1, 10) {
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
	t.Logf("F5: %d kills, a query published at the kill was answered after p50 %s, worst %s; slowest confirmation %s",
		len(stalls), stalls[len(stalls)/2], stalls[len(stalls)-1], l.slowest)
	// The brokers take 4 to 9 seconds until they elect another leader; the rest is the worker's.
	require.LessOrEqual(t, stalls[len(stalls)*99/100], 9*time.Second+3*time.Second)
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
			for _, replica := range info.Cluster.Replicas {
				if !replica.Current || replica.Offline {
					return false
				}
			}
		}
		return true
	}, soon, 100*time.Millisecond)
}

// stopBroker stops the broker that a worker is connected to without a word, as a cable that is pulled does: connections stay open and
// nothing comes any more.
func (s *site) stopBroker(t *testing.T, l *load) {
	t.Helper()
	victim := slices.MaxFunc(s.brokers, func(a, b *natsServer) int { return a.proxy.Opened() - b.proxy.Opened() })
	publishing := l.run(t, 10)
	victim.signal(t, syscall.SIGSTOP)
	began := time.Now()
	s.awaitResult(t, l.one(t.Context()))
	t.Logf("F36: a query published when a broker went silent was answered after %s", time.Since(began))
	pause(t.Context(), 16*time.Second) // Longer than it takes anybody to give the silent one up.
	victim.signal(t, syscall.SIGCONT)
	publishing.stop()
	s.awaitReplicas(t)
}
