package quota

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func termsAt(s Settings, at time.Duration) terms {
	return terms{Settings: s, now: epoch.Add(at), reach: 5 * time.Millisecond, vague: time.Millisecond}
}

// modelReplica is one of several that lease from the same entry. What it knows of the entry may be old.
type modelReplica struct {
	state    State
	revision int
}

// TestSlotsBelongToOneReplica lets replicas read and write the entry in any order. Only a write on the last revision counts. Slots that
// were given out never overlap, stand an interval apart, and are never in the past by more than the burst.
func TestSlotsBelongToOneReplica(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		settings := Settings{Ceiling: rapid.Float64Range(0.5, 5000).Draw(r, "ceiling"), Burst: rapid.IntRange(1, 50).Draw(r, "burst")}
		replicas := make([]modelReplica, rapid.IntRange(1, 5).Draw(r, "replicas"))
		entry, revision, now := begin(settings), 1, time.Duration(0)
		var last time.Time
		for i := range replicas {
			replicas[i] = modelReplica{state: entry, revision: revision}
		}
		write := func(m *modelReplica, after State) bool {
			if m.revision != revision {
				return false
			}
			require.False(r, after.Next.Before(entry.Next), "the time never goes back")
			require.GreaterOrEqual(r, after.Rate, min(settings.floor(), settings.Ceiling))
			require.LessOrEqual(r, after.Rate, settings.Ceiling)
			entry = after
			revision++
			m.state, m.revision = after, revision
			return true
		}
		pick := func(r *rapid.T) *modelReplica { return &replicas[rapid.IntRange(0, len(replicas)-1).Draw(r, "who")] }
		r.Repeat(map[string]func(*rapid.T){
			"time passes": func(r *rapid.T) { now += time.Duration(rapid.IntRange(0, 3000).Draw(r, "ms")) * time.Millisecond },
			"read":        func(r *rapid.T) { m := pick(r); m.state, m.revision = entry, revision },
			"lease": func(r *rapid.T) {
				m, terms := pick(r), termsAt(settings, now)
				terms.vague = time.Duration(rapid.IntRange(1, 50).Draw(r, "vague")) * time.Millisecond
				terms.pressing, terms.raced = rapid.Bool().Draw(r, "pressing"), rapid.Bool().Draw(r, "raced")
				terms.round, terms.others = true, time.Duration(rapid.IntRange(0, 3000).Draw(r, "others"))*time.Millisecond
				before := m.state
				after, g := before.lease(terms, rapid.IntRange(1, 100).Draw(r, "n"))
				if !write(m, after) {
					return
				}
				require.False(r, g.start.Before(last), "slots of two leases never overlap")
				require.False(r, g.start.Before(terms.now.Add(-settings.room())), "nor lie further back than half of the burst")
				require.GreaterOrEqual(r, g.start.Sub(before.Next), max(0, time.Duration(before.Slack)-settings.slack()), "the gap is kept")
				require.GreaterOrEqual(r, g.interval, interval(settings.Ceiling))
				require.GreaterOrEqual(r, g.n, 1)
				last = g.start.Add(time.Duration(g.n) * g.interval)
				require.Equal(r, last, after.Next)
			},
			"throttle": func(r *rapid.T) {
				m := pick(r)
				before := m.state
				what := refusal{
					sent:       epoch.Add(now - time.Duration(rapid.IntRange(0, 3000).Draw(r, "ago"))*time.Millisecond),
					retryAfter: time.Duration(rapid.IntRange(-1, 5).Draw(r, "after")) * time.Second,
					part:       rapid.Float64Range(0, 1).Draw(r, "part"),
				}
				after := before.throttled(settings, epoch.Add(now), what)
				if !write(m, after) {
					return
				}
				require.LessOrEqual(r, after.Rate, before.Rate)
				require.False(r, what.retryAfter > 0 && after.Next.Before(epoch.Add(now+what.retryAfter)))
				if !what.sent.After(before.Cut) {
					require.InDelta(r, before.Rate, after.Rate, 0, "what was sent before the last decrease says nothing new")
				}
			},
		})
	})
}

func TestBeginning(t *testing.T) {
	t.Parallel()
	for ceiling, want := range map[float64]float64{0.5: 0.5, 5: 5, 10: 10, 50: 10, 80: 10, 1000: 125} {
		require.InDelta(t, want, begin(Settings{Ceiling: ceiling}).Rate, 1e-9)
	}
}

func TestFloor(t *testing.T) {
	t.Parallel()
	require.InDelta(t, 1, Settings{Ceiling: 100}.floor(), 1e-9)
	require.InDelta(t, 7, Settings{Ceiling: 100, Floor: 7}.floor(), 1e-9)
	require.InDelta(t, 100, Settings{Ceiling: 100, Floor: 700}.floor(), 1e-9)
}

// used lets the rate be used up for a while, in leases of 100 ms.
func used(s State, settings Settings, from, d time.Duration) State {
	for at := from; at < from+d; at += 100 * time.Millisecond {
		s.Next = epoch.Add(at + 100*time.Millisecond)
		s = s.recover(terms{Settings: settings, now: epoch.Add(at)}, true)
	}
	return s
}

func TestRateDoublesEachSecondUntilTheCeiling(t *testing.T) {
	t.Parallel()
	settings := Settings{Ceiling: 1000}
	s := begin(settings)
	s.Seen = epoch
	s = used(s, settings, 0, 1100*time.Millisecond)
	require.InDelta(t, 250, s.Rate, 1)
	s = used(s, settings, 1100*time.Millisecond, 1000*time.Millisecond)
	require.InDelta(t, 500, s.Rate, 2)
	s = used(s, settings, 2100*time.Millisecond, 5*time.Second)
	require.InDelta(t, 1000, s.Rate, 0)
	require.Zero(t, s.Knee)
}

func TestIdleAccountLearnsNothing(t *testing.T) {
	t.Parallel()
	settings := Settings{Ceiling: 1000}
	s := begin(settings)
	for at := range 100 {
		s.Next = epoch.Add(time.Duration(at) * time.Second)
		s = s.recover(terms{Settings: settings, now: s.Next.Add(time.Millisecond)}, true)
	}
	require.InDelta(t, 125, s.Rate, 0)
}

func TestRateComesBackToTheKneeAndProbesGently(t *testing.T) {
	t.Parallel()
	settings := Settings{Ceiling: 1000}
	s := State{Rate: 200, Low: 200, Seen: epoch, Busy: int64(time.Minute)}
	s = s.throttled(settings, epoch, refusal{sent: epoch})
	require.InDelta(t, 140, s.Rate, 1e-9, "the knee was not known")
	require.InDelta(t, 200, s.Knee, 1e-9)
	s = used(s, settings, 0, 6*time.Second)
	require.InDelta(t, 190, s.Rate, 0.5, "it rests below the knee")
	s = used(s, settings, 6*time.Second, 28*time.Second)
	require.InDelta(t, 190, s.Rate, 0.5)
	s = used(s, settings, 34*time.Second, 11*time.Second)
	require.InDelta(t, 197, s.Rate, 5, "it starts to probe almost flat")
	again := s.throttled(settings, epoch.Add(45*time.Second), refusal{sent: epoch.Add(45 * time.Second)})
	require.InDelta(t, s.Rate*laterCut, again.Rate, 1e-9, "the knee was known roughly")
	s = used(s, settings, 45*time.Second, 2*time.Minute)
	require.InDelta(t, 1000, s.Rate, 0, "a limit that is gone is forgotten")
	require.Zero(t, s.Knee)
}

// TestRateAtMostDoublesFromCallToCall has calls that are so far apart that the time between two of them would make the rate leap.
func TestRateAtMostDoublesFromCallToCall(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]State{
		"slow start":      {Rate: 0.1, Low: 0.1},
		"a probe":         {Rate: 0.01, Low: 0.01, Knee: 0.01, Busy: int64(returning + resting)},
		"quick probe":     {Rate: 0.01, Low: 0.01, Knee: 0.01, Busy: int64(returning), Guessed: true},
		"a call a second": {Rate: 1, Low: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := Settings{Ceiling: 1000}
			s.Seen = epoch
			for range 5 {
				before := s
				now := s.Seen.Add(interval(s.Rate))
				s.Next = now.Add(100 * time.Millisecond)
				s = s.recover(terms{Settings: settings, now: now}, true)
				require.LessOrEqual(t, s.Rate, 2*before.Rate)
				require.Equal(t, int64(interval(before.Rate)), s.Busy-before.Busy, "all of the time counts that a call takes")
			}
			require.Greater(t, s.Rate, 0.1)
		})
	}
}

func TestManyRefusalsLowerTheRateToWhatIsTaken(t *testing.T) {
	t.Parallel()
	s := State{Rate: 100, Low: 100, Seen: epoch}
	got := s.throttled(Settings{Ceiling: 1000}, epoch, refusal{sent: epoch, part: 0.8})
	require.InDelta(t, 20, got.Knee, 1e-9)
	require.InDelta(t, 19, got.Rate, 1e-9)
	got = s.throttled(Settings{Ceiling: 1000}, epoch, refusal{sent: epoch, part: 1})
	require.InDelta(t, 10, got.Rate, 1e-9, "never below the floor")
}

// TestGuessedKneeIsProbedSoon has a fifth more refused than the limit explains: the rate must not rest for half a minute at what chance made of it.
func TestGuessedKneeIsProbedSoon(t *testing.T) {
	t.Parallel()
	settings := Settings{Ceiling: 1000}
	s := State{Rate: 180, Low: 125, Seen: epoch}
	s = s.throttled(settings, epoch, refusal{sent: epoch, part: 0.4})
	require.True(t, s.Guessed)
	require.InDelta(t, 108, s.Knee, 1e-9)
	s = used(s, settings, 0, 16*time.Second)
	require.Greater(t, s.Rate, 130.0, "a third above the guess")
	s = s.throttled(settings, epoch.Add(16*time.Second), refusal{sent: epoch.Add(16 * time.Second)})
	require.False(t, s.Guessed, "now it was met")
	met := s.Knee
	s = used(s, settings, 16*time.Second, 30*time.Second)
	require.InDelta(t, met*rest, s.Rate, 0.5, "it rests below a limit that was met")
}

func TestOneCongestionLowersOnce(t *testing.T) {
	t.Parallel()
	settings := Settings{Ceiling: 100}
	s := State{Rate: 100, Low: 100, Next: epoch.Add(300 * time.Millisecond)}
	once := s.throttled(settings, epoch, refusal{sent: epoch.Add(-40 * time.Millisecond)})
	require.InDelta(t, 70, once.Rate, 1e-9)
	for _, sent := range []time.Duration{-time.Second, 0, 299 * time.Millisecond, 300 * time.Millisecond} {
		require.Equal(t, once, once.throttled(settings, epoch.Add(time.Second), refusal{sent: epoch.Add(sent)}), "leased at the old rate")
	}
	require.Less(t, once.throttled(settings, epoch.Add(time.Second), refusal{sent: epoch.Add(301 * time.Millisecond)}).Rate, once.Rate)
}

func TestRenewedStateWaitsForTheOldOnesSlots(t *testing.T) {
	t.Parallel()
	s := begin(Settings{Ceiling: 10})
	s.Renewed = true
	after, g := s.lease(termsAt(Settings{Ceiling: 10, Burst: 10}, 0), 1)
	require.Equal(t, epoch.Add(maxAhead), g.start)
	require.False(t, after.Renewed)
}

func TestIntervalIsNeverTooShort(t *testing.T) {
	t.Parallel()
	for _, rate := range []float64{0.001, 0.3, 3, 7, 137, 999.99, 3000, 5000} {
		require.LessOrEqual(t, float64(time.Second)/float64(interval(rate)), rate*(1+1e-15))
		require.InEpsilon(t, rate, float64(time.Second)/float64(interval(rate)), 1e-5)
	}
	require.Positive(t, interval(math.SmallestNonzeroFloat64))
}

func TestStateIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	s := State{
		Next: epoch, Rate: 12.5, Slack: 9, Block: 3, Trip: 4, Leased: 5, Replicas: 6.5,
		Low: 10, Busy: 11, Knee: 14, Guessed: true, Cut: epoch.Add(-time.Second), Seen: epoch.Add(-time.Minute),
		Renewed: true, Unknown: []byte(`{"colour":"blue"}`),
	}
	value, err := s.bytes()
	require.NoError(t, err)
	require.Contains(t, string(value), `"colour":"blue"`, "what a newer version wrote is kept")
	got, err := readState(value, epoch)
	require.NoError(t, err)
	require.Equal(t, s, got)
}

func brokenStates() []string {
	return []string{
		``, `{`, `null`, `[]`, `{}`, `{"rate":0,"low":1}`, `{"rate":-1,"low":1}`, `{"rate":1,"low":0}`, `{"rate":1,"low":1,"rate":2}`,
		`{"rate":"1","low":1}`, `{"rate":1,"low":1,"slack_ns":-1}`, `{"rate":1,"low":1,"busy_ns":-1}`, `{"rate":1,"low":1,"knee":-1}`,
		`{"rate":1,"low":1,"replicas":-1}`, `{"rate":1,"low":1,"block_ns":-1}`, `{"rate":1,"low":1,"trip_ns":-1}`,
		`{"rate":1,"low":1,"leased_ns":-1}`, `{"rate":1,"low":1,"next":"2036-01-01T00:00:00Z"}`, `{"rate":1,"low":1,"cut":"2036-01-01T00:00:00Z"}`,
		`{"rate":1,"low":1,"next":7}`, `{"rate":1e999,"low":1}`, "{\"rate\":1,\"low\":1,\"x\":\"\xff\"}", `{"rate":1,"low":1} x`,
	}
}

func TestBrokenStatesAreRefused(t *testing.T) {
	t.Parallel()
	for _, data := range brokenStates() {
		_, err := readState([]byte(data), epoch)
		require.ErrorIs(t, err, ErrBroken, data)
	}
	_, err := readState([]byte(`{"rate":1,"low":1,"Rate":"x","new":{}}`), epoch)
	require.NoError(t, err)
}

// FuzzReadState looks for states that are accepted and then lead to nonsense.
func FuzzReadState(f *testing.F) {
	for _, data := range brokenStates() {
		f.Add([]byte(data))
	}
	f.Add([]byte(`{"next":"2026-01-02T03:04:05Z","rate":100,"replicas":2,"block_ns":20000000,"slack_ns":90,"low":50,` +
		`"busy_ns":7,"knee":120,"cut":"2026-01-02T03:04:04Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readState(data, epoch)
		if err != nil {
			return
		}
		settings := Settings{Ceiling: 100, Burst: 10}
		after, g := s.lease(termsAt(settings, 0), 3)
		require.GreaterOrEqual(t, g.interval, interval(settings.Ceiling))
		require.True(t, g.n >= 1 && g.n <= 3)
		require.LessOrEqual(t, after.Rate, settings.Ceiling)
		require.False(t, g.start.Before(epoch.Add(-settings.slack())))
		_ = s.throttled(settings, epoch, refusal{sent: epoch, retryAfter: time.Second, part: 0.5})
	})
}

func BenchmarkLease(b *testing.B) {
	settings := Settings{Ceiling: 1000, Burst: 100}
	s := begin(settings)
	b.ReportAllocs()
	for b.Loop() {
		value, err := s.bytes()
		if err != nil {
			b.Fatal(err)
		}
		if s, err = readState(value, epoch); err != nil {
			b.Fatal(err)
		}
		after, _ := s.lease(termsAt(settings, 0), 10)
		after.Next = epoch
		s = after
	}
}
