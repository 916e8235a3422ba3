//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/upstream/sandbox"
)

// onTheWay is by how much longer one call may take than another from its start to the upstream. The pace decides when a call starts; what
// happens to it then adds to the burst that the upstream sees. Here that is how long a process may wait for a processor.
const onTheWay = time.Second

// noted is by how much longer one call may take than another from its permit to the note of its start: a few lines, on a busy processor.
const noted = 100 * time.Millisecond

// slotsEach is how many queries a worker holds of a lane.
const slotsEach = 64

// paceInFull tells whether the tests of the pace run for minutes.
func paceInFull() bool { return os.Getenv("PACE") == "full" }

// paced is a site whose only account has a pace that its load exceeds. Its workers reach the broker without a proxy, so that this process
// has little to do besides being the upstream.
type paced struct {
	*site

	rate, burst int
	load        *load
	draw        *rand.Rand
	workers     []*worker
	// stopped and killed count the workers that were ended.
	stopped, killed int
}

func newPaced(t *testing.T, rate, burst int, settings ...string) *paced {
	t.Helper()
	s := newSite(t, siteOptions{settings: patient(append(settings,
		fmt.Sprintf("lanes: {interactive: {slots: %d, horizon: 1h}, bulk: {slots: %d, horizon: 1h}}", slotsEach, slotsEach),
		"streams: {replicas: 1, queries: {max_bytes: 256MiB}, results: {max_bytes: 2GiB}, dead: {max_bytes: 64MiB}}",
	)...)})
	s.slowPace(t, fmt.Sprintf("%d/s", rate), burst)
	p := &paced{site: s, rate: rate, burst: burst, load: newLoad(s), draw: chance(t)}
	p.reconfigure(t, s.brokers[0].proxied(), s.brokers[0].url())
	return p
}

// reconfigure replaces a text in the configuration of all workers that start later.
func (p *paced) reconfigure(t *testing.T, old, replacement string) {
	t.Helper()
	text, err := os.ReadFile(p.config)
	require.NoError(t, err)
	changed := strings.Replace(string(text), old, replacement, 1)
	require.NotEqual(t, string(text), changed)
	require.NoError(t, os.WriteFile(p.config, []byte(changed), 0o600))
}

// hasten stops all workers and judges the pace they have kept. As many others end what is left at a rate that nobody judges: no test waits
// for a backlog once its figures are known.
func (p *paced) hasten(t *testing.T) {
	t.Helper()
	before := p.workers
	for _, w := range before {
		w.signal(t, syscall.SIGTERM)
	}
	for _, w := range before {
		w.wait(t, soon)
	}
	p.requirePace(t, 0)
	p.reconfigure(t, fmt.Sprintf("pace: {rate: %d/s, burst: %d}", p.rate, p.burst), "pace: {rate: 5000/s, burst: 500}")
	p.workers = nil
	p.begin(t, len(before))
}

// begin starts the first workers and waits until they are ready.
func (p *paced) begin(t *testing.T, n int) {
	t.Helper()
	p.scale(t, n)
	for _, w := range p.workers {
		w.awaitReady(t)
	}
}

// warmUp waits until an account that nobody knew has come from its slow start to its full rate.
func (p *paced) warmUp(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		before := p.calls()
		pause(t.Context(), time.Second)
		return p.calls()-before >= p.rate*9/10
	}, soon, time.Millisecond)
}

// patience is how long a backlog of a hundred thousand queries may take to be published, or to be asked.
const patience = 5 * soon

// join makes what another load has published this one's.
func (l *load) join(other *load) {
	theirs := other.confirmed()
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.journal, theirs)
}

// feed keeps a backlog of queries until it is stopped.
func (p *paced) feed(t *testing.T, l *load, backlog int) running {
	t.Helper()
	var publishing sync.WaitGroup
	stopped := make(chan struct{})
	for range 4 {
		publishing.Go(func() {
			for open(stopped) {
				if l.count()-p.upstream.asked() < backlog {
					l.one(t.Context())
				} else {
					pause(t.Context(), 5*time.Millisecond)
				}
			}
		})
	}
	stop := sync.OnceFunc(func() {
		close(stopped)
		publishing.Wait()
	})
	t.Cleanup(stop)
	return running{stop: stop}
}

// open tells whether a channel is not closed yet.
func open(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// scale starts or ends workers until there are n. One in eight of those that are ended is killed, the others are told to stop.
func (p *paced) scale(t *testing.T, n int) {
	t.Helper()
	for len(p.workers) < n {
		p.workers = append(p.workers, p.launch(t))
	}
	leaving := p.workers[:len(p.workers)-n]
	p.workers = p.workers[len(p.workers)-n:]
	for _, w := range leaving {
		if p.draw.IntN(8) == 0 {
			w.kill()
			p.killed++
			continue
		}
		w.signal(t, syscall.SIGTERM)
		p.stopped++
	}
}

// calls returns how many calls have arrived.
func (p *paced) calls() int { return int(p.upstream.arrivals(sandbox.EasyPay)) }

// use begins to measure. What it returns tells which part of the rate was used since then.
func (p *paced) use() func() float64 {
	before, began := p.calls(), time.Now()
	return func() float64 { return float64(p.calls()-before) / time.Since(began).Seconds() / float64(p.rate) }
}

// requirePace judges every window of the calls, by when they began and by when they arrived. In full, what arrived must keep to the rule as the
// upstream counts it; in short, with other tests on all processors, calls may have been held up on their way. At most so many of those that
// arrived may be missing among those that began: the calls of workers who died, or lost the broker, before they could store a result.
func (p *paced) requirePace(t *testing.T, missing int) {
	t.Helper()
	began, came := p.starts(t), p.upstream.Arrivals(sandbox.EasyPay)
	require.Len(t, came, p.calls())
	over := func(calls []time.Duration, held time.Duration) int {
		return sandbox.Violations(calls, float64(p.rate), p.burst+int(float64(p.rate)*held.Seconds()))
	}
	t.Logf("I4: %d calls are noted in results; the fullest window of their starts holds %.1f more than %d/s x window, the burst is %d: %d beyond it",
		len(began), fullest(began, p.rate), p.rate, p.burst, over(began, 0))
	t.Logf("I4: %d calls arrived; the fullest window holds %.1f more; %d came beyond the burst because others were held up on their way", len(came),
		fullest(came, p.rate), over(came, 0))
	require.Zero(t, over(began, noted), "I4: calls that began beyond rate x window + burst")
	heldUp := onTheWay
	if paceInFull() {
		heldUp = 0
	}
	require.Zero(t, over(came, heldUp), "I4: calls that arrived beyond it, some held up for %s", heldUp)
	require.LessOrEqual(t, len(came)-len(began), missing, "I4: calls that no result tells of")
}

// starts returns when the calls began that are noted in results, in order.
func (p *paced) starts(t *testing.T) []time.Duration {
	t.Helper()
	var starts []time.Duration
	var first time.Time
	p.each(t, resultsStream, func(message jetstream.Msg) {
		var event struct {
			Data struct {
				Attempts []struct {
					At time.Time `json:"at"`
				} `json:"attempts"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal(message.Data(), &event))
		for _, attempt := range event.Data.Attempts {
			if first.IsZero() {
				first = attempt.At
			}
			starts = append(starts, attempt.At.Sub(first))
		}
	})
	slices.Sort(starts)
	return starts
}

// fullest returns how many calls the fullest window holds above rate x window: what the burst has to cover.
func fullest(calls []time.Duration, rate int) float64 {
	worst, level := 0.0, 0.0
	for i, at := range calls {
		if i > 0 {
			level = max(0, level-(at-calls[i-1]).Seconds()*float64(rate))
		}
		level++
		worst = max(worst, level)
	}
	return worst
}

// TestF31FullestWindow keeps the figure above honest.
func TestF31FullestWindow(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 3, fullest([]time.Duration{0, 0, 0, time.Second}, 1), 1e-9)
	require.InDelta(t, 1, fullest([]time.Duration{0, time.Second, 2 * time.Second}, 1), 1e-9)
	require.InDelta(t, 1.5, fullest([]time.Duration{0, 500 * time.Millisecond}, 1), 1e-9)
}
