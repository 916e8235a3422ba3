package deadletter

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// meanwhileKV has something else happen just before a key is written the first time.
type meanwhileKV struct {
	jetstream.KeyValue

	happen map[string]func()
}

func (m meanwhileKV) before(key string) {
	if happen := m.happen[key]; happen != nil {
		delete(m.happen, key)
		happen()
	}
}

func (m meanwhileKV) Create(ctx context.Context, key string, value []byte, o ...jetstream.KVCreateOpt) (uint64, error) {
	m.before(key)
	return m.KeyValue.Create(ctx, key, value, o...)
}

func (m meanwhileKV) Update(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	m.before(key)
	return m.KeyValue.Update(ctx, key, value, last)
}

// cancelAt has a batch cancelled when a process is about to claim a letter.
func (b *bundle) cancelAt(l *Letters, id string, sequence uint64) {
	l.ledger.bucket = meanwhileKV{l.ledger.bucket, map[string]func(){claimKey(sequence): func() {
		_, err := b.open(nil).Cancel(context.Background(), id)
		require.NoError(b.t, err)
	}}}
}

// slowly has a batch claim letters one by one.
func slowly(r *Request) { r.Rate = 49 }

func TestALetterThatIsClaimedAfterTheCancelIsFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 3)
	batch := b.begin(b.Letters, Filter{}, slowly)
	// The record, a claim, a publish, and the claim that it dies of; before that one somebody cancels.
	l := b.mortal(&life{left: 4, after: true})
	b.cancelAt(l, batch.ID, 2)
	_, err := l.Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	require.Len(t, b.replays("shop"), 1)
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Empty(t, plan.LeftOut)
	require.Equal(t, 3, b.run(b.Letters, b.begin(b.Letters, Filter{}).ID).Published)
	require.Len(t, b.replays("shop"), 3, "the broker knows the first one again")
	b.work("shop")
	b.requireAnswered("shop", keys)
}

// TestALetterThatIsClaimedDuringTheCancelIsFree has it claimed after the cancel has looked, and before it writes.
func TestALetterThatIsClaimedDuringTheCancelIsFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	batch := b.begin(b.Letters, Filter{}, slowly)
	_, err := b.mortal(&life{left: 5}).Run(t.Context(), batch.ID, nil)
	require.ErrorIs(t, err, errKilled)
	l := b.open(nil)
	l.ledger.bucket = meanwhileKV{l.ledger.bucket, map[string]func(){batchKey(batch.ID): func() {
		_, err := b.ledger.take(context.Background(), 3, claim{Batch: batch.ID, Run: "R", At: time.Now()}, nil)
		require.NoError(t, err)
	}}}
	cancelled, err := l.Cancel(t.Context(), batch.ID)
	require.NoError(t, err)
	require.Equal(t, []uint64{2}, cancelled.Doubts)
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Owned: 1}, plan.LeftOut, "the first was published for certain")
	require.Equal(t, 2, plan.Ready)
}

// TestAProcessThatLivesLeavesNoDoubts has a process publish all letters of a batch that was cancelled when none of them was claimed.
func TestAProcessThatLivesLeavesNoDoubts(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	batch := b.begin(b.Letters, Filter{}, slowly)
	l := b.open(nil)
	b.cancelAt(l, batch.ID, 1)
	require.Equal(t, Cancelled, b.run(l, batch.ID).State)
	published := len(b.replays("shop"))
	require.NotZero(t, published)
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Owned: published}, plan.LeftOut)
}

// TestACancelOfAnOlderCommandFreesNothingMore has a record that does not say how far its cancel has looked.
func TestACancelOfAnOlderCommandFreesNothingMore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	batch := b.begin(b.Letters, Filter{}, slowly)
	require.NoError(t, b.ledger.write(t.Context(), &record{Batch: Batch{ID: "older", State: Cancelled, Doubts: []uint64{2}}}))
	_, err := b.ledger.take(t.Context(), 1, claim{Batch: "older", Run: "R", At: time.Now()}, nil)
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Owned: 1}, b.run(b.Letters, batch.ID).LeftOut)
}
