package client

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
)

// serveKeys plays the workers: it replies to requests for keys with what is given.
func (b *bundle) serveKeys(reply func(message *nats.Msg)) {
	b.t.Helper()
	subscription, err := b.Connect(b.t).Subscribe("discount.keys", reply)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = subscription.Unsubscribe() })
	require.NoError(b.t, subscription.SetPendingLimits(100, 1<<20))
}

func TestFetchSealer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.FetchSealer(within(t, patience))
	require.ErrorIs(t, err, nats.ErrNoResponders)
	require.ErrorContains(t, err, "nobody serves discount.keys")
	set, err := b.ring.PublicSet()
	require.NoError(t, err)
	b.serveKeys(func(message *nats.Msg) { _ = message.Respond(set) })
	require.Eventually(t, func() bool {
		sealer, err := b.FetchSealer(within(t, patience))
		return err == nil && sealer.KeyID() == b.ring.Sealer().KeyID()
	}, patience, 10*time.Millisecond)
	b.Sealer, err = b.FetchSealer(within(t, patience))
	require.NoError(t, err)
	_, err = b.Publish(within(t, patience), usage(t, "1"))
	require.NoError(t, err)
	_, err = b.ring.Open(sealedIn(t, b), 8192)
	require.NoError(t, err, "what is sealed so can be opened by the workers")
}

// TestPinnedKeys has somebody reply in the workers' place with a key of his own, as whoever has their NATS key can.
func TestPinnedKeys(t *testing.T) {
	t.Parallel()
	b, stranger := setup(t), setup(t)
	forged, err := stranger.ring.PublicSet()
	require.NoError(t, err)
	b.serveKeys(func(message *nats.Msg) { _ = message.Respond(forged) })
	require.Eventually(t, func() bool {
		sealer, err := b.FetchSealer(within(t, patience))
		return err == nil && sealer.KeyID() == stranger.ring.Sealer().KeyID()
	}, patience, 10*time.Millisecond, "without a pin he is believed")
	b.Pins = []string{b.ring.Keys()[0].Thumbprint}
	sealer, err := b.FetchSealer(within(t, patience))
	require.ErrorIs(t, err, card.ErrNotPinned)
	require.Nil(t, sealer)
	b.Pins = append(b.Pins, stranger.ring.Keys()[0].Thumbprint)
	_, err = b.FetchSealer(within(t, patience))
	require.NoError(t, err, "there may be several pins, as a rotation needs")
}

// sealedIn returns the sealed text of the one query that is stored.
func sealedIn(t *testing.T, b *bundle) string {
	t.Helper()
	text := string(b.decoded().UnionPay.Data.Reveal())
	require.Greater(t, len(text), 2)
	return text[1 : len(text)-1]
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		reply func(message *nats.Msg)
		want  string
	}{
		"a refusal": {func(message *nats.Msg) {
			_ = message.RespondMsg(&nats.Msg{Header: nats.Header{micro.ErrorCodeHeader: {"503"}, micro.ErrorHeader: {"overloaded"}}})
		}, "overloaded (503)"},
		"no keys": {func(message *nats.Msg) { _ = message.Respond([]byte("s3cret")) }, "no JSON Web Key Set"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.serveKeys(tc.reply)
			require.Eventually(t, func() bool {
				_, err := b.FetchSealer(within(t, patience))
				require.NotContains(t, err.Error(), "s3cret")
				return strings.Contains(err.Error(), tc.want)
			}, patience, 10*time.Millisecond)
		})
	}
	b := setup(t)
	b.serveKeys(func(*nats.Msg) {})
	require.Eventually(t, func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := b.FetchSealer(ctx)
		return errors.Is(err, ErrNoResult)
	}, patience, 10*time.Millisecond)
}
