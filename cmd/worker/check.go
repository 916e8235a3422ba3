package main

import (
	"fmt"

	"discountquery.example/worker/internal/check"
	"discountquery.example/worker/internal/fault"
)

// checkCommand checks everything that a worker needs.
type checkCommand struct {
	configFlag

	Print bool `xor:"form" help:"Print the effective configuration, with secrets masked, and check nothing else."`
	JSON  bool `xor:"form" help:"Print the findings as JSON."`
}

// Help returns the example of the command.
func (checkCommand) Help() string {
	return `Checks the configuration, the keys, the broker with its version, streams and permissions, and the upstreams' TLS.
It takes no query and makes no call that an upstream could count.

Example:
  worker check -c worker.yaml`
}

// Run prints one line for each thing that was looked at.
func (c *checkCommand) Run(t *terminal) error {
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	if c.Print {
		return settings.Print(t.stdout)
	}
	findings := check.Run(t.ctx, settings, func(f check.Finding) {
		if !c.JSON {
			_, _ = fmt.Fprintf(t.stdout, "%-12s %-28s %s\n", f.State, f.What, f.Detail)
		}
	})
	if c.JSON {
		if err := t.printJSON(findings); err != nil {
			return err
		}
	}
	switch check.Worst(findings) {
	case check.OK, check.Warn:
		return nil
	case check.Unreachable:
		return fmt.Errorf("something could not be reached: %w", fault.New("check", fault.Unavailable, fault.BrokerUnreachable))
	case check.Fail:
		return errNo
	default:
		return errNo
	}
}
