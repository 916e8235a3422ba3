// Package top gathers what an operator wants to see at one glance: how fast queries end and how, what waits, what died, and how the replicas
// are. It must never change anything, print, or know a flag.
package top

import (
	"context"
	"fmt"
	"sync"
	"time"

	"discountquery.example/worker/internal/ask"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/gauge"
	"discountquery.example/worker/internal/tail"
)

// Events are the results as they are stored.
type Events interface {
	Read(ctx context.Context, request tail.Request, f func(tail.Event) error) error
}

// Figures are what the broker holds.
type Figures interface {
	Read(ctx context.Context) (gauge.Figures, error)
}

// Options are the parts of a Top.
type Options struct {
	Events  Events
	Figures Figures
	// Paces returns the pace of each configured account, Replicas the workers that tell their state, and Batches the replays at work.
	Paces    func(ctx context.Context) ([]Pace, error)
	Replicas func(ctx context.Context) ([]ask.Found, error)
	Batches  func(ctx context.Context) ([]Batch, error)
	// Accounts are the configured accounts, as in easypay/default, and AccountOf says which of them asked the query of an event.
	Accounts  []string
	AccountOf func(tail.Event) string
}

// Top gathers snapshots. It is for one goroutine, but for Run.
type Top struct {
	Options

	// caughtUp is closed when the results of the last minute are read, or can't be.
	caughtUp chan struct{}
	once     sync.Once
	// first holds the dead letters of the first snapshot that had any word on them.
	first map[letters]uint64

	mu      sync.Mutex
	windows map[place]*window
	lost    bool
	trouble error
}

// letters names what dead letters have in common.
type letters struct{ provider, reason string }

// place is where a result is counted.
type place struct{ account, provider, lane string }

// New returns a Top of the given parts. It asks nobody yet.
func New(options Options) *Top {
	return &Top{Options: options, caughtUp: make(chan struct{}), windows: map[place]*window{}}
}

// again is the wait before results that could not be read are read anew.
const again = 3 * time.Second

// Run reads the results of the last minute and those that come until ctx ends. Without it, snapshots have no rates.
func (t *Top) Run(ctx context.Context) {
	for ctx.Err() == nil {
		t.begin()
		err := t.Events.Read(ctx, tail.Request{
			Filter: tail.Filter{What: tail.Results}, Since: time.Now().Add(-span * time.Second), Last: tail.All, Follow: true, OnNotice: t.note,
		}, t.add)
		t.fail(err)
		t.ready()
		select {
		case <-time.After(again):
		case <-ctx.Done():
		}
	}
}

// CaughtUp is closed when the rates of a snapshot hold all of the last minute, or when it turned out that they can't.
func (t *Top) CaughtUp() <-chan struct{} { return t.caughtUp }

func (t *Top) ready() { t.once.Do(func() { close(t.caughtUp) }) }

// begin forgets what was counted, because it is read again.
func (t *Top) begin() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.windows, t.lost = map[place]*window{}, false
}

func (t *Top) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.trouble = err
}

// note takes in what happens beside the results. What can't be read is for others to tell.
func (t *Top) note(n tail.Notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch n.Kind {
	case tail.CaughtUp:
		t.trouble = nil
		t.ready()
	case tail.Lost:
		t.lost = true
	case tail.Back:
		t.lost = false
	case tail.Unreadable:
	}
}

// add counts a result. One of the past counts when it was stored, as far as the clocks agree; another one now.
func (t *Top) add(e tail.Event) error {
	at := time.Now()
	if !e.Live && e.Stored.Before(at) {
		at = e.Stored
	}
	where := place{account: t.AccountOf(e), provider: string(e.Query.Provider), lane: string(e.Query.Lane)}
	t.mu.Lock()
	defer t.mu.Unlock()
	w, known := t.windows[where]
	if !known {
		w = &window{}
		t.windows[where] = w
	}
	w.add(at, e.Status, e.Took)
	return nil
}

// Snapshot gathers everything now. What can't be had is left out, and Problems says so.
func (t *Top) Snapshot(ctx context.Context) Snapshot {
	s := Snapshot{At: time.Now().UTC()}
	var asking sync.WaitGroup
	var figures gauge.Figures
	var paces []Pace
	var replicas []ask.Found
	var errFigures, errPaces, errReplicas error
	asking.Go(func() { figures, errFigures = t.Figures.Read(ctx) })
	asking.Go(func() { paces, errPaces = t.Paces(ctx) })
	asking.Go(func() { replicas, errReplicas = t.Replicas(ctx) })
	asking.Wait()
	s.problem("the broker's figures", errFigures)
	s.problem("the pace", errPaces)
	s.problem("the replicas", errReplicas)
	s.Replicas = replicasOf(replicas)
	if errReplicas == nil && len(replicas) == 0 {
		s.Problems = append(s.Problems, "no replica answers stats requests")
	}
	s.takeFigures(figures)
	t.countDead(&s, figures)
	if figures.Replays["running"] > 0 {
		var err error
		s.Replays, err = t.Batches(ctx)
		s.problem("the replays", err)
	}
	t.takeRates(&s, paces)
	return s
}

// problem notes that a part could not be had. The error's own text may hold anything, so only its closed code is told.
func (s *Snapshot) problem(what string, err error) {
	if err == nil {
		return
	}
	text := what + " can't be read"
	if code := fault.CodeOf(err); code != fault.Unclassified {
		text += fmt.Sprintf(" (%s)", code)
	}
	s.Problems = append(s.Problems, text)
}

// takeRates fills in what the results say, and the paces.
func (t *Top) takeRates(s *Snapshot, paces []Pace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost {
		s.Problems = append([]string{"connection lost, waiting for the broker"}, s.Problems...)
	}
	s.problem("the results", t.trouble)
	byAccount, byLane := map[string]*tally{}, map[[2]string]*tally{}
	for where, w := range t.windows {
		now := w.sum(s.At)
		into(byAccount, where.account).merge(now)
		into(byLane, [2]string{where.provider, where.lane}).merge(now)
	}
	breakers := s.breakers()
	for _, name := range t.accountNames(byAccount) {
		a := Account{Account: name, Rates: into(byAccount, name).rates(), Breakers: breakers[name]}
		for i := range paces {
			if paces[i].Account == name {
				a.Pace = &paces[i]
			}
		}
		s.Accounts = append(s.Accounts, a)
	}
	for i, lane := range s.Lanes {
		s.Lanes[i].Rates = into(byLane, [2]string{lane.Provider, lane.Lane}).rates()
	}
}

func into[K comparable](tallies map[K]*tally, key K) *tally {
	if tallies[key] == nil {
		tallies[key] = &tally{}
	}
	return tallies[key]
}
