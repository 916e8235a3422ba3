package answers

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/query"
)

// workers returns two bundles with the bucket of one real server between them. Their upstreams answer at once.
func workers(t *testing.T, s *brokertest.Server) (one, other *bundle, kv jetstream.KeyValue) {
	t.Helper()
	kv, err := s.JS.KeyValue(t.Context(), s.Topology.Names().AnswersBucket())
	require.NoError(t, err)
	ring := newRing(t)
	next := func() *bundle {
		b := setup(t, kv)
		b.Fingerprint, b.Timeout = ring.Fingerprint, 10*time.Second
		b.call = func(_ context.Context, n int, _ *query.Query) (query.Answer, error) { return answer(n), nil }
		return b
	}
	return next(), next(), kv
}

func TestSharedThroughARealBucket(t *testing.T) {
	t.Parallel()
	one, other, kv := workers(t, brokertest.New(t))
	q, details := usage(t, "first", testCard, time.Minute)
	first := one.askWith(t.Context(), q, details)
	first.fresh(t, 1)
	q, details = usage(t, "second", testCard, time.Minute)
	second := other.askWith(t.Context(), q, details)
	second.shared(t, 1)
	require.Equal(t, first.AsOf, second.AsOf)
	require.Equal(t, first.Offers, second.Offers)
	require.Empty(t, other.asked())

	q, details = usage(t, "another card", otherCard, time.Minute)
	other.askWith(t.Context(), q, details).fresh(t, 1)
	one.ask(t.Context(), within("another provider", time.Minute)).fresh(t, 2)
	require.Empty(t, append(one.told(), other.told()...))

	keys, err := kv.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 3)
	for _, key := range keys {
		require.Regexp(t, bucketKey, key)
		value, err := kv.Get(t.Context(), key)
		require.NoError(t, err)
		for _, secret := range []string{testCard, otherCard, testToken, testMobile, testCard[:12], otherCard[7:]} {
			require.NotContains(t, key+string(value.Value()), secret)
		}
	}
}

// Entries that go, are removed or are broken are asked anew, whatever the server calls it.
func TestEntriesThatAreNotThere(t *testing.T) {
	t.Parallel()
	one, other, kv := workers(t, brokertest.New(t))
	one.ask(t.Context(), within("1", time.Minute)).fresh(t, 1)
	keys, err := kv.Keys(t.Context())
	require.NoError(t, err)
	require.Len(t, keys, 1)
	for _, remove := range []func() error{
		func() error { return kv.Delete(t.Context(), keys[0]) },
		func() error { return kv.Purge(t.Context(), keys[0]) },
	} {
		require.NoError(t, remove())
		third := setup(t, kv)
		third.Fingerprint, third.Timeout, third.call = other.Fingerprint, other.Timeout, other.call
		third.ask(t.Context(), within("2", time.Minute)).fresh(t, 1)
		require.Empty(t, third.told())
	}
	_, err = kv.Put(t.Context(), keys[0], []byte(`{"version":1,"asOf":`))
	require.NoError(t, err)
	other.ask(t.Context(), within("3", time.Minute)).fresh(t, 1)
	require.Equal(t, []string{"read answer: decode answer: malformed (bad_json)"}, other.told())
}

// The broker may stop and come back: each query has its answer all the same.
func TestTheBrokerIsAway(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	one, other, _ := workers(t, s)
	one.Timeout, other.Timeout = 100*time.Millisecond, 100*time.Millisecond
	s.Stop()
	one.ask(t.Context(), within("1", time.Minute)).fresh(t, 1)
	require.Len(t, one.told(), 1)
	one.ask(t.Context(), within("2", time.Minute)).shared(t, 1)
	s.Resume(t)
	s.Reconnected(t)
	one.Timeout, other.Timeout = 10*time.Second, 10*time.Second
	other.ask(t.Context(), within("3", time.Minute)).fresh(t, 1)
	require.Empty(t, other.told())
	one.recent, one.resting = newRecent(2), time.Time{} // As if it had just started.
	one.ask(t.Context(), within("4", time.Minute)).shared(t, 1)
	require.Equal(t, []string{"1"}, one.asked())
}

// A full bucket refuses new answers, and that is all that it does.
func TestTheBucketIsFull(t *testing.T) {
	t.Parallel()
	s := brokertest.New(t)
	kv, err := s.JS.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "small", MaxBytes: 100})
	require.NoError(t, err)
	b := setup(t, kv)
	b.Timeout = 10 * time.Second
	b.call = func(_ context.Context, n int, _ *query.Query) (query.Answer, error) { return answer(n), nil }
	b.ask(t.Context(), within("1", time.Minute)).fresh(t, 1)
	told := b.told()
	require.Len(t, told, 1)
	require.Contains(t, told[0], "keep answer: ")
	require.Contains(t, told[0], "maximum bytes exceeded")
	b.ask(t.Context(), within("2", time.Minute)).shared(t, 1)
}
