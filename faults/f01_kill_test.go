//go:build faults

package faults

import (
	"fmt"
	"testing"

	"discountquery.example/worker/internal/crashpoint"
)

// TestF01Kill kills workers at every labelled point of a query's way, with others under way, and starts the next one at once.
func TestF01Kill(t *testing.T) {
	t.Parallel()
	for _, label := range crashpoint.Labels() {
		t.Run(string(label), func(t *testing.T) {
			t.Parallel()
			s, draw := newSite(t, siteOptions{unionPay: true, settings: scheduling()}), chance(t)
			// Some queries are set aside and some wait for another round, so that these ways are killed too.
			s.upstream.misbehave(t, "easypay:code=E999@0.1,unionpay:code=96@0.1,*:status=503@0.1")
			l := newLoad(s)
			publishing := l.run(t, 25)
			kills := times(2, 20)
			for range kills {
				victim := s.launch(t, fmt.Sprintf("CRASHPOINT_KILL=%s:%d", label, 1+draw.IntN(8)))
				victim.requireKilled(t, soon)
			}
			publishing.stop()
			s.startWorker(t)
			// Each kill can cost each query that was held one more call, and each round of a retry one.
			found := s.finish(t, l, soon, 10+kills)
			t.Logf("F1 %s: %d kills, %d queries", label, kills, found.Queries)
		})
	}
}
