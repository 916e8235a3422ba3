//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
)

// TestF11CutInside resets the connection after n bytes of one frame, for each kind of frame on a query's way and for each n from 0 to
// beyond its end: at every byte if told so, else at some that lie side by side and are drawn.
func TestF11CutInside(t *testing.T) {
	t.Parallel()
	result := proxy.Rule{Kind: proxy.Published, Prefix: "discount.result."}
	for name, test := range map[string]struct {
		rule proxy.Rule
		// from and places say where the cuts are. The last places of a kind lie behind the end of its frames.
		from, places int
		last         bool
	}{
		"result, first part":  {rule: result, from: 0, places: 700},
		"result, second part": {rule: result, from: 700, places: 700},
		"result, third part":  {rule: result, from: 1400, places: 700},
		"result, last part":   {rule: result, from: 2100, places: 700, last: true},
		"confirmation":        {rule: proxy.Rule{Kind: proxy.Replied, Prefix: "discount.result."}, places: 190, last: true},
		"ack":                 {rule: proxy.Rule{Kind: proxy.Settled}, places: 200, last: true},
		"delivery":            {rule: proxy.Rule{Kind: proxy.Delivered}, places: 600, last: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// What gets lost on its way out counts as a delivery. A query must not be set aside for that, so that all can be answered.
			s := newSite(t, siteOptions{settings: []string{"consumer: {ack_wait: 3s, quarantine_after: 90, max_deliver: 100, pull_expiry: 2s}"}})
			places, workers := test.places, 8
			if !every() {
				places, workers = times(5, 40), times(2, 4)
				test.from += chance(t).IntN(test.places - places)
			}
			l := newLoad(s)
			for range workers {
				s.startWorker(t)
			}
			proxied := s.brokers[0].proxy
			test.rule.Offset, test.rule.Limit, test.rule.Sweep, test.rule.Every = test.from, places, true, 2
			proxied.SetRules(test.rule)
			began := time.Now()
			publishing := l.run(t, 5*workers)
			require.Eventually(t, func() bool { return proxied.Struck() == places }, 2*soon, 10*time.Millisecond)
			publishing.stop()
			took, longest := time.Since(began), proxied.Longest()
			proxied.SetRules()
			found := s.finish(t, l, soon, 10)
			require.Equal(t, found.Queries, found.Completed)
			if test.last && every() {
				require.Less(t, longest, test.from+test.places, "the end of the frame was not reached")
			}
			t.Logf("F11 %s: cut after %d to %d bytes of frames of up to %d, in %s", name, test.from, test.from+places-1, longest, took.Round(time.Second))
		})
	}
}
