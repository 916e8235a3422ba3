package deadletter

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"discountquery.example/worker/internal/query"
)

func TestNoLetterIsMissedWhateverTheGaps(t *testing.T) {
	t.Parallel()
	b := setup(t)
	event := []byte("unreadable, and a letter all the same")
	round := 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		want := map[string][]uint64{}
		clients := []string{fmt.Sprint("a", round), fmt.Sprint("b", round)}
		for range rapid.IntRange(1, 40).Draw(t, "letters") {
			client := rapid.SampledFrom(clients).Draw(t, "client")
			ack, err := b.server.JS.Publish(b.t.Context(), b.subject.Dead("key", query.EasyPay, client, "rejected"), event)
			require.NoError(t, err)
			if rapid.IntRange(0, 3).Draw(t, "gone") == 0 {
				require.NoError(t, b.remove(b.t.Context(), ack.Sequence))
				continue
			}
			want[client] = append(want[client], ack.Sequence)
		}
		for _, client := range clients {
			require.Equal(t, append([]uint64{}, want[client]...), b.picked(Filter{Client: client}))
		}
	})
}
