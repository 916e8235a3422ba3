package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"golang.org/x/term"
)

// colour is a colour, or another way in which text stands out, as a terminal is told it (ECMA-48, select graphic rendition).
type colour string

// The colours in use. They are from the first eight, which every terminal has and lets its owner choose.
const (
	plain  colour = ""
	bold   colour = "1"
	faint  colour = "2"
	red    colour = "31"
	green  colour = "32"
	yellow colour = "33"
)

// ink colours text if it is on.
type ink struct{ on bool }

// newInk returns the ink for an output: on for a terminal, unless NO_COLOR (no-color.org) is set or the terminal is a dumb one.
func newInk(out io.Writer, environ []string) ink {
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return ink{}
		}
	}
	return ink{on: isTerminal(out)}
}

// isTerminal tells whether an input or an output is a terminal.
func isTerminal(out any) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// paint returns the text in a colour.
func (i ink) paint(c colour, text string) string {
	if !i.on || c == plain || strings.TrimSpace(text) == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// harmless returns a text that others wrote as one that a terminal only shows: nothing in it moves the cursor, changes a colour or hides
// what stands beside it.
func harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// harmlessJSON returns JSON that means the same and that a terminal only shows: each character that is not printed stands as its escape.
func harmlessJSON(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			_, _ = b.WriteRune(r)
		case r > '\uffff':
			high, low := utf16.EncodeRune(r)
			_, _ = fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			_, _ = fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// fit cuts a text to a number of characters, with a sign that it was cut.
func fit(text string, width int) string {
	letters := []rune(text)
	if len(letters) <= width {
		return text
	}
	if width <= 0 {
		return ""
	}
	return string(letters[:width-1]) + "…"
}

// short returns a duration in at most six characters: 85ms, 1.25s, 12.3s, 50s, 4m10s, 3h05m, 12d.
func short(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute && d%time.Second == 0:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 10*time.Second:
		return fmt.Sprintf("%.2fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// grouped returns a number with its digits in groups of three.
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}
