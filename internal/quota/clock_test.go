package quota

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestServersTimeIsAlwaysWithinTheSpan draws any order of writes and reads, of this replica and of others, over any line.
func TestServersTimeIsAlwaysWithinTheSpan(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		offset := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(r, "offset"))
		skew := rapid.Float64Range(-drift, drift).Draw(r, "skew")
		now := time.Duration(0)
		server := func() time.Time { return epoch.Add(offset + now + time.Duration(float64(now)*skew)) }
		var c clock
		var entry Entry
		pass := func(r *rapid.T, most int) {
			now += time.Duration(rapid.IntRange(0, most).Draw(r, "microseconds")) * time.Microsecond
		}
		write := func() { entry = Entry{Revision: entry.Revision + uint64(1), Created: server()} }
		r.Repeat(map[string]func(*rapid.T){
			"time passes": func(r *rapid.T) { pass(r, 5_000_000) },
			"others write": func(r *rapid.T) {
				pass(r, 1000)
				write()
			},
			"write": func(r *rapid.T) {
				sent := now
				pass(r, 20_000)
				write()
				pass(r, 20_000)
				c.noteWrite(entry.Revision, sent, now)
			},
			"read": func(r *rapid.T) {
				if entry.Revision == 0 {
					return
				}
				pass(r, 20_000)
				found := entry
				pass(r, 20_000)
				c.noteRead(found, now)
			},
			"": func(r *rapid.T) {
				known, ok := c.span(now)
				if !ok {
					return
				}
				require.False(r, server().Before(known.early.Add(-2)), "%v before %v", server(), known.early)
				require.False(r, server().After(known.late.Add(2)), "%v after %v", server(), known.late)
				require.InDelta(r, float64(now), float64(known.tick(known.early)), 1)
			},
		})
	})
}

func TestOwnWriteTellsTheTime(t *testing.T) {
	t.Parallel()
	var c clock
	c.noteRead(Entry{Revision: 1, Created: epoch}, time.Second)
	_, known := c.span(time.Second)
	require.False(t, known, "an entry of another is older by nobody knows how much")
	c.noteWrite(2, 2*time.Second, 2010*time.Millisecond)
	c.noteRead(Entry{Revision: 2, Created: epoch.Add(time.Minute)}, 2020*time.Millisecond)
	got, known := c.span(2020 * time.Millisecond)
	require.True(t, known)
	require.InDelta(t, 10e6, float64(got.width()), 2e4)
	require.WithinDuration(t, epoch.Add(time.Minute+10*time.Millisecond), got.early, 10*time.Microsecond)
	later, _ := c.span(12020 * time.Millisecond)
	require.InDelta(t, 20e6, float64(later.width()), 3e4, "knowledge ages")
	c.noteWrite(1, 0, 0)
	c.noteRead(Entry{Revision: 1, Created: epoch}, 13*time.Second)
	stale, known := c.span(13 * time.Second)
	require.True(t, known, "an old entry takes nothing away")
	require.Less(t, stale.width(), 25*time.Millisecond)
}

func TestAnotherServersTimeReplacesTheOld(t *testing.T) {
	t.Parallel()
	var c clock
	c.noteWrite(2, 0, time.Millisecond)
	c.noteRead(Entry{Revision: 2, Created: epoch}, 2*time.Millisecond)
	c.noteWrite(3, time.Second, time.Second+time.Millisecond)
	c.noteRead(Entry{Revision: 3, Created: epoch.Add(-time.Minute)}, time.Second+2*time.Millisecond)
	_, known := c.span(time.Second)
	require.False(t, known)
	c.noteWrite(4, 2*time.Second, 2*time.Second+time.Millisecond)
	c.noteRead(Entry{Revision: 4, Created: epoch.Add(-time.Minute)}, 2*time.Second+2*time.Millisecond)
	got, known := c.span(2*time.Second + time.Millisecond)
	require.True(t, known)
	require.InDelta(t, float64(-time.Minute), float64(got.early.Sub(epoch)), float64(5*time.Millisecond))
}

func TestLeapIsNoticed(t *testing.T) {
	t.Parallel()
	reading := Reading{Ticks: time.Hour, Wall: epoch}
	c := clock{read: func() Reading { return reading }}
	pass := func(ticks, wall time.Duration) bool {
		reading = Reading{Ticks: reading.Ticks + ticks, Wall: reading.Wall.Add(wall)}
		_, leapt := c.now()
		return leapt
	}
	require.False(t, pass(0, 0))
	require.False(t, pass(time.Second, time.Second+90*time.Millisecond), "a daemon slews")
	c.noteWrite(2, 0, time.Millisecond)
	c.noteRead(Entry{Revision: 2, Created: epoch}, 2*time.Millisecond)
	require.True(t, pass(time.Second, time.Minute), "the machine was suspended")
	_, known := c.span(0)
	require.False(t, known)
	require.False(t, pass(time.Second, time.Second))
	require.True(t, pass(time.Second, -5*time.Second), "somebody set the clock")
}

func TestSystemClock(t *testing.T) {
	t.Parallel()
	read := systemClock()
	first := read()
	second := read()
	require.GreaterOrEqual(t, second.Ticks, first.Ticks)
	require.WithinDuration(t, time.Now(), second.Wall, time.Minute)
}
