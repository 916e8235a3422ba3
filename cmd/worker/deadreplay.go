package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/deadletter"
)

// deadReplayCommand replays dead letters.
type deadReplayCommand struct {
	deadFlags
	auditFlags

	Apply      bool           `help:"Do it."`
	All        bool           `help:"Replay every letter; needed with --apply if no letter is picked otherwise."`
	Rate       *float64       `placeholder:"10" help:"Letters a second, at most. The upstream is called at the pace of its account all the same."`
	Canary     *int           `placeholder:"5" help:"How many letters go first; if more than half of them die again, the replay stops. 0 is none."`
	CanaryWait *time.Duration `placeholder:"5m" help:"How long their outcomes are waited for."`
	Again      bool           `xor:"batch" help:"Take letters too whose replay is over and left no outcome: it got lost with the stream of retries."`
	Edit       bool           `help:"Edit the query of one letter (--seq or --key) in $EDITOR before it is replayed. Card data is not shown and stays."`
	Resume     string         `xor:"batch" placeholder:"ID" help:"Go on with a replay that was paused, stopped or killed, at another --rate if given."`
	Cancel     string         `xor:"batch" placeholder:"ID" help:"End a replay early. What it has published goes its way."`
	Yes        bool           `short:"y" help:"Do not ask."`
	JSON       bool           `help:"Print JSON."`
}

// What a replay does that is not told otherwise.
const (
	defaultRate       = 10.0
	defaultCanary     = 5
	defaultCanaryWait = 5 * time.Minute
)

// given returns the value of a flag, or what holds without it.
func given[T any](flag *T, otherwise T) T {
	if flag == nil {
		return otherwise
	}
	return *flag
}

// Help returns the example of the command.
func (deadReplayCommand) Help() string {
	return `Looks at the letters first and says how many would be asked again and which are left out: those whose query has an answer by now, or a
newer letter, or is in another replay. With --apply it asks again behind everybody who waits, a few letters first. Ctrl-C pauses it.
A query ends in a completed result that supersedes its failed one, or in another dead letter that knows its history.

A letter that was replayed stays with its replay. If the stream of retries was lost, nobody will answer those that were in it: --again takes
letters whose replay is done or cancelled, or not on record any more, and whose query has no outcome, for as long as results are kept since then
(7 days); later nobody can tell whether they were answered. See first that no retries wait (worker top): their queries may be asked twice,
although only one outcome is ever stored.

Exit code 1 means that a replay was paused or stopped before its end.

Example:
  worker dead replay --cause 0a1b2c3d4e5f --apply --rate 50
  worker dead replay --resume 20260102-030405-abcdef --rate 5 --why "case 4711"
  worker dead replay --older 2h --again`
}

// Run plans, starts, resumes or cancels a replay.
func (c *deadReplayCommand) Run(t *terminal) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	if err := c.usage(); err != nil {
		return err
	}
	options.Keys = c.Edit
	letters, filter, err := c.open(t, options)
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	filter.Again = c.Again
	switch {
	case c.Resume != "":
		return c.work(t, deadletter.Batch{}, func(tell func(deadletter.Progress)) (deadletter.Batch, error) {
			return letters.Resume(t.ctx, c.Resume, deadletter.Resumption{Rate: c.Rate, CanaryWait: c.CanaryWait}, tell)
		})
	case c.Cancel != "":
		batch, err := letters.Cancel(t.ctx, c.Cancel)
		if err != nil {
			return err
		}
		return c.printBatch(t, batch)
	case c.Edit:
		return c.edit(t, letters)
	}
	plan, err := letters.PlanReplay(t.ctx, filter)
	if err != nil {
		return err
	}
	if !c.Apply || plan.Ready == 0 {
		return printPlan(t, plan, "replayed", c.JSON, c.Apply)
	}
	if filter.IsZero() && !c.All {
		return usagef("--apply needs to be told which letters: give a filter, or --all")
	}
	if !c.JSON {
		if err := printPlan(t, plan, "replayed", false, true); err != nil {
			return err
		}
	}
	if !t.agreed(fmt.Sprintf("Replay %d letters?", plan.Ready), c.Yes) {
		return errNo
	}
	return c.begin(t, letters, deadletter.Request{
		Plan: plan, Rate: given(c.Rate, defaultRate), Canary: given(c.Canary, defaultCanary), CanaryWait: given(c.CanaryWait, defaultCanaryWait),
	})
}

// usage refuses flags that would mean nothing.
func (c *deadReplayCommand) usage() error {
	switch {
	case (c.Resume != "" || c.Cancel != "") && (c.deadFilter != deadFilter{} || c.All || c.Edit || c.Canary != nil):
		return usagef("a replay that was begun keeps its letters and its canary: leave out filters, --all, --edit and --canary")
	case c.Cancel != "" && (c.Rate != nil || c.CanaryWait != nil):
		return usagef("a replay that is cancelled has no use for --rate and --canary-wait")
	case c.Edit && (c.Seq == 0) == (c.Key == ""):
		return usagef("--edit needs either --seq or --key")
	}
	return nil
}

func (c *deadReplayCommand) begin(t *terminal, letters *app.DeadLetters, request deadletter.Request) error {
	batch, err := letters.Start(t.ctx, request)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(t.stderr, "replay %s\n", batch.ID)
	return c.work(t, batch, func(tell func(deadletter.Progress)) (deadletter.Batch, error) {
		return letters.Run(t.ctx, batch.ID, tell)
	})
}

// work runs a batch, shows its progress and prints its record, also where the run ends in an error. begun is the record as far as it is known.
func (c *deadReplayCommand) work(t *terminal, begun deadletter.Batch, run func(func(deadletter.Progress)) (deadletter.Batch, error)) error {
	show, done := replayProgress(t.stderr)
	batch, err := run(show)
	done()
	if batch.ID == "" {
		batch = begun
	}
	if batch.ID == "" {
		return err
	}
	if !batch.State.Ended() {
		_, _ = fmt.Fprintf(t.stderr, "Go on with: worker dead replay --resume %s\n", batch.ID)
	}
	if err := errors.Join(err, c.printBatch(t, batch)); err != nil {
		return err
	}
	if batch.State != deadletter.Done {
		return errNo
	}
	return nil
}

func (c *deadReplayCommand) printBatch(t *terminal, batch deadletter.Batch) error {
	if c.JSON {
		return t.printJSON(batch)
	}
	return t.print(fmt.Sprintf("replay %s is %s: %d published, %s", batch.ID, batch.State, batch.Published, leftOut(batch.LeftOut)))
}

// leftOut says how many letters were left out and why.
func leftOut(counts map[deadletter.Standing]int) string {
	var parts []string
	total := 0
	for _, standing := range deadletter.Standings() {
		if counts[standing] > 0 {
			total += counts[standing]
			parts = append(parts, fmt.Sprintf("%d %s", counts[standing], standing))
		}
	}
	if total == 0 {
		return "none left out"
	}
	return fmt.Sprintf("%d left out (%s)", total, strings.Join(parts, ", "))
}

// printPlan prints what would be done.
func printPlan(t *terminal, plan deadletter.Plan, done string, asJSON, apply bool) error {
	if asJSON {
		return t.printJSON(plan)
	}
	if err := t.printGroups(plan.Groups); err != nil {
		return err
	}
	if err := t.print(fmt.Sprintf("%d of %d letters would be %s, %s", plan.Ready, plan.Letters, done, leftOut(plan.LeftOut))); err != nil {
		return err
	}
	if !apply {
		_, _ = fmt.Fprintln(t.stderr, "Nothing was changed. Run it again with --apply to do this.")
	}
	return nil
}

// replayProgress returns what shows the progress of a replay: a bar on a terminal, a line every second elsewhere.
func replayProgress(out io.Writer) (show func(deadletter.Progress), done func()) {
	file, ok := out.(*os.File)
	if ok && term.IsTerminal(int(file.Fd())) {
		return replayBar(out)
	}
	last := ""
	return func(p deadletter.Progress) {
		if line := progressLine(p); line != last {
			last = line
			_, _ = fmt.Fprintln(out, line)
		}
	}, func() {}
}

// replayBar returns what draws the progress of a replay over itself.
func replayBar(out io.Writer) (show func(deadletter.Progress), done func()) {
	bar := progressbar.NewOptions(1, progressbar.OptionSetWriter(out), progressbar.OptionShowCount(), progressbar.OptionSetWidth(30),
		progressbar.OptionSetPredictTime(false)) // The line says it, and knows what an earlier run has done.
	return func(p deadletter.Progress) {
		bar.ChangeMax(max(p.Batch.Total, 1))
		bar.Describe(progressLine(p))
		_ = bar.Set(min(p.Batch.Seen, p.Batch.Total)) // A bar that can't be drawn is no reason to stop.
	}, func() { _, _ = fmt.Fprintln(out) }
}

func progressLine(p deadletter.Progress) string {
	line := fmt.Sprintf("published %d, left %d of %d, about %s to go", p.Batch.Published, p.Left, p.Batch.Total, p.ETA.Round(time.Second))
	if p.Waiting {
		return line + ", waiting for the first ones"
	}
	return line
}

// deadDropCommand deletes dead letters.
type deadDropCommand struct {
	deadFlags
	auditFlags

	Apply bool `help:"Do it."`
	All   bool `help:"Drop every letter; needed with --apply if no letter is picked otherwise."`
	Yes   bool `short:"y" help:"Do not ask."`
	JSON  bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (deadDropCommand) Help() string {
	return `Deletes letters whose queries nobody wants answered any more. Their failed results stay. A letter that was dropped can't be brought
back: export it first if in doubt.

Example:
  worker dead drop --cause 0a1b2c3d4e5f --apply --why "test traffic"`
}

// Run says what would be dropped, and drops it if asked to.
func (c *deadDropCommand) Run(t *terminal) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	letters, filter, err := c.open(t, options)
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	plan, err := letters.PlanDrop(t.ctx, filter)
	if err != nil {
		return err
	}
	if !c.Apply || plan.Letters == 0 {
		return printPlan(t, plan, "dropped", c.JSON, c.Apply)
	}
	if filter.IsZero() && !c.All {
		return usagef("--apply needs to be told which letters: give a filter, or --all")
	}
	if !c.JSON {
		if err := printPlan(t, plan, "dropped", false, true); err != nil {
			return err
		}
	}
	if !t.agreed(fmt.Sprintf("Delete %d letters for good?", plan.Letters), c.Yes) {
		return errNo
	}
	dropped, err := letters.Drop(t.ctx, plan)
	if err != nil {
		return fmt.Errorf("after %d letters: %w", dropped, err)
	}
	if c.JSON {
		return t.printJSON(map[string]int{"dropped": dropped})
	}
	return t.print(fmt.Sprintf("dropped %d", dropped))
}

// edit lets the operator edit one query, shows what was changed, asks and replays it.
func (c *deadReplayCommand) edit(t *terminal, letters *app.DeadLetters) error {
	letter, err := findLetter(t, letters, c.Seq, c.Key)
	if err != nil {
		return err
	}
	plan, err := letters.PlanReplay(t.ctx, deadletter.Filter{Sequence: letter.Sequence, Again: c.Again})
	if err != nil {
		return err
	}
	if plan.Ready == 0 {
		return printPlan(t, plan, "replayed", c.JSON, true)
	}
	draft, err := letters.Draft(t.ctx, letter)
	if err != nil {
		return err
	}
	text, err := editText(t, draft.Text())
	if err != nil {
		return err
	}
	edited, err := letters.AcceptEdit(draft, text)
	if err != nil {
		return err
	}
	changed := slices.DeleteFunc(slices.Clone(edited.Diff), func(line string) bool { return strings.HasPrefix(line, "  ") })
	if err := c.printChange(t, harmlessJSON(strings.Join(changed, "\n"))); err != nil {
		return err
	}
	if !c.Apply && c.JSON {
		return t.printJSON(plan)
	}
	if !c.Apply {
		_, _ = fmt.Fprintln(t.stderr, "Nothing was changed. Run it again with --apply to do this.")
		return nil
	}
	if !t.agreed("Replay the letter so?", c.Yes) {
		return errNo
	}
	return c.begin(t, letters, deadletter.Request{Plan: plan, Rate: given(c.Rate, defaultRate), Edit: edited})
}

// printChange prints what was edited. Standard output is left to the JSON, if that is asked for.
func (c *deadReplayCommand) printChange(t *terminal, change string) error {
	if !c.JSON {
		return t.print(change)
	}
	_, _ = fmt.Fprintln(t.stderr, change)
	return nil
}

// editText lets the operator's editor change a text. The file is the owner's alone and overwritten before it is removed.
func editText(t *terminal, text string) (edited string, err error) {
	dir, err := os.MkdirTemp("", "worker-dead-")
	if err != nil {
		return "", fmt.Errorf("make a directory to edit in: %w", err)
	}
	defer func() {
		if removed := os.RemoveAll(dir); removed != nil && err == nil {
			err = fmt.Errorf("remove the edited file: %w", removed)
		}
	}()
	return editFile(t.ctx, t, dir, text)
}

func editFile(ctx context.Context, t *terminal, dir, text string) (string, error) {
	name := filepath.Join(dir, "query.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write the file to edit: %w", err)
	}
	defer wipe(name)
	if err := t.runEditor(ctx, name); err != nil {
		return "", err
	}
	edited, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read the edited file: %w", err)
	}
	return string(edited), nil
}
