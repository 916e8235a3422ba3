//go:build faults

package faults

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/crashpoint"
)

// soakNodes is the number of brokers of a soak.
var soakNodes = flag.Int("nodes", 1, "brokers of TestSoak: 1 or 3")

// soak is a running load with faults injected into it, drawn from a seed.
type soak struct {
	*site

	load       *load
	draw       *rand.Rand
	workers    []*worker
	injections map[string]int
	watch      *watch
}

// watch follows the results as they come and measures how late they are.
type watch struct {
	mu      sync.Mutex
	results int
	last    time.Time
	// stalls counts the times when nothing came for longer than stallAfter although something was asked.
	stalls  int
	stalled bool
	longest time.Duration
}

// stallAfter is how long nothing may come. It is longer than the silence of a broker may go unnoticed, and an election after it.
// How often that happened is a figure: it depends on what the faults coincide with, and on the machine.
const stallAfter = 30 * time.Second

// hang is a silence that no fault explains.
const hang = 3 * time.Minute

// TestSoak injects faults for as long as it is told to, and checks everything at the end. With -seed the same faults come again.
func TestSoak(t *testing.T) {
	t.Parallel()
	s := &soak{
		site: newSite(t, siteOptions{nodes: *soakNodes, unionPay: true, settings: []string{"lanes: {interactive: {slots: 8, horizon: 1h}, bulk: {slots: 2, horizon: 1h}}"}}),
		draw: chance(t), injections: map[string]int{}, watch: &watch{last: time.Now()},
	}
	s.load = newLoad(s.site)
	s.follow(t)
	for range 3 {
		s.workers = append(s.workers, s.launch(t))
	}
	publishing := s.load.run(t, 40)
	began := time.Now()
	for time.Since(began) < *soakFor {
		s.inject(t)
		pause(t.Context(), s.between(100*time.Millisecond, 1500*time.Millisecond))
		s.replaceEnded(t)
		s.watch.look(s.load.count())
	}
	s.heal(t)
	publishing.stop()
	s.staff(t)
	found := s.finish(t, s.load, 3*time.Minute, 30)
	s.summarise(t, found, time.Since(began))
	require.Less(t, s.watch.longest, hang, "I8: nothing was answered")
}

// staff sees to it that there are workers who are ready. One that could not start on a busy machine is started again, as whatever runs
// workers does.
func (s *soak) staff(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !slices.ContainsFunc(s.workers, (*worker).ready); pause(t.Context(), 100*time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "no worker is ready")
		s.replaceEnded(t)
	}
}

// inject injects one fault. Most of them end by themselves; the rest end with the next one of their kind, or with heal.
func (s *soak) inject(t *testing.T) {
	t.Helper()
	faults := []struct {
		name string
		do   func(t *testing.T)
	}{
		{"worker killed", func(*testing.T) { s.anyWorker().kill() }},
		{"worker terminated", s.terminate},
		{"worker stopped", s.freeze},
		{"worker killed at a point", s.arm},
		{"broker killed", s.killBroker},
		{"connections reset", func(*testing.T) { s.anyProxy().Reset() }},
		{"connections silent", func(*testing.T) { s.anyProxy().Swallow(proxy.Direction(s.draw.IntN(2))) }},
		{"connections cut", func(*testing.T) { s.anyProxy().CutAfter(proxy.Direction(s.draw.IntN(2)), s.draw.IntN(5000)) }},
		{"broker slow", func(*testing.T) {
			s.anyProxy().Delay(s.between(0, 200*time.Millisecond), s.between(time.Millisecond, 200*time.Millisecond))
		}},
		{"broker quick", func(*testing.T) { s.anyProxy().Delay(0, 0) }},
		{"confirmation lost", func(*testing.T) {
			s.anyProxy().SetRules(proxy.Rule{Kind: proxy.Replied, Prefix: "discount.", Every: 1 + s.draw.IntN(5), Limit: 3, Drop: s.draw.IntN(2) == 0})
		}},
		{"upstream fails", func(t *testing.T) {
			s.upstream.misbehave(t, []string{
				"*:status=503@0.5", "*:429=1s@0.05", "*:latency=50ms-2s", "easypay:code=E999@0.1,unionpay:code=96@0.1", "*:reset@0.3", "*:hang@0.1",
			}[s.draw.IntN(6)])
		}},
		{"upstream works", func(t *testing.T) { s.upstream.misbehave(t, "") }},
	}
	fault := faults[s.draw.IntN(len(faults))]
	fault.do(t)
	s.injections[fault.name]++
}

func (s *soak) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.draw.Int64N(int64(most-least)))
}

func (s *soak) anyWorker() *worker     { return s.workers[s.draw.IntN(len(s.workers))] }
func (s *soak) anyProxy() *proxy.Proxy { return s.anyBroker().proxy }
func (s *soak) anyBroker() *natsServer { return s.brokers[s.draw.IntN(len(s.brokers))] }

// replaceEnded starts a worker for each that has ended.
func (s *soak) replaceEnded(t *testing.T) {
	t.Helper()
	for i, w := range s.workers {
		if w.ended() {
			s.workers[i] = s.launch(t)
		}
	}
}

// terminate ends a worker with SIGTERM and waits until it has obeyed.
func (s *soak) terminate(t *testing.T) {
	t.Helper()
	w := s.anyWorker()
	if w.ended() {
		w = s.revive(t, w)
	}
	w.signal(t, syscall.SIGTERM)
	w.wait(t, soon)
}

// revive replaces a worker that has just ended, so that no fault meets nobody.
func (s *soak) revive(t *testing.T, w *worker) *worker {
	t.Helper()
	i := slices.Index(s.workers, w)
	s.workers[i] = s.launch(t)
	return s.workers[i]
}

// freeze stops a worker for up to twice the ack wait.
func (s *soak) freeze(t *testing.T) {
	t.Helper()
	w, longer := s.anyWorker(), s.between(ackWait/2, 2*ackWait)
	if w.ended() {
		w = s.revive(t, w)
	}
	w.signal(t, syscall.SIGSTOP)
	pause(t.Context(), longer)
	w.signal(t, syscall.SIGCONT)
}

// arm replaces a worker by one that dies at a labelled point.
func (s *soak) arm(t *testing.T) {
	t.Helper()
	labels := crashpoint.Labels()
	i := s.draw.IntN(len(s.workers))
	s.workers[i].kill()
	s.workers[i] = s.launch(t, "CRASHPOINT_KILL="+string(labels[s.draw.IntN(len(labels))])+":"+string(rune('1'+s.draw.IntN(9))))
}

// killBroker kills a broker and starts it again.
func (s *soak) killBroker(t *testing.T) {
	t.Helper()
	n := s.anyBroker()
	n.kill()
	pause(t.Context(), s.between(0, 2*time.Second))
	n.run(t)
	if len(s.brokers) > 1 {
		s.awaitReplicas(t) // Two of three at once are more than any cluster survives.
	}
}

// heal ends every fault.
func (s *soak) heal(t *testing.T) {
	t.Helper()
	for _, n := range s.brokers {
		n.proxy.SetRules()
		n.proxy.Delay(0, 0)
		n.proxy.Reset()
	}
	s.upstream.misbehave(t, "")
}

// follow listens to all results.
func (s *soak) follow(t *testing.T) {
	t.Helper()
	_, err := s.conn.Subscribe("discount.result.>", func(*nats.Msg) { s.watch.result() })
	require.NoError(t, err)
}

func (w *watch) result() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.results++
	w.longest = max(w.longest, time.Since(w.last))
	w.last, w.stalled = time.Now(), false
}

// look counts a stall when results are due and none comes.
func (w *watch) look(asked int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stalled && asked > w.results && time.Since(w.last) > stallAfter {
		w.stalls, w.stalled = w.stalls+1, true
	}
}

// summarise prints the figures as one line of JSON.
func (s *soak) summarise(t *testing.T, found report, took time.Duration) {
	t.Helper()
	s.watch.mu.Lock()
	defer s.watch.mu.Unlock()
	line, err := json.Marshal(map[string]any{
		"seed": *seed, "seconds": int(took.Seconds()), "brokers": len(s.brokers), "workersStarted": s.started,
		"queries": found.Queries, "completed": found.Completed, "failed": found.Failed, "reasons": found.Reasons, "dead": found.Dead, "stale": found.Stale,
		"lost": found.Lost, "double": found.Double, "earlyAcks": len(s.wire.earlyAcks()), "stalls": s.watch.stalls,
		"longestSilenceMs": s.watch.longest.Milliseconds(), "drainedMs": found.Drained.Milliseconds(), "calls": found.Calls,
		"deliveries": found.Deliveries, "redelivered": found.Redelivered, "resultsRefused": found.Refused, "answersLost": found.AnswersLost,
		"injections": s.injections,
	})
	require.NoError(t, err)
	t.Logf("soak %s", line)
}
