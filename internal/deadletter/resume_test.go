package deadletter

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// TestResumeIsWrittenDown has another operator go on with a replay, slower: both names are on record, and the batch has the new pace.
func TestResumeIsWrittenDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	batch := b.begin(b.Letters, Filter{})
	lee := b.open(func(o *Options) { o.Actor, o.Why = "lee@desk", "case 2" })
	rate, wait := 7.5, 90*time.Second
	resumed, err := lee.Resume(t.Context(), batch.ID, Resumption{Rate: &rate, CanaryWait: &wait}, nil)
	require.NoError(t, err)
	require.Equal(t, Done, resumed.State)
	require.Equal(t, 3, resumed.Published)
	require.InDelta(t, 7.5, resumed.Rate, 0)
	require.Equal(t, 90, resumed.CanaryWait)
	require.Equal(t, "kim@desk", resumed.Actor, "who began it stays")
	require.Equal(t, query.AuditData{
		Action: "replay.resume", Actor: "lee@desk", Target: batch.ID, Reason: "case 2", After: "resumed after 0 published, at 7.5/s",
	}, b.audits()[1])

	_, err = lee.Resume(t.Context(), batch.ID, Resumption{Rate: new(float64)}, nil)
	require.ErrorContains(t, err, "at most 10000")
	ended, err := lee.Resume(t.Context(), batch.ID, Resumption{}, nil)
	require.NoError(t, err)
	require.Equal(t, resumed, ended, "an end is an end")
	_, err = lee.Resume(t.Context(), "nothing", Resumption{}, nil)
	require.ErrorIs(t, err, ErrNoBatch)
	require.Equal(t, []query.AuditAction{query.AuditDeadReplay, query.AuditReplayResume}, b.actions())
}

// TestResumeOfABatchAtWork gives a batch that another process works on a new pace: that process stops by itself, and the batch goes on.
func TestResumeOfABatchAtWork(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 60)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 10 })
	ended := make(chan error, 1)
	other := b.open(nil)
	go func() {
		_, err := other.Run(context.Background(), batch.ID, nil)
		ended <- err
	}()
	require.Eventually(t, func() bool { return b.published() >= 5 }, patience, 2*time.Millisecond)
	rate := 5000.0
	done, err := b.Resume(t.Context(), batch.ID, Resumption{Rate: &rate}, nil)
	require.NoError(t, err)
	require.Equal(t, Done, done.State)
	require.InDelta(t, 5000, done.Rate, 0)
	select {
	case err := <-ended:
		require.ErrorContains(t, err, "another process has taken over")
	case <-time.After(patience):
		require.Fail(t, "the process that was overtaken did not notice")
	}
	b.work("shop")
	b.requireAnswered("shop", keys)
}

// TestResumeAtAnotherPaceSkipsNothing has a process die that has claimed a handful at a fast pace and published none of it, and goes on slowly:
// all of the handful is in doubt, not just as many letters as a slow batch claims at once.
func TestResumeAtAnotherPaceSkipsNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 12)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 500 })
	for sequence := range uint64(batch.handful()) {
		_, err := b.ledger.take(t.Context(), sequence+1, claim{Batch: batch.ID, Run: "dead", At: time.Now().UTC()}, nil)
		require.NoError(t, err)
	}
	slow := 40.0
	done, err := b.Resume(t.Context(), batch.ID, Resumption{Rate: &slow}, nil)
	require.NoError(t, err)
	require.Equal(t, 12, done.Published)
	require.Empty(t, done.LeftOut)
	require.InDelta(t, slow, done.Rate, 0)
	b.work("shop")
	b.requireAnswered("shop", keys)
}
