package demo

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

func TestDemoAnswersEveryQueryOnce(t *testing.T) {
	t.Parallel()
	kept := filepath.Join(t.TempDir(), "kept")
	var mu sync.Mutex
	var seen []Progress
	summary, err := Run(t.Context(), Options{Queries: 40, Keep: kept, Build: "test", OnProgress: func(p Progress) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, p)
	}})
	require.NoError(t, err)
	require.True(t, summary.OK())
	require.Equal(t, 40, summary.Sent)
	require.Equal(t, 40, summary.Completed)
	require.Zero(t, summary.Failed+summary.Dead+summary.Duplicates+summary.Missing)
	require.GreaterOrEqual(t, summary.UpstreamCalls, uint64(40))
	require.Positive(t, summary.P50)
	require.GreaterOrEqual(t, summary.P99, summary.P50)
	require.Positive(t, summary.Seconds)
	require.Equal(t, kept, summary.Kept)

	require.NotEmpty(t, seen, "it tells how far it is")
	require.Equal(t, Progress{Sent: 40, Completed: 40, Of: 40}, seen[len(seen)-1], "the last word is the end")
	for i := 1; i < len(seen); i++ {
		require.GreaterOrEqual(t, seen[i].Sent, seen[i-1].Sent)
	}
	requireKept(t, kept)

	_, err = Run(t.Context(), Options{Queries: 1, Keep: kept})
	require.ErrorContains(t, err, "give --keep a new directory")
	requireKept(t, kept)
}

// TestWorkersOfADemoShareOneRate has so many questions for so low a rate that two workers which share nothing would call twice as often. They
// run in one process here; real ones are started and killed in cmd/worker.
func TestWorkersOfADemoShareOneRate(t *testing.T) {
	t.Parallel()
	const rate, burst, queries = 40, 10, 320
	d := &demo{
		Options: Options{Queries: queries, Workers: 2, Build: "test"}, dir: t.TempDir(),
		pace: config.Pace{Rate: config.Rate{Calls: rate, Per: time.Second}, Burst: burst},
	}
	summary, err := d.run(t.Context())
	require.NoError(t, err)
	require.True(t, summary.OK())
	require.Equal(t, queries, summary.Completed)
	require.Equal(t, []int{rate, burst}, []int{summary.Agreed, summary.Burst})
	t.Logf("%.1f s, %v calls, at most %d in a second, %d too many", summary.Seconds, summary.Workers, summary.MostInASecond, summary.TooMany)
	require.Len(t, summary.Workers, 2)
	for _, calls := range summary.Workers {
		require.Positive(t, calls, "each has its share")
	}
	// A worker that waits for a processor after it has its permit may be a second late on a busy machine: what it asks then comes with the next calls.
	for _, provider := range []sandbox.Provider{sandbox.EasyPay, sandbox.UnionPay} {
		require.Zero(t, d.sandbox.Violations(provider, rate, burst+rate), "calls beyond the one rate at %s", provider)
	}
}

// requireKept checks that a directory holds what a demo leaves, and no card number in the clear.
func requireKept(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"store", "keys", "upi", "worker.log"} {
		_, err := os.Stat(filepath.Join(dir, name))
		require.NoError(t, err)
	}
	files := 0
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		for _, number := range testCards {
			require.NotContains(t, string(content), number, path)
		}
		files++
		return err
	}))
	require.Greater(t, files, 10)
}

func TestDemoWithoutQueriesAndListener(t *testing.T) {
	t.Parallel()
	summary, err := Run(t.Context(), Options{})
	require.NoError(t, err)
	require.True(t, summary.OK())
	require.Zero(t, summary.Sent)
	require.Empty(t, summary.Kept)
}

// TestInterruptedDemoCleansUp can't run beside others: it gives the process a directory for temporary files of its own.
func TestInterruptedDemoCleansUp(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	enough := errors.New("enough")
	summary, err := Run(ctx, Options{Queries: 20_000, OnProgress: func(p Progress) {
		entries, readErr := os.ReadDir(temporary)
		require.NoError(t, readErr)
		require.Len(t, entries, 1)
		if p.Completed > 0 {
			cancel(enough)
		}
	}})
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, summary.Sent, 10_000, "it stops asking")
	requireEmpty(t, temporary)

	_, err = Run(ctx, Options{Queries: 1})
	require.ErrorIs(t, err, context.Canceled, "before it began")
	requireEmpty(t, temporary)
}

func requireEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := Run(t.Context(), Options{Keep: filepath.Join(file, "below")})
	require.ErrorContains(t, err, "make directory")
}

func TestSummary(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		summary Summary
		ok      bool
	}{
		"all answered":    {Summary{Sent: 2, Completed: 1, Failed: 1, Dead: 1}, true},
		"one is missing":  {Summary{Sent: 2, Completed: 1, Missing: 1}, false},
		"one came twice":  {Summary{Sent: 1, Completed: 1, Duplicates: 1}, false},
		"nothing to show": {Summary{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.ok, test.summary.OK())
		})
	}
}

func TestTally(t *testing.T) {
	t.Parallel()
	counts := &tally{sent: map[string]time.Time{}, statuses: map[string][]query.Status{}, done: make(chan struct{}), want: 3}
	for _, key := range []string{"a", "b", "c", "d"} {
		counts.send(key)
	}
	subjects := query.NewSubjects("discount")
	for _, stored := range []struct{ key, status string }{{"a", "completed"}, {"b", "failed"}, {"a", "completed"}} {
		counts.add(subjects.Result(stored.key, query.EasyPay, "demo", stored.status))
	}
	require.Equal(t, Progress{Sent: 4, Completed: 1, Failed: 1, Of: 9}, counts.progress(9))
	select {
	case <-counts.done:
		require.Fail(t, "a duplicate is not one more answer")
	default:
	}
	counts.add(subjects.Result("c", query.UnionPay, "demo", "completed"))
	<-counts.done
	counts.add(subjects.Result("b", query.EasyPay, "demo", "failed")) // After the end too.
	require.Len(t, counts.latencies, 3)
	summary := counts.summary(time.Now())
	require.Equal(t, []int{4, 2, 1, 2, 1}, []int{summary.Sent, summary.Completed, summary.Failed, summary.Duplicates, summary.Missing})
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i+1) * time.Millisecond
	}
	require.Zero(t, quantile(nil, 50))
	require.InDelta(t, 7.5, quantile([]time.Duration{7500 * time.Microsecond}, 99), 1e-9)
	require.InDelta(t, 50, quantile(hundred, 50), 1)
	require.InDelta(t, 99, quantile(hundred, 99), 1)
}

func TestQuestionsAreOfEveryKind(t *testing.T) {
	t.Parallel()
	d := &demo{}
	seen, ids := map[string]int{}, map[string]bool{}
	for i := range 200 {
		question, err := d.question(i)
		require.NoError(t, err)
		ids[question.ID] = true
		seen[string(question.Provider)+" "+string(question.Lane)]++
		require.Equal(t, question.Provider == query.UnionPay, question.Card != nil)
		if question.EasyPay != nil {
			require.NotEqual(t, question.EasyPay.CardCd == "", question.EasyPay.CardBin == "", "one of them, never both")
		}
	}
	require.Len(t, ids, 200)
	for _, kind := range []string{"easypay interactive", "easypay bulk", "unionpay interactive", "unionpay bulk"} {
		require.Positive(t, seen[kind], kind)
	}
}
