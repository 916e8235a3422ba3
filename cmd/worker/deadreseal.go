package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/term"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/deadletter"
)

// deadResealCommand seals dead letters anew.
type deadResealCommand struct {
	configFlag
	auditFlags

	Apply bool `help:"Do it."`
	Yes   bool `short:"y" help:"Do not ask."`
	JSON  bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (deadResealCommand) Help() string {
	return `Opens the payload of every dead letter that is sealed to another key than the one which seals now, and seals it to that one, so that the
other key can be destroyed. All else of a letter stays, but for its sequence. It can be stopped and run again, also by two at once.
Letters of a replay that is under way are left for the next time.

Exit code 1 means that letters are left that need another key.

Example:
  worker dead reseal
  worker dead reseal --apply --why "rotation of March"`
}

// resealed is what a reseal came to, as data.
type resealed struct {
	deadletter.Resealed

	// After counts the letters by their keys when all was done.
	After deadletter.SealedTo `json:"after"`
}

// Run says what would be sealed anew, and does it if asked to.
func (c *deadResealCommand) Run(t *terminal) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	options.Keys = true
	letters, err := app.OpenDeadLetters(t.ctx, settings, options)
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	plan, err := letters.PlanReseal(t.ctx)
	if err != nil {
		return err
	}
	if !c.JSON || !c.Apply {
		if err := c.printSealed(t, plan); err != nil {
			return err
		}
	}
	switch {
	case plan.Left == 0 && !(c.Apply && c.JSON):
		return nil
	case !c.Apply:
		_, _ = fmt.Fprintln(t.stderr, "Nothing was changed. Run it again with --apply to do this.")
		return errNo
	case plan.Left > 0 && !t.agreed(fmt.Sprintf("Seal %d letters to key %s?", plan.Left, plan.Target), c.Yes):
		return errNo
	}
	return c.reseal(t, letters, plan)
}

// reseal seals letters anew and counts again what is left.
func (c *deadResealCommand) reseal(t *terminal, letters *app.DeadLetters, plan deadletter.SealedTo) error {
	done, err := letters.Reseal(t.ctx, plan, resealProgress(t))
	if err != nil {
		return fmt.Errorf("after %d of %d letters: %w", done.Done, done.Of, err)
	}
	after, err := letters.PlanReseal(t.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		err = t.printJSON(resealed{Resealed: done, After: after})
	} else {
		err = c.printResealed(t, done, after)
	}
	if err == nil && after.Left > 0 {
		return errNo
	}
	return err
}

// printSealed prints how many letters are sealed to which key.
func (c *deadResealCommand) printSealed(t *terminal, counts deadletter.SealedTo) error {
	if c.JSON {
		return t.printJSON(counts)
	}
	table := newColumns(t.stdout)
	table.row("LETTERS", "KEY", "")
	for _, kid := range slices.Sorted(maps.Keys(counts.Letters)) {
		note := "to be sealed anew"
		if kid == counts.Target {
			note = "seals now"
		}
		table.row(counts.Letters[kid], kid, note)
	}
	if err := table.flush(); err != nil {
		return err
	}
	return t.print(fmt.Sprintf("%d letters are not sealed to %s", counts.Left, counts.Target))
}

func (c *deadResealCommand) printResealed(t *terminal, done deadletter.Resealed, after deadletter.SealedTo) error {
	if err := t.print(fmt.Sprintf("sealed anew %d of %d, %s", done.Done, done.Of, leftOut(done.LeftOut))); err != nil {
		return err
	}
	if err := c.printSealed(t, after); err != nil || after.Left == 0 {
		return err
	}
	return t.print("Do NOT destroy their keys yet: run this again later, or replay or drop those letters.")
}

// resealProgress returns what shows how far it is: a line that is written over on a terminal, a line every few seconds elsewhere.
func resealProgress(t *terminal) func(deadletter.Resealed) {
	file, ok := t.stderr.(*os.File)
	onTerminal, last := ok && term.IsTerminal(int(file.Fd())), time.Time{}
	return func(p deadletter.Resealed) {
		finished := p.Seen == p.Of
		switch {
		case onTerminal && (finished || time.Since(last) > 100*time.Millisecond):
			_, _ = fmt.Fprintf(t.stderr, "\rsealed anew %d of %d", p.Done, p.Of)
			if finished {
				_, _ = fmt.Fprintln(t.stderr)
			}
		case !onTerminal && (finished || time.Since(last) > 5*time.Second):
			_, _ = fmt.Fprintf(t.stderr, "sealed anew %d of %d\n", p.Done, p.Of)
		default:
			return
		}
		last = time.Now()
	}
}
