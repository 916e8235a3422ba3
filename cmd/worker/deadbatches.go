package main

import (
	"fmt"
	"time"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/deadletter"
)

// deadBatchesCommand lists replays.
type deadBatchesCommand struct {
	configFlag

	JSON bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (deadBatchesCommand) Help() string {
	return `Lists all replays that are on record, the one that changed longest ago first.

Example:
  worker dead batches`
}

// Run lists them.
func (c *deadBatchesCommand) Run(t *terminal) error {
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	letters, err := app.OpenDeadLetters(t.ctx, settings, app.DeadLettersOptions{})
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	batches := []deadletter.Batch{}
	err = letters.Batches(t.ctx, func(batch deadletter.Batch) error {
		batches = append(batches, batch)
		return nil
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return t.printJSON(batches)
	}
	table := newColumns(t.stdout)
	table.row("ID", "STATE", "RATE", "PUBLISHED", "SEEN", "OF", "BY", "CHANGED")
	for _, b := range batches {
		table.row(b.ID, b.State, fmt.Sprintf("%g/s", b.Rate), b.Published, b.Seen, b.Total, b.Actor, b.Updated.Format(time.DateTime))
	}
	return table.flush()
}
