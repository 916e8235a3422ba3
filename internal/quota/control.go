package quota

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/strict"
)

// Control is what operators and upstreams say about one account. Every replica watches it.
type Control struct {
	// Paused stops all calls until it is taken back.
	Paused bool `json:"paused,omitzero"`
	// Ceiling replaces the configured ceiling, in calls per second; 0 means the configured one.
	Ceiling float64 `json:"ceiling,omitzero"`
	// BlockedUntil is when the upstream may be called again, by its own word. It is the server's time.
	BlockedUntil time.Time `json:"blocked_until,omitzero"`
	// By, Why and At say who changed the entry last, for what reason, and when by that one's clock.
	By  string    `json:"by,omitzero"`
	Why string    `json:"why,omitzero"`
	At  time.Time `json:"at,omitzero"`
	// Unknown keeps what a newer version wrote.
	Unknown jsontext.Value `json:",embed"`
}

// Author is who changes a control entry and why.
type Author struct {
	By  string
	Why string
}

// View is all that is stored about one account.
type View struct {
	Account Account
	// State is nil if the account was never called, or if StateBroken.
	State       *State
	StateBroken bool
	// Control is the zero value if nobody ever said anything.
	Control       Control
	ControlBroken bool
}

// readControl reads a control entry. A deleted one says nothing.
func readControl(data []byte) (Control, error) {
	var c Control
	if data == nil {
		return c, nil
	}
	if strict.Read(data, &c) != nil || c.Ceiling < 0 {
		return Control{}, ErrBroken
	}
	return c, nil
}

// editAttempts bounds how often a change of a control entry is tried against others who change it.
const editAttempts = 50

// Pause stops all calls of an account, over all replicas, within a second.
func Pause(ctx context.Context, store Store, account Account, author Author) error {
	return edit(ctx, store, account, author, func(c *Control) { c.Paused = true })
}

// Resume takes a pause back. It does not shorten the wait that an upstream asked for.
func Resume(ctx context.Context, store Store, account Account, author Author) error {
	return edit(ctx, store, account, author, func(c *Control) { c.Paused = false })
}

// Set replaces the ceiling of an account, in calls per second. Zero brings the configured one back.
func Set(ctx context.Context, store Store, account Account, ceiling float64, author Author) error {
	if ceiling < 0 {
		return errors.New("set pace: the ceiling must not be negative")
	}
	return edit(ctx, store, account, author, func(c *Control) { c.Ceiling = ceiling })
}

// Show returns what is stored about an account. What can't be read is said to be broken.
func Show(ctx context.Context, store Store, account Account) (View, error) {
	view := View{Account: account}
	switch found, err := store.Get(ctx, account.stateKey()); {
	case errors.Is(err, ErrMissing):
	case err != nil:
		return View{}, err
	default:
		state, err := readState(found.Value, time.Now())
		view.StateBroken = err != nil
		if err == nil {
			view.State = &state
		}
	}
	found, err := store.Get(ctx, account.controlKey())
	if err != nil && !errors.Is(err, ErrMissing) {
		return View{}, err
	}
	view.Control, err = readControl(found.Value)
	view.ControlBroken = err != nil
	return view, nil
}

// Reset makes an account start anew: what was learned of its rate is forgotten, and what could not be read is replaced. Calls go on
// after the longest time for which slots of the old state can still be held. Pauses, blocks and ceilings are gone too.
func Reset(ctx context.Context, store Store, account Account, settings Settings, author Author) error {
	anew := Settings{Ceiling: max(settings.Ceiling, startAtLeast), Floor: settings.Floor, Burst: settings.Burst}
	state := begin(anew)
	state.Renewed = true
	value, err := state.bytes()
	if err != nil {
		return fmt.Errorf("reset pace: %w", err)
	}
	if err := replace(ctx, store, account.stateKey(), func([]byte) ([]byte, error) { return value, nil }); err != nil {
		return err
	}
	control := Control{By: author.By, Why: author.Why, At: time.Now().UTC()}
	return replace(ctx, store, account.controlKey(), func([]byte) ([]byte, error) { return json.Marshal(control) })
}

// edit changes the control entry of an account.
func edit(ctx context.Context, store Store, account Account, author Author, change func(*Control)) error {
	return replace(ctx, store, account.controlKey(), func(old []byte) ([]byte, error) {
		c, err := readControl(old)
		if err != nil {
			return nil, err
		}
		change(&c)
		c.By, c.Why, c.At = author.By, author.Why, time.Now().UTC()
		return json.Marshal(c)
	})
}

// replace changes one entry by compare-and-set. The change may be asked several times; nil leaves the entry as it is.
func replace(ctx context.Context, store Store, key string, change func(old []byte) ([]byte, error)) error {
	for range editAttempts {
		found, err := store.Get(ctx, key)
		if err != nil && !errors.Is(err, ErrMissing) {
			return err
		}
		value, err := change(found.Value)
		if err != nil || value == nil {
			return err
		}
		_, err = store.Put(ctx, key, value, found.Revision)
		if !errors.Is(err, ErrConflict) {
			return err
		}
		if err := sleep(ctx, jittered(editPause)); err != nil {
			return err
		}
	}
	return fmt.Errorf("change pace: %w", ErrConflict)
}

// editPause is the longest wait before a change is tried again.
const editPause = 20 * time.Millisecond
