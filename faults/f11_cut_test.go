//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
)

// TestF11CutInside resets the connection after n bytes of one frame, for each kind of frame and for n from 0 to beyond its end.
func TestF11CutInside(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rule proxy.Rule
		// length is about that of the frame.
		length int
	}{
		"result":       {proxy.Rule{Kind: proxy.Published, Prefix: "discount.result."}, 1700},
		"confirmation": {proxy.Rule{Kind: proxy.Replied, Prefix: "discount.result."}, 110},
		"ack":          {proxy.Rule{Kind: proxy.Settled}, 150},
		"delivery":     {proxy.Rule{Kind: proxy.Delivered}, 550},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, draw := newSite(t, siteOptions{}), chance(t)
			l := newLoad(s)
			// The control line and the header end within the first bytes; inside a payload one place is like the next.
			step := test.length/times(4, 60) + 1
			workers := times(1, 2)
			for range workers {
				s.startWorker(t)
			}
			proxied := s.brokers[0].proxy
			cuts := 0
			for n := draw.IntN(step); n <= test.length+step; n += step {
				test.rule.Offset, test.rule.Limit = n, 1
				proxied.SetRules(test.rule)
				for proxied.Struck() == 0 {
					l.publish(t.Context(), 1)
					pause(t.Context(), 30*time.Millisecond)
					require.NoError(t, t.Context().Err())
				}
				cuts++
			}
			proxied.SetRules()
			s.finish(t, l, soon, 4)
			t.Logf("F11 %s: %d places, every %d bytes", name, cuts, step)
		})
	}
}
