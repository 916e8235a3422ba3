package quota

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

var easy = Account{Provider: query.EasyPay, Name: "T5102001"}

// world is a fleet in virtual time, whose members' clocks are off by up to 5 s.
type world struct {
	store    *fakeStore
	settings Settings
	random   *rand.Rand
	start    time.Time
	running  sync.WaitGroup
	replicas []*replica

	mu    sync.Mutex
	calls []time.Duration
}

func newWorld(settings Settings, seed uint64) *world {
	return &world{store: newFakeStore(seed), settings: settings, random: rand.New(rand.NewPCG(seed, 2)), start: time.Now()}
}

// settled lets the account begin with its ceiling, as one that has been used for long.
func (w *world) settled() *world {
	known := State{Rate: w.settings.Ceiling, Low: w.settings.Ceiling}
	value, _ := known.bytes()
	w.store.put(easy.stateKey(), value, 0)
	return w
}

// replica is one member of the fleet.
type replica struct {
	*Fleet
	ctx  context.Context
	stop context.CancelFunc
	// leap is added to its wall clock.
	leap atomic.Int64
}

// add starts one more member.
func (w *world) add(changes ...func(*Options)) *replica {
	r := &replica{}
	r.ctx, r.stop = context.WithCancel(context.Background())
	off := time.Duration((w.random.Float64()*2 - 1) * float64(5*time.Second))
	booted := w.start.Add(-time.Duration(w.random.Int64N(int64(time.Hour))))
	options := Options{
		Store: w.store, Accounts: map[Account]Settings{easy: w.settings}, AckWait: 30 * time.Second,
		AccountOf: func(*query.Query) Account { return easy },
		Clock: func() Reading {
			return Reading{Ticks: time.Since(booted), Wall: time.Now().Add(off + time.Duration(r.leap.Load()))}
		},
	}
	for _, change := range changes {
		change(&options)
	}
	r.Fleet = New(options)
	w.running.Go(func() { r.Run(r.ctx) })
	w.replicas = append(w.replicas, r)
	return r
}

// backlog lets n callers of a replica ask one time after the other.
func (w *world) backlog(r *replica, n int) {
	for range n {
		w.running.Go(func() {
			q := &query.Query{Provider: query.EasyPay, Lane: query.Bulk, Client: "shop"}
			for r.Wait(r.ctx, q) == nil {
				w.called()
			}
		})
	}
}

func (w *world) called() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, time.Since(w.start))
}

// end stops all members and waits for them.
func (w *world) end() {
	for _, r := range w.replicas {
		r.stop()
	}
	w.running.Wait()
}

// used returns the part of the rate that was used between two times.
func (w *world) used(from, to time.Duration, rate float64) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, at := range w.calls {
		if at >= from && at < to {
			n++
		}
	}
	return float64(n) / (to - from).Seconds() / rate
}

// record writes the times of all calls for a picture, if the variable PACE_CSV names a folder.
func (w *world) record(t *testing.T) {
	t.Helper()
	folder := os.Getenv("PACE_CSV")
	if folder == "" {
		return
	}
	var b strings.Builder
	b.WriteString("seconds\n")
	for _, at := range w.calls {
		fmt.Fprintf(&b, "%.6f\n", at.Seconds())
	}
	name := strings.NewReplacer("/", "-", " ", "_").Replace(t.Name()) + ".csv"
	require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(b.String()), 0o600))
}

// fleetCase is one size of a fleet and what must come out.
type fleetCase struct {
	rate     float64
	burst    int
	replicas int
	lasts    time.Duration
	used     float64
}

func fleetCases() []fleetCase {
	var all []fleetCase
	for _, c := range []fleetCase{
		{rate: 0.5, burst: 1, lasts: 100 * time.Second, used: 0.97},
		{rate: 2, burst: 1, lasts: 50 * time.Second, used: 0.97},
		{rate: 10, burst: 1, lasts: 30 * time.Second, used: 0.96},
		{rate: 10, burst: 10, lasts: 30 * time.Second, used: 0.98},
		{rate: 100, burst: 1, lasts: 10 * time.Second, used: 0.95},
		{rate: 100, burst: 10, lasts: 10 * time.Second, used: 0.98},
		{rate: 1000, burst: 50, lasts: 4 * time.Second, used: 0.98},
		{rate: 5000, burst: 250, lasts: 2 * time.Second, used: 0.98},
	} {
		for _, c.replicas = range fleetSizes() {
			if c.rate == 100 && c.burst == 1 && c.replicas >= 16 {
				c.used = 0.88
			}
			all = append(all, c)
		}
	}
	return all
}

// fleetSizes returns how many replicas fleets have. The race detector sees nothing more in larger ones.
func fleetSizes() []int {
	if raceDetector {
		return []int{1, 2, 8}
	}
	return []int{1, 2, 4, 8, 16, 64}
}

// TestFleetKeepsAndUsesThePace runs fleets of all sizes under a backlog. The pace is never exceeded in any window; at least 98 % of it is
// used where the burst covers what clocks are off by. A burst of 1 leaves no room for that: the gaps between leases cost up to a few
// percent, and more the more replicas share a high rate.
func TestFleetKeepsAndUsesThePace(t *testing.T) {
	t.Parallel()
	t.Log("| rate | burst | replicas | used | writes/s | conflicts/s | reads/s |")
	for _, c := range fleetCases() {
		t.Run(fmt.Sprintf("%v per second burst %d replicas %d", c.rate, c.burst, c.replicas), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const warm = 4 * time.Second
				w := newWorld(Settings{Ceiling: c.rate, Burst: c.burst}, 1).settled()
				for range c.replicas {
					w.backlog(w.add(), int(c.rate/float64(c.replicas))+8)
				}
				time.Sleep(warm + c.lasts)
				used := w.used(warm, warm+c.lasts, c.rate)
				w.end()
				per := (warm + c.lasts).Seconds()
				t.Logf("| %v | %d | %d | %.4f | %.1f | %.1f | %.1f |", c.rate, c.burst, c.replicas, used,
					float64(w.store.writes)/per, float64(w.store.conflicts)/per, float64(w.store.reads)/per)
				require.Zero(t, worstExcess(w.calls, c.rate, c.burst))
				require.GreaterOrEqual(t, used, c.used)
				w.record(t)
			})
		})
	}
}

// TestFleetUnderFaults breaks what can be broken. The pace is never exceeded; what is not used is what the fault cost.
func TestFleetUnderFaults(t *testing.T) {
	t.Parallel()
	const rate, burst = 400, 40
	member := func(w *world) { w.backlog(w.add(), 120) }
	faults := map[string]struct {
		prepare func(*fakeStore)
		each    func(*world, int)
		used    float64
	}{
		"nothing": {used: 0.98},
		"eight to one to eight": {used: 0.95, each: func(w *world, i int) {
			if i%2 == 1 {
				for range 7 {
					member(w)
				}
				return
			}
			for _, r := range w.replicas[len(w.replicas)-7:] {
				r.stop()
			}
		}},
		"crashes":      {used: 0.97, each: func(w *world, i int) { w.replicas[i].stop(); member(w) }},
		"lost replies": {used: 0.80, prepare: func(s *fakeStore) { s.lose = 0.05 }},
		"stale reads":  {used: 0.98, prepare: func(s *fakeStore) { s.stale = 0.3 }},
		"outages":      {used: 0.40, each: func(w *world, i int) { w.store.setAway(i%2 == 0) }},
		"clocks that leap": {used: 0.75, each: func(w *world, i int) {
			for k, r := range w.replicas {
				r.leap.Add(int64(time.Duration(5-i*k%10) * time.Second))
			}
		}},
		"a server ahead": {used: 0.98, prepare: func(s *fakeStore) { s.ahead = 7 * time.Second }},
		"a slow store":   {used: 0.93, prepare: func(s *fakeStore) { s.fastest, s.slowest = 40*time.Millisecond, 80*time.Millisecond }},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(Settings{Ceiling: rate, Burst: burst}, 3).settled()
				if f.prepare != nil {
					f.prepare(w.store)
				}
				for range 8 {
					member(w)
				}
				for i := range 5 {
					time.Sleep(5 * time.Second)
					if f.each != nil {
						f.each(w, i)
					}
				}
				used := w.used(5*time.Second, 25*time.Second, rate)
				w.end()
				t.Logf("| %s | used %.4f | writes %d | conflicts %d |", name, used, w.store.writes, w.store.conflicts)
				require.Zero(t, worstExcess(w.calls, rate, burst))
				require.GreaterOrEqual(t, used, f.used)
				w.record(t)
			})
		})
	}
}

// TestRuleFindsExcess keeps the check above honest.
func TestRuleFindsExcess(t *testing.T) {
	t.Parallel()
	s := time.Second
	require.Zero(t, worstExcess([]time.Duration{0, 0, 0, s, 2 * s}, 1, 3))
	require.InDelta(t, 1, worstExcess([]time.Duration{5 * s, 0, 0, 0, 0}, 1, 3), 1e-9)
	require.InDelta(t, 0.01, worstExcess([]time.Duration{0, 0, 0, s, 2*s - 10*time.Millisecond}, 1, 3), 1e-9)
	require.InDelta(t, 1, worstExcess([]time.Duration{0, 100 * s, 100 * s}, 1, 1), 1e-9)
}

// upstream has a limit that nobody told us.
type upstream struct {
	mu         sync.Mutex
	rate, room float64
	level      float64
	last       time.Time
	taken      []time.Duration
	refused    int
	// way returns how much longer than usual a call is on its way. It may be nil.
	way func() time.Duration
}

// call tells whether the upstream takes a call now.
func (u *upstream) call(since time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.level = min(u.room, u.level+now.Sub(u.last).Seconds()*u.rate)
	u.last = now
	if u.level < 1 {
		u.refused++
		return false
	}
	u.level--
	u.taken = append(u.taken, now.Sub(since))
	return true
}

// late returns how much longer than usual the next call is on its way.
func (u *upstream) late() time.Duration {
	if u.way == nil {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.way()
}

// ask calls the upstream for as long as the replica runs, and tells of refusals.
func (u *upstream) ask(w *world, r *replica, retryAfter time.Duration) {
	q := &query.Query{Provider: query.EasyPay, Lane: query.Bulk, Client: "shop"}
	for r.Wait(r.ctx, q) == nil {
		sent := r.Clock().Wall
		time.Sleep(u.late())
		taken := u.call(w.start)
		time.Sleep(40 * time.Millisecond)
		if !taken {
			r.Throttled(easy, sent, retryAfter)
		}
	}
}

// TestHiddenLimitIsFound has a ceiling of 1,000/s and an upstream that takes 137/s, with more or less patience for bursts.
func TestHiddenLimitIsFound(t *testing.T) {
	t.Parallel()
	for _, retryAfter := range []time.Duration{0, time.Second} {
		for _, room := range []float64{5, 14, 137} {
			t.Run(fmt.Sprintf("room %v retry after %v", room, retryAfter), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(Settings{Ceiling: 1000, Burst: 10}, 1)
					u := &upstream{rate: 137, room: room, level: room, last: time.Now()}
					for range 4 {
						r := w.add()
						for range 100 {
							w.running.Go(func() { u.ask(w, r, retryAfter) })
						}
					}
					time.Sleep(60 * time.Second)
					w.end()
					w.calls = u.taken
					used := w.used(30*time.Second, 60*time.Second, u.rate)
					refused := float64(u.refused) / float64(len(u.taken)+u.refused)
					t.Logf("| room %v | Retry-After %v | used %.3f | refused %.2f %% |", room, retryAfter, used, 100*refused)
					require.Greater(t, used, 0.9)
					require.Less(t, refused, 0.01)
					w.record(t)
				})
			})
		}
	}
}

// TestHiddenLimitIsFoundByChance has workers that start one after the other, calls of which some take longer, and a moment before half a minute in which
// all calls under way are held up and then arrive at once: much is refused then, and tells nothing of the limit.
func TestHiddenLimitIsFoundByChance(t *testing.T) { //nolint:tparallel // What its parts found is judged together.
	t.Parallel()
	used := make([]float64, 40)
	if raceDetector {
		used = used[:4]
	}
	t.Run("seeds", func(t *testing.T) {
		for seed := range used {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { used[seed] = findByChance(t, uint64(seed)) })
			})
		}
	})
	slices.Sort(used)
	t.Logf("| used at least %.3f | median %.3f |", used[0], used[len(used)/2])
	require.Greater(t, used[len(used)/2], 0.9)
	require.Greater(t, used[0], 0.6)
}

// findByChance returns which part of a hidden limit is used in the second half of a minute.
func findByChance(t *testing.T, seed uint64) float64 {
	t.Helper()
	draw := rand.New(rand.NewPCG(seed, 137))
	w := newWorld(Settings{Ceiling: 1000, Burst: 10}, 1)
	u := &upstream{rate: 137, room: 14, level: 14, last: time.Now()}
	held := time.Now().Add(time.Duration(20+draw.IntN(10)) * time.Second)
	u.way = func() time.Duration {
		until := time.Until(held)
		if until > 0 && until < time.Second {
			return until
		}
		return time.Duration(draw.ExpFloat64() * float64(10*time.Millisecond))
	}
	var pauses [4]time.Duration // They are drawn before anybody else draws.
	for i := range pauses {
		pauses[i] = time.Duration(draw.Int64N(int64(time.Second)))
	}
	for _, pause := range pauses {
		time.Sleep(pause)
		r := w.add()
		for range 64 {
			w.running.Go(func() { u.ask(w, r, time.Second) })
		}
	}
	time.Sleep(60 * time.Second)
	w.end()
	w.calls = u.taken
	refused := float64(u.refused) / float64(len(u.taken)+u.refused)
	require.Less(t, refused, 0.02)
	return w.used(30*time.Second, 60*time.Second, u.rate)
}

// TestLearnedRateIsKept starts a fleet anew: it goes on with what the last one knew.
func TestLearnedRateIsKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Settings{Ceiling: 1000, Burst: 10}, 1)
		u := &upstream{rate: 137, room: 14, level: 14, last: time.Now()}
		fleet := func(d time.Duration) {
			r := w.add()
			for range 200 {
				w.running.Go(func() { u.ask(w, r, 0) })
			}
			time.Sleep(d)
			w.end()
		}
		fleet(20 * time.Second)
		u.refused = 0
		fleet(10 * time.Second)
		require.LessOrEqual(t, u.refused, 2, "nothing was learned twice")
		w.calls = u.taken
		used := w.used(20*time.Second, 30*time.Second, u.rate)
		t.Logf("used %.3f", used)
		require.GreaterOrEqual(t, used, 0.85, "and what was learned is used")
	})
}

// TestClientsShareFairly has 20 clients of very different appetite.
func TestClientsShareFairly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const clients = 20
		w := newWorld(Settings{Ceiling: 200, Burst: 20}, 5).settled()
		r := w.add()
		var got [clients]atomic.Int64
		for client := range clients {
			for range 4 + 5*client {
				w.running.Go(func() {
					q := &query.Query{Lane: query.Bulk, Client: fmt.Sprint("client", client)}
					for r.Wait(r.ctx, q) == nil {
						got[client].Add(1)
					}
				})
			}
		}
		time.Sleep(20 * time.Second)
		w.end()
		var sum, squares float64
		for i := range got {
			x := float64(got[i].Load())
			sum += x
			squares += x * x
		}
		jain := sum * sum / (clients * squares)
		t.Logf("Jain's index over %d clients: %.4f", clients, jain)
		require.GreaterOrEqual(t, jain, 0.95)
	})
}
