// Command basefiles writes the files of the image that are not the worker into a new folder. The Dockerfile uses it; it is a command of its
// own, because it compiles in seconds and the one that builds whole images does not.
//
// Usage: basefiles -o folder.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"discountquery.example/worker/tools/image/base"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "basefiles:", err)
		os.Exit(1)
	}
}

// run writes the files and says so to out.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("basefiles", flag.ContinueOnError)
	flags.SetOutput(out)
	dir := flags.String("o", "", "the `folder` to write to; it must not hold the files yet")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *dir == "" || flags.NArg() > 0 {
		return errors.New("say where to write, and nothing else: basefiles -o folder")
	}
	goroot, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	zones, err := base.ReadZones(strings.TrimSpace(string(goroot)))
	if err != nil {
		return err
	}
	files, err := base.Files(zones)
	if err != nil {
		return err
	}
	if err := base.Write(*dir, files); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d files and folders are in %s\n", len(files), *dir)
	return err
}
