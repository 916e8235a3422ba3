//go:build faults

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// The streams, by their names in the broker.
const (
	queriesStream = "DISCOUNT_QUERIES"
	retriesStream = "DISCOUNT_RETRIES"
	resultsStream = "DISCOUNT_RESULTS"
	deadStream    = "DISCOUNT_DEAD"
)

// ledger is what the streams hold at the end, query by query.
type ledger struct {
	results map[string][]result
	letters map[string]int
}

// result is one stored result.
type result struct {
	completed  bool
	reason     string
	deadLetter bool
}

// report is the outcome of a fault run.
type report struct {
	Queries, Completed, Failed, Dead int
	// Lost counts confirmed queries without a result, Double those with more than one.
	Lost, Double int
	// Unlettered counts failed results that promise a dead letter that is not there, Unanswered dead letters without a result.
	Unlettered, Unanswered int
	// Stale counts dead letters of queries that were completed: ops would replay what has its answer. Twice counts letters beyond the first.
	Stale, Twice int
	// Reasons counts the failed results by reason.
	Reasons map[string]int
	// Calls says how many queries cost how many calls to the upstream.
	Calls map[int]int
	// Drained is how long after the last fault the last outcome came.
	Drained time.Duration
	figures
}

// String returns the report as one line.
func (r report) String() string {
	return fmt.Sprintf("queries %d, completed %d, failed %d %v, dead %d, lost %d, double %d, unlettered %d, unanswered %d, stale %d, twice %d, calls %v, drained in %s, "+
		"deliveries %d (redelivered %d, worst %d), acks %d, results refused %d, retries %d, answers lost %d",
		r.Queries, r.Completed, r.Failed, r.Reasons, r.Dead, r.Lost, r.Double, r.Unlettered, r.Unanswered, r.Stale, r.Twice, r.Calls, r.Drained.Round(10*time.Millisecond),
		r.Deliveries, r.Redelivered, r.Worst, r.Acks, r.Refused, r.Scheduled, r.AnswersLost)
}

// finish waits until nothing is under way any more, reads what is stored and judges it: exactly one result for each confirmed query,
// each promised dead letter (I1), no ack before its outcome (I2), calls within the bound (I5), and all of it within the time (I8).
func (s *site) finish(t *testing.T, l *load, within time.Duration, mostCalls int) report {
	t.Helper()
	began := time.Now()
	left := s.quiesce(t, within)
	found := s.report(t, l)
	found.Drained = time.Since(began)
	t.Logf("%s", found)
	require.Empty(t, left, "I8: still under way after %s", within)
	require.Zero(t, found.Lost, "I1: queries without a result")
	require.Zero(t, found.Double, "I1: queries with two results")
	require.Zero(t, found.Unlettered, "I1: failed results without the dead letter they promise")
	require.Zero(t, found.Unanswered, "I1: dead letters without a failed result")
	require.Zero(t, found.Stale, "I1: dead letters of completed queries")
	require.Zero(t, found.Twice, "I1: second dead letters")
	require.Empty(t, s.wire.earlyAcks(), "I2: acks before their outcome")
	for calls := range found.Calls {
		require.LessOrEqual(t, calls, mostCalls, "I5: calls for one query")
	}
	return found
}

// requireNoneAgain requires that no query waited for its ack wait. What the broker sends to a pull while its worker gives it up, because it
// got no processor for two seconds, comes again: such a pull, which the worker has told of, excuses as many queries as it may have asked for.
func (s *site) requireNoneAgain(t *testing.T, found report) {
	t.Helper()
	givenUp := 0
	for _, output := range s.outputs {
		givenUp += output.pullsGivenUp()
	}
	t.Logf("delivered again %d (target 0); pulls given up %d", found.Redelivered, givenUp)
	require.LessOrEqual(t, found.Redelivered, givenUp*slotsOfAPull, "I7: queries waited for their ack wait")
}

// slotsOfAPull is how many queries a worker asks for at most at once, where a test says nothing else.
const slotsOfAPull = 32

// quiesce waits until the queues are empty and returns what is left in them.
func (s *site) quiesce(t *testing.T, within time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	left := "unknown"
	for ctx.Err() == nil {
		now := s.underWay(ctx)
		if now == "" {
			return ""
		}
		if ctx.Err() == nil {
			left = now // A look that the end of the time cut short says nothing.
		}
		pause(ctx, 50*time.Millisecond)
	}
	return left
}

// underWay says what lies in the queues, "" if nothing does.
func (s *site) underWay(ctx context.Context) string {
	var left []string
	for _, name := range []string{queriesStream, retriesStream} {
		stream, err := s.js.Stream(ctx, name)
		if err != nil {
			return name + " can't be read"
		}
		if n := stream.CachedInfo().State.Msgs; n > 0 {
			left = append(left, fmt.Sprintf("%d in %s", n, name))
		}
	}
	return strings.Join(left, ", ")
}

// report reads the streams and counts.
func (s *site) report(t *testing.T, l *load) report {
	t.Helper()
	books := s.read(t)
	found := report{Calls: map[int]int{}, Reasons: map[string]int{}, figures: s.wire.figuresNow()}
	for key, amount := range l.confirmed() {
		found.Queries++
		found.Calls[s.upstream.callsOf(amount)]++
		stored := books.results[key]
		switch {
		case len(stored) == 0:
			found.Lost++
		case len(stored) > 1:
			found.Double++
		case stored[0].completed:
			found.Completed++
		default:
			found.Failed++
			found.Reasons[stored[0].reason]++
		}
		if slices.ContainsFunc(stored, func(r result) bool { return r.deadLetter }) && books.letters[key] == 0 {
			found.Unlettered++
		}
		found.Dead += books.letters[key]
		found.Twice += max(0, books.letters[key]-1)
		if len(stored) == 1 && stored[0].completed {
			found.Stale += books.letters[key]
		}
		if books.letters[key] > 0 && len(stored) == 0 {
			found.Unanswered++
		}
	}
	return found
}

// read reads the results and the dead letters.
func (s *site) read(t *testing.T) ledger {
	t.Helper()
	books := ledger{results: map[string][]result{}, letters: map[string]int{}}
	s.each(t, resultsStream, func(message jetstream.Msg) {
		key, ok := tokenAfter(message.Subject(), "discount.result.")
		require.True(t, ok)
		var event struct {
			Data struct {
				Reason     string `json:"reason"`
				DeadLetter bool   `json:"deadLetter"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal(message.Data(), &event))
		books.results[key] = append(books.results[key], result{
			completed: strings.HasSuffix(message.Subject(), ".completed"), reason: event.Data.Reason, deadLetter: event.Data.DeadLetter,
		})
	})
	s.each(t, deadStream, func(message jetstream.Msg) {
		key, ok := tokenAfter(message.Subject(), "discount.dead.")
		require.True(t, ok)
		books.letters[key]++
	})
	return books
}

// each calls use with every message of a stream.
func (s *site) each(t *testing.T, name string, use func(jetstream.Msg)) {
	t.Helper()
	ctx := within(t, soon)
	stream, err := s.js.Stream(ctx, name)
	require.NoError(t, err)
	info, err := stream.Info(ctx)
	require.NoError(t, err)
	if info.State.Msgs == 0 {
		return
	}
	reader, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverAllPolicy, InactiveThreshold: time.Minute, MemoryStorage: true, Replicas: 1,
	})
	require.NoError(t, err)
	for read := uint64(0); read < info.State.Msgs; {
		batch, err := reader.Fetch(500, jetstream.FetchMaxWait(time.Second))
		require.NoError(t, err)
		for message := range batch.Messages() {
			use(message)
			read++
		}
		require.NoError(t, ctx.Err(), "%s: read %d of %d messages", name, read, info.State.Msgs)
	}
	require.NoError(t, stream.DeleteConsumer(ctx, reader.CachedInfo().Name))
}
