package deadletter

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// releasedKV has a claim released before it is read, or before it is written over.
type releasedKV struct {
	jetstream.KeyValue

	read, write func()
}

func (r *releasedKV) Get(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	once(&r.read)
	return r.KeyValue.Get(ctx, key)
}

func (r *releasedKV) Update(ctx context.Context, key string, value []byte, last uint64) (uint64, error) {
	once(&r.write)
	return r.KeyValue.Update(ctx, key, value, last)
}

// once calls what is to happen a single time.
func once(happen *func()) {
	if f := *happen; f != nil {
		*happen = nil
		f()
	}
}

// TestAClaimThatIsReleasedMeanwhileIsFree has somebody claim a letter at the moment in which its owner gives it back.
func TestAClaimThatIsReleasedMeanwhileIsFree(t *testing.T) {
	t.Parallel()
	for name, when := range map[string]func(kv *releasedKV, release func()){
		"before it is read":         func(kv *releasedKV, release func()) { kv.read = release },
		"before it is written over": func(kv *releasedKV, release func()) { kv.write = release },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			theirs := claim{Batch: "theirs", Run: "R", At: time.Now().UTC()}
			_, err := b.ledger.take(t.Context(), 1, theirs, nil)
			require.NoError(t, err)
			l := b.open(nil)
			kv := &releasedKV{KeyValue: l.ledger.bucket}
			l.ledger.bucket = kv
			when(kv, func() { require.NoError(t, b.ledger.release(context.Background(), 1, "theirs")) })
			mine := claim{Batch: "mine", Run: "S", At: time.Now().UTC()}
			owner, err := l.ledger.take(t.Context(), 1, mine, func(claim) (bool, error) { return true, nil })
			require.NoError(t, err)
			require.Equal(t, mine, owner)
			stored, err := b.ledger.owner(t.Context(), 1)
			require.NoError(t, err)
			require.Equal(t, "mine", stored.Batch)
		})
	}
}

func TestAReleaseLeavesTheClaimsOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.NoError(t, b.ledger.release(t.Context(), 1, "theirs"), "there is none")
	_, err := b.ledger.take(t.Context(), 1, claim{Batch: "theirs", Run: "R", At: time.Now().UTC()}, nil)
	require.NoError(t, err)
	require.NoError(t, b.ledger.release(t.Context(), 1, "mine"))
	owner, err := b.ledger.owner(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, "theirs", owner.Batch)
}

// TestAReleaseThatComesTooLate has a claim taken over between the look at it and its end.
func TestAReleaseThatComesTooLate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.ledger.take(t.Context(), 1, claim{Batch: "theirs", Run: "R", At: time.Now().UTC()}, nil)
	require.NoError(t, err)
	l := b.open(nil)
	l.ledger.bucket = lateKV{l.ledger.bucket, func() {
		_, err := b.ledger.take(context.Background(), 1, claim{Batch: "mine", Run: "S", At: time.Now().UTC()},
			func(claim) (bool, error) { return true, nil })
		require.NoError(t, err)
	}}
	require.NoError(t, l.ledger.release(t.Context(), 1, "theirs"))
	owner, err := b.ledger.owner(t.Context(), 1)
	require.NoError(t, err)
	require.NotNil(t, owner)
	require.Equal(t, "mine", owner.Batch)
}

// lateKV has something happen before a claim is deleted.
type lateKV struct {
	jetstream.KeyValue

	happen func()
}

func (l lateKV) Delete(ctx context.Context, key string, o ...jetstream.KVDeleteOpt) error {
	l.happen()
	return l.KeyValue.Delete(ctx, key, o...)
}
