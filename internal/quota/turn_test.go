package quota

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestReplicasAreCounted lets replicas with very uneven parts of all slots lease in turn: what each says is wrong, the average is not.
func TestReplicasAreCounted(t *testing.T) {
	t.Parallel()
	for name, parts := range map[string][]int{"one": {1}, "even": {1, 1, 1, 1}, "uneven": {13, 1, 1, 1}} {
		var all []int
		for range 400 {
			for who, part := range parts {
				for range part {
					all = append(all, who)
				}
			}
		}
		s := State{}
		last := map[int]int64{}
		sum, n := 0.0, 0
		for i, who := range all {
			took := time.Millisecond
			before, known := last[who]
			s.Replicas = s.counted(terms{others: time.Duration(s.Leased - before), round: known}, took, false)
			s.Leased += int64(took)
			last[who] = s.Leased
			if i > len(all)/2 {
				sum, n = sum+s.Replicas, n+1
			}
		}
		require.InDelta(t, len(parts), sum/float64(n), 0.1, name)
		require.InDelta(t, s.Replicas*fewer, s.counted(terms{}, time.Millisecond, true), 1e-9, "who came late waited for somebody who is gone")
	}
}

// TestLeasesStayNearThePresent says how far ahead slots are leased, for bulk queries and for those that somebody waits for.
func TestLeasesStayNearThePresent(t *testing.T) {
	t.Parallel()
	trip := 20 * time.Millisecond
	for name, c := range map[string]struct {
		settings       Settings
		bulk, pressing time.Duration
	}{
		"no room":    {Settings{Ceiling: 100, Burst: 1}, 35 * time.Millisecond, 65 * time.Millisecond},
		"some room":  {Settings{Ceiling: 400, Burst: 41}, -15 * time.Millisecond, 30 * time.Millisecond},
		"much room":  {Settings{Ceiling: 10, Burst: 9}, -300 * time.Millisecond, 200 * time.Millisecond},
		"slow calls": {Settings{Ceiling: 0.5, Burst: 1}, 35 * time.Millisecond, longestPress},
	} {
		s := State{Rate: c.settings.Ceiling, Trip: int64(trip)}
		now := termsAt(c.settings, 0)
		require.Equal(t, c.bulk, s.limit(now), name)
		now.pressing = true
		require.Equal(t, c.pressing, s.limit(now), name)
	}
	slow := State{Rate: 400, Trip: int64(time.Hour)}
	require.LessOrEqual(t, slow.lead(Settings{Ceiling: 400, Burst: 1}), 2*longest, "one replica does not hold all of them up")
}

func TestTurns(t *testing.T) {
	t.Parallel()
	settings := Settings{Ceiling: 400, Burst: 41}
	at := func(next time.Duration) State {
		s := State{Rate: 400, Trip: int64(20 * time.Millisecond)}
		s.Next = epoch.Add(s.lead(settings) + next)
		return s
	}
	turn := turns{turn: time.Second}
	now := termsAt(settings, 0)
	ok, pause := turn.may(at(-10*time.Millisecond), now, 0)
	require.False(t, ok, "it is the turn of others")
	require.Zero(t, pause, "somebody who presses does not wait for that")
	require.Equal(t, trusting, turn.next(), "they may be gone")
	ok, _ = turn.may(at(-shortest), now, 0)
	require.True(t, ok, "the others have left a block")
	ok, _ = turn.may(at(time.Millisecond), now, 2*time.Second)
	require.False(t, ok, "the time has not come")
	require.GreaterOrEqual(t, turn.turn, 2*time.Second+time.Millisecond)
	ok, _ = turn.may(at(0), now, turn.turn)
	require.True(t, ok)
	now.pressing = true
	ok, _ = (&turns{turn: time.Hour}).may(at(40*time.Millisecond), now, 0)
	require.True(t, ok, "who presses waits for no turn")
	ok, pause = (&turns{}).may(at(time.Second), now, 0)
	require.False(t, ok)
	require.Positive(t, pause)
	ok, _ = (&turns{turn: time.Hour}).may(State{Rate: 1, Renewed: true}, now, 0)
	require.True(t, ok)
}
