package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/demo"
	"discountquery.example/worker/internal/query"
)

// shownDemo is a demo with what it left to look at.
type shownDemo struct {
	demo.Summary

	// Causes is what died, Commands how to look at it.
	Causes   []deadletter.Group `json:"causes,omitzero"`
	Commands []string           `json:"commands,omitzero"`
}

// looks tells whether there is something to look at when all was asked.
func (c *demoCommand) looks() bool { return c.WithFailures || c.stays() }

// stays tells whether the demo runs until it is told to stop.
func (c *demoCommand) stays() bool { return c.Stay || c.Reopen != "" }

// reopen runs an earlier demo again.
func (c *demoCommand) reopen(t *terminal) error {
	return demo.Reopen(t.ctx, demo.Options{Workers: c.Workers, Keep: c.Reopen, Build: buildVersion(), OnAsked: func(summary demo.Summary) error {
		return c.look(t, summary)
	}})
}

// look prints what the demo did and what it left, and how to look at that while it runs. It waits for the end if the demo stays.
func (c *demoCommand) look(t *terminal, summary demo.Summary) error {
	shown := shownDemo{Summary: summary}
	var err error
	if shown.Causes, err = causes(t.ctx, summary.Site.Config); err != nil {
		return err
	}
	shown.Commands = c.commands(shown)
	if c.JSON || c.Reopen == "" {
		if err := c.printSummary(t, shown); err != nil {
			return err
		}
	}
	if !c.JSON {
		if err := c.printLook(t, shown); err != nil {
			return err
		}
	}
	if c.stays() {
		<-t.ctx.Done()
	}
	return nil
}

// causes returns what died in a demo.
func causes(ctx context.Context, configFile string) ([]deadletter.Group, error) {
	settings, err := config.Load(configFile, nil)
	if err != nil {
		return nil, err
	}
	letters, err := app.OpenDeadLetters(ctx, settings, app.DeadLettersOptions{})
	if err != nil {
		return nil, err
	}
	defer letters.Close(ctx)
	return letters.Groups(ctx, deadletter.Filter{})
}

// commands returns command lines that work as they stand, in a shell on this machine.
func (c *demoCommand) commands(s shownDemo) []string {
	worker, at := self(), " -c "+shellWord(s.Site.Config)
	var lines []string
	if !c.stays() {
		lines = append(lines, worker+" demo --reopen "+shellWord(s.Site.Dir))
	}
	if len(s.Causes) == 0 {
		return append(lines, worker+" ask easypay --card-bin 12345678 --amount 51004"+at, worker+" pace show"+at)
	}
	example := s.Causes[0]
	for _, g := range s.Causes {
		if g.Reason == query.ReasonRejected { // The upstream refused it then, and would not now.
			example = g
			break
		}
	}
	return append(lines,
		worker+" dead groups"+at,
		worker+" dead ls --reason "+string(example.Reason)+at,
		worker+" dead show --seq "+strconv.FormatUint(example.Example, 10)+at,
		worker+" dead replay --cause "+example.Cause+at,
		worker+" dead replay --cause "+example.Cause+" --apply --yes"+at,
		worker+" dead batches"+at,
		worker+" tail --last 5 --no-follow"+at,
	)
}

// printLook prints what died and how to look at it.
func (c *demoCommand) printLook(t *terminal, s shownDemo) error {
	if len(s.Causes) > 0 {
		if err := t.print(fmt.Sprintf("\nDead letters of %d causes:\n", len(s.Causes))); err != nil {
			return err
		}
		if err := t.printGroups(s.Causes); err != nil {
			return err
		}
	}
	commands, text := s.Commands, fmt.Sprintf("\nAll of it runs until Ctrl-C: the broker at %s, workers, and upstreams that behave now\n"+
		"(PUT %s/faults to change that). Look around in another terminal:", s.Site.Broker, s.Site.Upstreams)
	if !c.stays() {
		text = "\nThe broker ends with this command. To look around, run it again in another terminal, with workers and with upstreams that behave:\n  " +
			commands[0] + "\nThen:"
		commands = commands[1:]
	}
	return t.print(text + "\n  " + strings.Join(commands, "\n  "))
}

// self returns how this program is called in a shell: by its bare name if that leads to it, else by its path.
func self() string {
	program, err := os.Executable()
	if err != nil {
		return "worker"
	}
	name := filepath.Base(program)
	if found, err := exec.LookPath(name); err == nil && found == program {
		return shellWord(name)
	}
	return shellWord(program)
}

// shellWord returns text as one word of a POSIX shell.
func shellWord(text string) string {
	plain := "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+="
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
