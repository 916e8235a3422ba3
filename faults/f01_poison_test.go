//go:build faults

package faults

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestF01CrashPoison asks a query whose handling kills its worker, each time, and others behind it. Each worker that dies is replaced. The
// query is set aside after three of them, and those behind it are answered.
func TestF01CrashPoison(t *testing.T) {
	t.Parallel()
	const crashes, behind = 3, 10
	s := newSite(t, siteOptions{})
	l := newLoad(s)
	struck := s.killerQuery(100_001)
	l.publish(t.Context(), 1)
	w, killed := s.launch(t), 0
	for ctx := within(t, soon); ctx.Err() == nil; {
		select {
		case <-struck:
			w.kill()
			killed++
			w = s.launch(t)
			for !w.ready() && ctx.Err() == nil {
				w.startAgain(t)
				pause(ctx, 20*time.Millisecond)
			}
			// Nothing goes to the pulls of the dead one any more. They may be in the next worker's hands when it dies, but not in those of as many
			// as it takes to be set aside.
			l.publish(t.Context(), behind)
		case <-time.After(50 * time.Millisecond):
			w.startAgain(t)
		}
		if killed > crashes || killed > 0 && s.underWay(ctx) == "" {
			break
		}
	}
	require.LessOrEqual(t, killed, crashes, "the query kills one worker after the other")
	// A delivery that got lost on its way to a worker who was about to die counts too.
	require.GreaterOrEqual(t, killed, crashes-1, "one crash may be chance")
	found := s.finish(t, l, soon, crashes)
	require.Equal(t, killed, s.upstream.callsOf(100_001))
	require.Equal(t, map[string]int{"quarantined": 1}, found.Reasons)
	require.Equal(t, 1, found.Dead)
	require.Equal(t, killed*behind, found.Completed)
	require.False(t, w.ended(), "the last worker has to live")
	w.awaitReady(t)
	t.Logf("F1: a query that kills its worker has killed %d; %d behind it were answered, for %v calls", killed, found.Completed, found.Calls)
}

// killerQuery makes the upstream answer a query about an amount never, and tell of each call for it: whoever hears of it has to kill the
// worker that called.
func (s *site) killerQuery(amount int64) <-chan struct{} {
	struck := make(chan struct{})
	answer := s.upstream.server.Config.Handler
	s.upstream.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		if err != nil || !bytes.Contains(body, fmt.Append(nil, amount)) {
			answer.ServeHTTP(w, r)
			return
		}
		s.upstream.mu.Lock()
		s.upstream.calls[amount]++
		s.upstream.mu.Unlock()
		select {
		case struck <- struct{}{}:
		case <-r.Context().Done():
		}
		<-r.Context().Done()
	})
	return struck
}

// TestF01CrashTogether has a query whose handling kills its worker in the same hands as others, from the first crash on: all of them are delivered
// again at the same time. Only that one is set aside.
func TestF01CrashTogether(t *testing.T) {
	t.Parallel()
	const crashes, others = 3, 7
	s := newSite(t, siteOptions{})
	s.upstream.misbehave(t, "easypay:latency=500ms")
	l := newLoad(s)
	struck := s.killerQuery(100_001)
	l.publish(t.Context(), 1+others)
	w, killed := s.launch(t), 0
	for ctx := within(t, soon); ctx.Err() == nil && s.underWay(ctx) != ""; {
		select {
		case <-struck:
			pause(ctx, 100*time.Millisecond) // The others' calls are on their way.
			w.kill()
			killed++
			w = s.launch(t)
		case <-time.After(50 * time.Millisecond):
			w.startAgain(t)
		}
	}
	found := s.finish(t, l, soon, crashes)
	require.Positive(t, found.Calls[2]+found.Calls[3], "the others were in its hands")
	require.Equal(t, map[string]int{"quarantined": 1}, found.Reasons)
	require.Equal(t, others, found.Completed)
	require.Contains(t, []int{crashes - 1, crashes}, s.upstream.callsOf(100_001))
	t.Logf("F1: a query that kills its worker has killed %d; %d in the same hands were answered, for %v calls", killed, found.Completed, found.Calls)
}
