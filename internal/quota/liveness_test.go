package quota

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// step is one thing that happens to a fleet after a pause.
type step struct {
	after time.Duration
	// what is one of those that plan draws.
	what    string
	replica int
	class   Class
	// within is a deadline, or when somebody gives up, or how long the upstream wants to be left alone.
	within time.Duration
}

// plan draws a fleet and what happens to it.
type plan struct {
	settings Settings
	replicas int
	steps    []step
}

func drawPlan(r *rapid.T) plan {
	rate := rapid.SampledFrom([]float64{0.5, 3, 20, 400}).Draw(r, "rate")
	p := plan{
		settings: Settings{Ceiling: rate, Floor: rate / 2, Burst: rapid.SampledFrom([]int{1, 2, 10}).Draw(r, "burst")},
		replicas: rapid.IntRange(1, 4).Draw(r, "replicas"),
	}
	for range rapid.IntRange(1, 40).Draw(r, "steps") {
		p.steps = append(p.steps, step{
			after: time.Duration(rapid.SampledFrom([]int{0, 1, 7, 40, 300, 2000}).Draw(r, "after")) * time.Millisecond,
			what: rapid.SampledFrom([]string{
				"waits", "waits", "waits", "has a deadline", "gives up", "store away", "store back", "stale reads", "lost replies", "throttled", "clock leaps",
			}).Draw(r, "what"),
			replica: rapid.IntRange(0, p.replicas-1).Draw(r, "replica"),
			class:   Class(rapid.IntRange(0, classes-1).Draw(r, "class")),
			within:  time.Duration(rapid.SampledFrom([]int{1, 20, 500, 3000}).Draw(r, "within")) * time.Millisecond,
		})
	}
	return p
}

// waits keeps what became of those who waited.
type waits struct {
	mu      sync.Mutex
	waiting map[int]string
	wrong   []string
	all     sync.WaitGroup
}

// wait lets one more query wait. Only one that has a deadline may hear that it passed, and only one that gives up that it did.
func (ws *waits) wait(w *world, r *replica, s step, id int) {
	ctx, cancel := r.ctx, context.CancelFunc(func() {})
	want := fault.Kind(0)
	switch s.what {
	case "has a deadline":
		ctx, cancel = context.WithTimeout(ctx, s.within)
		want = fault.Expired
	case "gives up":
		ctx, cancel = context.WithCancel(ctx)
		want = fault.Interrupted
		time.AfterFunc(s.within, cancel)
	}
	ws.mu.Lock()
	ws.waiting[id] = fmt.Sprintf("%+v", s)
	ws.mu.Unlock()
	ws.all.Go(func() {
		defer cancel()
		lane := query.Interactive
		q := &query.Query{Lane: lane, Client: fmt.Sprint("client", id%3), Direct: s.class == Ask}
		if s.class == Bulk {
			q.Lane = query.Bulk
		}
		err := r.Wait(ctx, q)
		if err == nil {
			w.called()
		}
		ws.mu.Lock()
		defer ws.mu.Unlock()
		delete(ws.waiting, id)
		if err != nil && fault.KindOf(err) != want {
			ws.wrong = append(ws.wrong, fmt.Sprintf("%+v: %v", s, err))
		}
	})
}

// happen lets one step happen.
func (s step) happen(w *world, ws *waits, id int) {
	time.Sleep(s.after)
	r := w.replicas[s.replica]
	switch s.what {
	case "store away":
		w.store.setAway(true)
	case "store back":
		w.store.setAway(false)
	case "stale reads":
		w.store.disturb(0.3, 0)
	case "lost replies":
		w.store.disturb(0, 0.2)
	case "throttled":
		r.Throttled(easy, r.Clock().Wall, s.within)
	case "clock leaps":
		r.leap.Add(int64(s.within))
	default:
		ws.wait(w, r, s, id)
	}
}

// disturb sets which part of the reads is old and which part of the writes is not confirmed.
func (s *fakeStore) disturb(stale, lose float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stale, s.lose = stale, lose
}

// run lets the plan happen, then everything work again, and returns who still waits after a time in which all could have had their turn twice.
func (p plan) run(t *testing.T) (stuck map[int]string, wrong []string, excess float64) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		w := newWorld(p.settings, 9).settled()
		for range p.replicas {
			w.add(func(o *Options) {
				o.ClassOf = func(q *query.Query) Class {
					if q.Direct {
						return Ask
					}
					return classOf(q.Lane)
				}
			})
		}
		ws := &waits{waiting: map[int]string{}}
		for id, s := range p.steps {
			s.happen(w, ws, id)
		}
		w.store.setAway(false)
		w.store.disturb(0, 0)
		time.Sleep(30*time.Second + time.Duration(4*float64(len(p.steps))/p.settings.Ceiling*float64(time.Second)))
		ws.mu.Lock()
		stuck, wrong = ws.waiting, ws.wrong
		ws.waiting, ws.wrong = map[int]string{}, nil
		ws.mu.Unlock()
		w.end()
		ws.all.Wait()
		excess = worstExcess(w.calls, p.settings.Ceiling, p.settings.Burst)
	})
	return stuck, wrong, excess
}

// TestNobodyWaitsForEver draws queries of all classes that wait, give up or have deadlines at replicas that share few slots, while the store
// fails, the upstream refuses and clocks leap. As soon as all of it works again, everybody has his turn or was told why not.
func TestNobodyWaitsForEver(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		stuck, wrong, excess := drawPlan(r).run(t)
		require.Empty(r, stuck, "they wait for ever")
		require.Empty(r, wrong, "they were told what is not so")
		require.Zero(r, excess)
	})
}
