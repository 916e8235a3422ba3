package main

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"discountquery.example/worker/internal/top"
)

// topView lays out snapshots. It is a pure function of its fields and the snapshot.
type topView struct {
	address string
	// every is how often the snapshot changes, 0 for one that does not.
	every time.Duration
	// width and height are those of the screen; 0 for as much as it takes.
	width, height int
	pen           ink
}

// segment is a piece of a line in one colour, row a line of them.
type segment struct {
	text   string
	colour colour
}

type row []segment

// section is a part of the screen: its heading and its rows, of which some can be left out where there is no room.
type section struct {
	heading row
	rows    []row
	// fixed tells that no row may be left out. hidden is how many were.
	fixed  bool
	hidden int
}

// lines returns the snapshot as lines, none longer than the width and not more of them than the height.
func (v topView) lines(s top.Snapshot) []string {
	sections := []section{
		{rows: append([]row{v.title(s)}, problemRows(s)...), fixed: true},
		accountSection(s), laneSection(s), deadSection(s), replicaSection(s), replaySection(s),
	}
	gaps := v.height == 0 || height(sections, true) <= v.height
	for v.height > 0 && !gaps && height(sections, false) > v.height && shrink(sections) {
		continue // Until it fits, or no section can become shorter.
	}
	var all []string
	for i, one := range sections {
		if i > 0 && gaps {
			all = append(all, "")
		}
		for _, r := range one.all() {
			all = append(all, v.draw(r))
		}
	}
	if v.height > 0 && len(all) > v.height {
		all = all[:v.height]
	}
	return all
}

// all returns the section's rows with its heading and with a word on those that are hidden.
func (s section) all() []row {
	var all []row
	if s.heading != nil {
		all = append(all, s.heading)
	}
	all = append(all, s.rows...)
	if s.hidden > 0 {
		all = append(all, row{{fmt.Sprintf("… and %d more", s.hidden), faint}})
	}
	return all
}

// height returns how many lines the sections take.
func height(sections []section, gaps bool) int {
	lines := 0
	for _, one := range sections {
		lines += len(one.all())
	}
	if gaps {
		lines += len(sections) - 1
	}
	return lines
}

// shrink hides a row of the longest section. It returns false if no section is left that would become shorter.
func shrink(sections []section) bool {
	const fewest = 2
	var one *section
	for i := range sections {
		other := &sections[i]
		if !other.fixed && len(other.rows) > fewest && (one == nil || len(other.rows) > len(one.rows)) {
			one = other
		}
	}
	if one == nil {
		return false
	}
	hide := 1
	if one.hidden == 0 {
		hide = 2 // The line that says so takes one.
	}
	one.rows, one.hidden = one.rows[:len(one.rows)-hide], one.hidden+hide
	return true
}

// draw returns a row as text, cut to the width.
func (v topView) draw(r row) string {
	var b strings.Builder
	left := v.width
	for i, one := range r {
		text := harmless(one.text)
		if i == len(r)-1 {
			text = strings.TrimRight(text, " ")
		}
		if v.width > 0 {
			text = fit(text, left)
			left -= utf8.RuneCountInString(text)
		}
		b.WriteString(v.pen.paint(one.colour, text))
	}
	return b.String()
}

// title returns the first line.
func (v topView) title(s top.Snapshot) row {
	text := "  " + v.address + "  " + s.At.Format("15:04:05") + " UTC"
	if v.every == 0 {
		return row{{"worker top", bold}, {text, plain}}
	}
	text += "  every " + v.every.String()
	const quits = "q quits"
	gap := max(v.width-len("worker top")-utf8.RuneCountInString(text)-len(quits), 2)
	return row{{"worker top", bold}, {text, plain}, {strings.Repeat(" ", gap) + quits, faint}}
}

func problemRows(s top.Snapshot) []row {
	var rows []row
	for _, problem := range s.Problems {
		rows = append(rows, row{{"! " + problem, yellow}})
	}
	return rows
}

// accountFormat lays out the columns of accounts: name, completed, failed, p50, p99, pace.
const accountFormat = "%-20s %7s %7s %6s %6s  %13s  "

func accountSection(s top.Snapshot) section {
	one := section{heading: row{{fmt.Sprintf(accountFormat, "ACCOUNT", "DONE/s", "FAIL/s", "P50", "P99", "PACE NOW/MAX") + "BREAKER", faint}}}
	for _, a := range worstFirst(s.Accounts, func(a top.Account) bool { return a.Breakers["open"]+a.Breakers["half-open"] > 0 }) {
		failed, pace := plain, plain
		if a.Failed > 0 {
			failed = red
		}
		text := paceOf(a.Pace, s.At)
		if a.Pace != nil && (a.Pace.Paused || a.Pace.Broken || !a.Pace.BlockedUntil.IsZero()) {
			pace = yellow
		}
		breakers, c := breakersOf(a.Breakers)
		one.rows = append(one.rows, row{
			{fmt.Sprintf("%-20s %7.1f ", fit(a.Account, 20), a.Completed), plain}, {fmt.Sprintf("%7.1f", a.Failed), failed},
			{fmt.Sprintf(" %6s %6s  ", latency(a.P50), latency(a.P99)), plain}, {fmt.Sprintf("%13s", text), pace}, {"  " + breakers, c},
		})
	}
	return one
}

// paceOf returns how fast an account is called, in a few characters.
func paceOf(p *top.Pace, now time.Time) string {
	switch {
	case p == nil:
		return "?"
	case p.Broken:
		return "broken"
	case p.Paused:
		return "paused"
	case p.BlockedUntil.After(now):
		return "blocked " + short(p.BlockedUntil.Sub(now).Round(time.Second))
	}
	present, most := "-", "-"
	if p.Now > 0 {
		present = fmt.Sprintf("%.4g", p.Now)
	}
	if p.Ceiling > 0 {
		most = fmt.Sprintf("%.4g", p.Ceiling)
	}
	return present + "/" + most
}

// breakersOf returns the worst state of the replicas' breakers, and of how many if not of all.
func breakersOf(states map[string]int) (string, colour) {
	total := 0
	for _, count := range states {
		total += count
	}
	for _, worst := range []struct {
		state string
		c     colour
	}{{"open", red}, {"half-open", yellow}, {"closed", green}} {
		switch count := states[worst.state]; count {
		case 0:
		case total:
			return worst.state, worst.c
		default:
			return fmt.Sprintf("%s %d of %d", worst.state, count, total), worst.c
		}
	}
	return "?", plain
}

func latency(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return short(time.Duration(*ms * float64(time.Millisecond)))
}
