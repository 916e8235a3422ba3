package deploy

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
)

// These tests show what the lists can't keep from who is in one account with the streams, and means ill. README.md and docs/security.md say it to
// whoever hands out the keys; should a server ever refuse one of them, they can say less.

// requireHolds waits until a stream holds so many messages, as root sees it.
func (c *scene) requireHolds(t *testing.T, name string, want uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var holds uint64
	err := until(ctx, func() (bool, error) {
		stream, err := c.root.JS.Stream(ctx, name)
		if err == nil {
			holds = stream.CachedInfo().State.Msgs
		}
		return holds == want, err
	})
	require.NoError(t, err, "%s holds %d instead of %d", name, holds, want)
}

// TestRepliesWriteTheAudit has the server put its own answers into the audit: it holds the subject of a reply against no list.
func TestRepliesWriteTheAudit(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	for _, name := range []string{"ops view", "worker"} {
		require.NoError(t, c.as[name].Conn.PublishRequest("$JS.API.STREAM.MSG.GET.DISCOUNT_DEAD", "discount.audit.dead.edit", []byte(`{"seq":1}`)))
		require.NoError(t, c.as[name].Conn.Flush())
	}
	c.requireHolds(t, "DISCOUNT_AUDIT", 3)
	require.Empty(t, c.log.deniedTo(c.base(roleOf("ops view"))))
	// When it is full of such, an admin makes room.
	stream, err := c.as["admin"].JS.Stream(t.Context(), "DISCOUNT_AUDIT")
	require.NoError(t, err)
	larger := stream.CachedInfo().Config
	larger.MaxBytes *= 2
	_, err = c.as["admin"].JS.UpdateStream(t.Context(), larger)
	require.NoError(t, err)
}

// TestWorkersEmptyRetries rolls up what workers may publish: a stream that allows schedules allows that too.
func TestWorkersEmptyRetries(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	for _, subject := range []string{"discount.retry.at.a", "discount.retry.at.b"} {
		_, err := c.root.JS.Publish(t.Context(), subject, []byte(`{}`))
		require.NoError(t, err)
	}
	c.requireHolds(t, "DISCOUNT_RETRIES", 3)
	message := nats.NewMsg("discount.retry.at.mine")
	message.Header.Set("Nats-Rollup", "all")
	_, err := c.as["worker"].JS.PublishMsg(t.Context(), message)
	require.NoError(t, err)
	c.requireHolds(t, "DISCOUNT_RETRIES", 1)
}

// TestSetupReadsAndDeletes changes a stream, as setup may, so that it repeats what comes to an inbox, and forgets it soon.
func TestSetupReadsAndDeletes(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	setup := c.as["setup"]
	heard, err := setup.Conn.SubscribeSync("_INBOX_setup.heard.>")
	require.NoError(t, err)
	stream, err := setup.JS.Stream(t.Context(), "DISCOUNT_RESULTS")
	require.NoError(t, err)
	changed := stream.CachedInfo().Config
	changed.RePublish = &jetstream.RePublish{Source: ">", Destination: "_INBOX_setup.heard.>"}
	changed.MaxAge, changed.Duplicates = time.Second, time.Second
	_, err = setup.JS.UpdateStream(t.Context(), changed)
	require.NoError(t, err)
	_, err = c.root.JS.Publish(t.Context(), "discount.result.l.easypay.pos.completed", []byte(`{"whose":"pos"}`))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	message, err := heard.NextMsgWithContext(ctx)
	require.NoError(t, err)
	require.JSONEq(t, `{"whose":"pos"}`, string(message.Data))
	c.requireHolds(t, "DISCOUNT_RESULTS", 0)
	require.Empty(t, c.log.deniedTo(c.base(roleOf("setup"))))
}

// TestWhoHasTheWorkersKeyServesKeys has somebody with no more than that key answer publishers. Those that pin the workers' keys refuse his.
func TestWhoHasTheWorkersKeyServesKeys(t *testing.T) {
	t.Parallel()
	c := newScene(t)
	forged := []byte(`{"keys":[{"kty":"EC","crv":"P-256","kid":"forged","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",` +
		`"y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`)
	_, err := c.as["worker"].Conn.Subscribe("discount.keys", func(message *nats.Msg) { _ = message.Respond(forged) })
	require.NoError(t, err)
	require.NoError(t, c.as["worker"].Conn.Flush())
	shop := publisher(c.as["publisher shop"], "shop")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sealer, err := shop.FetchSealer(ctx)
	require.NoError(t, err)
	require.Equal(t, "forged", sealer.KeyID())
	ring, err := card.LoadRing(ordinary().Cards.KeysDir)
	require.NoError(t, err)
	shop.Pins = []string{ring.Keys()[0].Thumbprint}
	_, err = shop.FetchSealer(ctx)
	require.ErrorIs(t, err, card.ErrNotPinned)
}
