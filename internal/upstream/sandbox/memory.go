package sandbox

import "sync"

// memory remembers the newest values it was given, up to a bound. It finds repeats.
type memory[T comparable] struct {
	mu    sync.Mutex
	known map[T]struct{}
	ring  []T
	next  int
	bound int
}

func newMemory[T comparable](bound int) *memory[T] {
	return &memory[T]{known: make(map[T]struct{}), bound: bound}
}

// add remembers a value and reports whether it is new. At the bound the oldest value is forgotten.
func (m *memory[T]) add(v T) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, repeated := m.known[v]; repeated {
		return false
	}
	if len(m.ring) < m.bound {
		m.ring = append(m.ring, v)
	} else {
		delete(m.known, m.ring[m.next])
		m.ring[m.next] = v
		m.next = (m.next + 1) % m.bound
	}
	m.known[v] = struct{}{}
	return true
}
