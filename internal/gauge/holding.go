package gauge

import (
	"sync"
	"time"
)

// Holding knows how long messages hold a slot on average, lately. It may be used by many goroutines.
type Holding struct {
	mu    sync.Mutex
	lanes map[lane]*held
}

// lane is a provider's lane. Queries and retries of it take alike long.
type lane struct{ provider, name string }

// held are sums over the messages of one lane. They fade, so that the newest count most.
type held struct {
	messages     float64
	hold, waited time.Duration
}

const (
	// fade is what is left of the sums after each reading. With one each 15 seconds they halve in 45.
	fade = 0.8
	// unknownHold stands for the time that a message holds a slot as long as none did: a call of an upstream that is neither quick nor slow.
	unknownHold = 500 * time.Millisecond
	// enough is how many messages tell something.
	enough = 0.5
)

// NewHolding returns a Holding that knows nothing yet.
func NewHolding() *Holding { return &Holding{lanes: map[lane]*held{}} }

// Observe takes over how long one message held its slot, and how much of that time it only waited for the pace.
func (h *Holding) Observe(provider, name string, took, waited time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := lane{provider: provider, name: name}
	if h.lanes[one] == nil {
		h.lanes[one] = &held{}
	}
	h.lanes[one].messages++
	h.lanes[one].hold += max(took-waited, 0)
	h.lanes[one].waited += max(waited, 0)
}

// Mean returns how long messages of a lane hold a slot, without the waiting for the pace, and how long they wait for that.
func (h *Holding) Mean(provider, name string) (hold, waited time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one := h.lanes[lane{provider: provider, name: name}]
	if one == nil || one.messages < enough {
		return unknownHold, 0
	}
	return time.Duration(float64(one.hold) / one.messages), time.Duration(float64(one.waited) / one.messages)
}

// Fade makes what was observed so far count less. It is called after each reading.
func (h *Holding) Fade() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.lanes {
		one.messages *= fade
		one.hold = time.Duration(float64(one.hold) * fade)
		one.waited = time.Duration(float64(one.waited) * fade)
	}
}
