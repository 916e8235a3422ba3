package ask

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// listen is how long the tests listen to replicas. What answers in process does so at once, and a test that needs an answer asks again.
const listen = 200 * time.Millisecond

// state is a replica's state with something in every field.
func state(host string) Replica {
	return Replica{
		Build: "v1.2.3", Host: host, Ready: false, NotReady: []string{"broker"}, Slots: 128, Held: 3, Calls: 17,
		Accounts: []ReplicaAccount{{Account: "easypay/default", Breaker: "open", Limit: 32, UnderWay: 2}},
	}
}

// replicas asks until as many have answered as are there.
func (b *bundle) replicas(prefix string, count int) []Found {
	b.t.Helper()
	var found []Found
	require.Eventually(b.t, func() bool {
		var err error
		found, err = Replicas(context.Background(), b.client, query.NewSubjects(prefix), listen)
		require.NoError(b.t, err)
		return len(found) == count
	}, patience, 10*time.Millisecond)
	return found
}

func TestReplicasTellTheirState(t *testing.T) {
	t.Parallel()
	b := setup(t, asking(echo), func(o *Options) { o.State = func() Replica { return state("b") } })
	b.serve(b.Connect(t), asking(echo), func(o *Options) { o.State = func() Replica { return state("a") } })
	b.serve(b.Connect(t), asking(echo), func(o *Options) {
		o.Subjects, o.State = query.NewSubjects("other"), func() Replica { return state("c") }
		decoder, err := query.NewDecoder(o.Subjects)
		require.NoError(t, err)
		o.Decoder = decoder
	})
	found := b.replicas("discount", 2)
	require.Equal(t, state("a"), found[0].Replica)
	require.Equal(t, state("b"), found[1].Replica)
	require.NotEqual(t, found[0].ID, found[1].ID)
	require.WithinDuration(t, time.Now(), found[0].Started, time.Minute)
	require.Equal(t, "c", b.replicas("other", 1)[0].Host, "another fleet on the same broker is not ours")
}

func TestReplicaStateIsToldOnce(t *testing.T) {
	t.Parallel()
	b := setup(t, asking(echo), func(o *Options) { o.State = func() Replica { return state("a") } })
	reply := b.request("$SRV.STATS.discount", nil, "")
	var stats struct {
		Endpoints []struct {
			Name string         `json:"name"`
			Data map[string]any `json:"data"`
		} `json:"endpoints"`
	}
	require.NoError(t, json.Unmarshal(reply.Data, &stats))
	require.Len(t, stats.Endpoints, 3)
	for _, endpoint := range stats.Endpoints {
		require.Contains(t, endpoint.Data, "slots")
		_, told := endpoint.Data["replica"]
		require.Equal(t, endpoint.Name == "lookup", told, endpoint.Name)
	}
}

func TestNobodyTells(t *testing.T) {
	t.Parallel()
	b := setup(t, asking(echo)) // It has no state to tell, as workers of an older version.
	found, err := Replicas(t.Context(), b.client, query.NewSubjects("discount"), listen)
	require.NoError(t, err)
	require.Empty(t, found)
	b.served.stop()
	b.served.hasEnded()
	found, err = Replicas(t.Context(), b.client, query.NewSubjects("discount"), time.Hour)
	require.NoError(t, err, "the broker says at once that nobody is there")
	require.Empty(t, found)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.client.Subscribe("$SRV.STATS.discount", func(*nats.Msg) {})
	require.NoError(t, err)
	_, err = Replicas(ctx, b.client, query.NewSubjects("discount"), time.Hour)
	require.ErrorIs(t, err, context.Canceled)
	b.client.Close()
	_, err = Replicas(t.Context(), b.client, query.NewSubjects("discount"), time.Hour)
	require.ErrorIs(t, err, nats.ErrConnectionClosed)
}

func TestStatsOfStrangers(t *testing.T) {
	t.Parallel()
	good := `{"id":"x","endpoints":[{"name":"lookup","subject":"discount.lookup.*","data":{"slots":1,"replica":{"build":"v1"}}}]}`
	found, ok := readReplica([]byte(good), "discount.lookup.*")
	require.True(t, ok)
	require.Equal(t, "v1", found.Build)
	for _, bad := range []string{
		``, `{`, `[]`, `{}`, `{"endpoints":[null]}`, `{"endpoints":[{"name":"lookup","subject":"discount.lookup.*"}]}`,
		`{"endpoints":[{"name":"lookup","subject":"other.lookup.*","data":{"replica":{}}}]}`,
		`{"endpoints":[{"name":"ask-easypay","subject":"discount.lookup.*","data":{"replica":{}}}]}`,
		`{"endpoints":[{"name":"lookup","subject":"discount.lookup.*","data":{"replica":{"calls":-1}}}]}`,
	} {
		_, ok := readReplica([]byte(bad), "discount.lookup.*")
		require.False(t, ok, bad)
	}
}

func FuzzReadReplica(f *testing.F) {
	whole, err := json.Marshal(Found{ID: "x", Started: time.Unix(1, 0), Replica: state("a")})
	require.NoError(f, err)
	f.Add([]byte(`{"endpoints":[{"name":"lookup","subject":"s","data":{"replica":` + string(whole) + `}}]}`))
	f.Add(fmt.Appendf(nil, `{"id":%q,"started":"2026-01-01T00:00:00Z","endpoints":[{"name":"lookup","subject":"s","data":{"replica":{"accounts":[{"breaker":7}]}}}]}`, "x"))
	f.Add([]byte(`{"endpoints":[{"name":"lookup","subject":"s","data":{"replica":null,"replica":{}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		found, ok := readReplica(data, "s")
		if !ok {
			require.Zero(t, found)
		}
	})
}
