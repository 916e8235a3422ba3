package proxy

import (
	"bytes"
	"strings"
)

// Rule stops frames of one kind.
type Rule struct {
	// Kind and Prefix say which: those whose event has this kind and a subject that starts so. Of Settled only acks match.
	Kind   Kind
	Prefix string
	// Every makes it strike each so many-th of them only; 0 and 1 mean all.
	Every int
	// Limit is how often it strikes at most; 0 means for ever.
	Limit int
	// Drop makes the frame vanish. Otherwise Offset bytes of it are forwarded, all of it if it is shorter, and then both sides of
	// its connection are reset.
	Drop   bool
	Offset int
	// Sweep forwards one byte more at each strike, so that every place of a frame is cut in turn: Offset, Offset+1 and so on.
	Sweep bool
}

// armed is a rule with its counts.
type armed struct {
	Rule

	seen   int
	struck int
	// longest is the length of the longest frame that was struck.
	longest int
}

// strikes counts an event of a frame of some length and tells whether the rule is for it.
func (a *armed) strikes(event *Event, length int) bool {
	if event.Kind != a.Kind || !strings.HasPrefix(event.Subject, a.Prefix) {
		return false
	}
	if event.Kind == Settled && !IsAck(event.Payload) {
		return false
	}
	a.seen++
	if a.Every > 1 && a.seen%a.Every != 0 || a.Limit > 0 && a.struck >= a.Limit {
		return false
	}
	a.struck++
	a.longest = max(a.longest, length)
	return true
}

// now returns the rule as it is for the frame that it has just struck.
func (a *armed) now() *Rule {
	rule := a.Rule
	if rule.Sweep {
		rule.Offset += a.struck - 1
	}
	return &rule
}

// IsAck tells whether a settlement's payload is an ack. An empty one is, too.
func IsAck(payload []byte) bool { return len(payload) == 0 || bytes.HasPrefix(payload, []byte("+ACK")) }
