package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
)

// Pace shows and changes the pace of the configured accounts while workers run. Every change is written down before it is made.
type Pace struct {
	broker   *Broker
	store    *quota.KV
	auditor  *publish.Auditor
	accounts map[quota.Account]quota.Settings
}

// PaceAccount names one account.
type PaceAccount = quota.Account

// PaceAuthor says who changes a pace and why.
type PaceAuthor = quota.Author

// PaceStatus is the pace of one account as operators see it.
type PaceStatus struct {
	// Account is the provider and the account's name, as in easypay/default.
	Account string `json:"account"`
	// Configured is the configured rate in calls per second, Override the one that was set in its place; 0 for none.
	Configured float64 `json:"configured"`
	Override   float64 `json:"override,omitzero"`
	// Rate is the fleet's present rate in calls per second; 0 if nobody has called yet.
	Rate float64 `json:"rate,omitzero"`
	// Knee is the rate in calls per second at which the upstream throttled last; 0 if it never did. If Guessed, it was computed from the
	// part of the calls that were refused: nobody has called at that rate.
	Knee    float64 `json:"throttledAt,omitzero"`
	Guessed bool    `json:"guessed,omitzero"`
	// Paused tells that all calls are stopped by somebody.
	Paused bool `json:"paused"`
	// BlockedUntil is when the upstream wants to be called again; zero if it did not say.
	BlockedUntil time.Time `json:"blockedUntil,omitzero"`
	// By, Why and At say who changed it last.
	By  string    `json:"by,omitzero"`
	Why string    `json:"why,omitzero"`
	At  time.Time `json:"at,omitzero"`
	// Broken tells that the stored pace can't be read: no calls are made until it is reset.
	Broken bool `json:"broken,omitzero"`
}

// OpenPace connects to the configured broker.
func OpenPace(ctx context.Context, c config.Config) (*Pace, error) {
	connected, err := OpenBroker(ctx, c, BrokerOptions{Name: "discount-pace"})
	if err != nil {
		return nil, err
	}
	pace, err := newPaceControl(ctx, c, connected)
	if err != nil {
		return nil, errors.Join(err, connected.Close(ctx))
	}
	return pace, nil
}

// newPaceControl returns the pace on a connection.
func newPaceControl(ctx context.Context, c config.Config, connected *Broker) (*Pace, error) {
	topology := Topology(c)
	bucket, err := connected.JS.KeyValue(ctx, topology.Names().PaceBucket())
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", topology.Names().PaceBucket(), err)
	}
	return &Pace{
		broker: connected, store: quota.NewKV(bucket), accounts: paceSettings(c),
		auditor: &publish.Auditor{
			JS: connected.JS, Subjects: query.NewSubjects(c.Prefix), Stream: topology.Names().Audit(), Timeout: c.NATS.RequestTimeout,
		},
	}, nil
}

// Close ends the connection.
func (p *Pace) Close(ctx context.Context) {
	_ = p.broker.Close(context.WithoutCancel(ctx)) // Nothing is under way any more: all requests were answered.
}

// Account finds a configured account by its name: easypay/default, or easypay for the same.
func (p *Pace) Account(name string) (quota.Account, error) {
	for account := range p.accounts {
		if name == accountName(account) || name == string(account.Provider) && account.Name == defaultAccount {
			return account, nil
		}
	}
	var known []string
	for _, account := range p.sorted() {
		known = append(known, accountName(account))
	}
	return quota.Account{}, fmt.Errorf("there is no account %q: the configuration has %s", name, strings.Join(known, ", "))
}

// Show returns the pace of every configured account, in alphabetical order.
func (p *Pace) Show(ctx context.Context) ([]PaceStatus, error) {
	var all []PaceStatus
	for _, account := range p.sorted() {
		view, err := quota.Show(ctx, p.store, account)
		if err != nil {
			return nil, fmt.Errorf("show pace: %w", err)
		}
		all = append(all, p.status(view))
	}
	return all, nil
}

func (p *Pace) status(view quota.View) PaceStatus {
	s := PaceStatus{
		Account: accountName(view.Account), Configured: p.accounts[view.Account].Ceiling, Override: view.Control.Ceiling,
		Paused: view.Control.Paused, By: view.Control.By, Why: view.Control.Why, At: view.Control.At,
		Broken: view.StateBroken || view.ControlBroken,
	}
	if view.Control.BlockedUntil.After(time.Now()) {
		s.BlockedUntil = view.Control.BlockedUntil
	}
	if view.State != nil {
		s.Rate, s.Knee, s.Guessed = view.State.Rate, view.State.Knee, view.State.Guessed
		if s.Override > 0 {
			s.Rate = min(s.Rate, s.Override)
		}
	}
	return s
}

// Set replaces the ceiling of an account on all workers; nil brings the configured one back.
func (p *Pace) Set(ctx context.Context, account quota.Account, rate *config.Rate, author quota.Author) error {
	ceiling, after := 0.0, "as configured"
	if rate != nil {
		ceiling, after = perSecond(*rate), rate.String()
	}
	if err := p.audit(ctx, query.AuditPaceSet, account, author, after); err != nil {
		return err
	}
	return quota.Set(ctx, p.store, account, ceiling, author)
}

// Pause stops all calls of an account on all workers.
func (p *Pace) Pause(ctx context.Context, account quota.Account, author quota.Author) error {
	if err := p.audit(ctx, query.AuditPacePause, account, author, "paused"); err != nil {
		return err
	}
	return quota.Pause(ctx, p.store, account, author)
}

// Resume lets the calls of an account go on.
func (p *Pace) Resume(ctx context.Context, account quota.Account, author quota.Author) error {
	if err := p.audit(ctx, query.AuditPaceResume, account, author, "running"); err != nil {
		return err
	}
	return quota.Resume(ctx, p.store, account, author)
}

// Reset forgets what was learned about an account, and pauses and ceilings that were set.
func (p *Pace) Reset(ctx context.Context, account quota.Account, author quota.Author) error {
	if err := p.audit(ctx, query.AuditPaceReset, account, author, "as configured"); err != nil {
		return err
	}
	return quota.Reset(ctx, p.store, account, p.accounts[account], author)
}

func (p *Pace) audit(ctx context.Context, action query.AuditAction, account quota.Account, author quota.Author, after string) error {
	view, err := quota.Show(ctx, p.store, account)
	if err != nil {
		return fmt.Errorf("show pace: %w", err)
	}
	return p.auditor.Audit(ctx, rand.Text(), time.Now(), query.AuditData{
		Action: action, Actor: author.By, Target: accountName(account), Reason: author.Why, Before: p.status(view).inForce(), After: after,
	})
}

// inForce says in a few words what holds.
func (s PaceStatus) inForce() string {
	switch {
	case s.Broken:
		return "broken"
	case s.Paused:
		return "paused"
	case s.Override > 0:
		return fmt.Sprintf("%g/s", s.Override)
	case s.Configured > 0:
		return fmt.Sprintf("%g/s, as configured", s.Configured)
	default:
		return "no limit, as configured"
	}
}

// String returns the status as one line.
func (s PaceStatus) String() string {
	line := fmt.Sprintf("%-24s %s", s.Account, s.inForce())
	if s.Rate > 0 {
		line += fmt.Sprintf("; now at %.4g/s", s.Rate)
	}
	switch {
	case s.Knee > 0 && s.Guessed:
		line += fmt.Sprintf(", limit guessed at %.4g/s", s.Knee)
	case s.Knee > 0:
		line += fmt.Sprintf(", throttled at %.4g/s", s.Knee)
	}
	if !s.BlockedUntil.IsZero() {
		line += "; blocked by the upstream until " + s.BlockedUntil.Format(time.RFC3339)
	}
	if s.By != "" {
		line += fmt.Sprintf("; changed %s by %s", s.At.Format(time.RFC3339), s.By)
	}
	if s.Why != "" {
		line += ": " + s.Why
	}
	return line
}

func (p *Pace) sorted() []quota.Account {
	return slices.SortedFunc(maps.Keys(p.accounts), func(a, b quota.Account) int {
		return cmp.Compare(accountName(a), accountName(b))
	})
}

// accountName returns the name by which people speak of an account.
func accountName(account quota.Account) string { return string(account.Provider) + "/" + account.Name }
