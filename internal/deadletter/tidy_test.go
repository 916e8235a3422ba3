package deadletter

import (
	"context"
	"crypto/rand"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
)

// claims returns how many claims the bucket holds.
func (b *bundle) claims() int {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), "KV_"+b.Names.ReplaysBucket())
	require.NoError(b.t, err)
	info, err := stream.Info(context.Background(), jetstream.WithSubjectFilter("$KV."+b.Names.ReplaysBucket()+".letter.*"))
	require.NoError(b.t, err)
	return len(info.State.Subjects)
}

// startLettersAt makes the stream of letters anew, as if all before a sequence had died long ago.
func (b *bundle) startLettersAt(first uint64) {
	b.t.Helper()
	stream, err := b.server.JS.Stream(context.Background(), b.Names.Dead())
	require.NoError(b.t, err)
	config := stream.CachedInfo().Config
	require.NoError(b.t, b.server.JS.DeleteStream(context.Background(), config.Name))
	config.FirstSeq = first
	_, err = b.server.JS.CreateStream(context.Background(), config)
	require.NoError(b.t, err)
}

// own claims letters for a batch that is long over.
func (b *bundle) own(first, count uint64) {
	b.t.Helper()
	for sequence := first; sequence < first+count; sequence++ {
		_, err := b.ledger.take(context.Background(), sequence, claim{Batch: "20260102-030405-abcdef", Run: rand.Text(), At: time.Now().UTC()}, nil)
		require.NoError(b.t, err)
	}
}

func TestTheLedgerForgetsLettersThatAreGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLettersAt(100_000)
	b.own(100_000, 3) // They lie before those that are gone.
	b.own(1, 2500)
	b.die("shop", 4)
	b.begin(b.Letters, Filter{})
	require.Equal(t, 3, b.claims())
	require.Equal(t, 1, b.run(b.Letters, b.begin(b.Letters, Filter{}).ID).Published, "those that are there stay with their batch")
}

func TestTidyingUpIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.startLettersAt(1000)
	b.own(1, 100)
	require.NoError(t, b.tidy(t.Context(), 30))
	require.Equal(t, 70, b.claims())
	require.NoError(t, b.tidy(t.Context(), 100))
	require.Zero(t, b.claims())
	b.own(1000, 100)
	b.own(1, 100)
	require.NoError(t, b.tidy(t.Context(), 100))
	require.Equal(t, 200, b.claims(), "claims that are needed end the look")
}

// TestAClaimOfEveryLetterFits compares what the smallest letter and its claim take with the room that there is for them.
func TestAClaimOfEveryLetterFits(t *testing.T) {
	t.Parallel()
	const far = 1 << 40
	b := setup(t)
	b.startLettersAt(far)
	b.buryRaw("c", []byte("{"))
	letters, err := b.info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, letters.State.Msgs)
	bucket, err := b.server.JS.Stream(t.Context(), "KV_"+b.Names.ReplaysBucket())
	require.NoError(t, err)
	b.own(far, 1)
	claims, err := bucket.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, claims.State.Msgs)
	t.Logf("the smallest letter takes %d bytes, a claim %d", letters.State.Bytes, claims.State.Bytes)

	for _, most := range []int64{64 << 20, 1 << 30, 100 << 30} {
		topology := broker.DefaultTopology()
		topology.Dead.MaxBytes = most
		needed := int64(claims.State.Bytes) * most / int64(letters.State.Bytes)
		require.Greater(t, bucketOf(t, topology).MaxBytes, needed)
	}
	topology := broker.DefaultTopology()
	topology.Dead.MaxBytes = 0
	require.EqualValues(t, -1, bucketOf(t, topology).MaxBytes, "letters without a limit have claims without one")
}

// bucketOf returns the configuration of the ledger's bucket.
func bucketOf(t *testing.T, topology broker.Topology) jetstream.KeyValueConfig {
	t.Helper()
	for _, bucket := range topology.Buckets() {
		if bucket.Bucket == topology.Names().ReplaysBucket() {
			return bucket
		}
	}
	require.FailNow(t, "no such bucket")
	return jetstream.KeyValueConfig{}
}
