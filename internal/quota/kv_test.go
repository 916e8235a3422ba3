package quota

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/query"
)

// bucket starts a server and returns it with its bucket.
func bucket(t *testing.T) (*brokertest.Server, *KV) {
	t.Helper()
	server := brokertest.New(t)
	return server, connected(t, server)
}

// connected returns the bucket over a connection of its own.
func connected(t *testing.T, server *brokertest.Server) *KV {
	t.Helper()
	js, err := jetstream.New(server.Connect(t))
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), server.Topology.Names().PaceBucket())
	require.NoError(t, err)
	return NewKV(kv)
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"": "=", "T5102001": "T5102001", "a.b": "a=2Eb", "*": "=2A", "a b>": "a=20b=3E", "=": "=3D", "가": "=EA=B0=80", "a-b_C": "a-b_C",
	} {
		require.Equal(t, "state.easypay."+want, Account{Provider: query.EasyPay, Name: name}.stateKey())
		require.Equal(t, "control.easypay."+want, Account{Provider: query.EasyPay, Name: name}.controlKey())
	}
	require.NotEqual(t, "lease", strings.SplitN(easy.stateKey(), ".", 2)[0], "the sweeper's key")
}

func TestStoreComparesAndSets(t *testing.T) {
	t.Parallel()
	_, kv := bucket(t)
	for _, name := range []string{"", "plain", "a.b *>=가"} {
		key := Account{Provider: query.EasyPay, Name: name}.stateKey()
		_, err := kv.Get(t.Context(), key)
		require.ErrorIs(t, err, ErrMissing)
		began := time.Now()
		first, err := kv.Put(t.Context(), key, []byte("one"), 0)
		require.NoError(t, err)
		_, err = kv.Put(t.Context(), key, []byte("two"), 0)
		require.ErrorIs(t, err, ErrConflict)
		_, err = kv.Put(t.Context(), key, []byte("two"), first+1)
		require.ErrorIs(t, err, ErrConflict)
		second, err := kv.Put(t.Context(), key, []byte("two"), first)
		require.NoError(t, err)
		require.Greater(t, second, first)
		_, err = kv.Put(t.Context(), key, []byte("three"), first)
		require.ErrorIs(t, err, ErrConflict)
		got, err := kv.Get(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, "two", string(got.Value))
		require.Equal(t, second, got.Revision)
		require.WithinRange(t, got.Created, began.Add(-time.Second), time.Now().Add(time.Second))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := kv.Get(ctx, "state.x")
	require.ErrorIs(t, err, context.Canceled)
	_, err = kv.Put(ctx, "state.x", nil, 0)
	require.ErrorIs(t, err, context.Canceled)
	require.Error(t, kv.Watch(ctx, controlPattern, func(Entry) {}))
}

func TestWatchShowsWhatIsThereAndWhatComes(t *testing.T) {
	t.Parallel()
	_, kv := bucket(t)
	require.NoError(t, Pause(t.Context(), kv, easy, Author{By: "ops"}))
	_, err := kv.Put(t.Context(), easy.stateKey(), []byte("{}"), 0)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	seen, ended := make(chan Entry, 10), make(chan error, 1)
	go func() { ended <- kv.Watch(ctx, controlPattern, func(e Entry) { seen <- e }) }()
	first := <-seen
	require.Equal(t, easy.controlKey(), first.Key)
	require.Contains(t, string(first.Value), `"paused":true`)
	require.Equal(t, Entry{}, <-seen)
	require.NoError(t, Resume(t.Context(), kv, easy, Author{By: "ops"}))
	require.Greater(t, (<-seen).Revision, first.Revision)
	require.NoError(t, kv.bucket.Delete(t.Context(), easy.controlKey()))
	deleted := <-seen
	require.Nil(t, deleted.Value)
	cancel()
	require.ErrorIs(t, <-ended, context.Canceled)
	_, err = kv.Get(t.Context(), easy.controlKey())
	require.ErrorIs(t, err, ErrMissing)
	require.NoError(t, Pause(t.Context(), kv, easy, Author{}), "a deleted entry can be written again")
}

func TestOpsOnARealStore(t *testing.T) {
	t.Parallel()
	_, kv := bucket(t)
	view, err := Show(t.Context(), kv, easy)
	require.NoError(t, err)
	require.Equal(t, View{Account: easy}, view)
	require.NoError(t, Set(t.Context(), kv, easy, 12.5, Author{By: "kim", Why: "agreed by mail"}))
	require.NoError(t, Pause(t.Context(), kv, easy, Author{By: "lee", Why: "maintenance"}))
	view, err = Show(t.Context(), kv, easy)
	require.NoError(t, err)
	require.True(t, view.Control.Paused)
	require.InDelta(t, 12.5, view.Control.Ceiling, 0)
	require.Equal(t, "lee", view.Control.By)
	require.Equal(t, "maintenance", view.Control.Why)
	require.WithinDuration(t, time.Now(), view.Control.At, time.Minute)
	for _, key := range []string{easy.stateKey(), easy.controlKey()} {
		_, err = kv.bucket.Put(t.Context(), key, []byte(`"garbage"`))
		require.NoError(t, err)
	}
	view, err = Show(t.Context(), kv, easy)
	require.NoError(t, err)
	require.True(t, view.StateBroken)
	require.True(t, view.ControlBroken)
	require.NoError(t, Reset(t.Context(), kv, easy, Settings{Ceiling: 100}, Author{By: "kim"}))
	view, err = Show(t.Context(), kv, easy)
	require.NoError(t, err)
	require.InDelta(t, 12.5, view.State.Rate, 0)
	require.True(t, view.State.Renewed)
	require.False(t, view.Control.Paused)
}

// TestFleetOnARealServer lets four replicas share 200/s over real connections. The times of calls are read after Wait returned, so that
// a machine that is busy can make two of them look nearer than they are: the burst of the check leaves 100 ms for that.
func TestFleetOnARealServer(t *testing.T) {
	t.Parallel()
	server, kv := bucket(t)
	const rate, burst = 200, 20
	known := State{Rate: rate, Low: rate}
	value, err := known.bytes()
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), easy.stateKey(), value, 0)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var mu sync.Mutex
	var calls []time.Duration
	start := time.Now()
	for range 4 {
		f := New(Options{
			Store: connected(t, server), Accounts: map[Account]Settings{easy: {Ceiling: rate, Burst: burst}},
			AccountOf: func(*query.Query) Account { return easy }, AckWait: time.Minute,
		})
		running.Go(func() { f.Run(ctx) })
		for range 100 {
			running.Go(func() {
				for f.Wait(ctx, &query.Query{Lane: query.Bulk, Client: "shop"}) == nil {
					mu.Lock()
					calls = append(calls, time.Since(start))
					mu.Unlock()
				}
			})
		}
	}
	done := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(calls) >= 3*rate
	}
	require.Eventually(t, done, 30*time.Second, 10*time.Millisecond)
	stop()
	running.Wait()
	t.Logf("%d calls in %v", len(calls), calls[len(calls)-1]-calls[0])
	require.Zero(t, worstExcess(calls, rate, burst+rate/10))
}

// TestEveryReplicaHearsOfAChange lets two fleets, each on a connection of its own, follow what an operator changes. How long that took is
// logged: the aim is a second.
func TestEveryReplicaHearsOfAChange(t *testing.T) {
	t.Parallel()
	server, kv := bucket(t)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	heard, fleets := make([]chan Control, 2), make([]*Fleet, 2)
	for i := range heard {
		heard[i] = make(chan Control, 100)
		fleets[i] = New(Options{
			Store: connected(t, server), Accounts: map[Account]Settings{easy: {Ceiling: 1000, Burst: 100}}, AckWait: time.Minute,
			AccountOf: func(*query.Query) Account { return easy },
			OnChange: func(change Change) {
				if change.Why == Controlled {
					heard[i] <- change.Control
				}
			},
		})
		running.Go(func() { fleets[i].Run(ctx) })
		require.NoError(t, fleets[i].Wait(within(t, time.Minute), &query.Query{Lane: query.Bulk}), "it works before anything is changed")
	}
	author := Author{By: "kim", Why: "agreed"}
	for _, step := range []struct {
		name string
		do   func() error
		want Control
	}{
		{"set", func() error { return Set(ctx, kv, easy, 5, author) }, Control{Ceiling: 5}},
		{"pause", func() error { return Pause(ctx, kv, easy, author) }, Control{Ceiling: 5, Paused: true}},
		{"resume", func() error { return Resume(ctx, kv, easy, author) }, Control{Ceiling: 5}},
		{"reset", func() error { return Reset(ctx, kv, easy, Settings{Ceiling: 1000, Burst: 100}, author) }, Control{}},
	} {
		began := time.Now()
		require.NoError(t, step.do())
		for i := range heard {
			select {
			case got := <-heard[i]:
				t.Logf("%s: replica %d heard of it after %s", step.name, i+1, time.Since(began).Round(10*time.Microsecond))
				require.Equal(t, []string{author.By, author.Why}, []string{got.By, got.Why})
				require.Equal(t, step.want, Control{Paused: got.Paused, Ceiling: got.Ceiling})
				require.Equal(t, got.Paused, fleets[i].Delay(easy, Bulk) == forever, "and does so")
			case <-time.After(30 * time.Second):
				require.FailNow(t, "a replica did not hear of it", "%s, replica %d", step.name, i+1)
			}
		}
	}
	stop()
	running.Wait()
}
