package tail

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// mayTail is what docs/terminal.md says a reader needs.
func mayTail() []string {
	return []string{
		"$JS.API.STREAM.INFO.DISCOUNT_RESULTS", "$JS.API.STREAM.INFO.DISCOUNT_DEAD",
		"$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.>", "$JS.API.CONSUMER.CREATE.DISCOUNT_DEAD.>",
		"$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_RESULTS.>", "$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_DEAD.>",
	}
}

// user returns a reader of a server of its own, as a user with the rights given.
func user(t *testing.T, rights []string) *bundle {
	t.Helper()
	running, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
		Users: []*server.User{
			{Username: "admin", Password: "admin"},
			{Username: "ops", Password: "ops", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: rights}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
			}},
		},
	})
	require.NoError(t, err)
	running.Start()
	t.Cleanup(func() { running.Shutdown(); running.WaitForShutdown() })
	require.True(t, running.ReadyForConnections(patience))
	connect := func(name string) jetstream.JetStream {
		conn, err := nats.Connect(running.ClientURL(), nats.UserInfo(name, name), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, broker.Drain(context.Background(), conn)) })
		js, err := jetstream.New(conn)
		require.NoError(t, err)
		return js
	}
	topology := broker.DefaultTopology()
	admin := connect("admin")
	plan, err := broker.MakePlan(t.Context(), admin, topology)
	require.NoError(t, err)
	require.NoError(t, broker.Apply(t.Context(), admin, plan, nil))
	b := &bundle{t: t}
	for _, subject := range []string{"discount.result.k.easypay.shop.completed", "discount.dead.k.easypay.shop.rejected"} {
		_, err := admin.Publish(t.Context(), subject, []byte("no event"))
		require.NoError(t, err)
	}
	b.Reader = New(Options{
		JS: connect("ops"), Names: topology.Names(), Subjects: query.NewSubjects("discount"), Timeout: 2 * time.Second, Patience: 2 * time.Second,
	})
	return b
}

// countUnreadable reads everything and counts what can't be read.
func (b *bundle) countUnreadable() (int, error) {
	count := 0
	err := b.Read(b.t.Context(), Request{Last: All, OnNotice: func(n Notice) {
		if n.Kind == Unreadable {
			count++
		}
	}}, func(Event) error { return nil })
	return count, err
}

func TestRightsToTail(t *testing.T) {
	t.Parallel()
	count, err := user(t, mayTail()).countUnreadable()
	require.NoError(t, err)
	require.Equal(t, 2, count)
}

func TestEachRightToTailIsNeeded(t *testing.T) {
	t.Parallel()
	for _, right := range mayTail() {
		t.Run(right, func(t *testing.T) {
			t.Parallel()
			b := user(t, slices.DeleteFunc(mayTail(), func(given string) bool { return given == right }))
			_, err := b.countUnreadable()
			require.Error(t, err)
			require.Equal(t, fault.BrokerUnreachable, fault.CodeOf(err))
		})
	}
}
