package deploy

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
)

// scene is the server of the files with a query, a result, a dead letter and a pace, and a connection of each role.
type scene struct {
	*site

	root *app.Broker
	as   map[string]*app.Broker
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := newSite(t)
	roots := s.roots(t, s.files())
	s.quick()
	s.start(t)
	c := &scene{site: s, root: roots.connect(t, s).root, as: map[string]*app.Broker{}}
	setUp(t, c.root, asIs)
	for _, subject := range kept() {
		_, err := c.root.JS.Publish(t.Context(), subject, []byte(`{}`))
		require.NoError(t, err)
	}
	require.NoError(t, makeAnalytics(t.Context(), c.root))
	for _, r := range roles() {
		c.as[r.name] = s.connect(t, s.base(r))
	}
	return c
}

// kept are the subjects of what a scene holds, one message each.
func kept() []string {
	return []string{
		"discount.query.easypay.interactive.shop", "discount.retry.at.k", "discount.result.k.easypay.shop.completed",
		"discount.dead.k.easypay.shop.rejected", "discount.audit.pace.set", "$KV.discount_pace.control.easypay.default",
		"$KV.discount_replays.batch.b",
	}
}

// requireKept checks that the streams hold what they held, each message as it was.
func (c *scene) requireKept(t *testing.T) {
	t.Helper()
	holds := map[string]uint64{}
	streams := c.root.JS.ListStreams(t.Context())
	for info := range streams.Info() {
		holds[info.Config.Name] = info.State.Msgs
		require.Equal(t, info.State.Msgs, info.State.LastSeq, "%s was written to or taken from", info.Config.Name)
	}
	require.NoError(t, streams.Err())
	require.Equal(t, map[string]uint64{
		"DISCOUNT_QUERIES": 1, "DISCOUNT_RETRIES": 1, "DISCOUNT_RESULTS": 1, "DISCOUNT_DEAD": 1, "DISCOUNT_ADVISORIES": 0, "DISCOUNT_AUDIT": 1,
		"KV_discount_pace": 1, "KV_discount_replays": 1, "KV_discount_answers": 0,
	}, holds)
}

// publisherMayNot are subjects that a client may not publish to, by what it would be.
func publisherMayNot() map[string]string {
	return map[string]string{
		"ack another's query":               "$JS.ACK.DISCOUNT_QUERIES.easypay-interactive.1.1.1.0.0",
		"ack another's query, newer form":   "$JS.ACK._.abcdefgh.DISCOUNT_QUERIES.easypay-interactive.1.1.1.0.0",
		"publish as another":                "discount.query.easypay.interactive.shop",
		"ask as another":                    "discount.ask.easypay.shop",
		"look up as another":                "discount.lookup.shop",
		"schedule":                          "discount.retry.at.k",
		"hand in a retry":                   "discount.retry.due.easypay.bulk.pos",
		"forge a result":                    "discount.result.k.easypay.pos.completed",
		"forge a dead letter":               "discount.dead.k.easypay.pos.rejected",
		"forge an audit":                    "discount.audit.pace.set",
		"purge a stream":                    "$JS.API.STREAM.PURGE.DISCOUNT_QUERIES",
		"delete a stream":                   "$JS.API.STREAM.DELETE.DISCOUNT_QUERIES",
		"delete a message":                  "$JS.API.STREAM.MSG.DELETE.DISCOUNT_DEAD",
		"change a stream":                   "$JS.API.STREAM.UPDATE.DISCOUNT_QUERIES",
		"make a stream":                     "$JS.API.STREAM.CREATE.MINE",
		"make a consumer":                   "$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.mine.discount.result.>",
		"make a consumer, older form":       "$JS.API.CONSUMER.DURABLE.CREATE.DISCOUNT_RESULTS.mine",
		"pull queries":                      "$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_QUERIES.easypay-interactive",
		"reset a consumer":                  "$JS.API.CONSUMER.RESET.DISCOUNT_QUERIES.easypay-interactive",
		"read a dead letter":                "$JS.API.STREAM.MSG.GET.DISCOUNT_DEAD",
		"read another's result":             "$JS.API.STREAM.MSG.GET.DISCOUNT_RESULTS",
		"read the pace":                     "$JS.API.DIRECT.GET.KV_discount_pace.$KV.discount_pace.control.easypay.default",
		"set the pace":                      "$KV.discount_pace.control.easypay.default",
		"read the streams' state":           "$JS.API.STREAM.INFO.DISCOUNT_QUERIES",
		"ask the server":                    "$SYS.REQ.SERVER.PING",
		"ask the services":                  "$SRV.PING",
		"write into the worker's inbox":     "_INBOX_worker.x",
		"write into another client's inbox": "_INBOX_publisher.shop.x",
		"reply in another's place":          "_R_.abcdef.x",
	}
}

func TestPublisherIsDenied(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	pos := c.as["publisher pos"]
	for what, subject := range publisherMayNot() {
		require.NoError(t, pos.Conn.Publish(subject, []byte(`{"seq":1}`)))
		require.NoError(t, pos.Conn.Flush())
		require.Contains(t, c.log.deniedTo(c.base(roleOf("publisher pos"))), subject, what)
	}
	for _, subject := range []string{
		"discount.result.*.*.shop.*", "discount.result.>", "discount.dead.>", "discount.query.>", "discount.ask.>", "_INBOX_publisher.shop.>",
		"_INBOX_publisher.>", "_INBOX.>", "_INBOX_worker.>", "$JS.EVENT.>", "$JS.ACK.>", "$KV.>", "$SYS.>", "_R_.>", "*.>", ">",
	} {
		_, err := pos.Conn.SubscribeSync(subject)
		require.NoError(t, err)
		require.NoError(t, pos.Conn.Flush())
		require.Contains(t, c.log.deniedTo(c.base(roleOf("publisher pos"))), subject)
	}
	c.requireKept(t)
}

// TestReplyReachesNobodyElse shows what a client can do with the subject of a reply, which no permission is asked about: the broker itself
// writes its confirmation there.
func TestReplyReachesNobodyElse(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	inboxes, err := c.as["publisher shop"].Conn.SubscribeSync("_INBOX_publisher.shop.>")
	require.NoError(t, err)
	require.NoError(t, c.as["publisher shop"].Conn.Flush())
	replies := []string{
		"discount.result.other.easypay.shop.failed", "discount.retry.at.other", "$KV.discount_pace.control.easypay.default", "discount.audit.pace.set",
		"discount.query.easypay.interactive.shop", "_INBOX_publisher.shop.x", "$JS.API.STREAM.PURGE.DISCOUNT_DEAD",
		"$JS.ACK.DISCOUNT_QUERIES.easypay-interactive.1.1.1.0.0",
	}
	pos := c.as["publisher pos"]
	for _, reply := range replies {
		require.NoError(t, pos.Conn.PublishRequest("discount.query.easypay.interactive.pos", reply, []byte("{}")))
		require.NoError(t, pos.Conn.PublishRequest("discount.query.nobody.interactive.pos", reply, []byte("{}")))
	}
	_, err = pos.JS.Publish(t.Context(), "discount.query.easypay.interactive.pos", []byte("{}")) // The one before are confirmed by then.
	require.NoError(t, err)
	stream, err := c.root.JS.Stream(t.Context(), "DISCOUNT_QUERIES")
	require.NoError(t, err)
	stored := stream.CachedInfo().State.Msgs
	require.Greater(t, stored, uint64(2))
	for sequence := uint64(2); sequence <= stored; sequence++ {
		message, err := stream.GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		require.Equal(t, "discount.query.easypay.interactive.pos", message.Subject)
	}
	for _, name := range []string{"DISCOUNT_RESULTS", "DISCOUNT_RETRIES", "DISCOUNT_AUDIT", "DISCOUNT_DEAD", "KV_discount_pace"} {
		other, err := c.root.JS.Stream(t.Context(), name)
		require.NoError(t, err)
		require.EqualValues(t, 1, other.CachedInfo().State.LastSeq, name)
	}
	require.NoError(t, c.as["publisher shop"].Conn.Flush())
	_, err = inboxes.NextMsg(time.Millisecond)
	require.ErrorIs(t, err, nats.ErrTimeout)
}

// TestHeadersAreRefused sends what a stream could be made to obey by a mere header, on a subject that the client may publish to.
func TestHeadersAreRefused(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	for name, value := range map[string]string{
		"Nats-Rollup": "all", "Nats-Schedule": "@at 2030-01-01T00:00:00Z", "Nats-TTL": "1s", "Nats-Incr": "1", "Nats-Batch-Id": "b",
	} {
		message := nats.NewMsg("discount.query.easypay.interactive.pos")
		message.Header.Set(name, value)
		message.Header.Set("Nats-Schedule-Target", "discount.query.easypay.interactive.shop")
		if name == "Nats-Batch-Id" {
			message.Header.Set("Nats-Batch-Sequence", "1")
		}
		if name != "Nats-Schedule" {
			message.Header.Del("Nats-Schedule-Target")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		reply, err := c.as["publisher pos"].Conn.RequestMsgWithContext(ctx, message)
		require.NoError(t, err, name)
		require.Contains(t, string(reply.Data), `"error"`, name)
	}
	c.requireKept(t)
}

// TestReadersOnlyRead shows what analytics and the operators who look may not.
func TestReadersOnlyRead(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	for name, more := range map[string][]string{
		"analytics": {
			"$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_RESULTS.analytics", "discount.api.STREAM.INFO.DISCOUNT_DEAD", "discount.api.STREAM.MSG.GET.DISCOUNT_DEAD",
			"$JS.ACK.DISCOUNT_QUERIES.analytics.1.1.1.0.0", "$JS.ACK.DISCOUNT_QUERIES.easypay-interactive.DISCOUNT_RESULTS.analytics.1.0.0",
		},
		"ops view": {
			"$JS.API.STREAM.MSG.DELETE.DISCOUNT_DEAD", "$JS.API.CONSUMER.CREATE.DISCOUNT_QUERIES.mine.discount.query.>", "$SRV.PING",
			// The consumer of analytics, in each form that changes it or takes from it.
			"$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.analytics.discount.result.>", "$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_RESULTS.analytics",
			"$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.analytics", "$JS.API.CONSUMER.DURABLE.CREATE.DISCOUNT_RESULTS.analytics",
			"$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS", "$JS.API.CONSUMER.DELETE.DISCOUNT_RESULTS.analytics",
		},
		"ops replay": {"$JS.API.CONSUMER.CREATE.DISCOUNT_RESULTS.mine.>", "discount.retry.due.easypay.interactive.shop", "$KV.discount_pace.lease.sweeper"},
		"ops reseal": {"$KV.discount_replays.batch.b", "discount.audit.pace.set", "discount.retry.due.easypay.bulk.shop"},
		"setup":      {"$JS.API.STREAM.MSG.GET.DISCOUNT_QUERIES", "$JS.API.CONSUMER.MSG.NEXT.DISCOUNT_QUERIES.easypay-bulk", "$JS.API.STREAM.CREATE.MINE"},
		"admin":      {"discount.retry.at.k", "discount.retry.due.easypay.bulk.pos", "$KV.discount_pace.control.easypay.default"},
		"worker": {
			"$JS.API.CONSUMER.DELETE.DISCOUNT_QUERIES.easypay-bulk", "$JS.API.CONSUMER.CREATE.DISCOUNT_QUERIES.mine.>", "discount.audit.pace.set",
			"$JS.API.CONSUMER.RESET.DISCOUNT_QUERIES.easypay-bulk", "$JS.ACK.DISCOUNT_RESULTS.analytics.1.1.1.0.0",
		},
	} {
		everybody := []string{
			"discount.query.easypay.interactive.shop", "$JS.API.STREAM.DELETE.DISCOUNT_QUERIES", "$JS.API.STREAM.PURGE.DISCOUNT_QUERIES",
			"$SYS.REQ.SERVER.PING", "$JS.ACK.DISCOUNT_QUERIES.easypay-interactive.1.1.1.0.0", "discount.result.k.easypay.shop.failed",
			"_INBOX_publisher.shop.x",
		}
		for _, subject := range append(everybody, more...) {
			if allowed(name, subject) {
				continue
			}
			require.NoError(t, c.as[name].Conn.Publish(subject, []byte(`{}`)))
			require.NoError(t, c.as[name].Conn.Flush())
			require.Contains(t, c.log.deniedTo(c.base(roleOf(name))), subject, name)
		}
		for _, subject := range []string{"discount.>", "_INBOX.>", "_INBOX_publisher.>", "$SYS.>", ">"} {
			_, err := c.as[name].Conn.SubscribeSync(subject)
			require.NoError(t, err)
			require.NoError(t, c.as[name].Conn.Flush())
			require.Contains(t, c.log.deniedTo(c.base(roleOf(name))), subject, name)
		}
	}
	c.requireKept(t)
}

// allowed tells the few of the subjects that are denied to everybody else from those that a role lives by.
func allowed(name, subject string) bool {
	switch name {
	case "worker":
		return strings.HasPrefix(subject, "$JS.ACK.DISCOUNT_QUERIES.") || strings.HasPrefix(subject, "discount.result.")
	case "admin":
		return strings.HasPrefix(subject, "$JS.API.")
	default:
		return false
	}
}

// TestNobodyPurgesQueries shows that not even root can: the stream itself refuses. Nor can anybody delete a result or an audit.
func TestNobodyPurgesQueries(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	for _, name := range []string{"DISCOUNT_QUERIES", "DISCOUNT_RESULTS", "DISCOUNT_DEAD", "DISCOUNT_AUDIT"} {
		stream, err := c.root.JS.Stream(t.Context(), name)
		require.NoError(t, err)
		var refused *jetstream.APIError
		require.ErrorAs(t, stream.Purge(t.Context()), &refused, name)
		if name != "DISCOUNT_DEAD" {
			require.Error(t, stream.DeleteMsg(t.Context(), 1), name)
		}
	}
	c.requireKept(t)
}

// TestSystemAccount shows that its user sees the servers, and that nobody else does.
func TestSystemAccount(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	system := c.connect(t, c.base(systemUser()))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for _, subject := range []string{
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.STATSZ", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.PING.JSZ",
		"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.HEALTHZ", "$SYS.REQ.ACCOUNT.DISCOUNT.CONNZ", "$SYS.REQ.ACCOUNT.DISCOUNT.INFO",
	} {
		reply, err := system.Conn.RequestWithContext(ctx, subject, nil)
		require.NoError(t, err, subject)
		require.Contains(t, string(reply.Data), c.Name(), subject)
	}
	require.Empty(t, c.log.deniedTo(c.base(systemUser())))
}

// systemUser is the user of the system account, who is no role of ours.
func systemUser() role {
	return role{name: "sys", variable: "NATS_SYS", inbox: "_INBOX_sys"}
}

// TestSystemAccountActsOnNothing shows what its user may not: end, profile or empty anything, or hear more than the replies to it.
func TestSystemAccountActsOnNothing(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	sys := c.base(systemUser())
	system := c.connect(t, sys)
	for _, subject := range []string{
		"$JS.API.ACCOUNT.PURGE.DISCOUNT", "$JS.API.META.LEADER.STEPDOWN", "$JS.API.SERVER.REMOVE", "$JS.API.ACCOUNT.STREAM.MOVE.DISCOUNT.DISCOUNT_AUDIT",
		"$SYS.REQ.SERVER.PING.PROFILEZ", "$SYS.REQ.SERVER." + c.ID() + ".PROFILEZ", "$SYS.REQ.SERVER." + c.ID() + ".KICK",
		"$SYS.REQ.SERVER." + c.ID() + ".LDM", "$SYS.REQ.SERVER." + c.ID() + ".RELOAD", "$SYS.REQ.ACCOUNT.DISCOUNT.CLAIMS.UPDATE",
		"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.CLAIMS.DELETE", "discount.audit.pace.set",
	} {
		require.NoError(t, system.Conn.PublishRequest(subject, "_INBOX_sys.x", []byte(`{}`)))
		require.NoError(t, system.Conn.Flush())
		require.Contains(t, c.log.deniedTo(sys), subject)
	}
	for _, subject := range []string{"$SYS.>", "$JS.API.>", "discount.>", "_INBOX.>", ">"} {
		_, err := system.Conn.SubscribeSync(subject)
		require.NoError(t, err)
		require.NoError(t, system.Conn.Flush())
		require.Contains(t, c.log.deniedTo(sys), subject)
	}
	// Nor does the server do it for him, when it replies to what he may ask.
	require.NoError(t, system.Conn.PublishRequest("$SYS.REQ.SERVER.PING.VARZ", "$JS.API.ACCOUNT.PURGE.DISCOUNT", nil))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := system.Conn.RequestWithContext(ctx, "$SYS.REQ.SERVER.PING.VARZ", nil)
	require.NoError(t, err)
	c.requireKept(t)
}
