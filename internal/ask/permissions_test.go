package ask

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// workerRights are what the broker must allow a worker for this room, and nothing more.
func workerRights() *server.Permissions {
	return &server.Permissions{
		Subscribe: &server.SubjectPermission{Allow: []string{"discount.ask.*.*", "discount.lookup.*", "$SRV.>"}},
		Publish:   &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
	}
}

// clientRights are what the broker must allow a client, and nothing more.
func clientRights(name string) *server.Permissions {
	return &server.Permissions{
		Publish:   &server.SubjectPermission{Allow: []string{"discount.ask.*." + name, "discount.lookup." + name}},
		Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX." + name + ".>"}},
	}
}

// guarded starts a server that confines its users, each with its own name for a password.
func guarded(t *testing.T, rights map[string]*server.Permissions) *server.Server {
	t.Helper()
	options := &server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true}
	for name, permissions := range rights {
		options.Users = append(options.Users, &server.User{Username: name, Password: name, Permissions: permissions})
	}
	srv, err := server.NewServer(options)
	require.NoError(t, err)
	srv.Start()
	t.Cleanup(func() {
		srv.Shutdown()
		srv.WaitForShutdown()
	})
	require.True(t, srv.ReadyForConnections(patience))
	return srv
}

// as connects a user. What the server denies comes on the channel.
func as(t *testing.T, srv *server.Server, name string) (*nats.Conn, <-chan error) {
	t.Helper()
	denied := make(chan error, 100)
	conn, err := nats.Connect(srv.ClientURL(), nats.UserInfo(name, name), nats.CustomInboxPrefix("_INBOX."+name),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err }))
	require.NoError(t, err)
	t.Cleanup(func() {
		closed := conn.StatusChanged(nats.CLOSED)
		conn.Close()
		wait(t, closed, "the connection is closed")
	})
	return conn, denied
}

func TestTheRightsThatAreNeeded(t *testing.T) {
	t.Parallel()
	responses := workerRights()
	responses.Publish, responses.Response = nil, &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
	undiscovered := workerRights()
	undiscovered.Subscribe.Allow = undiscovered.Subscribe.Allow[:2]
	for name, tc := range map[string]struct {
		worker     *server.Permissions
		discovered bool
	}{
		"inboxes":                       {workerRights(), true},
		"responses instead of inboxes":  {responses, true},
		"no discovery, answers as ever": {undiscovered, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := guarded(t, map[string]*server.Permissions{
				"worker": tc.worker, "shop": clientRights("shop"), "office": clientRights("office"),
				"ops": {Publish: &server.SubjectPermission{Allow: []string{"$SRV.>"}}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.ops.>"}}},
			})
			conn, deniedWorker := as(t, srv, "worker")
			b := &bundle{t: t}
			b.served = b.serve(conn, echo, func(o *Options) { o.Results = finding(stored) })

			b.client, _ = as(t, srv, "shop")
			requireEvent(t, b.ask("1"), `{"asked":"{\"cardCd\":\"026\"}"}`)
			requireEvent(t, b.request("discount.lookup.shop", nil, `{"source":"urn:shop","id":"1"}`), `{"id":"1"}`)

			var denied <-chan error
			b.client, denied = as(t, srv, "office")
			requireRefused(t, b.request("discount.lookup.office", nil, `{"key":"`+query.Key("shop", "urn:shop", "1")+`"}`), "404", NoResult, "")
			for _, subject := range []string{"discount.lookup.shop", "discount.ask.easypay.shop"} {
				require.NoError(t, b.client.PublishRequest(subject, "_INBOX.office.1", nil))
				require.ErrorContains(t, <-denied, `"`+subject+`"`)
			}

			ops, _ := as(t, srv, "ops")
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			_, err := ops.RequestWithContext(ctx, "$SRV.STATS.discount", nil)
			if tc.discovered {
				require.NoError(t, err)
				require.Empty(t, deniedWorker, "nothing was denied to the worker")
				return
			}
			require.ErrorIs(t, err, nats.ErrNoResponders)
			for range 9 {
				require.ErrorContains(t, <-deniedWorker, micro.APIPrefix)
			}
		})
	}
}

// TestRightThatIsBackIsUsedAfterRenew takes the right to requests away while one is under way, and gives it back.
func TestRightThatIsBackIsUsedAfterRenew(t *testing.T) {
	t.Parallel()
	srv := guarded(t, map[string]*server.Permissions{"worker": workerRights(), "shop": clientRights("shop")})
	allow := func(rights *server.Permissions) {
		require.NoError(t, srv.ReloadOptions(&server.Options{Host: "127.0.0.1", Port: -1, NoLog: true, NoSigs: true, Users: []*server.User{
			{Username: "worker", Password: "worker", Permissions: rights}, {Username: "shop", Password: "shop", Permissions: clientRights("shop")},
		}}))
	}
	conn, denied := as(t, srv, "worker")
	b, g := &bundle{t: t}, newGate()
	serving := make(chan struct{}, 10)
	b.served = b.serve(conn, g.ask, func(o *Options) {
		first := sync.OnceFunc(o.OnServing)
		o.OnServing = func() {
			first()
			serving <- struct{}{}
		}
	})
	wait(t, serving, "requests are taken")
	b.client, _ = as(t, srv, "shop")
	underWay := b.later("discount.ask.easypay.shop", coupons)
	wait(t, g.entered, "a query is under way")

	without := workerRights()
	without.Subscribe.Allow = []string{"$SRV.>"}
	allow(without)
	for range b.served.endpoints {
		require.ErrorIs(t, <-denied, nats.ErrPermissionViolation)
	}
	close(g.open)
	requireEvent(t, <-underWay, `{"asked":"{\"cardCd\":\"026\"}"}`)
	allow(workerRights())
	_, err := b.client.Request("discount.ask.easypay.shop", []byte(coupons), patience)
	require.ErrorIs(t, err, nats.ErrNoResponders, "the broker has dropped what was subscribed")

	require.True(t, b.served.Serves("discount.ask.easypay.*"))
	require.False(t, b.served.Serves("$SRV.PING"))
	b.served.Renew()
	wait(t, serving, "requests are taken again")
	requireEvent(t, b.ask("1"), `{"asked":"{\"cardCd\":\"026\"}"}`)
	b.served.requireCodes("ask-easypay", map[Code]int{Answered: 2})
}

// The broker allows this request, and with a right to respond it would allow the reply too.
func TestAReplyIsHeldAgainstOurRightsAndNotTheSenders(t *testing.T) {
	t.Parallel()
	rights := workerRights()
	rights.Publish, rights.Response = nil, &server.ResponsePermission{MaxMsgs: 1, Expires: time.Minute}
	srv := guarded(t, map[string]*server.Permissions{"worker": rights, "shop": clientRights("shop"), "reader": nil})
	conn, _ := as(t, srv, "worker")
	b := &bundle{t: t}
	reader, _ := as(t, srv, "reader")
	results, err := reader.SubscribeSync("discount.result.>")
	require.NoError(t, err)
	require.NoError(t, reader.Flush())
	const forged = "discount.result.csbuu7xomafjihgdwkgzrrrmq4.easypay.office.completed"

	open := b.serve(conn, echo, func(o *Options) { o.InboxPrefix = "discount.result" })
	b.client, _ = as(t, srv, "shop")
	require.NoError(t, b.client.PublishRequest("discount.ask.easypay.shop", forged, []byte(coupons)))
	message, err := results.NextMsg(patience)
	require.NoError(t, err, "without the check it would be written: %s", strings.Join(clientRights("shop").Publish.Allow, " "))
	require.Equal(t, forged, message.Subject)
	open.stop()
	open.hasEnded()

	b.serve(conn, echo)
	require.NoError(t, b.client.PublishRequest("discount.ask.easypay.shop", forged, []byte(coupons)))
	requireEvent(t, b.ask("1"), `{"asked":"{\"cardCd\":\"026\"}"}`)
	require.NoError(t, reader.Flush())
	pending, _, err := results.Pending()
	require.NoError(t, err)
	require.Zero(t, pending)
}
