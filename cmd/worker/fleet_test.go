package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/freeport"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// TestWorkersShareOneRate starts, stops and kills worker processes under a backlog. However many there are, the upstream must not see more than one
// of them may ask, and each query has its one result. `make pace` does the same for a quarter of an hour.
func TestWorkersShareOneRate(t *testing.T) {
	t.Parallel()
	const rate, burst, queries = 40, 10, 320
	m := newMorgue(t)
	keys := m.publish(t, "shop", queries)
	fleet := m.startFleet(t, 3, fmt.Sprintf("%d/s", rate), burst)
	m.asked(t, queries*3/4) // By then three that share nothing would have asked twice as much.
	fleet[0].kill(t)
	require.NoError(t, fleet[1].cmd.Process.Signal(syscall.SIGTERM))
	m.asked(t, queries*7/8)
	m.startFleet(t, 2, fmt.Sprintf("%d/s", rate), burst)
	require.Eventually(t, func() bool { return len(m.statuses(t, "shop")) == queries }, 2*time.Minute, 50*time.Millisecond)

	statuses := m.statuses(t, "shop")
	for _, key := range keys {
		require.Equal(t, "completed ", statuses[key])
	}
	// A process that waits for a processor after it has its permit may be a second late on a busy machine: what it asks then comes with the next calls.
	arrivals := m.arrivals(t)
	require.Zero(t, sandbox.Violations(arrivals, rate, burst+rate), "calls beyond the rate of all workers together")
	require.GreaterOrEqual(t, len(arrivals), queries)
}

// startFleet starts workers beside each other, each with an admin page of its own and the same pace.
func (m *morgue) startFleet(t *testing.T, n int, rate string, burst int) []*process {
	t.Helper()
	var fleet []*process
	for range n {
		fleet = append(fleet, startWith(t, []string{
			"DISCOUNT_ADMIN__LISTEN=" + freeport.Address(t), "DISCOUNT_PROVIDERS__EASYPAY__PACE__RATE=" + rate,
			fmt.Sprintf("DISCOUNT_PROVIDERS__EASYPAY__PACE__BURST=%d", burst),
		}, "worker", m.dir, "run", "-c", m.config))
	}
	return fleet
}

// asked waits until the upstream was asked so often.
func (m *morgue) asked(t *testing.T, calls int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(m.arrivals(t)) >= calls }, 2*time.Minute, 20*time.Millisecond)
}

// arrivals returns when the upstream was asked.
func (m *morgue) arrivals(t *testing.T) []time.Duration {
	t.Helper()
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + m.sandbox + "/arrivals?provider=easypay")
	require.NoError(t, err)
	var arrivals []time.Duration
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&arrivals))
	require.NoError(t, answer.Body.Close())
	return arrivals
}
