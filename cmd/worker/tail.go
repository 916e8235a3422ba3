package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/tail"
)

// tailCommand follows results and dead letters.
type tailCommand struct {
	configFlag

	What     string `enum:"results,dead," default:"" group:"Which events" help:"Only results, or only dead letters (dead)."`
	Provider string `enum:"easypay,unionpay," default:"" group:"Which events" help:"Provider: easypay or unionpay."`
	Client   string `group:"Which events" help:"Client token."`
	Lane     string `enum:"interactive,bulk," default:"" group:"Which events" help:"Lane: interactive or bulk."`
	Outcome  string `enum:"completed,failed," default:"" group:"Which events" help:"How the query ended: completed or failed; without dead letters."`
	Reason   string `enum:"expired,malformed,rejected,exhausted,quarantined," default:"" group:"Which events" help:"Why the query failed."`
	Code     string `group:"Which events" help:"Code of the failure, such as timeout."`
	Key      string `group:"Which events" help:"The query's key."`
	QueryID  string `name:"query-id" aliases:"id" group:"Which events" help:"CloudEvents id of the query."`
	OrderID  string `name:"order-id" aliases:"order" group:"Which events" help:"Order id: the query's correlationid."`

	Since    time.Duration `group:"From when on" placeholder:"DURATION" help:"Begin with what was stored within that time, such as 10m."`
	Last     int           `short:"n" default:"-1" placeholder:"N" group:"From when on" help:"Begin with the last N events; 10, or all --since."`
	NoFollow bool          `group:"From when on" help:"End with what is stored already."`

	Wide bool `short:"w" help:"Show the key, the query's id and the order id too."`
	JSON bool `help:"Print lines of JSON: each event as it is stored, with its place and subject around it."`
}

// Help returns the examples of the command.
func (tailCommand) Help() string {
	return `Shows what queries end in while it happens: results, and the dead letters of those that failed. A broker that restarts is waited for.
Times are those of the broker, in UTC. Ctrl-C ends it.

Example:
  worker tail --outcome failed --since 10m
  worker tail --client shop --what dead --wide
  worker tail --order-id order-42 --last 1 --no-follow --json`
}

// defaultLast is how many events of the past are shown if nothing else was asked for.
const defaultLast = 10

// request returns what the flags ask for.
func (c *tailCommand) request() (tail.Request, error) {
	request := tail.Request{
		Filter: tail.Filter{
			What: tail.What(c.What), Key: c.Key, Provider: query.Provider(c.Provider), Client: c.Client, Lane: query.Lane(c.Lane),
			Status: query.Status(c.Outcome), Reason: query.Reason(c.Reason), Code: c.Code, QueryID: c.QueryID, Order: c.OrderID,
		},
		Last: c.Last, Follow: !c.NoFollow,
	}
	if c.Since < 0 || c.Last < tail.All || c.Last > tail.MaxLast {
		return request, usagef("--since must not be negative, and --last must be from 0 to %d", tail.MaxLast)
	}
	if c.Since > 0 {
		request.Since = time.Now().Add(-c.Since)
	} else if c.Last < 0 {
		request.Last = defaultLast
	}
	if err := request.Filter.Validate(); err != nil {
		return request, usagef("%w", err)
	}
	return request, nil
}

// Run follows them.
func (c *tailCommand) Run(t *terminal) error {
	request, err := c.request()
	if err != nil {
		return err
	}
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	reader, err := app.OpenTail(t.ctx, settings)
	if err != nil {
		return err
	}
	defer reader.Close(t.ctx)
	defer survivePipes()()
	request.OnNotice = t.printNotice
	count := 0
	show := c.printer(t)
	err = reader.Read(t.ctx, request, func(event tail.Event) error {
		count++
		return show(event)
	})
	switch {
	case errors.Is(err, syscall.EPIPE):
		return nil // Whoever read has seen enough.
	case err == nil && count == 0 && c.NoFollow:
		_, _ = fmt.Fprintln(t.stderr, "There are no such events.")
	}
	return err
}

// survivePipes makes writing to a pipe that nobody reads any more an error, where it would end the process, until it is undone.
func survivePipes() (undo func()) {
	pipes := make(chan os.Signal, 1)
	signal.Notify(pipes, syscall.SIGPIPE)
	return func() { signal.Stop(pipes) }
}

// printNotice says on the standard error output what happens beside the events.
func (t *terminal) printNotice(n tail.Notice) {
	switch n.Kind {
	case tail.Lost:
		_, _ = fmt.Fprintln(t.stderr, "Connection lost, waiting for the broker ...")
	case tail.Back:
		_, _ = fmt.Fprintln(t.stderr, "... connection back; nothing was missed.")
	case tail.Unreadable:
		_, _ = fmt.Fprintf(t.stderr, "Message %d of %s can't be read (%s) and is left out.\n", n.Sequence, n.Stream, n.Why)
	case tail.CaughtUp:
	}
}

// printer returns what prints one event.
func (c *tailCommand) printer(t *terminal) func(tail.Event) error {
	if c.JSON {
		return t.printEvent
	}
	pen, headed := newInk(t.stdout, t.environ), false
	return func(event tail.Event) error {
		if !headed {
			headed = true
			if err := t.print(pen.paint(faint, tailHeading(c.Wide))); err != nil {
				return err
			}
		}
		return t.print(tailLine(pen, event, c.Wide, time.Now()))
	}
}

// printEvent prints an event as it is stored, as one line of JSON.
func (t *terminal) printEvent(event tail.Event) error {
	raw := jsontext.Value(append([]byte(nil), event.Raw...))
	if err := raw.Compact(); err != nil {
		return fmt.Errorf("event %d of %s is not JSON", event.Sequence, event.Stream)
	}
	return t.printLine(struct {
		Stream   string         `json:"stream"`
		Sequence uint64         `json:"sequence"`
		Stored   time.Time      `json:"stored"`
		Subject  string         `json:"subject"`
		Event    jsontext.Value `json:"event"`
	}{event.Stream, event.Sequence, event.Stored, event.Subject, raw})
}
