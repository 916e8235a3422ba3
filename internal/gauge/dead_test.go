package gauge

import (
	"context"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestDeadLettersByReason(t *testing.T) {
	t.Parallel()
	b := setup(t)
	last := uint64(0)
	for i, subject := range []string{
		"discount.dead.k1.easypay.shop.rejected", "discount.dead.k2.easypay.till.rejected", "discount.dead.k3.easypay.shop.malformed",
		"discount.dead.k4.unionpay.shop.rejected", "discount.dead.k1.easypay.shop.rejected",
	} {
		last = b.publish(t, subject)
		require.EqualValues(t, i+1, last)
	}
	f := b.read(t)
	require.Equal(t, map[string]uint64{"easypay/rejected": 2, "easypay/malformed": 1, "unionpay/rejected": 1}, f.died())
	require.EqualValues(t, 5, f.stream(t, "DEAD").Messages, "one query died twice")

	stream, err := b.server.JS.Stream(t.Context(), "DISCOUNT_DEAD")
	require.NoError(t, err)
	require.NoError(t, stream.DeleteMsg(t.Context(), last))
	require.EqualValues(t, 2, b.read(t).died()["easypay/rejected"], "its first letter is still there")
	require.NoError(t, stream.DeleteMsg(t.Context(), 2))
	require.EqualValues(t, 1, b.read(t).died()["easypay/rejected"])
}

// TestLabelsOfLettersAreClosed stores letters whose subjects say what nobody knows: a newer worker or a provider that was turned off since.
func TestLabelsOfLettersAreClosed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for i, subject := range []string{
		"third.shop.rejected", "easypay.shop.bored", "easypay.shop.rejected", "6200000000000005.shop.6200000000000005", "none.none.malformed", "none.none.bored",
	} {
		b.publish(t, fmt.Sprintf("discount.dead.k%d.%s", i, subject))
	}
	f := b.read(t)
	require.Len(t, f.Dead, 7)
	require.Equal(t, map[string]uint64{"easypay/rejected": 1, "none/malformed": 1, "other/other": 4}, f.died())
}

// TestLettersAreCountedOnlyIfTheyChanged counts the requests.
func TestLettersAreCountedOnlyIfTheyChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.publish(t, "discount.dead.k1.easypay.shop.rejected")
	requests := func() uint64 {
		before := b.server.Conn.Stats().OutMsgs
		b.read(t)
		return b.server.Conn.Stats().OutMsgs - before
	}
	counted := requests()
	same := requests()
	require.EqualValues(t, 6, counted-same, "one for each provider, or none, and reason")
	b.publish(t, "discount.dead.k2.easypay.shop.rejected")
	require.Equal(t, counted, requests())
	require.Equal(t, same, requests())
	require.EqualValues(t, 2, b.read(t).died()["easypay/rejected"])

	require.NoError(t, b.server.JS.DeleteStream(t.Context(), "DISCOUNT_DEAD"))
	b.server.Apply(t)
	b.publish(t, "discount.dead.k1.unionpay.shop.rejected")
	b.publish(t, "discount.dead.k2.unionpay.shop.rejected")
	require.Equal(t, map[string]uint64{"unionpay/rejected": 2}, b.read(t).died(), "it is another stream, though its sequences are the same")
}

func TestCountThatIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.total(t.Context(), "DISCOUNT_NOWHERE", "discount.dead.>")
	refused := &jetstream.APIError{}
	require.ErrorAs(t, err, &refused)
	require.Equal(t, jetstream.JSErrCodeStreamNotFound, refused.ErrorCode)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.total(ended, "DISCOUNT_DEAD", "discount.dead.>")
	require.ErrorIs(t, err, context.Canceled)
}

// BenchmarkRead reads the figures of a broker that holds letters, of which one more comes before each reading.
func BenchmarkRead(b *testing.B) {
	for _, letters := range []int{0, 10_000} {
		b.Run(fmt.Sprintf("letters=%d", letters), func(b *testing.B) {
			s := setup(b)
			for i := range letters {
				_, err := s.server.JS.PublishAsync(fmt.Sprintf("discount.dead.%026d.easypay.shop.rejected", i), make([]byte, 1500))
				require.NoError(b, err)
				if i%200 == 0 {
					<-s.server.JS.PublishAsyncComplete()
				}
			}
			<-s.server.JS.PublishAsyncComplete()
			before := s.server.Conn.Stats().InBytes
			for i := 0; b.Loop(); i++ {
				s.publish(b, fmt.Sprintf("discount.dead.more%d.easypay.shop.rejected", i))
				s.read(b)
			}
			b.ReportMetric(float64(s.server.Conn.Stats().InBytes-before)/float64(b.N), "wire-B/op")
		})
	}
}
