package app

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/config"
)

// mayTop is what docs/terminal.md says that top needs.
func mayTop() []string {
	return []string{
		"$JS.API.STREAM.INFO.DISCOUNT_RESULTS", "$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.>", "$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_RESULTS.>",
		"$JS.API.STREAM.INFO.*", "$JS.API.CONSUMER.INFO.DISCOUNT_QUERIES.*", "$JS.API.CONSUMER.INFO.DISCOUNT_RETRIES.*",
		"$JS.API.STREAM.MSG.GET.DISCOUNT_QUERIES", "$JS.API.STREAM.MSG.GET.DISCOUNT_RETRIES",
		"$JS.API.DIRECT.GET.KV_discount_pace.>", "$JS.API.DIRECT.GET.KV_discount_replays", "$SRV.STATS.discount",
	}
}

// asOperator makes the site's broker one on which an operator has the rights given, and the site's configuration the operator's.
func (s *site) asOperator(t *testing.T, rights []string) {
	t.Helper()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
		Users: []*server.User{
			{Username: "admin", Password: "secret"},
			{Username: "ops", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: rights}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	require.NoError(t, err)
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	require.True(t, running.ReadyForConnections(patience))
	s.NATS.URL, s.NATS.User, s.NATS.PasswordFile = config.URL(running.ClientURL()), "admin", filepath.Join(t.TempDir(), "password")
	s.NATS.RequestTimeout = 3 * time.Second
	require.NoError(t, os.WriteFile(s.NATS.PasswordFile, []byte("secret"), 0o600))
	admin, err := OpenBroker(t.Context(), s.Config, BrokerOptions{Name: "admin"})
	require.NoError(t, err)
	defer func() { require.NoError(t, admin.Close(context.Background())) }()
	plan, err := broker.MakePlan(t.Context(), admin.JS, Topology(s.Config))
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), admin.JS, plan, nil))
	bucket, err := admin.JS.KeyValue(t.Context(), Topology(s.Config).Names().ReplaysBucket())
	require.NoError(t, err)
	store(t, bucket, "batch.r1", `{"id":"r1","state":"running","total":10}`)
	s.NATS.User = "ops"
}

func TestRightsToTop(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.asOperator(t, mayTop())
	shown := s.openTop(t).Snapshot(t.Context())
	require.Equal(t, []string{"no replica answers stats requests"}, shown.Problems)
	require.Len(t, shown.Replays, 1)
	require.Len(t, shown.Lanes, 4)
	require.NotNil(t, shown.Accounts[0].Pace)
}

// TestTopShowsWhatItMay takes one right away at a time: top tells it, and shows the rest.
func TestTopShowsWhatItMay(t *testing.T) {
	t.Parallel()
	for without, problem := range map[string]string{
		"$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.>": "the results can't be read (broker_unreachable)",
		"$JS.API.DIRECT.GET.KV_discount_pace.>":      "the pace can't be read",
		"$JS.API.STREAM.MSG.GET.DISCOUNT_QUERIES":    "the broker's figures can't be read",
		"$JS.API.CONSUMER.INFO.DISCOUNT_RETRIES.*":   "the broker's figures can't be read",
		"$JS.API.DIRECT.GET.KV_discount_replays":     "the broker's figures can't be read",
	} {
		t.Run(without, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.asOperator(t, slices.DeleteFunc(mayTop(), func(right string) bool { return right == without }))
			shown := s.openTop(t).Snapshot(t.Context())
			require.Contains(t, shown.Problems, problem)
			require.Len(t, shown.Accounts, 2)
		})
	}
}
