package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"discountquery.example/worker/internal/demo"
)

// demoCommand runs the demo.
type demoCommand struct {
	Queries int    `default:"200" help:"How many queries to ask."`
	Workers int    `default:"2" help:"How many workers share the queries, and one rate of calls."`
	JSON    bool   `help:"Print one JSON summary on standard output and nothing else there."`
	Keep    string `placeholder:"DIR" help:"Keep the store, the keys and the log in this directory."`

	WithFailures bool   `help:"Ask queries too that die of different causes, leave their dead letters and print how to look at them."`
	Stay         bool   `help:"Keep broker, upstreams and workers running until Ctrl-C."`
	Reopen       string `placeholder:"DIR" help:"Run the demo again that is kept in this directory, ask nothing, and stay until Ctrl-C."`
}

// Help returns the example of the command.
func (demoCommand) Help() string {
	return `Starts a NATS server, both upstreams as simulations that misbehave a little, two workers and a publisher, all in
this process, and asks. The workers keep one rate of calls together. Exit code 0 means that every query ended in exactly one result.

With --with-failures some queries die, of an unknown code of the upstream, an outage, a lost key and others. Their dead letters are kept (in
--keep, or a new directory for temporary files), and the commands to look at them and to replay them are printed, ready to be pasted.

Example:
  worker demo --queries 1000 --json
  worker demo --with-failures --stay`
}

// Run runs the demo and prints its summary.
func (c *demoCommand) Run(t *terminal) error {
	if c.Queries < 0 {
		return usagef("--queries must not be negative")
	}
	if c.Workers < 1 || c.Workers > 16 {
		return usagef("--workers must be from 1 to 16")
	}
	if c.Reopen != "" && (c.WithFailures || c.Stay || c.Keep != "") {
		return usagef("--reopen goes with none of --with-failures, --stay and --keep")
	}
	_, _ = fmt.Fprintf(t.stderr, "Starting the broker, both upstreams and %d worker(s) ...\n", c.Workers)
	if c.Reopen != "" {
		return c.reopen(t)
	}
	if c.WithFailures && c.Keep == "" {
		dir, err := os.MkdirTemp("", "discount-demo-")
		if err != nil {
			return fmt.Errorf("make a directory to keep: %w", err)
		}
		c.Keep = dir
	}
	summary, err := c.ask(t)
	if err == nil && !c.looks() {
		err = c.printSummary(t, shownDemo{Summary: summary})
	}
	if err == nil && !summary.OK() {
		return errNo
	}
	return err
}

// ask runs the demo. What is to be looked at while it runs is printed meanwhile.
func (c *demoCommand) ask(t *terminal) (demo.Summary, error) {
	options := demo.Options{Queries: c.Queries, Workers: c.Workers, Keep: c.Keep, WithFailures: c.WithFailures, Build: buildVersion()}
	show, done := progress(t.stderr, c.Queries)
	done = sync.OnceFunc(done)
	defer done()
	options.OnProgress = show
	if c.looks() {
		options.OnAsked = func(summary demo.Summary) error {
			done()
			return c.look(t, summary)
		}
	}
	return demo.Run(t.ctx, options)
}

// printSummary prints what a demo did.
func (c *demoCommand) printSummary(t *terminal, s shownDemo) error {
	if c.JSON {
		return t.printJSON(s)
	}
	return t.print(table(s.Summary))
}

// progress returns what shows the progress: a bar on a terminal, a line every second elsewhere.
func progress(out io.Writer, of int) (show func(demo.Progress), done func()) {
	file, ok := out.(*os.File)
	if ok && term.IsTerminal(int(file.Fd())) {
		bar := progressbar.NewOptions(of, progressbar.OptionSetWriter(out), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("results"), progressbar.OptionSetWidth(30), progressbar.OptionSetDescription("asking"),
			progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(50*time.Millisecond))
		return func(p demo.Progress) {
			bar.ChangeMax(p.Of)
			bar.Describe(fmt.Sprintf("sent %d, completed %d, failed %d", p.Sent, p.Completed, p.Failed))
			_ = bar.Set(p.Completed + p.Failed) // A bar that can't be drawn is no reason to stop.
		}, func() { _, _ = fmt.Fprintln(out) }
	}
	last := time.Time{}
	return func(p demo.Progress) {
		if finished := p.Completed+p.Failed == p.Of; finished || time.Since(last) >= time.Second {
			last = time.Now()
			_, _ = fmt.Fprintf(out, "sent %d, completed %d, failed %d of %d\n", p.Sent, p.Completed, p.Failed, p.Of)
		}
	}, func() {}
}

// table returns the summary for a person.
func table(s demo.Summary) string {
	text := fmt.Sprintf(`
queries sent     %8d
completed        %8d
failed           %8d
dead letters     %8d
duplicates       %8d
missing          %8d
upstream calls   %8d
latency p50      %8.1f ms
latency p99      %8.1f ms
took             %8.1f s
`, s.Sent, s.Completed, s.Failed, s.Dead, s.Duplicates, s.Missing, s.UpstreamCalls, s.P50, s.P99, s.Seconds)
	text += fmt.Sprintf("%d worker(s) kept one rate: %s calls, at most %d in any second; agreed are %d/s and %d at once; %d too many\n",
		len(s.Workers), strings.Join(strings.Fields(strings.Trim(fmt.Sprint(s.Workers), "[]")), " + "), s.MostInASecond, s.Agreed, s.Burst, s.TooMany)
	if s.Kept != "" {
		text += "kept in " + s.Kept + "\n"
	}
	if s.OK() {
		return text + "Every query ended in exactly one result."
	}
	return text + "NOT every query ended in exactly one result."
}
