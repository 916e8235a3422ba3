package consumer

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// held keeps the messages that are being handled from being delivered to somebody else: it extends their ack wait every third of it.
// One loop serves all messages, because most are settled long before their first third is over.
type held struct {
	onError func(error)
	// changed tells the loop that every is another one now.
	changed chan struct{}

	mu       sync.Mutex
	every    time.Duration
	messages map[jetstream.Msg]time.Time
}

func newHeld(ackWait time.Duration, onError func(error)) *held {
	return &held{every: ackWait / 3, onError: onError, changed: make(chan struct{}, 1), messages: map[jetstream.Msg]time.Time{}}
}

// setAckWait makes the extensions follow another ack wait.
func (h *held) setAckWait(ackWait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.every == ackWait/3 {
		return
	}
	h.every = ackWait / 3
	select {
	case h.changed <- struct{}{}:
	default: // The loop has not looked yet, and will find the new one.
	}
}

// tick returns how often to look for what is due. At half the interval, no message is left without an extension for longer than half of
// its ack wait.
func (h *held) tick() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(h.every/2, time.Millisecond)
}

func (h *held) add(message jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages[message] = time.Now()
}

func (h *held) remove(message jetstream.Msg) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.messages, message)
}

func (h *held) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.messages)
}

// run extends what is held until ctx ends.
func (h *held) run(ctx context.Context) {
	ticker := time.NewTicker(h.tick())
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			h.extend(now)
		case <-h.changed:
			ticker.Reset(h.tick())
		case <-ctx.Done():
			return
		}
	}
}

// extend extends what is due, and tells about what it could not extend once it has let go of the lock.
func (h *held) extend(now time.Time) {
	for _, err := range h.extendDue(now) {
		h.onError(err)
	}
}

// extendDue extends the messages whose last extension is at least one interval ago. An extension that failed is tried again at the next
// tick. The lock keeps remove waiting: an extension that came after a message was given back would undo the delay it was given.
func (h *held) extendDue(now time.Time) []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var failed []error
	for message, since := range h.messages {
		if now.Sub(since) < h.every {
			continue
		}
		if err := message.InProgress(); err != nil {
			failed = append(failed, err)
			continue
		}
		h.messages[message] = now
	}
	return failed
}

// healthy is a flag that tells when it changes.
type healthy struct {
	yes atomic.Bool
}

// set sets the flag and tells whether that changed it.
func (h *healthy) set(yes bool) bool { return h.yes.Swap(yes) != yes }

func (h *healthy) get() bool { return h.yes.Load() }
