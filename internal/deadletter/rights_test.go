package deadletter

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// What docs/deadletters.md says an operator needs.
func mayLook() []string {
	return []string{
		"$JS.API.STREAM.INFO.DISCOUNT_DEAD", "$JS.API.STREAM.INFO.DISCOUNT_RESULTS",
		"$JS.API.STREAM.MSG.GET.DISCOUNT_DEAD", "$JS.API.STREAM.MSG.GET.DISCOUNT_RESULTS",
		"$JS.API.STREAM.INFO.KV_discount_replays", "$JS.API.DIRECT.GET.KV_discount_replays.>",
	}
}

func mayReplay() []string {
	return append(mayLook(), "discount.audit.dead.*", "discount.audit.replay.*", "$KV.discount_replays.>", "discount.retry.due.*.bulk.*",
		"$JS.API.DIRECT.GET.KV_discount_replays", "$JS.API.STREAM.PURGE.KV_discount_replays")
}

func mayDrop() []string {
	return append(mayLook(), "discount.audit.dead.*", "$JS.API.STREAM.MSG.DELETE.DISCOUNT_DEAD")
}

// operator opens the letters as a user of a server that holds copies of a bundle's letters and results, with the rights given.
func (b *bundle) operator(t *testing.T, rights []string) *Letters {
	t.Helper()
	js := b.copied(t, rights)
	l, err := Open(t.Context(), Options{
		JS: js, Names: b.Names, Subjects: b.subject, Ring: b.ring, Actor: "kim@desk", Timeout: time.Second, Patience: 2 * time.Second,
		Providers: []query.Provider{query.EasyPay, query.UnionPay},
		Replayer:  &publish.Replayer{JS: js, Subjects: b.subject, Stream: b.Names.Retries(), Timeout: time.Second},
		Auditor:   &publish.Auditor{JS: js, Subjects: b.subject, Stream: b.Names.Audit(), Timeout: time.Second},
		Resealer:  &publish.Resealer{JS: js, Subjects: b.subject, Stream: b.Names.Dead(), Timeout: time.Second},
	})
	require.NoError(t, err)
	return l
}

// copied connects as a user with the rights given to a server that holds copies of a bundle's letters and results.
func (b *bundle) copied(t *testing.T, rights []string) jetstream.JetStream {
	t.Helper()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "operator", Password: "operator", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: rights}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	require.NoError(t, err)
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	require.True(t, running.ReadyForConnections(patience))
	connect := func(user string) jetstream.JetStream {
		conn, err := nats.Connect(running.ClientURL(), nats.UserInfo(user, user))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, broker.Drain(context.Background(), conn)) })
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		return js
	}
	admin := connect("admin")
	plan, err := broker.MakePlan(t.Context(), admin, b.server.Topology)
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), admin, plan, nil))
	for _, name := range []string{b.Names.Dead(), b.Names.Results()} {
		b.copyStream(t, name, admin)
	}
	return connect("operator")
}

func (b *bundle) copyStream(t *testing.T, name string, to jetstream.JetStream) {
	t.Helper()
	stream, err := b.server.JS.Stream(t.Context(), name)
	require.NoError(t, err)
	for next := uint64(1); next <= stream.CachedInfo().State.LastSeq; next++ {
		message, err := stream.GetMsg(t.Context(), next)
		require.NoError(t, err)
		_, err = to.Publish(t.Context(), message.Subject, message.Data)
		require.NoError(t, err)
	}
}

func TestRightsToLook(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	l := b.operator(t, mayLook())
	groups, err := l.Groups(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, 3, groups[0].Count)
	letter, err := l.Find(t.Context(), 2)
	require.NoError(t, err)
	shown, err := l.Show(t.Context(), letter)
	require.NoError(t, err)
	require.Equal(t, Ready, shown.Standing)
	count, err := l.Export(t.Context(), Filter{}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 3, count)
	plan, err := l.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, 3, plan.Ready)
	_, err = l.Start(t.Context(), Request{Plan: plan, Rate: 1})
	require.ErrorContains(t, err, "could not be written down")
	_, err = l.Drop(t.Context(), plan)
	require.ErrorContains(t, err, "could not be written down")
	_, err = l.Reveal(t.Context(), letter)
	require.ErrorContains(t, err, "could not be written down")
}

func TestRightsToReplay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	l := b.operator(t, mayReplay())
	done := b.run(l, b.begin(l, Filter{}).ID)
	require.Equal(t, 3, done.Published)
	cancelled, err := l.Cancel(t.Context(), b.begin(l, Filter{}).ID)
	require.NoError(t, err)
	require.Equal(t, Cancelled, cancelled.State)
	count := 0
	require.NoError(t, l.Batches(t.Context(), func(Batch) error { count++; return nil }))
	require.Equal(t, 2, count)
	letter, err := l.Find(t.Context(), 1)
	require.NoError(t, err)
	_, err = l.Reveal(t.Context(), letter)
	require.NoError(t, err)
	require.Error(t, l.remove(t.Context(), 1), "to drop is another right")
}

func TestRightsToDrop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	l := b.operator(t, mayDrop())
	plan, err := l.PlanDrop(t.Context(), Filter{})
	require.NoError(t, err)
	dropped, err := l.Drop(t.Context(), plan)
	require.NoError(t, err)
	require.Equal(t, 3, dropped)
}

func TestEachRightToReplayIsNeeded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	for _, without := range []string{"discount.audit.dead.*", "$KV.discount_replays.>", "discount.retry.due.*.bulk.*"} {
		t.Run(without, func(t *testing.T) {
			t.Parallel()
			rights := slices.DeleteFunc(mayReplay(), func(right string) bool { return right == without })
			l := b.operator(t, rights)
			plan, err := l.PlanReplay(t.Context(), Filter{Provider: query.EasyPay})
			require.NoError(t, err)
			batch, err := l.Start(t.Context(), Request{Plan: plan, Rate: 1})
			if err == nil {
				_, err = l.Run(t.Context(), batch.ID, nil)
			}
			require.Error(t, err)
		})
	}
}
