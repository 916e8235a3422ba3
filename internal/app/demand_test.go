package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/gauge"
	"discountquery.example/worker/internal/query"
)

// outcomes keeps what an observer is told.
type outcomes []decide.Outcome

// Observe implements worker.Observer.
func (o *outcomes) Observe(outcome decide.Outcome) { *o = append(*o, outcome) }

func TestTimeInTheSlotsIsLearnt(t *testing.T) {
	t.Parallel()
	var told outcomes
	o := observed{Observer: &told, holding: gauge.NewHolding()}
	began := time.Now()
	done := decide.Outcome{
		Query:   &query.Query{Provider: query.EasyPay, Lane: query.Bulk},
		Started: began, Finished: began.Add(3 * time.Second), Received: began.Add(-time.Hour), Waited: time.Second,
	}
	o.Observe(done)
	asked := done
	asked.Query, asked.Finished = &query.Query{Provider: query.EasyPay, Lane: query.Bulk, Direct: true}, began.Add(time.Hour)
	o.Observe(asked)
	hold, waited := o.holding.Mean("easypay", "bulk")
	require.Equal(t, 2*time.Second, hold)
	require.Equal(t, time.Second, waited)
	require.Len(t, told, 2, "both are told on")
}

// TestTimeOfAReplayIsLearntAsBulk shows a replay of an interactive query, which holds a slot of the bulk lane.
func TestTimeOfAReplayIsLearntAsBulk(t *testing.T) {
	t.Parallel()
	o := observed{Observer: &outcomes{}, holding: gauge.NewHolding()}
	unknown, _ := o.holding.Mean("easypay", "interactive")
	began := time.Now()
	o.Observe(decide.Outcome{
		Query:   &query.Query{Provider: query.EasyPay, Lane: query.Interactive, Replay: &query.Replay{}},
		Started: began, Finished: began.Add(3 * time.Second), Received: began.Add(-time.Hour), Waited: time.Second,
	})
	hold, waited := o.holding.Mean("easypay", "bulk")
	require.Equal(t, 2*time.Second, hold)
	require.Equal(t, time.Second, waited)
	hold, waited = o.holding.Mean("easypay", "interactive")
	require.Equal(t, unknown, hold)
	require.Zero(t, waited)
}

// TestTimeInTheSlotsIsLearntFromWhatTheWorkerDoes asks a real worker.
func TestTimeInTheSlotsIsLearntFromWhatTheWorkerDoes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	r := s.run(t)
	unknown, _ := r.gauges.holding.Mean("easypay", "interactive")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, id := range []string{"1", "2", "3"} {
		_, err := r.Ask(ctx, easyPay(id, "008", query.Interactive))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool {
		hold, _ := r.gauges.holding.Mean("easypay", "interactive")
		return hold != unknown
	}, patience, 10*time.Millisecond)
}

func TestSlotsThatWork(t *testing.T) {
	t.Parallel()
	const query, retry = gauge.QueueQuery, gauge.QueueRetry
	slots := func(c config.Config, lane, kind string) int {
		a := &App{Options: Options{Config: c}, topology: Topology(c)}
		return a.workSlots(gauge.Queue{Provider: "easypay", Lane: lane, Kind: kind})
	}
	c := config.Default()
	c.Lanes.Interactive.Slots, c.Lanes.Bulk.Slots = 32, 16
	require.Equal(t, 32, slots(c, "interactive", query))
	require.Equal(t, 16, slots(c, "bulk", query))
	require.Equal(t, 8, slots(c, "interactive", retry), "retries have a quarter for themselves")
	c.Clients = []string{"shop", "till"}
	require.Equal(t, 32, slots(c, "interactive", query), "of all clients together")
	c.Clients = nil
	c.Providers.EasyPay.Accounts = map[string]*config.EasyPayAccount{"outlet": {MallIDs: []string{"7"}, Pace: c.Providers.EasyPay.Pace}}
	require.Equal(t, 64, slots(c, "interactive", query), "without those in which queries wait for the pace")
	require.Equal(t, 32, slots(c, "bulk", retry))
}
