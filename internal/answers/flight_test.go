package answers

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// start asks in a goroutine and returns the reply's channel once the query waits for something.
func (b *bundle) start(ctx context.Context, q *query.Query) <-chan reply {
	return b.startWith(ctx, q, nil)
}

func (b *bundle) startWith(ctx context.Context, q *query.Query, details *card.Details) <-chan reply {
	replies := make(chan reply, 1)
	go func() { replies <- b.askWith(ctx, q, details) }()
	synctest.Wait()
	return replies
}

// follow starts n queries after another.
func (b *bundle) follow(t *testing.T, n int, age time.Duration) []<-chan reply {
	t.Helper()
	var all []<-chan reply
	for i := range n {
		all = append(all, b.start(t.Context(), within(fmt.Sprint("follower ", i+1), age)))
	}
	return all
}

func TestIdenticalQueriesAreAskedOnce(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"of any age": time.Minute, "of no age": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, began := setup(t, newShelf()), time.Now()
				const reading = time.Millisecond // An answer has an age by the time it was read.
				b.call = func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
					got, err := pause(ctx, callTime-reading, answer(n))
					time.Sleep(reading)
					return got, err
				}
				leader := b.start(t.Context(), within("leader", age))
				time.Sleep(callTime / 2)
				followers := b.follow(t, 50, age)
				asked := <-leader
				asked.fresh(t, 1)
				for _, follower := range followers {
					got := <-follower
					got.shared(t, 1)
					require.Equal(t, asked.AsOf, got.AsOf)
					require.Equal(t, callTime, got.at.Sub(began), "all have it at once")
				}
				require.Equal(t, []string{"leader"}, b.asked())
			})
		})
	}
}

// Queries that want to ask the upstream do so, and nobody follows them: they did not offer to lead.
func TestQueriesWithoutMaxAgeStayAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		first, second := b.start(t.Context(), within("1", none)), b.start(t.Context(), within("2", none))
		third, fourth := b.start(t.Context(), within("3", 0)), b.start(t.Context(), within("4", none))
		(<-first).fresh(t, 1)
		(<-second).fresh(t, 2)
		(<-third).fresh(t, 3)
		(<-fourth).fresh(t, 4)
	})
}

func TestAWaiterEndsAlone(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(context.Context) (context.Context, context.CancelFunc)
		kind fault.Kind
		code fault.Code
	}{
		"at its deadline": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, callTime/4)
		}, fault.Expired, fault.DeadlinePassed},
		"when it is stopped": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			stopped, cancel := context.WithCancel(ctx)
			time.AfterFunc(callTime/4, cancel)
			return stopped, cancel
		}, fault.Interrupted, fault.Stopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b, began := setup(t, nil), time.Now()
				leader := b.start(t.Context(), within("leader", 0))
				ctx, cancel := c.end(t.Context())
				defer cancel()
				waiter, other := b.start(ctx, within("waiter", 0)), b.start(t.Context(), within("other", 0))
				ended := <-waiter
				requireFault(t, ended.err, c.kind, c.code)
				require.Equal(t, callTime/4, ended.at.Sub(began))
				require.Empty(t, ended.attempts)
				(<-leader).fresh(t, 1)
				(<-other).shared(t, 1)
				require.Len(t, b.asked(), 1)
			})
		})
	}
}

// The leader's end hands the question over to one of those who follow it, and to one only.
func TestTheLeadersEndIsItsOwn(t *testing.T) {
	t.Parallel()
	own := func(kind fault.Kind) func(context.Context, int, *query.Query) (query.Answer, error) {
		return func(ctx context.Context, n int, q *query.Query) (query.Answer, error) {
			got, err := pause(ctx, callTime, answer(n))
			if q.ID == "leader" {
				return query.Answer{}, fault.New("call", kind, fault.Unclassified)
			}
			return got, err
		}
	}
	declined := func(ctx context.Context, n int, q *query.Query) (query.Answer, error) {
		got, err := pause(ctx, callTime, answer(n))
		if q.ID == "leader" {
			got.Outcome = query.OutcomeDeclined
		}
		return got, err
	}
	for name, c := range map[string]struct {
		call func(context.Context, int, *query.Query) (query.Answer, error)
		end  func(context.Context) (context.Context, context.CancelFunc)
		kind fault.Kind
	}{
		"it is stopped": {nil, func(ctx context.Context) (context.Context, context.CancelFunc) {
			stopped, cancel := context.WithCancel(ctx)
			time.AfterFunc(callTime/2, cancel)
			return stopped, cancel
		}, fault.Interrupted},
		"its deadline cuts the call": {nil, func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, callTime/2)
		}, fault.Unavailable},
		"it is too late for it": {own(fault.Expired), context.WithCancel, fault.Expired},
		"it is refused":         {own(fault.Rejected), context.WithCancel, fault.Rejected},
		"it is malformed":       {own(fault.Malformed), context.WithCancel, fault.Malformed},
		"it is answered":        {own(fault.Duplicate), context.WithCancel, fault.Duplicate},
		"nobody knows":          {own(fault.Unknown), context.WithCancel, fault.Unknown},
		"it is declined":        {declined, context.WithCancel, fault.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, newShelf())
				if c.call != nil {
					b.call = c.call
				}
				ctx, cancel := c.end(t.Context())
				defer cancel()
				leader, followers := b.start(ctx, within("leader", time.Minute)), b.follow(t, 10, time.Minute)
				if ended := <-leader; ended.err != nil {
					require.Equal(t, c.kind, fault.KindOf(ended.err))
				} else {
					require.Equal(t, query.OutcomeDeclined, ended.Outcome)
				}
				led := 0
				for _, follower := range followers {
					got := <-follower
					require.Equal(t, 2, got.number(t))
					if !got.Shared {
						led++
						require.Len(t, got.attempts, 1)
					}
				}
				require.Equal(t, 1, led, "one took over")
				require.Len(t, b.asked(), 2)
				require.Equal(t, 1, b.most, "never two at a time")
			})
		})
	}
}

// A fault of the upstream is everybody's: asked again, it would be met again.
func TestAFaultOfTheUpstreamIsShared(t *testing.T) {
	t.Parallel()
	for _, kind := range []fault.Kind{fault.Throttled, fault.Unavailable, fault.Unauthorized} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, nil)
				failure := fault.New("call", kind, fault.RateLimited)
				failure.After, failure.Status, failure.Upstream = time.Minute, 429, "9999"
				b.call = func(context.Context, int, *query.Query) (query.Answer, error) {
					time.Sleep(callTime)
					return query.Answer{}, failure
				}
				leader, followers := b.start(t.Context(), within("leader", time.Minute)), b.follow(t, 10, time.Minute)
				require.Len(t, (<-leader).attempts, 1)
				for _, follower := range followers {
					got := <-follower
					require.Same(t, failure, got.err, "with what the upstream asked for")
					require.Empty(t, got.attempts)
					require.Zero(t, got.Answer)
				}
				require.Len(t, b.asked(), 1)
				require.ErrorIs(t, b.ask(t.Context(), within("later", time.Minute)).err, failure)
				require.Len(t, b.asked(), 2, "and it is kept for nobody")
			})
		})
	}
}

// A leader that panics leaves nobody waiting, and its panic goes where it belongs.
func TestAPanicHandsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		b.call = func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
			got, err := pause(ctx, callTime, answer(n))
			if n == 1 {
				panic("the call panics")
			}
			return got, err
		}
		panicked := make(chan any, 1)
		go func() {
			defer func() { panicked <- recover() }()
			b.ask(t.Context(), within("leader", 0))
		}()
		synctest.Wait()
		followers := b.follow(t, 3, 0)
		require.Equal(t, "the call panics", <-panicked)
		for _, follower := range followers {
			require.Equal(t, 2, (<-follower).number(t))
		}
		require.Empty(t, b.flights)
	})
}

// Who comes before the leader in the line for the pace does not wait behind it.
func TestNobodyFollowsWhoComesLater(t *testing.T) {
	t.Parallel()
	ranked := map[string]struct {
		place int
		mark  func(q *query.Query)
	}{
		"bulk":        {0, func(q *query.Query) { q.Lane = query.Bulk }},
		"replayed":    {0, func(q *query.Query) { q.Replay = &query.Replay{} }},
		"interactive": {1, func(*query.Query) {}},
		"direct":      {2, func(q *query.Query) { q.Direct = true }},
	}
	for first, leading := range ranked {
		for second, coming := range ranked {
			t.Run(second+" after "+first, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					b := setup(t, nil)
					leads, comes := within("first", time.Minute), within("second", time.Minute)
					leading.mark(leads)
					coming.mark(comes)
					leader := b.start(t.Context(), leads)
					time.Sleep(callTime / 2)
					other := b.start(t.Context(), comes)
					if coming.place <= leading.place {
						(<-leader).fresh(t, 1)
						(<-other).shared(t, 1)
						return
					}
					third := b.start(t.Context(), within("third", time.Minute))
					(<-leader).fresh(t, 1)
					time.Sleep(callTime / 4)
					late := within("late", 0)
					coming.mark(late)
					joins := b.start(t.Context(), late)
					(<-other).fresh(t, 2)
					(<-third).shared(t, 2)
					(<-joins).shared(t, 2)
					require.Empty(t, b.flights)
					b.ask(t.Context(), within("fourth", time.Minute)).shared(t, 2)
				})
			})
		}
	}
}

// Each judges the age of what the leader found by what it allows itself.
func TestFollowersJudgeTheAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		setup(t, s).ask(t.Context(), within("before", time.Minute)).fresh(t, 1)
		time.Sleep(30 * time.Second)
		s.before = func(context.Context, string) error {
			time.Sleep(timeout / 2)
			return nil
		}
		b := setup(t, s)
		b.call = func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
			return pause(ctx, callTime, answer(n+100))
		}
		leader := b.start(t.Context(), within("leader", time.Minute))
		content, strict := b.start(t.Context(), within("content", 31*time.Second)), b.start(t.Context(), within("strict", 10*time.Second))
		strictest := b.start(t.Context(), within("strictest", 0))
		(<-leader).shared(t, 1)
		(<-content).shared(t, 1)
		one, other := <-strict, <-strictest
		if one.Shared {
			one, other = other, one
		}
		one.fresh(t, 101)
		other.shared(t, 101)
		require.Len(t, b.asked(), 1)
	})
}

// What the leader finds in the bucket is no answer of its own, whatever time another worker's clock has put on it: who wants none but new ones asks.
func TestFollowersAreNotDeceivedByAClockThatIsAhead(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		before := setup(t, s)
		before.call = func(context.Context, int, *query.Query) (query.Answer, error) {
			got := answer(1)
			got.AsOf = got.AsOf.Add(4 * time.Second)
			return got, nil
		}
		before.ask(t.Context(), within("before", time.Minute)).fresh(t, 1)
		time.Sleep(time.Second)
		s.before = func(context.Context, string) error {
			time.Sleep(timeout / 2)
			return nil
		}
		b := setup(t, s)
		b.call = func(ctx context.Context, n int, _ *query.Query) (query.Answer, error) {
			return pause(ctx, callTime, answer(n+100))
		}
		leader := b.start(t.Context(), within("leader", time.Minute))
		strict, content := b.start(t.Context(), within("strict", 0)), b.start(t.Context(), within("content", time.Minute))
		(<-leader).shared(t, 1)
		(<-content).shared(t, 1)
		(<-strict).fresh(t, 101)
		require.Equal(t, []string{"strict"}, b.asked())
	})
}

// Those who follow do not wait until the other workers can have the answer too.
func TestFollowersDoNotWaitForTheBucket(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.before = func(_ context.Context, what string) error {
			if what == "put" {
				time.Sleep(timeout / 2)
			}
			return nil
		}
		b, began := setup(t, s), time.Now()
		leader, followers := b.start(t.Context(), within("leader", time.Minute)), b.follow(t, 3, time.Minute)
		for _, follower := range followers {
			require.Equal(t, callTime, (<-follower).at.Sub(began))
		}
		require.Equal(t, callTime+timeout/2, (<-leader).at.Sub(began))
	})
}

// Two cards are two questions, whatever else is the same; one card with two tokens is one.
func TestCardsAreAskedApart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		ask := func(id, number, token string) <-chan reply {
			q, details := usage(t, id, number, time.Minute)
			details.UserToken = card.NewSecret(token)
			return b.startWith(t.Context(), q, details)
		}
		one, other, again := ask("one", testCard, "a"), ask("other", otherCard, "a"), ask("again", testCard, "b")
		(<-one).fresh(t, 1)
		(<-other).fresh(t, 2)
		(<-again).shared(t, 1)
	})
}
