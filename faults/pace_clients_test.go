//go:build faults

package faults

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// TestF31Clients has twenty clients that the configuration names. One has published thousands of queries before the others publish between
// three and some hundreds. All that still have queries waiting have to get the same, and who has few must be done after the few calls
// that are due to him, as if the thousands were not there.
func TestF31Clients(t *testing.T) {
	t.Parallel()
	const rate, burst, workers, clients = 400, 40, 2, 20
	most, step := 2_000, 5
	if paceInFull() {
		most, step = 20_000, 30
	}
	names := make([]string, clients)
	backlogs := map[string]int{}
	for i := range names {
		names[i] = fmt.Sprintf("client-%02d", i)
		backlogs[names[i]] = 3 + step*i
	}
	backlogs[names[clients-1]] = most
	p := newPaced(t, rate, burst, "clients: ["+strings.Join(names, ", ")+"]")
	results := p.follow(t)
	p.publishAs(t, names[clients-1:], backlogs)
	first := p.load.confirmed()
	p.publishAs(t, names[:clients-1], backlogs)
	few := map[string]time.Time{}
	for key := range p.load.confirmed() {
		if _, many := first[key]; !many {
			few[key] = time.Now()
		}
	}
	p.begin(t, workers)
	require.Eventually(t, func() bool { _, all := results.since(few); return all }, patience, 100*time.Millisecond, "who has few queries is done")
	p.hasten(t)
	p.finish(t, p.load, patience, 20)
	shares := shareOut(p.order(t), backlogs, 15)
	t.Logf("F31: %d clients with %d to %d queries: Jain's index of those who waited at least %.4f; done after at most %.2f of their fair share of calls, and %d calls more",
		clients, backlogs[names[0]], most, shares.jain, shares.times, shares.late)
	require.GreaterOrEqual(t, shares.jain, 0.95)
	held := workers * slotsEach
	if !paceInFull() {
		held += int(rate * onTheWay.Seconds()) // Other tests are on all processors: a worker may stand still while the other one goes on.
	}
	require.LessOrEqual(t, shares.late, held, "who has few queries was done later than what the workers hold explains")
}

// publishAs publishes the backlogs of some clients, all at the same time.
func (p *paced) publishAs(t *testing.T, names []string, backlogs map[string]int) {
	t.Helper()
	const publishers = 4
	var publishing sync.WaitGroup
	var all []*load
	for _, name := range names {
		p.load.mu.Lock()
		p.load.last += 1_000_000
		from := p.load.last
		p.load.mu.Unlock()
		l := newLoad(p.site)
		l.client.Name, l.lane, l.last = name, query.Bulk, from
		all = append(all, l)
		for part := range publishers {
			publishing.Go(func() { l.publish(t.Context(), (backlogs[name]+part)/publishers) })
		}
	}
	publishing.Wait()
	for _, l := range all {
		p.load.join(l)
	}
}

// order returns whose queries the stored results answer, in the order in which they were stored.
func (p *paced) order(t *testing.T) []string {
	t.Helper()
	var clients []string
	p.each(t, resultsStream, func(message jetstream.Msg) {
		clients = append(clients, strings.Split(message.Subject(), ".")[4]) // discount.result.<key>.<provider>.<client>.<status>
	})
	return clients
}

// shares say how evenly clients were served.
type shares struct {
	// jain is the lowest of Jain's index over the calls of all clients who still waited, after any call.
	jain float64
	// late is by how many calls a client was done later than its fair share, and times by how many times, at worst.
	late  int
	times float64
}

// shareOut judges the order in which clients were served who had these backlogs from the start. The fair share of calls after which a client is
// done is what it and all others get while all get the same: its own backlog from each, or all of a smaller one. Jain's index says something
// once those who wait have had so many calls each.
func shareOut(order []string, backlogs map[string]int, each int) shares {
	found := shares{jain: 1}
	got := map[string]int{}
	for served, client := range order {
		got[client]++
		fair, sum := 0, 0
		var waiting []int
		for other, backlog := range backlogs {
			fair += min(backlog, backlogs[client])
			if got[other] < backlog {
				waiting = append(waiting, got[other])
				sum += got[other]
			}
		}
		if len(waiting) > 0 && sum >= each*len(waiting) {
			found.jain = min(found.jain, jain(waiting))
		}
		if got[client] == backlogs[client] {
			found.late = max(found.late, served+1-fair)
			found.times = max(found.times, float64(served+1)/float64(fair))
		}
	}
	return found
}

// jain returns Jain's index of fairness: 1 if all have the same, one in so many if one has all.
func jain(got []int) float64 {
	var sum, squares float64
	for _, n := range got {
		sum += float64(n)
		squares += float64(n * n)
	}
	return sum * sum / (float64(len(got)) * squares)
}

// TestF31Shares keeps the figures above honest.
func TestF31Shares(t *testing.T) {
	t.Parallel()
	backlogs := map[string]int{"a": 1, "b": 3, "c": 10, "d": 10}
	require.InDelta(t, 0.5, jain([]int{1, 0}), 1e-9)
	require.InDelta(t, 1, jain([]int{7, 7, 7}), 1e-9)
	turns := strings.Split("a b c d b c d b c d c d c d c d c d c d c d c d", " ")
	require.Equal(t, shares{jain: 0.89, late: 0, times: 1}, rounded(shareOut(turns, backlogs, 1)))
	queue := slices.Sorted(slices.Values(turns)) // One client after the other, as they came.
	slices.Reverse(queue)
	require.Equal(t, shares{jain: 0.25, late: 20, times: 6}, rounded(shareOut(queue, backlogs, 1)))
}

func rounded(s shares) shares {
	s.jain, s.times = math.Round(s.jain*100)/100, math.Round(s.times*100)/100
	return s
}
