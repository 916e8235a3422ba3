package publish

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/broker/brokertest"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// TestWhatIsTooLargeIsNotTriedForEver writes what the stream does not take, and what not even the connection takes.
func TestWhatIsTooLargeIsNotTriedForEver(t *testing.T) {
	t.Parallel()
	b := setup(t, brokertest.WithTopology(func(topology *broker.Topology) {
		topology.Queries.MaxMsgSize, topology.Retries.MaxMsgSize, topology.Results.MaxMsgSize, topology.Dead.MaxMsgSize = 1000, 4000, 4000, 4000
	}))
	for name, size := range map[string]int{"the stream": 5000, "the connection": 2 << 20} {
		large := make([]byte, size)
		for what, err := range map[string]error{
			"result": b.StoreResult(within(t), ask("1"), query.Completed, large),
			"letter": b.StoreDead(within(t), ask("1"), query.ReasonRejected, large),
			"retry":  b.ScheduleRetry(within(t), ask("1"), time.Now(), large),
		} {
			require.Equal(t, []any{fault.Rejected, fault.TooLarge}, []any{fault.KindOf(err), fault.CodeOf(err)}, name+": "+what)
		}
	}
	require.Empty(t, b.told(), "nothing is tried again")
	require.NoError(t, b.StoreResult(within(t), ask("1"), query.Completed, make([]byte, 3000)))
	require.NoError(t, b.StoreDead(within(t), ask("1"), query.ReasonRejected, make([]byte, 3000)))
	require.NoError(t, b.ScheduleRetry(within(t), ask("1"), time.Now(), make([]byte, 3000)))
}
