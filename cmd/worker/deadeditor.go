package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// runEditor runs the operator's editor on a file: VISUAL, EDITOR or vi.
func (t *terminal) runEditor(ctx context.Context, name string) error {
	words := []string{"vi"}
	for _, variable := range []string{"EDITOR", "VISUAL"} {
		for _, set := range t.environ {
			if value, ok := strings.CutPrefix(set, variable+"="); ok && strings.TrimSpace(value) != "" {
				words = strings.Fields(value)
			}
		}
	}
	editor := exec.CommandContext(ctx, words[0], append(words[1:], name)...) //nolint:gosec // The operator's own choice, on the operator's machine.
	editor.Env, editor.Stdin, editor.Stdout, editor.Stderr = t.environ, t.stdin, t.stdout, t.stderr
	if err := editor.Run(); err != nil {
		return fmt.Errorf("run the editor %s (set EDITOR to another one): %w", words[0], err)
	}
	return nil
}

// wipe overwrites a file before it goes. Its text holds no card data; the query's other fields are nobody's business either.
func wipe(name string) {
	info, err := os.Stat(name)
	if err != nil {
		return // The editor has removed it.
	}
	_ = os.WriteFile(name, make([]byte, info.Size()), 0o600) // The directory is removed anyway.
}
