package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"syscall"
	"time"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/top"
)

// topCommand shows how everything is now.
type topCommand struct {
	configFlag

	Interval time.Duration `default:"2s" help:"How often to look again, from 500ms on."`
	Once     bool          `help:"Show how it is now and end; so it does, too, if the output is no terminal."`
	JSON     bool          `help:"Print lines of JSON, one for each look."`
}

// Help returns the examples of the command.
func (topCommand) Help() string {
	return `Shows, for each account, how fast queries end and how long they take, the pace and the breakers; what waits in each lane; what died;
and the replicas. It looks at results of the last minute, and changes nothing. q or Ctrl-C ends it.

Example:
  worker top -c worker.yaml
  worker top --once
  worker top --json --interval 10s`
}

// shortest is the shortest time between two looks. Each takes some dozens of requests to the broker.
const shortest = 500 * time.Millisecond

// Run shows it.
func (c *topCommand) Run(t *terminal) error {
	if c.Interval < shortest || c.Interval > time.Hour {
		return usagef("--interval must be from %s to 1h", shortest)
	}
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	gathers, err := app.OpenTop(t.ctx, settings)
	if err != nil {
		return err
	}
	defer gathers.Close(t.ctx)
	ctx, stop := context.WithCancel(t.ctx)
	var reading sync.WaitGroup
	reading.Go(func() { gathers.Run(ctx) })
	defer reading.Wait()
	defer stop()
	defer survivePipes()()
	switch {
	case c.JSON:
		err = c.printLines(ctx, t, gathers.Top)
	case c.Once || !isTerminal(t.stdout):
		caughtUp(ctx, gathers.Top)
		view := topView{address: gathers.Address(), pen: newInk(t.stdout, t.environ)}
		err = t.print(strings.Join(view.lines(gathers.Snapshot(ctx)), "\n"))
	default:
		err = c.runLive(ctx, t, gathers)
	}
	if errors.Is(err, syscall.EPIPE) {
		return nil // Whoever read has seen enough.
	}
	return err
}

// caughtUp waits until the results of the last minute are read, but not for long: a figure that is not there yet is no reason to show nothing.
func caughtUp(ctx context.Context, gathers *top.Top) {
	const patience = 10 * time.Second
	within, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case <-gathers.CaughtUp():
	case <-within.Done():
	}
}

// printLines prints one snapshot after the other as JSON.
func (c *topCommand) printLines(ctx context.Context, t *terminal, gathers *top.Top) error {
	caughtUp(ctx, gathers)
	ticker := time.NewTicker(c.Interval)
	defer ticker.Stop()
	for {
		if err := t.printLine(gathers.Snapshot(ctx)); err != nil || c.Once {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}
