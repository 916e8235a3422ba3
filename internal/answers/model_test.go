package answers

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

// said is one step of the model: who asks what, how old an answer may be, and how long it is since the step before.
type said struct {
	worker, question int
	allowed, pause   time.Duration
	works            bool
}

func drawSaid(t *rapid.T) said {
	seconds := func(most int, what string) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Second
	}
	s := said{
		worker: rapid.IntRange(0, 1).Draw(t, "worker"), question: rapid.IntRange(0, 2).Draw(t, "question"),
		allowed: seconds(20, "allowed"), pause: seconds(10, "pause"), works: rapid.IntRange(0, 9).Draw(t, "works") > 0,
	}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		s.allowed = none
	case 1:
		s.allowed, s.pause = query.MaxMaxAge, s.pause*60
	}
	return s
}

// The model knows when each answer was given, and which of them each worker and the bucket must still have. Queries come one at a time:
// whether the upstream is asked follows from the ages alone, and so does the answer.
func TestTwoWorkersAndABucket(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(drawSaid), 1, 40).Draw(r, "steps")
		synctest.Test(t, func(t *testing.T) {
			shelf, calls, works := newShelf(), 0, true
			workers := []*bundle{setup(t, shelf), setup(t, shelf)}
			memory, bucket := []map[int]time.Time{{}, {}}, map[int]time.Time{}
			for _, b := range workers {
				b.call = func(context.Context, int, *query.Query) (query.Answer, error) {
					if calls++; !works {
						return query.Answer{}, fault.New("call", fault.Unavailable, fault.Timeout)
					}
					return answer(calls), nil
				}
			}
			for i, s := range steps {
				time.Sleep(s.pause)
				works = s.works
				fits := func(asOf time.Time, ok bool) bool {
					return ok && s.allowed >= 0 && time.Since(asOf) <= min(s.allowed, keep)
				}
				want, reused := memory[s.worker][s.question]
				if reused = fits(want, reused); !reused && s.allowed > 0 {
					want, reused = bucket[s.question]
					if reused = fits(want, reused); reused {
						memory[s.worker][s.question] = want
					}
				}
				before, q := calls, within(fmt.Sprint(i), s.allowed)
				*q.EasyPay.Amount = int64(s.question + 1)
				got := workers[s.worker].ask(t.Context(), q)
				if reused {
					require.NoError(r, got.err)
					require.Equal(r, before, calls, "step %d: the upstream was asked although an answer fits", i)
					require.True(r, got.Shared && len(got.attempts) == 0)
					require.True(r, want.Equal(got.AsOf), "step %d", i)
					continue
				}
				require.Equal(r, before+1, calls, "step %d: the upstream was not asked although no answer fits", i)
				require.Len(r, got.attempts, 1)
				require.Equal(r, s.works, got.err == nil)
				if got.err == nil {
					require.False(r, got.Shared)
					memory[s.worker][s.question] = got.AsOf
					if s.allowed > 0 {
						bucket[s.question] = got.AsOf
					}
				}
			}
		})
	})
}

// asker is one of many that ask at the same time.
type asker struct {
	after, allowed, patience time.Duration
	worker                   int
	bulk                     bool
}

func drawAsker(t *rapid.T) asker {
	milliseconds := func(most int, what string) time.Duration {
		return time.Duration(rapid.IntRange(0, most).Draw(t, what)) * time.Millisecond
	}
	a := asker{
		after: milliseconds(2000, "after"), allowed: milliseconds(1000, "allowed"), patience: time.Hour,
		worker: rapid.IntRange(0, 1).Draw(t, "worker"), bulk: rapid.IntRange(0, 3).Draw(t, "bulk") == 0,
	}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		a.allowed = none
	case 1:
		a.allowed = 0
	case 2, 3:
		a.patience = milliseconds(400, "patience")
	}
	return a
}

// Many ask one question at once, some give up, and the upstream fails at times. Each gets one answer that it allows, or a failure that is
// its own end or the upstream's; who has time and meets no failure is answered; and in one lane there is one call at a time.
func TestManyAskAtOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(drawAsker), 1, 30).Draw(r, "askers")
		oneLane, fails := rapid.Bool().Draw(r, "one lane"), rapid.SampledFrom([]int{0, 3, 7}).Draw(r, "fails")
		synctest.Test(t, func(t *testing.T) {
			shelf := newShelf()
			shelf.before = func(ctx context.Context, _ string) error {
				_, err := pause(ctx, time.Millisecond, query.Answer{})
				return err
			}
			workers := []*bundle{setup(t, shelf), setup(t, shelf)}
			for _, b := range workers {
				b.call = func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
					got, err := pause(ctx, callTime, answer(n))
					if err == nil && fails > 0 && n%fails == 0 {
						return query.Answer{}, fault.New("call", []fault.Kind{fault.Unavailable, fault.Rejected}[n%2], fault.UpstreamBusy)
					}
					return got, err
				}
			}
			var running sync.WaitGroup
			for i, a := range all {
				running.Go(func() {
					time.Sleep(a.after)
					q := within(fmt.Sprint(i), a.allowed)
					if a.bulk && !oneLane {
						q.Lane = query.Bulk
					}
					ctx, cancel := context.WithTimeout(t.Context(), a.patience)
					defer cancel()
					came := time.Now()
					if wrong := a.judge(came, workers[a.worker].ask(ctx, q), fails > 0); wrong != "" {
						t.Errorf("asker %d %+v: %s", i, a, wrong)
					}
				})
			}
			running.Wait()
			for _, b := range workers {
				require.Empty(r, b.flights)
				if oneLane && !anyFresh(all) {
					require.LessOrEqual(r, b.most, 1)
				}
			}
		})
		if t.Failed() {
			r.Fatal("an asker got what it must not get")
		}
	})
}

func anyFresh(all []asker) bool {
	for _, a := range all {
		if a.allowed == none {
			return true
		}
	}
	return false
}

// judge says what is wrong with a reply, or nothing.
func (a asker) judge(came time.Time, got reply, upstreamFails bool) string {
	waited := got.at.Sub(came)
	switch {
	case waited > a.patience:
		return "it waited too long"
	case got.err != nil && !upstreamFails && waited < a.patience:
		return "it had time left"
	case got.err != nil:
		return ""
	case got.Shared && a.allowed == none:
		return "it wanted an answer of its own"
	case got.Shared && len(got.attempts) > 0, !got.Shared && len(got.attempts) != 1:
		return "a shared answer has no attempts, any other has one"
	case came.Sub(got.AsOf) > max(a.allowed, 0):
		return fmt.Sprintf("its answer was %v old when it came", came.Sub(got.AsOf))
	}
	return ""
}
