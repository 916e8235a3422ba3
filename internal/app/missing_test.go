package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/telemetry"
)

func TestMissingStreamIsTold(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"nobody answers a publish": {jetstream.ErrNoStreamResponse, true},
		"no such stream":           {&jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamNotFound}, true},
		"wrapped":                  {fault.Because("store", fault.Unavailable, fault.BrokerUnreachable, jetstream.ErrStreamNotFound), true},
		"too slow":                 {context.DeadlineExceeded, false},
		"full":                     {&jetstream.APIError{ErrorCode: 10077}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, noStream(test.err))
		})
	}
}

// TestPaceThatIsNotKnownIsTold loses the store of the pace for a moment, and then for longer.
func TestPaceThatIsNotKnownIsTold(t *testing.T) {
	t.Parallel()
	a := &App{health: telemetry.NewHealth(fleetPace)}
	var since time.Time
	now := time.Now()
	look := func(away bool) bool {
		now = now.Add(paceLook)
		since = a.judgePace(away, now, since)
		return a.health.Problems()[fleetPace] == "not known, so nothing is asked"
	}
	require.False(t, look(false))
	require.Empty(t, a.health.Problems())
	for range pacePatience / paceLook {
		require.False(t, look(true), "a moment is nothing")
	}
	require.False(t, look(false))
	for range pacePatience / paceLook {
		require.False(t, look(true), "it begins anew")
	}
	require.True(t, look(true))
	require.True(t, look(true))
	require.False(t, look(false))
	require.Empty(t, a.health.Problems())
}

func TestMemoryForgetsAfterTheLastNote(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var m memory
		forgotten := make(chan time.Time, 2)
		began := time.Now()
		forget := func() { forgotten <- time.Now() }
		m.later(denialMemory, forget)
		time.Sleep(denialMemory - time.Second)
		m.later(denialMemory, forget)
		require.Equal(t, 2*denialMemory-time.Second, (<-forgotten).Sub(began))
		synctest.Wait()
		require.Empty(t, forgotten)
	})
}
