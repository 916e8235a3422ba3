package answers

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestAgeDecides(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age, allowed time.Duration
		reused       bool
	}{
		"just now":                 {0, time.Second, true},
		"younger":                  {10 * time.Second, 30 * time.Second, true},
		"exactly as old":           {30 * time.Second, 30 * time.Second, true},
		"a moment too old":         {30*time.Second + 1, 30 * time.Second, false},
		"much too old":             {time.Minute, time.Second, false},
		"nothing older than now":   {1, 0, false},
		"as old as anybody gets":   {keep, query.MaxMaxAge, true},
		"older than anybody gets":  {keep + 1, query.MaxMaxAge, false},
		"a query that says no age": {0, none, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, nil)
				first := b.ask(t.Context(), within("first", time.Minute))
				first.fresh(t, 1)
				time.Sleep(c.age)
				second := b.ask(t.Context(), within("second", c.allowed))
				if !c.reused {
					second.fresh(t, 2)
					require.Equal(t, []string{"first", "second"}, b.asked())
					return
				}
				second.shared(t, 1)
				require.Equal(t, first.AsOf, second.AsOf, "it is as old as it is")
				first.Shared = true
				require.Equal(t, first.Answer, second.Answer)
				require.Equal(t, []string{"first"}, b.asked())
			})
		})
	}
}

// A query that says no age is asked, and its answer is remembered for others in this process. It costs the broker nothing.
func TestWithoutMaxAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		b := setup(t, s)
		b.ask(t.Context(), within("1", none)).fresh(t, 1)
		b.ask(t.Context(), within("2", none)).fresh(t, 2)
		gets, puts := s.counts()
		require.Zero(t, gets+puts)
		b.ask(t.Context(), within("3", time.Minute)).shared(t, 2)
		b.ask(t.Context(), within("4", none)).fresh(t, 3)
		b.ask(t.Context(), within("5", time.Minute)).shared(t, 3)
		require.Empty(t, b.told())
	})
}

// What is no answer for everybody is kept for nobody.
func TestOnlyAnswersAreKept(t *testing.T) {
	t.Parallel()
	type outcome struct {
		answer query.Answer
		err    error
		kept   bool
	}
	cases := map[string]outcome{
		"ok":       {query.Answer{Outcome: query.OutcomeOK}, nil, true},
		"empty":    {query.Answer{Outcome: query.OutcomeEmpty}, nil, true},
		"declined": {query.Answer{Outcome: query.OutcomeDeclined}, nil, false},
		"foreign":  {query.Answer{}, context.DeadlineExceeded, false},
	}
	for _, kind := range fault.Kinds() {
		cases[kind.String()] = outcome{query.Answer{Outcome: query.OutcomeOK}, fault.New("call", kind, fault.Unclassified), false}
	}
	for name, c := range cases {
		for first, age := range map[string]time.Duration{"with age": time.Minute, "without": none} {
			t.Run(name+" "+first, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newShelf()
					b := setup(t, s)
					b.call = func(context.Context, int, *query.Query) (query.Answer, error) {
						got := c.answer
						got.AsOf = time.Now()
						return got, c.err
					}
					r := b.ask(t.Context(), within("first", age))
					require.ErrorIs(t, r.err, c.err)
					require.Len(t, r.attempts, 1)
					require.False(t, r.Shared)
					r = b.ask(t.Context(), within("second", time.Minute))
					require.Equal(t, c.kept, r.Shared)
					require.Len(t, b.asked(), map[bool]int{true: 1, false: 2}[c.kept])
					if !c.kept {
						require.Empty(t, s.values)
					}
				})
			})
		}
	}
}

// A query without a question that could be compared goes its own way.
func TestWhatCannotBeCompared(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(q *query.Query){
		"no question":          func(q *query.Query) { q.EasyPay = nil },
		"another provider":     func(q *query.Query) { q.Provider = "none" },
		"a card without data":  func(q *query.Query) { q.Provider, q.UnionPay = query.UnionPay, &query.UnionPayQuestion{} },
		"the other's question": func(q *query.Query) { q.EasyPay, q.UnionPay = nil, &query.UnionPayQuestion{} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, newShelf())
				for i := range 2 {
					q := within("1", time.Minute)
					change(q)
					b.ask(t.Context(), q).fresh(t, i+1)
				}
			})
		})
	}
}

// An answer that took longer than another to be remembered does not take its place.
func TestTheYoungestStays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		b.call = func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
			a, err := pause(ctx, callTime, answer(n))
			if n == 1 {
				time.Sleep(time.Second)
			}
			return a, err
		}
		go b.ask(t.Context(), within("slow", none))
		time.Sleep(callTime / 2)
		b.ask(t.Context(), within("quick", none)).fresh(t, 2)
		time.Sleep(time.Minute)
		b.ask(t.Context(), within("later", 2*time.Minute)).shared(t, 2)
	})
}
