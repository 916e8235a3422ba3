// Command vuln runs govulncheck over the worker's module and fails if it calls a function with a known vulnerability.
//
// Usage: vuln [-C root] [-db url] [-required] [package...]
//
// The vulnerability database is read over the network. On a machine that can't reach it, vuln says in one line that nothing was
// checked and ends well, so that the gate runs there too; -required, which CI sets, makes that a failure. Everything else that goes
// wrong is a failure always: a database that answers with an error, a package that doesn't compile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"time"

	"golang.org/x/vuln/scan"
)

const (
	// database is where the Go team publishes known vulnerabilities of Go modules.
	database = "https://vuln.go.dev"
	// patience is how long the database may take to answer at all.
	patience = 20 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run checks the packages named, ./... if none is. What govulncheck prints goes to out and told.
func run(ctx context.Context, args []string, out, told io.Writer) error {
	flags := flag.NewFlagSet("vuln", flag.ContinueOnError)
	flags.SetOutput(told)
	root := flags.String("C", ".", "the `folder` of the worker's go.mod")
	db := flags.String("db", database, "the `address` of the database: https://, or file:// for a copy")
	required := flags.Bool("required", false, "fail if the database can't be reached")
	if err := flags.Parse(args); err != nil {
		return err
	}
	packages := flags.Args()
	if len(packages) == 0 {
		packages = []string{"./..."}
	}
	if err := reach(ctx, *db); err != nil {
		if *required {
			return fmt.Errorf("vuln: NOT CHECKED: %w", err)
		}
		_, err = fmt.Fprintf(out, "vuln: NOT CHECKED for known vulnerabilities: %s\n", err)
		return err
	}
	command := scan.Command(ctx, append([]string{"-C", *root, "-db", *db, "--"}, packages...)...)
	command.Stdout, command.Stderr = out, told
	if err := command.Start(); err != nil {
		return fmt.Errorf("vuln: %w", err)
	}
	if err := command.Wait(); err != nil {
		return fmt.Errorf("vuln: %w", err)
	}
	return nil
}

// reach asks the database for anything. The error says that nobody answered; what an answer says is govulncheck's business. A database in
// files is always reached.
func reach(ctx context.Context, db string) error {
	address, err := url.Parse(db)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" {
		return nil // govulncheck tells what is wrong with an address
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, address.JoinPath("index", "modules.json.gz").String(), http.NoBody)
	if err != nil {
		return nil // as above
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return errors.Join(fmt.Errorf("%s can't be reached", db), ctx.Err())
	}
	return response.Body.Close()
}
