package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
)

// tailFormat lays out the columns of a line: time, provider, lane, client, outcome, code, duration, attempts and card. What follows has no
// fixed width.
const tailFormat = "%-12s  %-8s  %-11s  %-12s  %-18s  %-20s  %6s  %5s  %-5s  "

// tailHeading returns the heading of the columns.
func tailHeading(wide bool) string {
	heading := fmt.Sprintf(tailFormat, "TIME (UTC)", "PROVIDER", "LANE", "CLIENT", "OUTCOME", "CODE", "TOOK", "CALLS", "CARD") + "ANSWER"
	if wide {
		heading += "  KEY, QUERY ID, ORDER ID"
	}
	return heading
}

// tailLine returns an event as one line. now tells whether its day must be named.
func tailLine(pen ink, e tail.Event, wide bool, now time.Time) string {
	at := e.Stored.Format("15:04:05.000")
	if now.Sub(e.Stored) > 24*time.Hour {
		at = e.Stored.Format("Jan 02 15:04")
	}
	outcome, c := outcomeOf(e)
	card := "-"
	if e.Card != nil {
		card = "*" + harmless(e.Card.LastFour)
	}
	cells := []any{
		at, fit(string(e.Query.Provider), 8), fit(string(e.Query.Lane), 11), fit(e.Query.Client, 12), fit(outcome, 18), fit(codeOf(e), 20),
		short(e.Took), strconv.Itoa(e.Attempts), fit(card, 5),
	}
	for i, cell := range cells {
		cells[i] = harmless(fmt.Sprint(cell))
	}
	cells[0] = pen.paint(faint, cells[0].(string)) + strings.Repeat(" ", max(12-len(at), 0)) //nolint:forcetypeassert // It was just made.
	cells[4] = pen.paint(c, fmt.Sprintf("%-18s", cells[4]))
	line := fmt.Sprintf(tailFormat, cells...) + harmless(answerOf(e))
	if wide {
		line += pen.paint(faint, fmt.Sprintf("  %s  %s  %s", e.Query.Key, orDash(harmless(e.Query.ID)), orDash(harmless(e.Order))))
	}
	return strings.TrimRight(line, " ")
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// outcomeOf returns in two words what became of the query, and the colour of that.
func outcomeOf(e tail.Event) (string, colour) {
	switch {
	case e.What == tail.DeadLetters:
		return "dead " + string(e.Reason), red
	case e.Status == query.Failed:
		return "failed " + string(e.Reason), red
	case e.Outcome == query.OutcomeOK:
		return "completed ok", green
	default:
		return "completed " + string(e.Outcome), yellow
	}
}

// codeOf returns the code of a failure, and the upstream's own where it sent one.
func codeOf(e tail.Event) string {
	switch {
	case e.Code == "":
		return "-"
	case e.Upstream.Code == "":
		return string(e.Code)
	default:
		return string(e.Code) + "/" + e.Upstream.Code
	}
}

// answerOf returns in a few words what was answered.
func answerOf(e tail.Event) string {
	var words []string
	switch {
	case e.Best != nil:
		words = append(words, bestOf(*e.Best))
	case e.Offers > 0:
		words = append(words, fmt.Sprintf("%d offers, none applies", e.Offers))
	case e.Usage != nil:
		words = append(words, usedOf(*e.Usage))
	}
	if e.Shared {
		words = append(words, "shared")
	}
	if e.Revision > 0 {
		words = append(words, fmt.Sprintf("replay %d", e.Revision))
	}
	return orDash(strings.Join(words, ", "))
}

// bestOf returns the best offer as its discount and its id.
func bestOf(best query.Offer) string {
	if best.Discount == nil {
		return best.ID
	}
	return money(*best.Discount) + " off with " + best.ID
}

// money returns an amount with its currency: won, or the upstream's own words. How many minor units another currency has is not known here.
func money(m query.Money) string {
	if m.Raw != "" || m.Minor == nil {
		return strings.TrimSpace(m.Raw + " " + m.Currency)
	}
	if m.Currency == "KRW" {
		return grouped(*m.Minor) + " KRW"
	}
	return grouped(*m.Minor) + " minor units of " + m.Currency
}

// usedOf returns how often an offer was used.
func usedOf(usage query.Usage) string {
	var words []string
	for _, period := range []struct {
		name string
		used *query.Used
	}{{"day", usage.Day}, {"month", usage.Month}, {"total", usage.Total}} {
		switch {
		case period.used == nil:
		case period.used.Count != nil:
			words = append(words, fmt.Sprintf("%s %dx", period.name, *period.used.Count))
		case period.used.Amount != nil:
			words = append(words, period.name+" "+money(*period.used.Amount))
		}
	}
	if len(words) == 0 {
		return "no usage"
	}
	return "used " + strings.Join(words, ", ")
}
