package consumer

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

func TestHeldIsWhatIsInHand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proceed, begun := make(chan struct{}), make(chan struct{}, 3)
	options := b.options(func(context.Context, query.Delivery) decide.Settlement {
		begun <- struct{}{}
		<-proceed
		return done
	})
	options.Slots = 3
	r := b.run(options)
	require.Zero(t, r.Held())
	b.publish(2)
	receive(t, begun)
	receive(t, begun)
	require.Equal(t, 2, r.Held(), "a slot that waits for a message holds none")
	proceed <- struct{}{}
	require.Eventually(t, func() bool { return r.Held() == 1 }, patience, time.Millisecond)
	close(proceed)
	require.Eventually(t, func() bool { return r.Held() == 0 }, patience, time.Millisecond)
}
