package main

import (
	"fmt"
	"os"
	"os/user"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/config"
)

// paceCommand shows and changes how fast the upstream accounts are called, while workers run.
type paceCommand struct {
	Show   paceShowCommand   `cmd:"" help:"Show how fast each account is called."`
	Set    paceSetCommand    `cmd:"" help:"Give an account another rate on all workers."`
	Pause  pacePauseCommand  `cmd:"" help:"Stop all calls of an account."`
	Resume paceResumeCommand `cmd:"" help:"Let the calls of a paused account go on."`
	Reset  paceResetCommand  `cmd:"" help:"Forget what was learned about an account, and what was set for it."`
}

// paceFlags are the flags of the commands that change something.
type paceFlags struct {
	configFlag

	Account string `arg:"" help:"The account: easypay, or easypay/NAME for one of several."`
	Reason  string `help:"Why, for the audit record." placeholder:"TEXT"`
	By      string `help:"Who does it; the user and host by default." placeholder:"NAME"`
}

// maxReason bounds the texts of an audit record, in bytes (schemas/ops.audit.v1.json).
const (
	maxReason = 256
	maxActor  = 128
)

// change opens the pace, finds the account and lets do change it. Then it shows what holds.
func (f *paceFlags) change(t *terminal, do func(p *app.Pace, account app.PaceAccount, author app.PaceAuthor) error) error {
	if len(f.Reason) > maxReason || len(f.By) > maxActor {
		return usagef("--reason has at most %d bytes and --by at most %d", maxReason, maxActor)
	}
	settings, err := f.load(t)
	if err != nil {
		return err
	}
	pace, err := app.OpenPace(t.ctx, settings)
	if err != nil {
		return err
	}
	defer pace.Close(t.ctx)
	account, err := pace.Account(f.Account)
	if err != nil {
		return usageError{err}
	}
	if err := do(pace, account, app.PaceAuthor{By: f.actor(), Why: f.Reason}); err != nil {
		return err
	}
	return showPace(t, pace, false)
}

// actor returns who is named, or else who runs this process where.
func (f *paceFlags) actor() string {
	if f.By != "" {
		return f.By
	}
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return (name + "@" + host)[:min(len(name)+1+len(host), maxActor)]
}

func showPace(t *terminal, pace *app.Pace, asJSON bool) error {
	all, err := pace.Show(t.ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return t.printJSON(all)
	}
	for _, status := range all {
		if err := t.print(status.String()); err != nil {
			return err
		}
	}
	return nil
}

// paceShowCommand shows the pace of all accounts.
type paceShowCommand struct {
	configFlag

	JSON bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (paceShowCommand) Help() string {
	return `One line for each account: the rate that was configured or set, the present one, and who changed it last.

Example:
  worker pace show -c worker.yaml`
}

// Run shows it.
func (c *paceShowCommand) Run(t *terminal) error {
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	pace, err := app.OpenPace(t.ctx, settings)
	if err != nil {
		return err
	}
	defer pace.Close(t.ctx)
	return showPace(t, pace, c.JSON)
}

// paceSetCommand changes the rate of an account.
type paceSetCommand struct {
	paceFlags

	Rate string `arg:"" help:"The new rate, such as 20/s, 300/m or 5000/h; or default for the configured one."`
}

// Help returns the example of the command.
func (paceSetCommand) Help() string {
	return `Takes effect on all workers within a second, and lasts until it is set again. It is the most that is called: an upstream that
throttles makes the workers go slower by themselves.

Example:
  worker pace set easypay 20/s --reason "KICC asked for less until Monday"
  worker pace set easypay default`
}

// Run changes it.
func (c *paceSetCommand) Run(t *terminal) error {
	var rate *config.Rate
	if c.Rate != "default" {
		rate = &config.Rate{}
		if err := rate.UnmarshalText([]byte(c.Rate)); err != nil {
			return usagef("RATE %w, or default", err)
		}
	}
	return c.change(t, func(p *app.Pace, account app.PaceAccount, author app.PaceAuthor) error {
		return p.Set(t.ctx, account, rate, author)
	})
}

// pacePauseCommand stops an account's calls.
type pacePauseCommand struct{ paceFlags }

// Help returns the example of the command.
func (pacePauseCommand) Help() string {
	return `Takes effect on all workers within a second. Queries wait where they are; their deadlines and horizons go on.

Example:
  worker pace pause unionpay --reason "key exchange"`
}

// Run pauses it.
func (c *pacePauseCommand) Run(t *terminal) error {
	return c.change(t, func(p *app.Pace, account app.PaceAccount, author app.PaceAuthor) error {
		return p.Pause(t.ctx, account, author)
	})
}

// paceResumeCommand lets an account's calls go on.
type paceResumeCommand struct{ paceFlags }

// Help returns the example of the command.
func (paceResumeCommand) Help() string {
	return `It does not shorten a wait that the upstream has asked for.

Example:
  worker pace resume unionpay`
}

// Run resumes it.
func (c *paceResumeCommand) Run(t *terminal) error {
	return c.change(t, func(p *app.Pace, account app.PaceAccount, author app.PaceAuthor) error {
		return p.Resume(t.ctx, account, author)
	})
}

// paceResetCommand makes an account begin anew.
type paceResetCommand struct {
	paceFlags

	Yes bool `help:"Do it. Without it, only what would be forgotten is shown."`
}

// Help returns the example of the command.
func (paceResetCommand) Help() string {
	return `Forgets the rate that was learned, and pauses and rates that were set. It also mends a stored pace that can't be read.
The workers begin slowly again.

Example:
  worker pace reset easypay --yes`
}

// Run resets it.
func (c *paceResetCommand) Run(t *terminal) error {
	return c.change(t, func(p *app.Pace, account app.PaceAccount, author app.PaceAuthor) error {
		if !c.Yes {
			_, _ = fmt.Fprintln(t.stderr, "Nothing was changed. Run it again with --yes to forget what is shown for this account.")
			return nil
		}
		return p.Reset(t.ctx, account, author)
	})
}
