// Command licences fails unless the licence of every module that is linked into the worker is on a list of allowed ones.
//
// Usage: licences [-C root] [-list] [package...]
//
// It looks at what `go list -deps` names for the platform the image is built for, and recognises texts with the library behind
// pkg.go.dev. Modules that are only needed by tests or tools are not shipped and not asked about.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
)

// allowed holds the licences that may be shipped with a program under Apache-2.0, as SPDX names: permissive ones, without copyleft.
func allowed() []string {
	return []string{"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT"}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run checks the packages named, ./cmd/worker if none is, and reports to out. The error names every module that may not be shipped.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("licences", flag.ContinueOnError)
	flags.SetOutput(out)
	root := flags.String("C", ".", "the `folder` of the worker's go.mod")
	list := flags.Bool("list", false, "print every module and its licences")
	if err := flags.Parse(args); err != nil {
		return err
	}
	packages := flags.Args()
	if len(packages) == 0 {
		packages = []string{"./cmd/worker"}
	}
	modules, err := linked(ctx, *root, packages)
	if err != nil {
		return err
	}
	var problems []string
	for _, m := range modules {
		found, err := m.licences()
		if err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
		if *list {
			fmt.Fprintf(out, "%s\t%s\n", m, strings.Join(names(found), ", "))
		}
		problems = append(problems, judge(m, found)...)
	}
	if len(problems) > 0 {
		return fmt.Errorf("licences: %s\nallowed are %s", strings.Join(problems, "\nlicences: "), strings.Join(allowed(), ", "))
	}
	_, err = fmt.Fprintf(out, "licences: %d modules are linked in, each under one of %s\n", len(modules), strings.Join(allowed(), ", "))
	return err
}

// judge says what keeps a module from being shipped.
func judge(m module, found []licence) []string {
	if len(found) == 0 {
		return []string{fmt.Sprintf("%s has no licence file", m)}
	}
	var problems []string
	for _, l := range found {
		switch {
		case l.covered < enough:
			problems = append(problems, fmt.Sprintf("%s: %s is no known licence (%.0f %% of it is recognised: %s)",
				m, l.file, l.covered, strings.Join(append(l.names, "nothing more"), ", ")))
		default:
			for _, name := range l.names {
				if !slices.Contains(allowed(), name) {
					problems = append(problems, fmt.Sprintf("%s: %s is under %s, which is not on the list", m, l.file, name))
				}
			}
		}
	}
	return problems
}

// names returns the licences found, each once, in order.
func names(found []licence) []string {
	var all []string
	for _, l := range found {
		all = append(all, l.names...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
