package consumer

import (
	"errors"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// How long a server is put up with, and how long the next one is given.
const (
	// cutOffPatience is how long pulls get no answer before their connection is given up, cutOffPause the least time between two that are
	// given up for that. They hold if there is another server to go to.
	cutOffPatience = 5 * time.Second
	cutOffPause    = 15 * time.Second
	// renewPause takes their place where only one server is known, and is the least time between two connections that are given up for a
	// durable consumer that has stalled: the others on them may well be served, and lose what is on its way.
	renewPause = 5 * time.Minute
)

// Line is what the consumers on one connection know together: whether most of them are served there. A server that is cut off from the rest of its
// cluster keeps its connections and answers their pings, so that the client never leaves it, but no pull gets an answer. A Line leaves then.
// It may be used by many goroutines.
type Line struct {
	conn connection

	mu    sync.Mutex
	seats []*seat
	// left is when the last connection was given up.
	left time.Time
}

// connection is what a Line needs to know of its connection.
type connection interface {
	// Servers returns the URLs that the client may connect to.
	Servers() []string
	// ForceReconnect leaves the server for the next one, or comes back if there is no other.
	ForceReconnect() error
}

// NewLine returns the line of a connection. All consumers on the connection must share it.
func NewLine(conn *nats.Conn) *Line { return &Line{conn: conn} }

// seat is the place of one consumer on a line. What is told here belongs to its pull loop.
type seat struct {
	line *Line
	// since is when the pulls began to get no answer, zero if the last one got one or nothing is known; worked is when one did.
	since, worked time.Time
	// waits tells that a pull is under way.
	waits bool
}

func (l *Line) join() *seat {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &seat{line: l}
	l.seats = append(l.seats, s)
	return s
}

// begins notes a pull that begins.
func (s *seat) begins() {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.waits = true
}

// works notes a pull that got an answer.
func (s *seat) works() {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.since, s.worked, s.waits = time.Time{}, time.Now(), false
}

// knowsNothing notes a pull whose failure says nothing about the server.
func (s *seat) knowsNothing() {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.forget()
}

func (s *seat) forget() { s.since, s.worked, s.waits = time.Time{}, time.Time{}, false }

// fails notes a pull without an answer that began at a time, and tells whether the connection was given up because of it.
func (s *seat) fails(began time.Time) bool {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	now := time.Now()
	s.worked, s.waits = time.Time{}, false
	if s.since.IsZero() {
		s.since = later(began, now.Add(-2*pullHeartbeat)) // Until then there was a sign of life.
	}
	patience, pause := cutOffPatience, cutOffPause
	if len(s.line.conn.Servers()) < 2 {
		patience, pause = renewPause, renewPause
	}
	return now.Sub(s.since) >= patience && !s.line.serves(now) && s.line.leave(now, pause)
}

// renews gives up the connection for a consumer that nobody is served by.
func (s *seat) renews() {
	s.line.mu.Lock()
	defer s.line.mu.Unlock()
	s.line.leave(time.Now(), renewPause)
}

// serves tells whether at least as many consumers got an answer lately, or may be about to, as got none. One that does not pull, because all
// its slots are taken or its gate is closed, has no say. A server that was cut off goes on for some seconds to serve those durable consumers
// that it leads itself, but they are few; if it works, few have lost their leader at a time.
func (l *Line) serves(now time.Time) bool {
	served := 0
	for _, s := range l.seats {
		switch {
		case !s.since.IsZero():
			served--
		case s.waits || now.Sub(s.worked) < cutOffPatience:
			served++
		}
	}
	return served >= 0
}

// leave gives up the connection, unless the last one was given up within the pause. What was seen on it says nothing about the next one.
func (l *Line) leave(now time.Time, pause time.Duration) bool {
	if now.Sub(l.left) < pause || l.conn.ForceReconnect() != nil {
		return false
	}
	l.left = now
	for _, s := range l.seats {
		s.forget()
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// silent tells whether a failed pull got no answer on a connection that is up. That a right is missing, or a durable consumer gone, is no
// fault of the server.
func silent(what What, err error) bool {
	return what == PullFailed && !errors.Is(err, nats.ErrDisconnected) && !errors.Is(err, nats.ErrConnectionClosed) &&
		!errors.Is(err, nats.ErrPermissionViolation)
}
