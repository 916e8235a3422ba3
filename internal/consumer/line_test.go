package consumer

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/decide"
	"discountquery.example/worker/internal/query"
)

// network is a connection that counts how often its server was left.
type network struct {
	servers int
	left    int
	closed  bool
}

// Servers implements connection.
func (n *network) Servers() []string { return make([]string, n.servers) }

// ForceReconnect implements connection.
func (n *network) ForceReconnect() error {
	if n.closed {
		return nats.ErrConnectionClosed
	}
	n.left++
	return nil
}

// pullFor is a pull that takes so long and gets no answer.
func (s *seat) pullFor(took time.Duration) bool {
	began := time.Now()
	s.begins()
	time.Sleep(took)
	return s.fails(began)
}

// failFor lets pulls get no answer for a while, as the pull loop makes them, and returns after how long the server was left each time.
func (s *seat) failFor(limit time.Duration) []time.Duration {
	var left []time.Duration
	began := time.Now()
	for time.Since(began) < limit {
		if s.pullFor(firstPull) {
			left = append(left, time.Since(began))
		}
		time.Sleep(pullPause)
	}
	return left
}

func TestServerThatNeverAnswersIsLeft(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		servers int
		limit   time.Duration
		want    []time.Duration
	}{
		"one of three": {3, time.Minute, []time.Duration{
			6500 * time.Millisecond, 22250 * time.Millisecond, 38 * time.Second, 53750 * time.Millisecond,
		}},
		"the only one": {1, 11 * time.Minute, []time.Duration{301250 * time.Millisecond, 602750 * time.Millisecond}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &network{servers: test.servers}
				l := &Line{conn: n}
				require.Equal(t, test.want, l.join().failFor(test.limit))
				require.Equal(t, len(test.want), n.left)
			})
		})
	}
}

// TestServerIsKept lets pulls fail on a server that must not be left because of them.
func TestServerIsKept(t *testing.T) {
	t.Parallel()
	const long = 20 * time.Second
	for name, test := range map[string]func(failing, other *seat){
		"not for long": func(failing, _ *seat) { failing.failFor(4 * time.Second) },
		"an answer in between": func(failing, _ *seat) {
			for range 5 {
				failing.failFor(4 * time.Second)
				failing.works()
			}
		},
		"the connection broke in between": func(failing, _ *seat) {
			for range 5 {
				failing.failFor(4 * time.Second)
				failing.knowsNothing()
			}
		},
		"another consumer is served": func(failing, other *seat) {
			for range 5 {
				other.begins()
				other.works()
				failing.failFor(4 * time.Second)
			}
		},
		"another consumer waits and is not known to wait in vain": func(failing, other *seat) {
			other.begins()
			failing.failFor(long)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &network{servers: 3}
				l := &Line{conn: n}
				test(l.join(), l.join())
				require.Zero(t, n.left)
			})
		})
	}
}

// TestServerIsLeftAllTheSame lets pulls fail while other consumers of the same line can't say that they are served.
func TestServerIsLeftAllTheSame(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(other *seat){
		"the other one has all its slots taken": func(other *seat) {
			other.begins()
			other.works()
			time.Sleep(cutOffPatience)
		},
		"the other one's gate is closed":            func(*seat) {},
		"the other one gets no answer either":       func(other *seat) { other.pullFor(firstPull) },
		"the other one's durable consumer is gone":  func(other *seat) { other.begins(); other.knowsNothing() },
		"the other one has stopped after an answer": func(other *seat) { other.begins(); other.works(); time.Sleep(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := &network{servers: 2}
				l := &Line{conn: n}
				test(l.join())
				require.Len(t, l.join().failFor(8*time.Second), 1)
			})
		})
	}
}

func TestServerThatServesOneOfThreeIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: 3}
		l := &Line{conn: n}
		served, one, other := l.join(), l.join(), l.join()
		var began time.Time
		for began = time.Now(); n.left == 0; time.Sleep(pullPause) {
			served.begins()
			one.begins()
			other.pullFor(firstPull)
			one.fails(time.Now().Add(-firstPull))
			served.works()
		}
		require.Less(t, time.Since(began), 10*time.Second)
	})
}

func TestConsumersShareTheirPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := &network{servers: 3}
		l := &Line{conn: n}
		one, other := l.join(), l.join()
		left := 0
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(pullPause) {
			one.begins()
			if other.pullFor(firstPull) {
				left++
			}
			if one.fails(time.Now().Add(-firstPull)) {
				left++
			}
		}
		require.Equal(t, 4, left, "as often as for one")
		one.renews()
		require.Equal(t, 4, n.left, "and not for a stall soon after")
		time.Sleep(renewPause)
		one.renews()
		other.renews()
		require.Equal(t, 5, n.left)
	})
}

func TestLongPullThatFailsSaysNothingOfItsBeginning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := (&Line{conn: &network{servers: 3}}).join()
		require.False(t, s.pullFor(time.Minute), "it was answered until its last two heartbeats")
		require.Equal(t, 2*pullHeartbeat, time.Since(s.since))
	})
}

func TestClosedConnectionIsNotLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := (&Line{conn: &network{servers: 3, closed: true}}).join()
		require.Empty(t, s.failFor(time.Minute))
		require.Zero(t, s.line.left)
	})
}

func TestWhichFailuresAreSilence(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		what What
		err  error
		want bool
	}{
		"no heartbeat":       {PullFailed, jetstream.ErrNoHeartbeat, true},
		"nobody responds":    {PullFailed, nats.ErrNoResponders, true},
		"the server is full": {PullFailed, &jetstream.APIError{Code: 503}, true},
		"a missing right":    {PullFailed, fmt.Errorf("%w: %w", nats.ErrPermissionViolation, jetstream.ErrNoHeartbeat), false},
		"not connected":      {PullFailed, nats.ErrDisconnected, false},
		"closed":             {PullFailed, nats.ErrConnectionClosed, false},
		"gone":               {Gone, jetstream.ErrConsumerDeleted, false},
	} {
		require.Equal(t, test.want, silent(test.what, test.err), name)
	}
}

// TestSilentServerIsLeft makes a server's answers vanish for two consumers on one connection, one of which pulls nothing at the time.
func TestSilentServerIsLeft(t *testing.T) {
	t.Parallel()
	b := setup(t)
	way, js := b.connect()
	n := &network{servers: 2}
	options := b.options(ok)
	options.JS, options.Line = js, &Line{conn: n}
	c := b.run(options)
	closed := options
	closed.Capacity = func() int { return 0 }
	b.run(closed)
	b.until(c.Healthy, "pulling works")
	require.Zero(t, b.count(Left))
	way.loseAnswers.Store(true)
	began := time.Now()
	b.until(func() bool { return b.count(Left) > 0 }, "told")
	require.GreaterOrEqual(t, time.Since(began), cutOffPatience-2*pullHeartbeat)
	require.Equal(t, Event{Consumer: "DISCOUNT_QUERIES/easypay-bulk", What: Left}, b.last(Left))
	require.Equal(t, 1, n.left)
	way.repair()
	b.until(c.Healthy, "and when it is there again, all is well")
	require.Equal(t, 1, b.count(Left))
}

// TestConsumersHaveALineOfTheirOwn shows what a consumer does that was given no line.
func TestConsumersHaveALineOfTheirOwn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.bind(b.options(func(context.Context, query.Delivery) decide.Settlement { return done }))
	require.Same(t, b.JS.Conn(), c.Line.conn)
	require.Equal(t, []*seat{c.seat}, c.Line.seats)
	require.NotErrorIs(t, c.explain(jetstream.ErrNoHeartbeat, b.JS.Conn().LastError()), nats.ErrPermissionViolation)
}
