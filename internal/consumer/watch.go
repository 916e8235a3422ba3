package consumer

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// look is what the broker says about a durable consumer at one moment.
type look struct {
	// pending is how many messages wait for their first delivery.
	pending uint64
	// delivered is how many deliveries there were, to anybody.
	delivered uint64
	// unacked is how many messages are in somebody's hands, most how many may be; most is 0 or less if there is no limit.
	unacked, most int
	paused        bool
}

func lookOf(info *jetstream.ConsumerInfo) look {
	return look{
		pending: info.NumPending, delivered: info.Delivered.Consumer, unacked: info.NumAckPending, most: info.Config.MaxAckPending,
		paused: info.Paused,
	}
}

// state says why pulls come back empty.
type state string

const (
	// drained is a consumer with nothing to deliver.
	drained state = "drained"
	// paused is a consumer that may not deliver now.
	paused state = "paused"
	// full is a consumer whose messages are in so many hands that the broker gives out no more.
	full state = "full"
	// delivering is a consumer that delivers to others.
	delivering state = "delivering"
	// unclear is a consumer that could deliver: a second look will tell.
	unclear state = "unclear"
	// stuck is a consumer that could deliver at both looks, and delivered nothing in between.
	stuck state = "stuck"
)

// judge says why pulls that began before the earlier look and went on until now came back empty. The earlier look is nil if there was none.
func judge(before *look, now look) state {
	switch {
	case now.paused:
		return paused
	case now.pending == 0:
		return drained
	case now.most > 0 && now.unacked >= now.most:
		return full
	case before == nil || judge(nil, *before) != unclear:
		return unclear
	case before.delivered != now.delivered:
		return delivering
	default:
		return stuck
	}
}

// watch notices a durable consumer that does not deliver any more. The broker's heartbeats go on in such a case, and no pull fails, so
// that nothing but a look at the consumer tells it from an idle one. It belongs to the pull loop and knows no clock of its own.
type watch struct {
	// patience is how long pulls come back empty before the first look, pause the time between two looks.
	patience, pause time.Duration

	// since is when the first of the empty pulls began.
	since  time.Time
	looked time.Time
	before *look
	// stalled stays set until the consumer has shown that it delivers, or that there is nothing to deliver.
	stalled bool
	paused  bool
}

// Timing of the looks.
const (
	// lookPause is the least time between two looks: an idle worker is no burden for the broker.
	lookPause = 10 * time.Second
	// lookPulls is how many pulls of full length come back empty before the first look.
	lookPulls = 3
	// lookTimeout bounds one look, because the next pull waits for it.
	lookTimeout = time.Second
)

func newWatch(pullExpiry time.Duration) watch {
	return watch{patience: max(lookPulls*pullExpiry, lookPause), pause: lookPause}
}

// restart notes that pulls were not empty, or that there were none. What was seen before says nothing any more.
func (w *watch) restart() { w.since, w.before = time.Time{}, nil }

// received notes that messages came.
func (w *watch) received() {
	w.restart()
	w.stalled, w.paused = false, false
}

// empty notes a pull that worked and brought nothing, and tells whether a look is due. One that is known to be stalled gets its looks
// without the patience, so that its end is noticed soon.
func (w *watch) empty(began, ended time.Time) bool {
	if w.since.IsZero() {
		w.since = began
	}
	return (w.stalled || ended.Sub(w.since) >= w.patience) && ended.Sub(w.looked) >= w.pause
}

// see notes a look and returns what it says, and whether it said so before.
func (w *watch) see(now look, at time.Time) (found state, news bool) {
	found = judge(w.before, now)
	w.before, w.looked = &now, at
	news = found != paused || !w.paused
	w.paused = found == paused
	switch found {
	case stuck:
		w.restart()
		w.stalled = true
	case drained, paused, delivering:
		w.stalled = false
	case full, unclear:
	}
	return found, news
}
