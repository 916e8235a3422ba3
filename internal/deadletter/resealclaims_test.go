package deadletter

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
)

// requireNothingLeft checks that no replay takes a letter of an answered query, also when its answer is forgotten.
func (b *bundle) requireNothingLeft(letters int) {
	b.t.Helper()
	plan, err := b.open(nil).PlanReplay(b.t.Context(), Filter{})
	require.NoError(b.t, err)
	require.Zero(b.t, plan.Ready)
	l := b.forget()
	for _, again := range []bool{false, true} {
		plan, err = l.PlanReplay(b.t.Context(), Filter{Again: again})
		require.NoError(b.t, err)
		require.Equal(b.t, map[Standing]int{Doubtful: letters}, plan.LeftOut)
		require.Zero(b.t, plan.Ready)
	}
}

func TestResealKeepsAnAnsweredLetterWithItsReplay(t *testing.T) {
	t.Parallel()
	for name, deaths := range map[string]int{"replayed once": 0, "died twice": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.die("shop", 2)
			for range deaths {
				b.dieAgain("shop")
				purge(t, b)
			}
			batch := b.begin(b.Letters, Filter{})
			b.run(b.Letters, batch.ID)
			b.work("shop")
			b.rotate()
			_, left := b.resealed(b.Letters)
			require.Zero(t, left.Left)
			last := b.all()[2*deaths+1]
			owner, err := b.ledger.owner(t.Context(), last.Sequence)
			require.NoError(t, err)
			require.NotNil(t, owner)
			require.Equal(t, batch.ID, owner.Batch)
			b.requireNothingLeft(2 * (1 + deaths))
		})
	}
}

// TestResealKeepsAnAnsweredLetterThatNobodyOwns has letters whose claims were lost.
func TestResealKeepsAnAnsweredLetterThatNobodyOwns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	b.work("shop")
	require.NoError(t, b.ledger.bucket.Purge(t.Context(), claimKey(1)))
	for range 2 {
		b.rotate()
		_, left := b.resealed(b.Letters)
		require.Zero(t, left.Left)
	}
	b.requireNothingLeft(1)
}

// TestResealIsKilled is killed at each of its writes, of claims and of letters, before and after it was carried out. Run again, it leaves
// answered letters with their replay and the others free.
func TestResealIsKilled(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before": false, "after": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			answered := b.die("shop", 1)
			b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
			b.work("shop")
			b.die("late", 1)
			killed := true
			for write := 1; killed; write++ {
				b.rotate()
				life := &life{left: write, after: after}
				l := b.mortal(life)
				l.Resealer, l.dead = mortalResealer{l.Resealer, life}, mortalStream{l.dead, life}
				plan, err := l.PlanReseal(t.Context())
				require.NoError(t, err)
				_, err = l.Reseal(t.Context(), plan, func(Resealed) {})
				if killed = life.dead; killed {
					require.ErrorIs(t, err, errKilled)
				}
				_, left := b.resealed(b.open(nil))
				require.Zero(t, left.Left)
				require.Len(t, b.all(), 2)
				for _, letter := range b.all() {
					owner, err := b.ledger.owner(t.Context(), letter.Sequence)
					require.NoError(t, err)
					require.Equal(t, letter.Query.Key == answered[0], owner != nil, "write %d", write)
				}
			}
			b.run(b.Letters, b.begin(b.Letters, Filter{Client: "late"}).ID)
			b.work("late")
			b.requireNothingLeft(2)
		})
	}
}

// TestAResealThatIsFinishedLateKeepsTheReplay was killed when an answered letter was stored anew and its claim was not, and is run again when
// the answer is forgotten.
func TestAResealThatIsFinishedLateKeepsTheReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	batch := b.begin(b.Letters, Filter{})
	b.run(b.Letters, batch.ID)
	b.work("shop")
	b.rotate()
	life := &life{left: 2, after: true} // Of the claim that is there already, and of the letter.
	l := b.mortal(life)
	l.Resealer = mortalResealer{l.Resealer, life}
	plan, err := l.PlanReseal(t.Context())
	require.NoError(t, err)
	_, err = l.Reseal(t.Context(), plan, func(Resealed) {})
	require.ErrorIs(t, err, errKilled)
	require.Len(t, b.all(), 2)
	_, left := b.resealed(b.forget())
	require.Zero(t, left.Left)
	require.Len(t, b.all(), 1)
	owner, err := b.ledger.owner(t.Context(), b.all()[0].Sequence)
	require.NoError(t, err)
	require.Equal(t, batch.ID, owner.Batch)
	b.requireNothingLeft(1)
}

// TestALetterThatCannotBeOpenedIsFree has a reseal without the key leave it to replays, which need none.
func TestALetterThatCannotBeOpenedIsFree(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 2)
	others := t.TempDir()
	_, err := card.NewKeys(others, time.Now())
	require.NoError(t, err)
	stranger, err := card.LoadRing(others)
	require.NoError(t, err)
	done, _ := b.resealed(b.open(func(o *Options) { o.Ring = stranger }))
	require.Equal(t, map[Standing]int{Unopened: 2}, done.LeftOut)
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, 2, plan.Ready)
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	b.work("shop")
	b.requireAnswered("shop", keys)
}

// mortalResealer is one of a process with a life of its own.
type mortalResealer struct {
	Resealer

	life *life
}

// Reseal stores a letter if the process lives to do it.
func (m mortalResealer) Reseal(ctx context.Context, key, subject string, event []byte, died time.Time, last uint64) (sequence uint64, err error) {
	err = m.life.do(func() error { sequence, err = m.Resealer.Reseal(ctx, key, subject, event, died, last); return err })
	return sequence, err
}

// mortalStream is that of a process with a life of its own.
type mortalStream struct {
	jetstream.Stream

	life *life
}

// DeleteMsg deletes a letter if the process lives to do it.
func (m mortalStream) DeleteMsg(ctx context.Context, sequence uint64) error {
	return m.life.do(func() error { return m.Stream.DeleteMsg(ctx, sequence) })
}
