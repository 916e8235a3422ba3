package main

import (
	"fmt"
	"io"
	"os"
	"strings"
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
}

// Help returns the example of the command.
func (demoCommand) Help() string {
	return `Starts a NATS server, both upstreams as simulations that misbehave a little, two workers and a publisher, all in
this process, and asks. The workers keep one rate of calls together. Exit code 0 means that every query ended in exactly one result.

Example:
  worker demo --queries 1000 --json`
}

// Run runs the demo and prints its summary.
func (c *demoCommand) Run(t *terminal) error {
	if c.Queries < 0 {
		return usagef("--queries must not be negative")
	}
	if c.Workers < 1 || c.Workers > 16 {
		return usagef("--workers must be from 1 to 16")
	}
	_, _ = fmt.Fprintf(t.stderr, "Starting the broker, both upstreams and %d worker(s) ...\n", c.Workers)
	show, done := progress(t.stderr, c.Queries)
	summary, err := demo.Run(t.ctx, demo.Options{Queries: c.Queries, Workers: c.Workers, Keep: c.Keep, Build: buildVersion(), OnProgress: show})
	done()
	if err != nil {
		return err
	}
	if c.JSON {
		err = t.printJSON(summary)
	} else {
		err = t.print(table(summary))
	}
	if err == nil && !summary.OK() {
		return errNo
	}
	return err
}

// progress returns what shows the progress: a bar on a terminal, a line every second elsewhere.
func progress(out io.Writer, of int) (show func(demo.Progress), done func()) {
	file, ok := out.(*os.File)
	if ok && term.IsTerminal(int(file.Fd())) {
		bar := progressbar.NewOptions(of, progressbar.OptionSetWriter(out), progressbar.OptionShowCount(), progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("results"), progressbar.OptionSetWidth(30), progressbar.OptionSetDescription("asking"),
			progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(50*time.Millisecond))
		return func(p demo.Progress) {
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
