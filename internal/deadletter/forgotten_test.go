package deadletter

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// forget has the broker forget all results, as it does when they were kept for long enough, and opens the letters as a later process does.
func (b *bundle) forget() *Letters {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Results())
	require.NoError(b.t, err)
	config := stream.CachedInfo().Config
	config.MaxAge, config.Duplicates = 100*time.Millisecond, 100*time.Millisecond
	_, err = b.server.JS.UpdateStream(context.Background(), config)
	require.NoError(b.t, err)
	require.Eventually(b.t, func() bool {
		info, err := stream.Info(context.Background())
		return err == nil && info.State.Msgs == 0
	}, patience, 10*time.Millisecond)
	return b.open(nil)
}

// lose deletes the stream of results and makes it anew.
func (b *bundle) lose() *Letters {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Results())
	require.NoError(b.t, err)
	require.NoError(b.t, b.server.JS.DeleteStream(context.Background(), b.Names.Results()))
	_, err = b.server.JS.CreateStream(context.Background(), stream.CachedInfo().Config)
	require.NoError(b.t, err)
	return b.open(nil)
}

// TestAnAnswerThatIsForgottenIsNotAskedForAgain replays letters that are kept for longer than their answers.
func TestAnAnswerThatIsForgottenIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]func(*bundle) *Letters{"too old": (*bundle).forget, "lost with their stream": (*bundle).lose} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			keys := b.die("shop", 3)
			b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
			b.work("shop")
			b.requireAnswered("shop", keys)
			purge(t, b)
			planned := b.begin(b.Letters, Filter{Again: true})
			l := away(b)
			for _, again := range []bool{false, true} {
				plan, err := l.PlanReplay(t.Context(), Filter{Again: again})
				require.NoError(t, err)
				require.Zero(t, plan.Ready)
				require.Equal(t, map[Standing]int{Doubtful: 3}, plan.LeftOut)
			}
			done := b.run(l, planned.ID)
			require.Equal(t, map[Standing]int{Doubtful: 3}, done.LeftOut)
			require.Zero(t, done.Published)
			require.Empty(t, b.replays("shop"))
		})
	}
}

// TestADoubtThatIsOldStays has a batch cancelled whose last letter was published after all, and answered, which nobody can tell any more.
func TestADoubtThatIsOldStays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	batch := b.begin(b.Letters, Filter{})
	_, err := b.mortal(&life{left: 3, after: true}).Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	cancelled, err := b.Cancel(t.Context(), batch.ID)
	require.NoError(t, err)
	require.Equal(t, []uint64{1}, cancelled.Doubts)
	b.work("shop")
	plan, err := b.forget().PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Doubtful: 1}, plan.LeftOut)
}
