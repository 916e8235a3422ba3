// Command worker asks card schemes for instant discounts on behalf of order pipelines: it takes queries from NATS JetStream, calls the
// upstreams and publishes the results. Its subcommands run it, set up its broker, and ask, read and check by hand.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/mutant"
	"discountquery.example/worker/internal/nodump"
)

// version is set when a release is built.
var version = ""

// Exit codes.
const (
	exitOK          = 0
	exitNo          = 1
	exitUsage       = 2
	exitUnreachable = 3
)

// errNo makes a command end with exitNo although nothing went wrong: its answer is no, and it has said so itself.
var errNo = errors.New("no")

// usageError is a command line or a configuration that can't be used.
type usageError struct{ error }

// Unwrap returns the error itself, which says what is wrong.
func (e usageError) Unwrap() error { return e.error }

// usagef returns a usageError with the text given.
func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// cli is the command line.
type cli struct {
	Run   runCommand   `cmd:"" help:"Run the service."`
	Demo  demoCommand  `cmd:"" help:"Run the whole thing on this machine, with simulated upstreams, and show what it does."`
	Setup setupCommand `cmd:"" help:"Show, or make, the streams, consumers and buckets that the worker needs."`

	Pace    paceCommand    `cmd:"" help:"Show how fast each upstream account is called, and change it while workers run."`
	Check   checkCommand   `cmd:"" help:"Check configuration, keys, broker and upstreams, and say what to do about each problem."`
	Ask     askCommand     `cmd:"" help:"Publish one query and wait for its result."`
	Result  resultCommand  `cmd:"" help:"Read the stored result of a query."`
	Top     topCommand     `cmd:"" help:"Show how everything is now, and go on showing it."`
	Tail    tailCommand    `cmd:"" help:"Follow results and dead letters."`
	Dead    deadCommand    `cmd:"" help:"See what died, have it asked again, drop it."`
	Seal    sealCommand    `cmd:"" help:"Seal card data from standard input for a query."`
	Keys    keysCommand    `cmd:"" help:"Make keys, show them, rotate them."`
	Sandbox sandboxCommand `cmd:"" help:"Run the two simulated upstreams alone."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

const description = `Asks card schemes for instant discounts: queries come from NATS JetStream, results go back there.

Try it with: worker demo

Exit codes: 0 ok; 1 the answer was no; 2 wrong usage or configuration; 3 could not reach what it needs.`

// terminal is what a command talks to.
type terminal struct {
	ctx     context.Context //nolint:containedctx // It is the one context of the one command of this process.
	environ []string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
}

func main() { os.Exit(runProcess()) }

// runProcess is a whole process but for its exit. No command runs in one whose memory could be dumped: most of them open card data or keys, and
// which of them do may change.
func runProcess() int {
	if err := nodump.Forbid(); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "worker:", err)
		return exitNo
	}
	return run(context.Background(), os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
}

// run runs one command line and returns its exit code. A first signal ends the command's context, a second one ends the process.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	release := context.AfterFunc(ctx, stop) // From then on a signal does what it does to any process.
	defer release()
	t := &terminal{ctx: ctx, environ: environ, stdin: stdin, stdout: stdout, stderr: stderr}

	exited := -1
	parser, err := kong.New(&cli{}, kong.Name("worker"), kong.Description(description), kong.UsageOnError(),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }), kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 110}))
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "worker:", err)
		return exitUsage
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited // --help
	}
	if err != nil {
		_, _ = fmt.Fprintf(stderr, "worker: %v\nRun `worker --help` or `worker <command> --help`.\n", err)
		return exitUsage
	}
	return t.exitCode(parsed.Run(t))
}

// exitCode prints an error and returns the exit code for it.
func (t *terminal) exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	if !errors.Is(err, errNo) || err.Error() != errNo.Error() {
		_, _ = fmt.Fprintln(t.stderr, "worker:", err)
	}
	switch {
	case isUsage(err):
		return exitUsage
	case fault.CodeOf(err) == fault.BrokerUnreachable || fault.CodeOf(err) == fault.BrokerRefused:
		return exitUnreachable
	default:
		return exitNo
	}
}

func isUsage(err error) bool {
	_, ok := errors.AsType[usageError](err)
	return ok
}

// configFlag is the flag of every command that needs the configuration.
type configFlag struct {
	Config string `short:"c" placeholder:"FILE" help:"Configuration file; without one, the defaults and DISCOUNT_ variables hold."`
}

// load reads and checks the configuration.
func (f configFlag) load(t *terminal) (config.Config, error) {
	c, err := config.Load(f.Config, t.environ)
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		return config.Config{}, usagef("configuration: %w", err)
	}
	return c, nil
}

// printJSON prints v as one JSON value.
func (t *terminal) printJSON(v any) error {
	text, err := indented(v)
	if err != nil {
		return err
	}
	return t.print(text)
}

// showJSON is printJSON for a person: what others wrote is shown, and does nothing else to a terminal.
func (t *terminal) showJSON(v any) error {
	text, err := indented(v)
	if err != nil {
		return err
	}
	return t.print(harmlessJSON(text))
}

// indented returns v as one JSON value on several lines.
func indented(v any) (string, error) {
	b, err := json.Marshal(v, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		return "", fmt.Errorf("encode output: %w", err)
	}
	return string(b), nil
}

// print prints one line.
func (t *terminal) print(line string) error {
	if _, err := fmt.Fprintln(t.stdout, line); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// buildVersion returns the version of this build, which says so if the build is broken on purpose.
func buildVersion() string { return sourceVersion() + mutant.Suffix }

// sourceVersion returns the version of what was built: the one that was set, or what the Go toolchain recorded.
func sourceVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return "dev-" + setting.Value[:12]
		}
	}
	return "dev"
}
