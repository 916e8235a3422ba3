package consumer

import (
	"context"
	"time"
)

// pulled notes how a pull ended. What the last pull of a stopping consumer met is of no use to anybody.
func (c *Consumer) pulled(take context.Context, began time.Time, used int, err error) {
	if err != nil {
		c.watch.restart()
		c.pullFailed(take, began, err)
		return
	}
	c.seat.works()
	switch {
	case used > 0:
		c.watch.received()
	case c.watch.empty(began, time.Now()):
		c.look(take)
	}
	if c.watch.stalled {
		return // That a pull works does not say that the consumer delivers.
	}
	if c.failed {
		c.failed = false
		c.rebind(take)
	}
	if c.healthy.set(true) {
		c.report(Pulling, nil)
	}
}

// rests notes that the gate is closed. A consumer that was bound to and may not pull yet is as ready as it can be: a fleet whose account is paused
// could not be rolled otherwise.
func (c *Consumer) rests(now time.Time) {
	c.watch.restart()
	if c.closed.IsZero() {
		c.closed = now
	}
	if c.resting || c.failed || c.Healthy() || now.Sub(c.closed) < restPatience {
		return
	}
	c.resting = true
	c.report(Resting, nil)
}

// pullFailed reports a pull that failed and pauses.
func (c *Consumer) pullFailed(take context.Context, began time.Time, err error) {
	if take.Err() != nil {
		c.seat.knowsNothing()
		return
	}
	c.healthy.set(false)
	c.failed = true
	what := PullFailed
	if c.gone(take, err) {
		what = Gone
	}
	c.report(what, err)
	switch {
	case !silent(what, err):
		c.seat.knowsNothing()
	case c.seat.fails(began):
		c.report(Left, nil)
	}
	wait(take, pullPause)
}

// look asks the broker why nothing comes.
func (c *Consumer) look(take context.Context) {
	ctx, cancel := context.WithTimeout(take, lookTimeout)
	defer cancel()
	info, err := c.consumer.Info(ctx)
	if err != nil {
		c.watch.restart() // The pulls tell what is wrong.
		return
	}
	c.held.setAckWait(info.Config.AckWait)
	switch found, news := c.watch.see(lookOf(info), time.Now()); {
	case found == stuck:
		c.stalled(take)
	case found == paused && news:
		c.report(Paused, nil)
	}
}

// stalled does what can be done from here about a durable consumer that does not deliver: it binds anew and moves to a new connection,
// which may lead to another server of a cluster.
func (c *Consumer) stalled(take context.Context) {
	c.healthy.set(false)
	c.report(Stalled, nil)
	c.rebind(take)
	c.seat.renews()
}

// rebind binds to the durable consumer anew, because it may have been made again with other settings.
func (c *Consumer) rebind(take context.Context) {
	ctx, cancel := context.WithTimeout(take, lookTimeout)
	defer cancel()
	bound, err := c.JS.Consumer(ctx, c.Stream, c.Name)
	if err != nil {
		return // The old binding does too, and the next pull tells what is wrong.
	}
	c.consumer = bound
	c.held.setAckWait(bound.CachedInfo().Config.AckWait)
}
