package tail

import (
	"context"
	"sync"
	"time"

	"discountquery.example/worker/internal/fault"
)

// source reads one stream.
type source struct {
	reader  *Reader
	stream  string
	subject string
	filter  Filter
	notify  func(Notice)
	follow  bool
	// first and end are the sequences that the stream held when reading began.
	first, end uint64
	// at is where to go on.
	at position
	// past gets what was stored before reading began and is closed after it; live gets what follows.
	past, live chan Event
	// reached tells that the consumer could be made once.
	reached bool
}

// position is a place in a stream: a sequence, or a time as long as no sequence is known.
type position struct {
	sequence uint64
	since    time.Time
}

// look reads where the stream begins and ends.
func (s *source) look(ctx context.Context) error {
	within, cancel := context.WithTimeout(ctx, s.reader.Timeout)
	defer cancel()
	bound, err := s.reader.JS.Stream(within, s.stream)
	if err != nil {
		return s.problem("look at stream "+s.stream, err)
	}
	state := bound.CachedInfo().State
	s.first, s.end = max(state.FirstSeq, 1), state.LastSeq
	return nil
}

// run reads the stream from where it stands: the past first, then what comes, if it is to follow.
func (s *source) run(ctx context.Context) error {
	past := s.at.sequence <= s.end
	over := sync.OnceFunc(func() { close(s.past) })
	defer over() // Also after an error: nobody waits for a past that does not come.
	if !past {
		over()
		if !s.follow {
			return nil
		}
	}
	return s.walk(ctx, func(m *stored, pending uint64) (mood, error) {
		if past && m != nil && m.sequence > s.end {
			past = false
			over()
		}
		if m != nil && (past || s.follow) {
			if err := s.send(ctx, *m, past); err != nil {
				return enough, err
			}
		}
		if past && (pending == 0 || m != nil && m.sequence >= s.end) {
			past = false
			over()
		}
		switch {
		case past:
			return onward, nil
		case s.follow:
			return patient, nil
		default:
			return enough, nil
		}
	})
}

// send hands on an event if it is picked. What can't be read is told.
func (s *source) send(ctx context.Context, m stored, past bool) error {
	event, ok := s.pick(m)
	if !ok {
		return nil
	}
	out := s.past
	if event.Live = !past; event.Live {
		out = s.live
	}
	select {
	case out <- event:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pick returns the event of a message if it is picked.
func (s *source) pick(m stored) (Event, bool) {
	what := Results
	if s.stream == s.reader.Names.Dead() {
		what = DeadLetters
	}
	event, err := readEvent(what, s.stream, m)
	if err != nil {
		s.notify(Notice{Kind: Unreadable, Stream: s.stream, Sequence: m.sequence, Why: string(fault.CodeOf(err))})
		return Event{}, false
	}
	picked := s.filter.matches(&event)
	return event, picked
}

// next returns the next event of the past, nil if there is none, and false if ctx ends before that is known.
func (s *source) next(ctx context.Context) (*Event, bool) {
	select {
	case event, ok := <-s.past:
		if ok {
			return &event, true
		}
		return nil, true
	case <-ctx.Done():
		return nil, false
	}
}
