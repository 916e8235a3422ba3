package sandbox

import (
	"sync"
	"time"
)

// limiter is the hidden limit of an upstream: at most burst calls at once and rate calls per second after that (GCRA). A call
// that is refused costs nothing.
type limiter struct {
	interval  time.Duration
	tolerance time.Duration

	mu      sync.Mutex
	started time.Time
	next    time.Duration
}

func newLimiter(rate float64, burst int) *limiter {
	interval := time.Duration(float64(time.Second) / rate)
	return &limiter{interval: interval, tolerance: interval * time.Duration(burst-1), started: time.Now()}
}

// take asks for one call now. It returns zero when the call is let through, and otherwise how long to wait for the next chance.
func (l *limiter) take() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.takeAt(time.Since(l.started))
}

func (l *limiter) takeAt(now time.Duration) time.Duration {
	if wait := l.next - l.tolerance - now; wait > 0 {
		return wait
	}
	l.next = max(l.next, now) + l.interval
	return 0
}
