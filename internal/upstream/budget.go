package upstream

import "sync"

// Budget bounds the repeated attempts of all calls to one upstream to a share of the first ones, so that an outage is not multiplied
// by everybody's retries. It may be used by many goroutines.
type Budget struct {
	share   float64
	reserve float64

	mu    sync.Mutex
	saved float64
}

// NewBudget returns a budget of the given share, 0.1 for one repeated attempt in ten calls. reserve is how many repeated attempts can be
// saved up at most; it is full at the start, so that an upstream that is rarely asked has its retries too.
func NewBudget(share float64, reserve int) *Budget {
	return &Budget{share: share, reserve: float64(reserve), saved: float64(reserve)}
}

// Earn notes a first attempt.
func (b *Budget) Earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.saved = min(b.saved+b.share, b.reserve)
}

// Spend takes one repeated attempt out of the budget and tells whether there was one.
func (b *Budget) Spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.saved < 1 {
		return false
	}
	b.saved--
	return true
}
