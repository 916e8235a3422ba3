package main

import (
	"runtime"

	"discountquery.example/worker/internal/app"
)

// runCommand runs the service.
type runCommand struct {
	configFlag
}

// Help returns the example of the command.
func (runCommand) Help() string {
	return `With an empty nats.url the worker starts its own NATS server, with its store in data_dir.
The first SIGTERM or Ctrl-C finishes what is under way; a second one ends the process at once.
Traces are exported where OTEL_EXPORTER_OTLP_ENDPOINT says, if it is set, and the other OTEL_ variables hold.

Example:
  worker run -c worker.yaml
  OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 worker run -c worker.yaml`
}

// Run runs the service until a signal comes.
func (c *runCommand) Run(t *terminal) error {
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	traces, err := tracing(t.environ)
	if err != nil {
		return err
	}
	service, err := app.New(t.ctx, app.Options{Config: settings, Build: buildVersion(), Log: t.stderr, Tracing: traces})
	if err != nil {
		return err
	}
	return service.Run(t.ctx)
}

// versionCommand prints the version.
type versionCommand struct {
	JSON bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (versionCommand) Help() string {
	return `Example:
  worker version --json`
}

// Run prints the version.
func (c *versionCommand) Run(t *terminal) error {
	if c.JSON {
		return t.printJSON(map[string]string{"version": buildVersion(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH})
	}
	return t.print("worker " + buildVersion() + " " + runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH)
}
