//go:build faults

package faults

import (
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// cutBrokerOff cuts one broker off from the other two, while it still talks to the workers that are connected to it. Nothing that these do
// can be confirmed then: they have to leave for a broker of the majority by themselves, and answer there. The broker goes on for some ten
// seconds to serve the consumers that it leads, so that those who are served by many of them notice late.
func (s *site) cutBrokerOff(t *testing.T, l *load, workers []*worker) {
	t.Helper()
	victim := s.gather(t)
	s.leave(t, victim)
	publishing := l.run(t, 10)
	heal := s.cutOff(victim)
	began := time.Now()
	key := l.one(t.Context())
	require.Eventually(t, func() bool { return victim.proxy.Connected() == 0 }, soon, 10*time.Millisecond, "a worker stays where it can do nothing")
	left := time.Since(began)
	s.awaitResult(t, key)
	answered := time.Since(began)
	for _, w := range workers {
		w.awaitReady(t)
	}
	ready := time.Since(began)
	heal()
	publishing.stop()
	s.awaitReplicas(t)
	require.Empty(t, s.quiesce(t, soon))
	t.Logf("F36: the broker of all %d workers was cut off; they left it after %s (target 20 s), a query was answered after %s, all were ready after %s",
		len(workers), left, answered, ready)
}

// gather moves all workers to one broker, and returns it.
func (s *site) gather(t *testing.T) *natsServer {
	t.Helper()
	victim := s.busiestBroker()
	for _, other := range s.brokers {
		other.proxy.Refuse(other != victim)
	}
	for _, other := range s.brokers {
		if other != victim {
			other.proxy.Reset()
		}
	}
	require.Eventually(t, func() bool {
		for _, other := range s.brokers {
			if other != victim && other.proxy.Connected() > 0 {
				return false
			}
		}
		return victim.proxy.Connected() > 1
	}, soon, 10*time.Millisecond)
	for _, other := range s.brokers {
		other.proxy.Refuse(false)
	}
	return victim
}

// busiestBroker returns the broker that most workers are connected to.
func (s *site) busiestBroker() *natsServer {
	return slices.MaxFunc(s.brokers, func(a, b *natsServer) int { return a.proxy.Connected() - b.proxy.Connected() })
}

// leave moves the connection of the test itself to another broker: what it publishes must be confirmed.
func (s *site) leave(t *testing.T, victim *natsServer) {
	t.Helper()
	require.Eventually(t, func() bool {
		if s.conn.ConnectedAddr() == victim.address {
			_ = s.conn.ForceReconnect() // It fails while it reconnects already.
			return false
		}
		return s.conn.IsConnected() && s.conn.ConnectedAddr() != ""
	}, soon, 200*time.Millisecond)
}

// stopBroker stops the broker that a worker is connected to without a word, as a cable that is pulled does: connections stay open and
// nothing comes any more.
func (s *site) stopBroker(t *testing.T, l *load) {
	t.Helper()
	victim := s.busiestBroker()
	s.leave(t, victim)
	publishing := l.run(t, 10)
	victim.signal(t, syscall.SIGSTOP)
	began := time.Now()
	s.awaitResult(t, l.one(t.Context()))
	t.Logf("F36: a query published when a broker went silent was answered after %s", time.Since(began))
	pause(t.Context(), 16*time.Second) // Longer than it takes anybody to give the silent one up.
	victim.signal(t, syscall.SIGCONT)
	publishing.stop()
	s.awaitReplicas(t)
}
