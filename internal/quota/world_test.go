package quota

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

var errAway = errors.New("no responders")

// fakeStore is a store in memory with a server's clock, the latency of a network, and faults that can be switched on.
type fakeStore struct {
	mu       sync.Mutex
	random   *rand.Rand
	entries  map[string]Entry
	revision uint64
	watches  map[chan Entry]string
	away     bool
	// fastest and slowest bound a round trip.
	fastest, slowest time.Duration
	// ahead is how far the server's clock is ahead of true time.
	ahead time.Duration
	// lose is the part of confirmed writes whose reply is lost, stale the part of reads that a lagging replica answers.
	lose, stale float64
	previous    map[string]Entry

	writes, conflicts, reads int
}

func newFakeStore(seed uint64) *fakeStore {
	return &fakeStore{
		random: rand.New(rand.NewPCG(seed, 1)), entries: map[string]Entry{}, previous: map[string]Entry{}, watches: map[chan Entry]string{},
		fastest: 200 * time.Microsecond, slowest: 20 * time.Millisecond,
	}
}

// trip draws the two halves of a round trip, which need not be alike.
func (s *fakeStore) trip() (there, back time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	whole := s.fastest
	if s.slowest > s.fastest {
		// Most round trips are short, some are long.
		x := s.random.Float64()
		whole += time.Duration(x * x * x * float64(s.slowest-s.fastest))
	}
	there = time.Duration(s.random.Float64() * float64(whole))
	return there, whole - there
}

func (s *fakeStore) setAway(away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = away
}

func (s *fakeStore) isAway() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.away
}

// reach waits for one way, and fails as a client does whose server does not answer.
func (s *fakeStore) travel(ctx context.Context, d time.Duration) error {
	if err := sleep(ctx, d); err != nil {
		return err
	}
	if s.isAway() {
		return errAway
	}
	return nil
}

func (s *fakeStore) Get(ctx context.Context, key string) (Entry, error) {
	there, back := s.trip()
	if err := s.travel(ctx, there); err != nil {
		return Entry{}, err
	}
	s.mu.Lock()
	s.reads++
	found, ok := s.entries[key]
	if old, has := s.previous[key]; has && s.random.Float64() < s.stale {
		found = old
	}
	s.mu.Unlock()
	if err := s.travel(ctx, back); err != nil {
		return Entry{}, err
	}
	if !ok || found.Value == nil {
		return Entry{}, ErrMissing
	}
	return found, nil
}

func (s *fakeStore) Put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	there, back := s.trip()
	if err := s.travel(ctx, there); err != nil {
		return 0, err
	}
	written, lost := s.put(key, value, revision)
	if lost {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	if err := s.travel(ctx, back); err != nil {
		return 0, err
	}
	if written == 0 {
		return 0, ErrConflict
	}
	return written, nil
}

func (s *fakeStore) put(key string, value []byte, revision uint64) (written uint64, lost bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries[key].Revision != revision {
		s.conflicts++
		return 0, false
	}
	s.writes++
	s.revision++
	if old, ok := s.entries[key]; ok {
		s.previous[key] = old
	}
	e := Entry{Key: key, Value: slices.Clone(value), Revision: s.revision, Created: time.Now().Add(s.ahead).UTC()}
	s.entries[key] = e
	for watch, pattern := range s.watches {
		if matches(pattern, key) {
			watch <- e
		}
	}
	return s.revision, s.random.Float64() < s.lose
}

func matches(pattern, key string) bool {
	return strings.HasPrefix(key, strings.TrimSuffix(pattern, ">"))
}

func (s *fakeStore) Watch(ctx context.Context, pattern string, f func(Entry)) error {
	updates := make(chan Entry, 10_000)
	s.mu.Lock()
	if s.away {
		s.mu.Unlock()
		return errAway
	}
	for key, e := range s.entries {
		if matches(pattern, key) {
			updates <- e
		}
	}
	updates <- Entry{}
	s.watches[updates] = pattern
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, updates)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-updates:
			_, back := s.trip()
			if err := sleep(ctx, back); err != nil {
				return err
			}
			f(e)
		}
	}
}

// broken returns how many calls too many there were in the worst window, or 0 if calls never exceeded rate x window + burst. Every window
// that could break the rule begins and ends with a call.
func worstExcess(calls []time.Duration, rate float64, burst int) float64 {
	slices.Sort(calls)
	worst, lowest := 0.0, 0.0
	for i, at := range calls {
		level := float64(i) - rate*at.Seconds()
		if i == 0 {
			lowest = level
		}
		lowest = min(lowest, level)
		worst = max(worst, level-lowest+1-float64(burst))
	}
	if worst < 1e-6*float64(len(calls)+1) {
		return 0
	}
	return worst
}
