package quota

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json"
)

// watch takes over what the control entries say, until ctx ends. Until it has heard of all of them once, nobody calls.
func (f *Fleet) watch(ctx context.Context) {
	silent := false
	for ctx.Err() == nil {
		err := f.Store.Watch(ctx, controlPattern, func(e Entry) {
			silent = false
			f.heard(e)
		})
		if ctx.Err() != nil {
			return
		}
		for name := range f.accounts {
			if !silent {
				f.OnTrouble(name, trouble("watch pace", err))
			}
		}
		silent = true
		if sleep(ctx, retryPause/2+jittered(retryPause/2)) != nil {
			return
		}
	}
}

// heard takes over one control entry, or that there are no more for now.
func (f *Fleet) heard(e Entry) {
	for name, a := range f.accounts {
		switch {
		case e.Key == name.controlKey():
			f.control(a, e)
		case e.Key == "":
			f.change(a, func(time.Duration) { a.heard = true })
		}
	}
}

func (f *Fleet) control(a *account, e Entry) {
	control, err := readControl(e.Value)
	if err != nil {
		f.OnTrouble(a.name, trouble("read control of pace", err))
	}
	change := Change{Account: a.name, Why: Controlled, Control: control}
	f.change(a, func(tick time.Duration) {
		change.From = a.told()
		if !a.control.BlockedUntil.IsZero() && control.BlockedUntil.IsZero() {
			a.unblock(f.blockedUntil(a.control, tick))
		}
		a.apply(control, err != nil, f.blockedUntil(control, tick), tick)
		change.To = a.told()
	})
	f.OnChange(change)
}

// blockedUntil returns the tick until which a control entry forbids calls. As long as the server's time is not known, the local time of
// day must do: nothing is leased until then anyway.
func (f *Fleet) blockedUntil(c Control, tick time.Duration) time.Duration {
	if c.BlockedUntil.IsZero() {
		return 0
	}
	if server, known := f.clock.span(tick); known {
		return server.tick(c.BlockedUntil)
	}
	return tick + c.BlockedUntil.Sub(f.Clock().Wall)
}

// latest returns the latest that the server's clock can show at a tick, or the local time of day if that is not known.
func (f *Fleet) latest(tick time.Duration) time.Time {
	if server, known := f.clock.span(tick); known {
		return server.late
	}
	return f.Clock().Wall
}

// throttle is an upstream's wish for fewer calls, in ticks: when the last call was sent that met it, and until when not to call.
type throttle struct {
	sent, until time.Duration
	// part of this replica's calls of the last second met it.
	part float64
}

// Throttled tells that a call of an account was answered with "too many". sentAt is when it was sent; retryAfter is how long the upstream
// wants to be left alone, 0 if it did not say. All replicas follow: at once here, within a second elsewhere.
func (f *Fleet) Throttled(account Account, sentAt time.Time, retryAfter time.Duration) {
	a := f.accounts[account]
	if a == nil {
		return
	}
	tick := f.now()
	t := throttle{sent: tick - max(0, f.Clock().Wall.Sub(sentAt))}
	if retryAfter > 0 {
		t.until = tick + retryAfter
	}
	f.change(a, func(tick time.Duration) {
		a.block(t.until, tick)
		t.part = a.part(t.sent, tick)
		a.merge(t)
	})
	wake(a.report)
}

// part counts a refusal of a call that was sent at a tick, and returns the part of the calls since the last decrease that were refused.
// It is 0 as long as it says nothing.
func (a *account) part(sent, tick time.Duration) float64 {
	if sent <= a.cut {
		return 0
	}
	a.refused.count(tick)
	asked := a.asked.rate(tick)
	if asked < enoughCalls {
		return 0
	}
	return min(a.refused.rate(tick)/asked, 1)
}

// enoughCalls is how many calls of the last second say something.
const enoughCalls = 10

// merge adds to what has to be told. One message is enough for many calls: the last one that was sent and the longest wait. The least part
// counts: calls that were held up and arrive together are refused together, which tells nothing of the limit.
func (a *account) merge(t throttle) {
	if a.pending == nil {
		a.pending = &t
		return
	}
	a.pending.sent = max(a.pending.sent, t.sent)
	a.pending.until = max(a.pending.until, t.until)
	a.pending.part = min(a.pending.part, t.part)
}

// report tells the other replicas of throttling, for as long as it takes.
func (f *Fleet) report(ctx context.Context, a *account) {
	silent := false
	for ctx.Err() == nil {
		a.mu.Lock()
		t, settings := a.pending, a.effective()
		a.pending = nil
		a.mu.Unlock()
		if t == nil {
			f.await(ctx, forever, a.report)
			continue
		}
		err := f.spread(ctx, a, settings, *t)
		if err == nil {
			silent = false
			continue
		}
		f.change(a, func(time.Duration) { a.merge(*t) })
		if !silent && !errors.Is(err, ErrConflict) {
			silent = true
			f.OnTrouble(a.name, trouble("report throttling", err))
		}
		f.await(ctx, f.now()+retryPause/2+jittered(retryPause/2), nil)
	}
}

// spread writes what a throttling means into the account's entries.
func (f *Fleet) spread(ctx context.Context, a *account, settings Settings, t throttle) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if settings.Ceiling > 0 {
		var after []byte
		err := replace(ctx, f.Store, a.name.stateKey(), func(old []byte) (_ []byte, err error) {
			after, t.until, err = f.lowered(old, settings, t)
			return after, err
		})
		if err != nil {
			return err
		}
	}
	if t.until == 0 {
		return nil
	}
	return replace(ctx, f.Store, a.name.controlKey(), func(old []byte) ([]byte, error) {
		control, err := readControl(old)
		tick := f.now()
		until := f.latest(tick).Add(t.until - tick).UTC()
		if err != nil || t.until <= tick || !until.After(control.BlockedUntil.Add(blockStep)) {
			return nil, err
		}
		control.BlockedUntil, control.By, control.Why, control.At = until, "worker", "retry_after", f.Clock().Wall.UTC()
		return json.Marshal(control)
	})
}

// blockStep is by how much a block must grow to be worth telling.
const blockStep = 50 * time.Millisecond

// lowered returns the state after a throttling, or nil if it says nothing new, and until when nobody may call. If the rate is lowered, that
// is when the slots end that were leased at a rate that was too high: nobody uses them.
func (f *Fleet) lowered(old []byte, settings Settings, t throttle) ([]byte, time.Duration, error) {
	tick := f.now()
	server, known := f.clock.span(tick)
	if old == nil || !known {
		return nil, t.until, nil
	}
	before, err := readState(old, server.late)
	if err != nil {
		return nil, t.until, err
	}
	after := before.throttled(settings, server.late, refusal{sent: server.early.Add(t.sent - tick), retryAfter: t.until - tick, part: t.part})
	if after.Next.Equal(before.Next) && after.Rate == before.Rate {
		return nil, t.until, nil
	}
	until := t.until
	if after.Cut.After(before.Cut) {
		until = max(until, server.tick(after.Cut))
	}
	value, err := after.bytes()
	return value, until, err
}
