package deadletter

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// withCanary asks for so many canaries.
func withCanary(count int) func(*Request) {
	return func(r *Request) { r.Canary = count }
}

func TestCanariesThatDieStopTheBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 20)
	b.refuse(fault.UpstreamBroken)
	b.working()
	stopped := b.run(b.Letters, b.begin(b.Letters, Filter{}, withCanary(5)).ID)
	require.Equal(t, Stopped, stopped.State)
	require.Equal(t, 5, stopped.Published)
	require.Len(t, stopped.Canaries, 5)
	require.True(t, stopped.Finished.IsZero())

	// It can be resumed once the cause is repaired. What died again are new letters, and not part of it.
	require.Eventually(t, func() bool { return b.published() == 0 }, patience, 10*time.Millisecond, "the other two are on their way")
	b.answer()
	done := b.run(b.Letters, stopped.ID)
	require.Equal(t, Done, done.State)
	require.True(t, done.Proven)
	require.Equal(t, 20, done.Published)
	rest := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	require.Equal(t, 5, rest.Published)
	require.Eventually(t, func() bool {
		completed := 0
		for _, statuses := range b.statuses("shop") {
			if statuses[len(statuses)-1] == "completed" {
				completed++
			}
		}
		return completed == len(keys)
	}, patience, 20*time.Millisecond)
}

func TestCanariesThatLiveLetTheRestGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 20)
	waited := 0
	batch := b.begin(b.Letters, Filter{}, withCanary(4))
	done, err := b.Run(t.Context(), batch.ID, func(p Progress) {
		if !p.Waiting {
			return
		}
		if waited++; waited == 1 {
			require.Len(t, b.replays("shop"), 4, "the rest waits")
			b.working()
		}
	})
	require.NoError(t, err)
	require.Equal(t, Done, done.State)
	require.True(t, done.Proven)
	require.Len(t, done.Canaries, 4)
	require.NotZero(t, waited)
	require.Eventually(t, func() bool { return b.published() == 0 }, patience, 20*time.Millisecond)
	b.requireAnswered("shop", keys)
}

func TestHalfOfTheCanariesMayDie(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		die  []string
		want State
	}{
		"half":           {[]string{"0", "1"}, Done},
		"more than half": {[]string{"0", "1", "3"}, Stopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.die("shop", 10)
			b.upstream(func(q *query.Query) error {
				if slices.Contains(test.die, q.ID) {
					return fault.New("call", fault.Rejected, fault.UpstreamBroken)
				}
				return nil
			})
			b.working()
			require.Equal(t, test.want, b.run(b.Letters, b.begin(b.Letters, Filter{}, withCanary(4)).ID).State)
		})
	}
}

func TestFewerLettersThanCanaries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	require.Equal(t, Done, b.run(b.Letters, b.begin(b.Letters, Filter{}, withCanary(5)).ID).State, "there is nobody to wait for them")
}

func TestCanariesWithoutAnOutcomePauseTheBatch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 6)
	batch := b.begin(b.Letters, Filter{}, withCanary(2), func(r *Request) { r.CanaryWait = time.Second })
	paused := b.run(b.Letters, batch.ID)
	require.Equal(t, Paused, paused.State)
	require.Equal(t, 2, paused.Published)
	again := b.run(b.Letters, batch.ID)
	require.Equal(t, Paused, again.State)
	require.Equal(t, 2, again.Published, "it waits for the same ones, before it publishes another")
	b.work("shop")
	done := b.run(b.Letters, batch.ID)
	require.Equal(t, Done, done.State)
	require.Equal(t, 6, done.Published)
}

func TestInterruptedWhileItWaitsForCanaries(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 6)
	batch := b.begin(b.Letters, Filter{}, withCanary(2))
	ctx, interrupt := context.WithCancel(t.Context())
	paused, err := b.Run(ctx, batch.ID, func(p Progress) {
		if p.Waiting {
			interrupt()
		}
	})
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	require.Equal(t, Paused, paused.State)
	require.Len(t, paused.Canaries, 2)
}

func TestCanaryOfAQueryWithoutAName(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.buryRaw("shop", []byte(`{"no": "json`))
	b.die("shop", 2)
	b.working()
	require.Equal(t, Stopped, b.run(b.Letters, b.begin(b.Letters, Filter{}, withCanary(1)).ID).State, "its outcome is another letter")
}
