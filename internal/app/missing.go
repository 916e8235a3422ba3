package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// storage and fleetPace are parts of the worker's health: the streams that outcomes are stored in, and the bucket of the pace. What misses one
// of them waits and holds its slot, or is not pulled, so that no pull tells of it.
const (
	storage   = "storage"
	fleetPace = "pace"
)

// How the pace is looked at. A store that is slow for a moment is no reason to be unready.
const (
	paceLook     = time.Second
	pacePatience = 4 * time.Second
)

// noStream tells that there is no stream where one should be, or none that has a leader.
func noStream(err error) bool {
	return errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders)
}

// watchPace makes the worker unready while the pace is not known: nothing is asked then.
func (a *App) watchPace(ctx context.Context) {
	ticker := time.NewTicker(paceLook)
	defer ticker.Stop()
	var since time.Time
	for {
		select {
		case now := <-ticker.C:
			since = a.judgePace(a.pace.Away(), now, since)
		case <-ctx.Done():
			return
		}
	}
}

// judgePace notes at a time whether the store of the pace is away, and returns since when it is.
func (a *App) judgePace(away bool, now, since time.Time) time.Time {
	switch {
	case !away:
		a.health.Ready(fleetPace)
		return time.Time{}
	case since.IsZero():
		return now
	case now.Sub(since) >= pacePatience:
		a.health.Unready(fleetPace, "not known, so nothing is asked")
	}
	return since
}

// memory forgets something a while after it was noted last. It may be used by many goroutines.
type memory struct {
	mu    sync.Mutex
	timer *time.Timer
}

// later calls forget after a while, unless it is called again before.
func (m *memory) later(after time.Duration, forget func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.timer != nil {
		m.timer.Stop()
	}
	m.timer = time.AfterFunc(after, forget)
}
