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

// TestBulkAloneCanUseItsSlots leases slots while the server's time is known more or less well. A timer fires a little late: who may use a slot at one
// single moment only never gets one.
func TestBulkAloneCanUseItsSlots(t *testing.T) {
	t.Parallel()
	for _, settings := range []Settings{{Ceiling: 1000, Burst: 10}, {Ceiling: 100, Burst: 10}, {Ceiling: 10, Burst: 1}, {Ceiling: 5000, Burst: 2}} {
		for width := time.Duration(0); width <= 100*time.Millisecond; width += 500 * time.Microsecond {
			f := New(Options{Accounts: map[Account]Settings{easy: settings}})
			l := newLeaser(f, f.accounts[easy])
			l.state = begin(settings)
			zero := time.Now()
			known := terms{Settings: settings, vague: width + timerLateness}
			l.take(grant{start: zero.Add(time.Hour), interval: time.Millisecond, tolerance: known.tolerance(), n: 1}, span{zero: zero, early: zero, late: zero.Add(width)})
			got := l.account.slots[0]
			require.Equal(t, time.Hour, got.from)
			require.GreaterOrEqual(t, got.patient, got.from)
			require.GreaterOrEqual(t, got.until-got.patient, timerLateness, "%v with %s unknown", settings, width)

			a := l.account
			a.heard = true
			bulk := a.waiting.push(Bulk, "shop", &waiter{granted: make(chan slot, 1), deadline: forever})
			at := a.grant(got.from - 1)
			require.Equal(t, got.patient, max(at, got.from))
			a.grant(got.patient + timerLateness)
			require.Len(t, bulk.value.granted, 1, "%v with %s unknown", settings, width)
		}
	}
}
