package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/query"
)

// deadCommand is what operators do with dead letters.
type deadCommand struct {
	Ls      deadLsCommand      `cmd:"" help:"List dead letters."`
	Groups  deadGroupsCommand  `cmd:"" help:"Count dead letters by what they died of, and say what to do about each cause."`
	Show    deadShowCommand    `cmd:"" help:"Show one dead letter."`
	Replay  deadReplayCommand  `cmd:"" help:"Have the queries of dead letters asked again; without --apply, only say what would be done."`
	Batches deadBatchesCommand `cmd:"" help:"List replays and how far they are."`
	Drop    deadDropCommand    `cmd:"" help:"Delete dead letters for good; without --apply, only say which."`
	Export  deadExportCommand  `cmd:"" help:"Write dead letters as lines of JSON, sealed as they are."`
	Reseal  deadResealCommand  `cmd:"" help:"Seal dead letters to the newest key, before an older one is destroyed."`
}

// deadFilter picks dead letters.
type deadFilter struct {
	Provider string        `enum:"easypay,unionpay," default:"" group:"Which letters" help:"Provider: easypay or unionpay."`
	Client   string        `group:"Which letters" help:"Client token."`
	Reason   string        `enum:"malformed,rejected,exhausted,quarantined," default:"" group:"Which letters" help:"Why it died."`
	Key      string        `group:"Which letters" help:"The query's key."`
	Seq      uint64        `group:"Which letters" help:"The letter's sequence, as ls shows it."`
	Cause    string        `group:"Which letters" help:"Cause, as groups shows it."`
	Code     string        `group:"Which letters" help:"Code of the failure, such as timeout."`
	ID       string        `group:"Which letters" help:"CloudEvents id of the query."`
	Order    string        `group:"Which letters" help:"Order id: the query's correlationid."`
	From     time.Time     `group:"Which letters" placeholder:"TIME" help:"Died at that time or later, such as 2026-01-02T03:04:05Z."`
	To       time.Time     `group:"Which letters" placeholder:"TIME" help:"Died before that time."`
	Newer    time.Duration `group:"Which letters" help:"Died within that time, such as 2h."`
	Older    time.Duration `group:"Which letters" help:"Died longer ago than that."`
}

// filter returns the filter that the flags say.
func (f deadFilter) filter() (deadletter.Filter, error) {
	filter := deadletter.Filter{
		Key: f.Key, Provider: query.Provider(f.Provider), Client: f.Client, Reason: query.Reason(f.Reason), Sequence: f.Seq,
		Cause: f.Cause, Code: f.Code, ID: f.ID, Order: f.Order, From: f.From.UTC(), To: f.To.UTC(),
	}
	if f.Newer < 0 || f.Older < 0 || f.Newer > 0 && !f.From.IsZero() || f.Older > 0 && !f.To.IsZero() {
		return filter, usagef("give either --from or --newer, and either --to or --older")
	}
	now := time.Now().UTC()
	if f.Newer > 0 {
		filter.From = now.Add(-f.Newer)
	}
	if f.Older > 0 {
		filter.To = now.Add(-f.Older)
	}
	if err := filter.Validate(); err != nil {
		return filter, usagef("%w", err)
	}
	return filter, nil
}

// deadFlags are the flags of every command about dead letters.
type deadFlags struct {
	configFlag
	deadFilter
}

// auditFlags say who does something that is written down, and why.
type auditFlags struct {
	Why string `name:"why" help:"Why, for the audit record." placeholder:"TEXT"`
	By  string `help:"Who does it; the user and host by default." placeholder:"NAME"`
}

func (f auditFlags) options() (app.DeadLettersOptions, error) {
	if len(f.Why) > maxReason || len(f.By) > maxActor {
		return app.DeadLettersOptions{}, usagef("--why has at most %d bytes and --by at most %d", maxReason, maxActor)
	}
	return app.DeadLettersOptions{Actor: (&paceFlags{By: f.By}).actor(), Why: f.Why}, nil
}

// open opens the dead letters and reads the filter.
func (f deadFlags) open(t *terminal, options app.DeadLettersOptions) (*app.DeadLetters, deadletter.Filter, error) {
	filter, err := f.filter()
	if err != nil {
		return nil, filter, err
	}
	settings, err := f.load(t)
	if err != nil {
		return nil, filter, err
	}
	letters, err := app.OpenDeadLetters(t.ctx, settings, options)
	return letters, filter, err
}

// errCut ends a list that has reached its limit.
var errCut = errors.New("cut")

// deadLsCommand lists dead letters.
type deadLsCommand struct {
	deadFlags

	Limit int  `default:"100" help:"How many letters at most; 0 is all of them."`
	JSON  bool `help:"Print lines of JSON."`
}

// Help returns the example of the command.
func (deadLsCommand) Help() string {
	return `Lists dead letters, the oldest first.

Example:
  worker dead ls --provider easypay --newer 2h`
}

// listed is a letter in a list.
type listed struct {
	Sequence uint64         `json:"sequence"`
	Stored   time.Time      `json:"stored"`
	Key      string         `json:"key"`
	Provider query.Provider `json:"provider"`
	Client   string         `json:"client"`
	Reason   query.Reason   `json:"reason"`
	Code     string         `json:"code"`
	Cause    string         `json:"cause"`
	Revision int            `json:"revision"`
	ID       string         `json:"id,omitzero"`
	Order    string         `json:"order,omitzero"`
}

// Run lists them.
func (c *deadLsCommand) Run(t *terminal) error {
	letters, filter, err := c.open(t, app.DeadLettersOptions{})
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	table := newColumns(t.stdout)
	if !c.JSON {
		table.row("SEQ", "DIED", "PROVIDER", "CLIENT", "REASON", "CODE", "CAUSE", "REPLAYS", "ID")
	}
	count := 0
	err = letters.Each(t.ctx, filter, func(letter deadletter.Letter) error {
		if c.Limit > 0 && count == c.Limit {
			return errCut
		}
		count++
		l := listed{
			Sequence: letter.Sequence, Stored: letter.Stored, Key: letter.Query.Key, Provider: letter.Query.Provider, Client: letter.Query.Client,
			Reason: letter.Reason, Code: string(letter.Code), Cause: letter.Cause, Revision: letter.Revision, ID: letter.Query.ID, Order: letter.Order,
		}
		if c.JSON {
			return t.printLine(l)
		}
		table.row(l.Sequence, l.Stored.Format(time.DateTime), l.Provider, l.Client, l.Reason, l.Code, l.Cause, l.Revision, l.ID)
		return nil
	})
	if errors.Is(err, errCut) {
		_, _ = fmt.Fprintf(t.stderr, "There are more than %d; see all of them with --limit 0.\n", c.Limit)
		err = nil
	}
	return errors.Join(table.flush(), err)
}

// deadGroupsCommand counts dead letters by cause.
type deadGroupsCommand struct {
	deadFlags

	JSON bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (deadGroupsCommand) Help() string {
	return `One block for each cause, the most frequent first.

Example:
  worker dead groups --newer 24h`
}

// Run counts them.
func (c *deadGroupsCommand) Run(t *terminal) error {
	letters, filter, err := c.open(t, app.DeadLettersOptions{})
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	groups, err := letters.Groups(t.ctx, filter)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.printJSON(groups)
	}
	if len(groups) == 0 {
		return t.print("There are no such dead letters.")
	}
	return t.printGroups(groups)
}

// printGroups prints causes for a person.
func (t *terminal) printGroups(groups []deadletter.Group) error {
	for _, g := range groups {
		what := strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", g.Provider, g.Reason, g.Code, g.Upstream)), " ")
		if g.Status > 0 {
			what += fmt.Sprintf(" (HTTP %d)", g.Status)
		}
		line := fmt.Sprintf("%7d  %s  %s\n         first %s, last %s, for example: worker dead show --seq %d\n         %s",
			g.Count, harmless(g.Cause), harmless(what), g.First.Format(time.DateTime), g.Last.Format(time.DateTime), g.Example, g.Action)
		if err := t.print(line); err != nil {
			return err
		}
	}
	return nil
}

// deadShowCommand shows one dead letter.
type deadShowCommand struct {
	configFlag
	auditFlags

	Seq    uint64 `xor:"which" help:"The letter's sequence, as ls shows it."`
	Key    string `xor:"which" help:"The query's key: its last letter is shown."`
	Reveal bool   `help:"Unseal the query as its publisher wrote it. This is written down; card data stays hidden all the same."`
	JSON   bool   `help:"Print JSON; what is printed without it is JSON too, for a person."`
}

// Help returns the example of the command.
func (deadShowCommand) Help() string {
	return `Shows everything about one letter, how its query stands now, and what to do about it.

Example:
  worker dead show --seq 17 --reveal --why "case 4711"`
}

// Validate requires that a letter is named. It runs when the command line was read.
func (c *deadShowCommand) Validate() error {
	if c.Seq == 0 && c.Key == "" {
		return errors.New("say which letter: --seq or --key")
	}
	return nil
}

// Run shows it.
func (c *deadShowCommand) Run(t *terminal) error {
	options, err := c.options()
	if err != nil {
		return err
	}
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	options.Keys = c.Reveal
	letters, err := app.OpenDeadLetters(t.ctx, settings, options)
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	letter, err := findLetter(t, letters, c.Seq, c.Key)
	if err != nil {
		return err
	}
	shown := struct {
		deadletter.Shown

		Revealed *deadletter.Revealed `json:"revealed,omitzero"`
	}{}
	if shown.Shown, err = letters.Show(t.ctx, letter); err != nil {
		return err
	}
	if c.Reveal {
		revealed, err := letters.Reveal(t.ctx, letter)
		if err != nil {
			return err
		}
		shown.Revealed = &revealed
	}
	if c.JSON {
		return t.printJSON(shown)
	}
	return t.showJSON(shown)
}

func findLetter(t *terminal, letters *app.DeadLetters, sequence uint64, key string) (deadletter.Letter, error) {
	if key != "" {
		return letters.Last(t.ctx, key)
	}
	return letters.Find(t.ctx, sequence)
}

// deadExportCommand exports dead letters.
type deadExportCommand struct {
	deadFlags

	JSON bool `help:"Print lines of JSON, which is what this command does anyway."`
}

// Help returns the example of the command.
func (deadExportCommand) Help() string {
	return `Writes one line of JSON for each letter to standard output: its sequence, its time and its event. Payloads stay sealed.

Example:
  worker dead export --older 240h > letters.jsonl`
}

// Run exports them.
func (c *deadExportCommand) Run(t *terminal) error {
	letters, filter, err := c.open(t, app.DeadLettersOptions{})
	if err != nil {
		return err
	}
	defer letters.Close(t.ctx)
	out := bufio.NewWriter(t.stdout)
	count, err := letters.Export(t.ctx, filter, out)
	if err := errors.Join(err, out.Flush()); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(t.stderr, "exported %d\n", count)
	return nil
}

// printLine prints v as one line of JSON.
func (t *terminal) printLine(v any) error {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.Multiline(false))
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return t.print(string(b))
}

// agreed asks a question and tells whether the answer was yes.
func (t *terminal) agreed(question string, yes bool) bool {
	if yes {
		return true
	}
	_, _ = fmt.Fprint(t.stderr, question+" [y/N] ")
	answer, _ := bufio.NewReader(t.stdin).ReadString('\n') // No answer is a no.
	answer = strings.ToLower(strings.TrimSpace(answer))
	if answer == "y" || answer == "yes" {
		return true
	}
	_, _ = fmt.Fprintln(t.stderr, "Nothing was done.")
	return false
}

// columns prints rows in columns. A cell may hold what others wrote: it is shown, and does nothing else.
type columns struct {
	writer *tabwriter.Writer
	failed error
}

func newColumns(out io.Writer) *columns {
	return &columns{writer: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)}
}

func (t *columns) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = harmless(fmt.Sprint(cell))
	}
	if _, err := fmt.Fprintln(t.writer, strings.Join(texts, "\t")); err != nil {
		t.failed = err
	}
}

func (t *columns) flush() error {
	if err := errors.Join(t.failed, t.writer.Flush()); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
