package telemetry

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// Limits of a sink.
const (
	// sinkLines is how many lines wait for a slow reader before lines are dropped.
	sinkLines = 8192
	// sinkFlush is how long a stopping sink tries to write what waits.
	sinkFlush = 2 * time.Second
)

// Sink writes log lines in the background. A reader of the log that stops reading must not stop the queries: lines that find no room are
// dropped and counted.
type Sink struct {
	lines   chan []byte
	dropped atomic.Uint64
	stop    func()
	ended   chan struct{}
}

// newSink starts a sink that writes to out.
func newSink(out io.Writer) *Sink {
	s := &Sink{lines: make(chan []byte, sinkLines), ended: make(chan struct{})}
	stopping := make(chan struct{})
	s.stop = sync.OnceFunc(func() { close(stopping) })
	go s.run(out, stopping)
	return s
}

// run writes lines, as many at once as are waiting, until it is stopped and none waits.
func (s *Sink) run(out io.Writer, stopping <-chan struct{}) {
	defer close(s.ended)
	var batch []byte
	for {
		select {
		case line := <-s.lines:
			batch = append(batch[:0], line...)
			batch = s.gather(batch)
			_, _ = out.Write(batch) // A log that can't be written has nowhere to say so.
		case <-stopping:
			for batch = s.gather(batch[:0]); len(batch) > 0; batch = s.gather(batch[:0]) {
				_, _ = out.Write(batch)
			}
			return
		}
	}
}

// sinkBatch bounds one write in bytes.
const sinkBatch = 64 << 10

// gather appends the lines that wait now.
func (s *Sink) gather(batch []byte) []byte {
	for len(batch) < sinkBatch {
		select {
		case line := <-s.lines:
			batch = append(batch, line...)
		default:
			return batch
		}
	}
	return batch
}

// Write takes over one line. It never waits and never fails.
func (s *Sink) Write(line []byte) (int, error) {
	select {
	case s.lines <- append([]byte(nil), line...):
	default:
		s.dropped.Add(1)
	}
	return len(line), nil
}

// Dropped returns how many lines found no room.
func (s *Sink) Dropped() uint64 { return s.dropped.Load() }

// Sync does nothing: the lines are written when it is their turn.
func (s *Sink) Sync() error { return nil }

// Close writes what waits, for a short while: a reader that does not read must not hold up a stop.
func (s *Sink) Close() {
	s.stop()
	timer := time.NewTimer(sinkFlush)
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
	}
}
