package consumer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	waiting := look{pending: 3, delivered: 7, unacked: 2, most: 10}
	with := func(change func(*look)) look {
		changed := waiting
		change(&changed)
		return changed
	}
	moved := with(func(l *look) { l.delivered = 8 })
	nothing := with(func(l *look) { l.pending = 0 })
	held := with(func(l *look) { l.unacked = 10 })
	asleep := with(func(l *look) { l.paused = true })
	unlimited := with(func(l *look) { l.unacked, l.most = 1000, -1 })
	for name, test := range map[string]struct {
		before *look
		now    look
		want   state
	}{
		"the first look":                         {nil, waiting, unclear},
		"nothing delivered between two":          {&waiting, waiting, stuck},
		"others get messages":                    {&waiting, moved, delivering},
		"more are in hand, none was delivered":   {&waiting, with(func(l *look) { l.unacked = 9 }), stuck},
		"more wait, none was delivered":          {&waiting, with(func(l *look) { l.pending = 9 }), stuck},
		"nothing waits":                          {&waiting, nothing, drained},
		"something waits since a moment ago":     {&nothing, waiting, unclear},
		"others hold as many as may be held":     {&waiting, held, full},
		"others held as many a moment ago":       {&held, waiting, unclear},
		"one more than may be held":              {&waiting, with(func(l *look) { l.unacked = 11 }), full},
		"one less than may be held":              {&waiting, with(func(l *look) { l.unacked = 9 }), stuck},
		"any number may be held":                 {&unlimited, unlimited, stuck},
		"no limit is told":                       {&waiting, with(func(l *look) { l.most = 0 }), stuck},
		"paused":                                 {&waiting, asleep, paused},
		"paused until a moment ago":              {&asleep, waiting, unclear},
		"paused with nothing to deliver":         {nil, with(func(l *look) { l.paused, l.pending = true, 0 }), paused},
		"made again, which counts from one anew": {&moved, waiting, delivering},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, judge(test.before, test.now))
		})
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	for expiry, want := range map[time.Duration]time.Duration{
		time.Second: 10 * time.Second, 3 * time.Second: 10 * time.Second, 4 * time.Second: 12 * time.Second, time.Minute: 3 * time.Minute,
	} {
		require.Equal(t, want, newWatch(expiry).patience)
	}
	w := newWatch(2 * time.Second)
	start := time.Now()
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	require.False(t, w.empty(at(0), at(2)))
	require.False(t, w.empty(at(2), at(9)))
	require.True(t, w.empty(at(9), at(10)), "ten seconds after the first empty pull began")
	w.see(look{pending: 1}, at(10))
	require.False(t, w.empty(at(10), at(19)), "and then every ten")
	require.True(t, w.empty(at(19), at(20)))
	w.restart()
	require.False(t, w.empty(at(20), at(29)), "what is no empty pull begins the patience anew")
	found, _ := w.see(look{pending: 1}, at(30))
	require.Equal(t, unclear, found)
	found, _ = w.see(look{pending: 1}, at(40))
	require.Equal(t, stuck, found)
	require.True(t, w.stalled)
	require.True(t, w.empty(at(49), at(50)), "the end of a stall is looked for without the patience")
}

// TestWatch lets anything happen to a watch, in any order and at any pace, and compares what it says with the whole story.
func TestWatch(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := newWatch(rapid.SampledFrom([]time.Duration{time.Second, 5 * time.Second}).Draw(t, "expiry"))
		now := time.Unix(1_800_000_000, 0)
		var looks []look // Since the last thing that was no empty pull, or the last stall.
		var idle, last time.Time
		stalled := false
		forget := func() { looks, idle = nil, time.Time{} }
		t.Repeat(map[string]func(*rapid.T){
			"messages":    func(*rapid.T) { w.received(); forget(); stalled = false },
			"closed gate": func(*rapid.T) { w.restart(); forget() },
			"empty pull": func(t *rapid.T) {
				began := now
				now = now.Add(time.Duration(rapid.IntRange(1, 8).Draw(t, "seconds")) * time.Second)
				if idle.IsZero() {
					idle = began
				}
				due := w.empty(began, now)
				require.Equal(t, (stalled || now.Sub(idle) >= w.patience) && now.Sub(last) >= lookPause, due)
				if !due {
					return
				}
				last = now
				seen := look{
					pending: rapid.Uint64Range(0, 2).Draw(t, "pending"), delivered: rapid.Uint64Range(0, 1).Draw(t, "delivered"),
					unacked: rapid.IntRange(0, 2).Draw(t, "unacked"), most: 2, paused: rapid.IntRange(0, 9).Draw(t, "paused") == 0,
				}
				looks = append(looks, seen)
				found, _ := w.see(seen, now)
				able := func(l look) bool { return l.pending > 0 && l.unacked < 2 && !l.paused }
				n := len(looks)
				isStuck := n > 1 && able(looks[n-1]) && able(looks[n-2]) && looks[n-1].delivered == looks[n-2].delivered
				require.Equal(t, isStuck, found == stuck)
				switch {
				case isStuck:
					stalled = true
					forget()
				case seen.paused || seen.pending == 0 || found == delivering:
					stalled = false
				}
			},
			"": func(t *rapid.T) { require.Equal(t, stalled, w.stalled) },
		})
	})
}

func TestPauseIsNewsOnce(t *testing.T) {
	t.Parallel()
	var w watch
	for i, test := range []struct {
		see  look
		news bool
	}{
		{look{paused: true}, true}, {look{paused: true, pending: 1}, false}, {look{}, true}, {look{paused: true}, true}, {look{paused: true}, false},
	} {
		_, news := w.see(test.see, time.Now())
		require.Equal(t, test.news, news, i)
	}
	w.received()
	_, news := w.see(look{paused: true}, time.Now())
	require.True(t, news, "the pause before was over")
}
