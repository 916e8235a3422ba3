package main

import (
	"fmt"

	"discountquery.example/worker/internal/app"
)

// setupCommand plans and applies the broker's objects.
type setupCommand struct {
	configFlag

	Plan  bool `xor:"mode" help:"Only show what would be done; the default."`
	Apply bool `xor:"mode" help:"Do it. Nothing is ever deleted."`
	JSON  bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (setupCommand) Help() string {
	return `Compares what the broker holds with what the worker needs: keep, create, change, or in the way.
A difference that could lose a message is in the way: it is shown, and nothing at all is applied.
It needs credentials that may create streams; the running worker does not.

Exit code 1 means that the plan is not empty (--plan), or that something is in the way (--apply).

Example:
  worker setup -c worker.yaml --apply`
}

// Run shows the plan and applies it if asked to.
func (c *setupCommand) Run(t *terminal) error {
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	setup, err := app.OpenSetup(t.ctx, settings)
	if err != nil {
		return err
	}
	defer setup.Close(t.ctx)
	plan, err := setup.Plan(t.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		if err := t.printJSON(plan); err != nil {
			return err
		}
	} else {
		for _, step := range plan.Steps {
			if err := t.print(step.String()); err != nil {
				return err
			}
		}
	}
	switch {
	case plan.Done():
		return nil
	case c.Apply:
		return setup.Apply(t.ctx, plan, func(step string) { _, _ = fmt.Fprintln(t.stderr, "done:", step) })
	default:
		_, _ = fmt.Fprintln(t.stderr, "Nothing was changed. Run it again with --apply to do this.")
		return errNo
	}
}
