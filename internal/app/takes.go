package app

import (
	"math"
	"sync"
	"time"

	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
)

// takes knows how many calls a second each upstream takes now, as far as this worker heard. It may be used by many goroutines.
type takes struct {
	callers  callers
	settings map[quota.Account]quota.Settings

	mu    sync.Mutex
	heard map[quota.Account]quota.Change
}

func newTakes(callers callers, settings map[quota.Account]quota.Settings) *takes {
	return &takes{callers: callers, settings: settings, heard: map[quota.Account]quota.Change{}}
}

// hear takes over a change of an account's pace, and returns the ceiling that holds now, 0 for no limit.
func (t *takes) hear(change quota.Change) float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heard[change.Account] = change
	return t.ceiling(change.Account)
}

// ceiling returns the ceiling of an account that holds now.
func (t *takes) ceiling(account quota.Account) float64 {
	if set := t.heard[account].Control.Ceiling; set > 0 {
		return set
	}
	return t.settings[account].Ceiling
}

// now returns how many calls a second each provider takes, over all its accounts: +Inf without a limit, nothing from those that are paused,
// blocked or down. A breaker that tries again counts as down: it lets one call through.
func (t *takes) now(now time.Time) map[string]float64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	sums := map[string]float64{}
	for account := range t.settings {
		sums[string(account.Provider)] += t.of(account, now)
	}
	return sums
}

func (t *takes) of(account quota.Account, now time.Time) float64 {
	last, ceiling := t.heard[account], t.ceiling(account)
	down := t.callers.clients[account].Breaker.State() != upstream.BreakerClosed
	switch {
	case down || last.Control.Paused || now.Before(last.Control.BlockedUntil):
		return 0
	case ceiling <= 0:
		return math.Inf(1)
	case last.To > 0:
		return min(last.To, ceiling)
	default:
		return ceiling // This worker has not called yet, so it does not know better.
	}
}
