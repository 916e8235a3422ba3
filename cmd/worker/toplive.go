package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	tea "github.com/charmbracelet/bubbletea"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/top"
)

// looker looks how everything is.
type looker interface {
	Snapshot(ctx context.Context) top.Snapshot
}

// topModel is the live view: the last snapshot, and the size of the screen. It is a bubbletea.Model.
type topModel struct {
	ctx      context.Context //nolint:containedctx // Bubbletea's commands take none.
	looker   looker
	looking  *sync.Mutex
	interval time.Duration
	view     topView
	snapshot *top.Snapshot
}

// looked brings a new snapshot.
type looked struct{ snapshot top.Snapshot }

// lookAgain says that it is time for another one.
type lookAgain struct{}

// runLive shows snapshots until somebody ends it, and leaves the terminal as it was.
func (c *topCommand) runLive(ctx context.Context, t *terminal, gathers *app.Top) error {
	input := tea.WithInput(t.stdin)
	if !isTerminal(t.stdin) {
		input = tea.WithInputTTY() // What is piped in holds no keys.
	}
	model := newTopModel(ctx, gathers, c.Interval, topView{address: gathers.Address(), every: c.Interval, pen: newInk(t.stdout, t.environ)})
	return model.run(input, tea.WithOutput(t.stdout))
}

func newTopModel(ctx context.Context, l looker, interval time.Duration, view topView) topModel {
	return topModel{ctx: ctx, looker: l, looking: &sync.Mutex{}, interval: interval, view: view}
}

// run runs the model until it ends. No snapshot is being gathered after it.
func (m topModel) run(options ...tea.ProgramOption) error {
	ctx, stop := context.WithCancel(m.ctx)
	m.ctx = ctx
	defer m.look() // With its context ended it returns at once, but for the one before it.
	defer stop()
	// The signals are those of the command's context; Ctrl-C is a key here.
	options = append(options, tea.WithAltScreen(), tea.WithContext(ctx), tea.WithoutSignalHandler())
	_, err := tea.NewProgram(m, options...).Run()
	if err != nil && ctx.Err() == nil && !errors.Is(err, tea.ErrProgramKilled) {
		return fmt.Errorf("show on the terminal: %w", err)
	}
	return nil
}

// Init implements bubbletea.Model.
func (m topModel) Init() tea.Cmd { return m.look }

// look gathers one snapshot.
func (m topModel) look() tea.Msg {
	m.looking.Lock()
	defer m.looking.Unlock()
	return looked{m.looker.Snapshot(m.ctx)}
}

// Update implements bubbletea.Model.
func (m topModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.view.width, m.view.height = msg.Width, msg.Height
	case tea.KeyMsg:
		switch msg.String() {
		case "q", "Q", "esc", "ctrl+c":
			return m, tea.Quit
		}
	case looked:
		m.snapshot = &msg.snapshot
		return m, tea.Tick(m.interval, func(time.Time) tea.Msg { return lookAgain{} })
	case lookAgain:
		return m, m.look
	}
	return m, nil
}

// View implements bubbletea.Model.
func (m topModel) View() string {
	if m.snapshot == nil {
		return "Looking ..."
	}
	return strings.Join(m.view.lines(*m.snapshot), "\n")
}
