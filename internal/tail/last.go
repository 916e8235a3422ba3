package tail

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// widest is how many sequences are looked at in one go, at most, when the last events are looked for.
const widest = 1 << 20

// readLast calls f with the newest events of all sources that are stored already, in the order of their times.
func (r *Reader) readLast(ctx context.Context, sources []*source, request Request, f func(Event) error) error {
	var all []Event
	for _, s := range sources {
		events, err := s.last(ctx, request.Last, request.Since)
		if err != nil {
			return err
		}
		all = append(all, events...)
	}
	slices.SortStableFunc(all, func(a, b Event) int { return cmp.Or(a.Stored.Compare(b.Stored), cmp.Compare(a.Stream, b.Stream)) })
	for _, event := range newest(all, request.Last) {
		if err := f(event); err != nil {
			return err
		}
	}
	return nil
}

// last returns the newest count events that were stored since a time, the oldest first. It looks backwards through windows that become wider,
// because the broker can only read forwards.
func (s *source) last(ctx context.Context, count int, since time.Time) ([]Event, error) {
	var kept []Event
	low, width := s.end+1, uint64(max(4*count, batch))
	for low > s.first && len(kept) < count {
		high := low - 1
		low = max(s.first, low-min(width, low))
		width = min(4*width, widest)
		events, old, err := s.between(ctx, low, high, count-len(kept), since)
		if err != nil {
			return nil, err
		}
		kept = append(events, kept...)
		if old {
			break
		}
	}
	return kept, nil
}

// between returns the newest count events between two sequences that were stored since a time, and whether there were older ones.
func (s *source) between(ctx context.Context, low, high uint64, count int, since time.Time) (events []Event, old bool, err error) {
	window := *s
	window.at = position{sequence: low}
	err = window.walk(ctx, func(m *stored, pending uint64) (mood, error) {
		if m == nil || m.sequence > high {
			return enough, nil
		}
		if m.at.Before(since) {
			old = true
		} else if event, ok := s.pick(*m); ok {
			if events = append(events, event); len(events) > 2*count {
				events = newest(events, count)
			}
		}
		if pending == 0 || m.sequence == high {
			return enough, nil
		}
		return onward, nil
	})
	return newest(events, count), old, err
}

// newest returns the last count events.
func newest(events []Event, count int) []Event {
	return slices.Clone(events[max(len(events)-count, 0):])
}
