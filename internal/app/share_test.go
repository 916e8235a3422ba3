package app

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// TestBulkHasTheShareThatIsSet has more queries of both lanes than the pace lets through, which is so slow that it is the pace that they wait
// for, however busy the machine is. From the first interactive answer to the last one, bulk has the part that the configuration gives it.
func TestBulkHasTheShareThatIsSet(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Lanes.Bulk.Share = 0.5
	s.Providers.UnionPay.Enabled = false
	s.Providers.EasyPay.Pace = config.Pace{Rate: config.Rate{Calls: 20, Per: time.Second}, Burst: 2}
	r := s.run(t)
	r.ready(t)
	const each = 60
	publishMany(t, r.named("books"), 2*each, query.Bulk)
	publishMany(t, r.named("till"), each, query.Interactive)
	require.Eventually(t, func() bool { return r.count(t, r.topology.Names().Results()) == 3*each }, patience, 20*time.Millisecond)
	interactive, bulk := 0, 0
	for _, client := range r.order(t) {
		switch {
		case client == "till":
			interactive++
		case interactive > 0 && interactive < each:
			bulk++
		}
	}
	require.Equal(t, each, interactive)
	t.Logf("%d bulk queries were answered before the last of %d interactive ones", bulk, interactive)
	require.Greater(t, bulk, each/2, "with a tenth there would be about %d", each/9)
}

// order returns whose queries the stored results answer, in the order in which they were stored.
func (r *running) order(t *testing.T) []string {
	t.Helper()
	reader, err := r.broker.JS.OrderedConsumer(t.Context(), r.topology.Names().Results(), jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	clients := make([]string, r.count(t, r.topology.Names().Results()))
	for i := range clients {
		message, err := reader.Next(jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
		clients[i] = strings.Split(message.Subject(), ".")[4] // discount.result.<key>.<provider>.<client>.<status>
	}
	return clients
}
