package app

import (
	"context"
	"errors"
	"fmt"
)

// undo is one step of the way down.
type undo struct {
	name string
	run  func(ctx context.Context) error
}

// lifecycle remembers how to take down what was built, the last first.
type lifecycle struct {
	undos []undo
}

// onStop registers the undo of what was just done.
func (l *lifecycle) onStop(name string, run func(ctx context.Context) error) {
	l.undos = append(l.undos, undo{name: name, run: run})
}

// stop takes everything down, the last first, and joins the errors. A second call does nothing.
func (l *lifecycle) stop(ctx context.Context) error {
	var failed []error
	for len(l.undos) > 0 {
		last := l.undos[len(l.undos)-1]
		l.undos = l.undos[:len(l.undos)-1]
		if err := last.run(ctx); err != nil {
			failed = append(failed, fmt.Errorf("stop %s: %w", last.name, err))
		}
	}
	return errors.Join(failed...)
}
