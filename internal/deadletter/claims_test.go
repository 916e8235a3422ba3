package deadletter

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestALetterOfACancelledBatchThatMayNotBePublishedIsFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 3)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 49 })
	// It dies between the claim of its second letter and its publish: writes are the record, a claim, a publish, a claim.
	_, err := b.mortal(&life{left: 4, after: true}).Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	require.Len(t, b.replays("shop"), 1)
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Owned: 2}, plan.LeftOut)
	cancelled, err := b.Cancel(t.Context(), batch.ID)
	require.NoError(t, err)
	require.Equal(t, []uint64{2}, cancelled.Doubts)
	plan, err = b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Owned: 1}, plan.LeftOut)
	require.Equal(t, 2, b.run(b.Letters, b.begin(b.Letters, Filter{}).ID).Published)
	require.Len(t, b.replays("shop"), 3)
	b.work("shop")
	b.requireAnswered("shop", keys)
}

func TestReplaysThatGotLostCanBeReplayedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 4)
	first := b.begin(b.Letters, Filter{})
	b.run(b.Letters, first.ID)
	stream, err := b.server.JS.Stream(t.Context(), b.Names.Retries())
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Zero(t, plan.Ready)
	again := b.run(b.Letters, b.begin(b.Letters, Filter{Again: true}).ID)
	require.Equal(t, 4, again.Published)
	require.Len(t, b.replays("shop"), 4, "although the broker remembers the lost ones")
	b.work("shop")
	b.requireAnswered("shop", keys)
	answered, err := b.PlanReplay(t.Context(), Filter{Again: true})
	require.NoError(t, err)
	require.Zero(t, answered.Ready)
}

func TestLettersOfABatchThatIsNotOverAreNeverFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	batch := b.begin(b.Letters, Filter{})
	_, err := b.mortal(&life{left: 3}).Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	free, err := b.free(t.Context(), claim{Batch: batch.ID, At: time.Now()}, 1, true)
	require.NoError(t, err)
	require.False(t, free)
	free, err = b.free(t.Context(), claim{Batch: "nobody", At: time.Now()}, 1, true)
	require.NoError(t, err)
	require.True(t, free, "its record was lost")
	free, err = b.free(t.Context(), claim{Batch: "nobody", At: time.Now()}, 1, false)
	require.NoError(t, err)
	require.False(t, free)
}

func TestAProcessThatWasOvertakenStops(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 80)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 20 })
	slow := make(chan error, 1)
	l := b.open(nil)
	go func() {
		_, err := l.Run(context.Background(), batch.ID, nil)
		slow <- err
	}()
	require.Eventually(t, func() bool { return b.published() >= 5 }, patience, 2*time.Millisecond)
	done := b.run(b.Letters, batch.ID)
	require.Equal(t, Done, done.State)
	select {
	case err := <-slow:
		require.ErrorContains(t, err, "another process has taken over")
	case <-time.After(patience):
		require.Fail(t, "it did not notice")
	}
	require.Len(t, b.replays("shop"), 80)
	b.work("shop")
	b.requireAnswered("shop", keys)
}

func TestDoubtfulLettersAreLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	batch := b.begin(b.Letters, Filter{})
	_, err := b.mortal(&life{left: 2, after: true}).Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	// The claim is older than any result that is kept: nobody can tell what became of the letter.
	entry, err := b.ledger.bucket.Get(t.Context(), claimKey(1))
	require.NoError(t, err)
	var old claim
	require.NoError(t, query.ReadStrict(entry.Value(), &old))
	_, err = b.ledger.bucket.Put(t.Context(), claimKey(1),
		[]byte(`{"batch":"`+old.Batch+`","run":"`+old.Run+`","at":"`+time.Now().Add(-30*24*time.Hour).UTC().Format(time.RFC3339)+`"}`))
	require.NoError(t, err)
	done := b.run(b.Letters, batch.ID)
	require.Equal(t, map[Standing]int{Doubtful: 1}, done.LeftOut)
	require.Empty(t, b.replays("shop"))
}

func TestBrokenRecordsAreErrors(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	_, err := b.ledger.bucket.Put(t.Context(), batchKey("broken"), []byte("{"))
	require.NoError(t, err)
	_, err = b.Run(t.Context(), "broken", nil)
	require.Equal(t, fault.Malformed, fault.KindOf(err))
	_, err = b.ledger.bucket.Put(t.Context(), claimKey(1), []byte("{"))
	require.NoError(t, err)
	_, err = b.PlanReplay(t.Context(), Filter{})
	require.Equal(t, fault.Malformed, fault.KindOf(err))
}

func TestABrokerThatIsAwayIsUnreachable(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	hasty := b.open(func(o *Options) { o.Timeout, o.Patience = 100*time.Millisecond, 300*time.Millisecond })
	b.server.Stop()
	_, err := hasty.Find(t.Context(), 1)
	require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = hasty.Find(ctx, 1)
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
}

func TestAnswered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err  error
		want bool
	}{
		"no such key":          {jetstream.ErrKeyNotFound, true},
		"key exists":           {jetstream.ErrKeyExists, true},
		"not deleted":          {jetstream.ErrMsgDeleteUnsuccessful, true},
		"refused":              {&jetstream.APIError{Code: 400, ErrorCode: 10077}, true},
		"no leader":            {&jetstream.APIError{Code: 503, ErrorCode: 10008}, false},
		"another in flight":    {&jetstream.APIError{Code: 400, ErrorCode: 10164}, false},
		"timeout":              {context.DeadlineExceeded, false},
		"nobody listens there": {jetstream.ErrNoStreamResponse, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, answered(test.err))
		})
	}
}
