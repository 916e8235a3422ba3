package quota

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// TestResetLiftsABlock resets an account whose upstream wants to be left alone for five minutes.
func TestResetLiftsABlock(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*testing.T, *world){
		"at once":                  func(*testing.T, *world) {},
		"after a pause":            func(t *testing.T, w *world) { require.NoError(t, Pause(t.Context(), w.store, easy, Author{})) },
		"the control is broken":    func(_ *testing.T, w *world) { w.breakControl() },
		"somebody waits":           func(_ *testing.T, w *world) { w.running.Go(func() { _ = ask(w.replicas[1].ctx, w.replicas[1]) }) },
		"the next call is far off": func(_ *testing.T, w *world) { w.replicas[1].accounts[easy].free = w.replicas[1].now() + time.Minute },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, settings := range []Settings{{Ceiling: 10, Burst: 10}, {}} {
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(settings, 7)
					for range 2 {
						r := w.add()
						require.NoError(t, ask(within(t, 5*time.Second), r))
					}
					refused := w.replicas[0]
					refused.Throttled(easy, refused.Clock().Wall, 5*time.Minute)
					time.Sleep(2 * time.Second)
					for _, r := range w.replicas {
						requireEnded(t, ask(within(t, time.Minute), r), fault.Expired, fault.DeadlinePassed)
					}
					meanwhile(t, w)
					time.Sleep(2 * time.Second)
					require.NoError(t, Reset(t.Context(), w.store, easy, settings, Author{By: "ops"}))
					time.Sleep(time.Second)
					for _, r := range w.replicas {
						require.Less(t, r.Delay(easy, Ask), 2*time.Second)
						require.Positive(t, r.Capacity(query.EasyPay, query.Interactive))
						require.NoError(t, ask(within(t, 3*time.Second), r))
					}
					w.end()
				})
			}
		})
	}
}

// breakControl makes the account's control unreadable.
func (w *world) breakControl() {
	w.store.mu.Lock()
	revision := w.store.entries[easy.controlKey()].Revision
	w.store.mu.Unlock()
	w.store.put(easy.controlKey(), []byte(`{`), revision)
}

// TestWhatIsNoResetLiftsNoBlock changes the controls of a blocked account in all other ways.
func TestWhatIsNoResetLiftsNoBlock(t *testing.T) {
	t.Parallel()
	alone(t, Settings{Ceiling: 10, Burst: 10}, func(t *testing.T, w *world, r *replica) {
		require.NoError(t, ask(within(t, 5*time.Second), r))
		r.Throttled(easy, r.Clock().Wall, 5*time.Minute)
		began := time.Now()
		time.Sleep(2 * time.Second)
		require.NoError(t, Pause(t.Context(), w.store, easy, Author{}))
		require.NoError(t, Resume(t.Context(), w.store, easy, Author{}))
		require.NoError(t, Set(t.Context(), w.store, easy, 5, Author{}))
		time.Sleep(2 * time.Second)
		requireEnded(t, ask(within(t, time.Minute), r), fault.Expired, fault.DeadlinePassed)
		require.NoError(t, ask(within(t, 6*time.Minute), r))
		require.GreaterOrEqual(t, time.Since(began), 5*time.Minute)
	})
}

// TestResetKeepsABlockThatIsNotToldYet lets a worker hear of a reset before it could tell the others what the upstream said to it alone: that
// comes into the store after the reset, and counts.
func TestResetKeepsABlockThatIsNotToldYet(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		own  time.Duration
		left time.Duration
	}{"longer": {2 * time.Minute, 2 * time.Minute}, "shorter": {30 * time.Second, 0}, "none": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := New(Options{Store: newFakeStore(1), Accounts: map[Account]Settings{easy: {Ceiling: 10, Burst: 10}}})
				f.heard(Entry{})
				said := time.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano)
				f.heard(Entry{Key: easy.controlKey(), Value: []byte(`{"blocked_until":"` + said + `"}`)})
				require.Equal(t, time.Minute, f.Delay(easy, Ask))
				f.Throttled(easy, time.Now(), tc.own)
				f.heard(Entry{Key: easy.controlKey(), Value: []byte(`{"by":"ops"}`)})
				require.Equal(t, tc.left, f.Delay(easy, Ask))
			})
		})
	}
}
