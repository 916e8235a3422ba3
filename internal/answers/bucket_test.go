package answers

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

func TestOtherWorkersShareByTheBucket(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age, allowed time.Duration
		reused       bool
		gets         int
	}{
		"younger":                 {10 * time.Second, 30 * time.Second, true, 1},
		"exactly as old":          {30 * time.Second, 30 * time.Second, true, 1},
		"a moment too old":        {30*time.Second + 1, 30 * time.Second, false, 1},
		"as old as anybody gets":  {keep, query.MaxMaxAge, true, 1},
		"older than anybody gets": {keep + 1, query.MaxMaxAge, false, 1},
		"no age is allowed":       {0, 0, false, 0},
		"no age is said":          {0, none, false, 0},
		"a clock that is behind":  {-maxSkew, time.Second, true, 1},
		"a clock that is wrong":   {-maxSkew - 1, time.Second, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newShelf()
				one, other := setup(t, s), setup(t, s)
				one.call = func(context.Context, int, *query.Query) (query.Answer, error) {
					first := answer(1)
					first.AsOf = first.AsOf.Add(-min(c.age, 0))
					return first, nil
				}
				other.call = func(ctx context.Context, _ int, _ *query.Query) (query.Answer, error) {
					return pause(ctx, callTime, answer(2))
				}
				first := one.ask(t.Context(), within("first", time.Minute))
				first.fresh(t, 1)
				time.Sleep(c.age)
				gets, _ := s.counts()
				second := other.ask(t.Context(), within("second", c.allowed))
				looked, _ := s.counts()
				require.Equal(t, c.gets, looked-gets)
				if !c.reused {
					second.fresh(t, 2)
					return
				}
				second.shared(t, 1)
				require.True(t, first.AsOf.Equal(second.AsOf))
				require.Empty(t, other.asked())
				_, puts := s.counts()
				require.Equal(t, 1, puts, "what came from the bucket does not go back")
				other.ask(t.Context(), within("third", time.Hour)).shared(t, 1)
				again, _ := s.counts()
				require.Equal(t, looked, again, "what came from the bucket is remembered")
				require.Empty(t, append(one.told(), other.told()...))
			})
		})
	}
}

// Only a query that would take an old answer gives one to others: the write costs as much as a message.
func TestWhatIsWritten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		age  time.Duration
		puts int
	}{"some age": {time.Second, 1}, "no age": {0, 0}, "none": {none, 0}} {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			b := setup(t, s)
			b.ask(t.Context(), within("1", c.age)).fresh(t, 1)
			_, puts := s.counts()
			require.Equal(t, c.puts, puts, name)
		})
	}
}

func TestBrokenEntriesAreAskedAnew(t *testing.T) {
	t.Parallel()
	for value, code := range broken() {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			setup(t, s).ask(t.Context(), within("before", time.Minute)).fresh(t, 1)
			s.set(t, []byte(value))
			b := setup(t, s)
			b.ask(t.Context(), within("1", time.Minute)).fresh(t, 1)
			told := b.told()
			if code == "unsupported_type" {
				require.Empty(t, told, "another build wrote it")
			} else {
				require.Equal(t, []string{"read answer: decode answer: malformed (bad_json)"}, told)
			}
			setup(t, s).ask(t.Context(), within("after", time.Minute)).shared(t, 1)
		})
	}
}

// A bucket that is away costs the first query its timeout and no answer; then it is left alone for a while.
func TestABucketThatIsAway(t *testing.T) {
	t.Parallel()
	away := errors.New("away")
	for name, c := range map[string]struct {
		before func(ctx context.Context, what string) error
		told   string
		delay  time.Duration
	}{
		"nothing can be read": {func(_ context.Context, what string) error {
			if what == "get" {
				return away
			}
			return nil
		}, "read answer: away", 0},
		"nothing can be written": {func(_ context.Context, what string) error {
			if what == "put" {
				return away
			}
			return nil
		}, "keep answer: away", 0},
		"nothing comes back": {func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}, "read answer: context deadline exceeded", timeout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, began := newShelf(), time.Now()
				b := setup(t, s)
				works := s.before
				s.before = c.before
				first := b.ask(t.Context(), within("1", time.Second))
				first.fresh(t, 1)
				require.Equal(t, c.delay+callTime, first.at.Sub(began))
				require.Equal(t, []string{c.told}, b.told())
				gets, puts := s.counts()

				time.Sleep(rest/2 + time.Second)
				began = time.Now()
				second := b.ask(t.Context(), within("2", time.Second))
				second.fresh(t, 2)
				require.Equal(t, callTime, second.at.Sub(began))
				require.Empty(t, b.told())
				sameGets, samePuts := s.counts()
				require.Equal(t, []int{gets, puts}, []int{sameGets, samePuts}, "it is left alone")

				time.Sleep(rest)
				s.before = works
				b.ask(t.Context(), within("3", time.Second)).fresh(t, 3)
				require.Empty(t, b.told())
				require.Len(t, s.values, 1, "and it is used again")
			})
		})
	}
}

// That a query's own time is over says nothing about the bucket.
func TestAQuerysEndIsNoTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		b := setup(t, s)
		s.before = func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		}
		ctx, cancel := context.WithTimeout(t.Context(), timeout/2)
		defer cancel()
		require.Error(t, b.ask(ctx, within("1", time.Minute)).err)
		require.Empty(t, b.told())
		s.before = newShelf().before
		b.ask(t.Context(), within("2", time.Minute)).fresh(t, 2)
		gets, puts := s.counts()
		require.Equal(t, []int{2, 1}, []int{gets, puts})
	})
}

// Nobody needs to listen to troubles.
func TestTroubleThatNobodyHears(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.before = func(context.Context, string) error { return errors.New("away") }
		b := setup(t, s)
		b.OnTrouble = nil
		b.ask(t.Context(), within("1", time.Minute)).fresh(t, 1)
	})
}

// An answer that can't be written is one for whoever asked.
func TestAnswerThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		b := setup(t, s)
		b.call = func(_ context.Context, n int, _ *query.Query) (query.Answer, error) {
			odd := answer(n)
			odd.Upstream.Message = testCard + "\xff"
			return odd, nil
		}
		b.ask(t.Context(), within("1", time.Minute)).fresh(t, 1)
		require.Equal(t, []string{"keep answer: encode answer: unknown (unclassified)"}, b.told())
		b.ask(t.Context(), within("2", time.Minute)).shared(t, 1)
	})
}
