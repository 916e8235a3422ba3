//go:build crashpoints && unix

package crashpoint

import (
	"strconv"
	"strings"
	"sync/atomic"
)

// trap springs at one passage of one place, or at every one.
type trap struct {
	label  Label
	at     int64
	passed atomic.Int64
	spring func()
}

// newTrap reads "label", "label:n" or "label:every". Anything else arms nothing: a test then sees that nobody died.
func newTrap(text string, spring func()) *trap {
	label, passage, counted := strings.Cut(text, ":")
	if label == "" {
		return nil
	}
	t := &trap{label: Label(label), at: 1, spring: spring}
	switch {
	case !counted:
	case passage == "every":
		t.at = 0
	default:
		n, err := strconv.ParseInt(passage, 10, 64)
		if err != nil || n < 1 {
			return nil
		}
		t.at = n
	}
	return t
}

// pass counts a passage and springs at the right one.
func (t *trap) pass(label Label) {
	if label != t.label {
		return
	}
	if n := t.passed.Add(1); t.at == 0 || n == t.at {
		t.spring()
	}
}
