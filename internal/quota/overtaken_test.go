package quota

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSlotThatSomebodyElseTookIsLeasedAgain gives the one slot that was leased for a bulk query to an interactive one that comes later.
func TestSlotThatSomebodyElseTookIsLeasedAgain(t *testing.T) {
	t.Parallel()
	a := newAccount(Account{Name: "default"}, Settings{Ceiling: 10, Burst: 5}, 0.1)
	a.heard = true
	newWaiter := func() *waiter { return &waiter{granted: make(chan slot, 1), deadline: forever} }
	a.waiting.push(Bulk, "shop", newWaiter())
	a.slots = []slot{{from: time.Second, until: 2 * time.Second, slack: time.Second}}
	require.Equal(t, time.Second, a.grant(0), "its time has not come")
	require.Empty(t, a.lease)
	interactive := a.waiting.push(Interactive, "shop", newWaiter())
	require.Equal(t, forever, a.grant(time.Second))
	require.Len(t, interactive.value.granted, 1)
	require.Equal(t, 1, a.waiting.length)
	require.Len(t, a.lease, 1, "the leaser looks again, or the bulk query would wait for ever")
}
