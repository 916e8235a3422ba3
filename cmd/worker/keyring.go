package main

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"discountquery.example/worker/internal/card"
)

// keysFlag says which directory of keys is meant.
type keysFlag struct {
	configFlag

	Dir string `placeholder:"DIR" help:"Directory of the workers' keys; cards.keys_dir of the configuration by default."`
}

// dir returns the directory of the workers' keys.
func (f keysFlag) dir(t *terminal) (string, error) {
	if f.Dir != "" {
		return f.Dir, nil
	}
	settings, err := f.load(t)
	return settings.Cards.KeysDir, err
}

// ring reads the workers' keys.
func (f keysFlag) ring(t *terminal) (*card.Ring, error) {
	dir, err := f.dir(t)
	if err != nil {
		return nil, err
	}
	return card.LoadRing(dir)
}

// lsKeysCommand lists the workers' keys.
type lsKeysCommand struct {
	keysFlag

	JSON bool `help:"Print JSON."`
}

// Help returns the example of the command.
func (lsKeysCommand) Help() string {
	return `Every key opens what was sealed to it. The active one seals, or takes fingerprints; a later one takes over at its time.
THUMBPRINT is that of the public half (RFC 7638, SHA-256): what publishers give to worker seal --thumbprint.

Example:
  worker keys ls -c worker.yaml`
}

// Run lists them.
func (c *lsKeysCommand) Run(t *terminal) error {
	ring, err := c.ring(t)
	if err != nil {
		return err
	}
	if c.JSON {
		return t.printJSON(ring.Keys())
	}
	now := time.Now()
	table := newColumns(t.stdout)
	table.row("KID", "FOR", "STATE", "CREATED", "AGE", "THUMBPRINT", "FILE")
	for _, key := range ring.Keys() {
		created, age := "unknown", "unknown"
		if !key.Created.IsZero() {
			created, age = key.Created.Format(time.DateTime), days(now.Sub(key.Created))
		}
		table.row(key.ID, keyUse(key), keyState(key, now), created, age, cmp.Or(key.Thumbprint, "-"), key.File)
	}
	return table.flush()
}

// keyUse says what a key is for.
func keyUse(key card.KeyInfo) string {
	if key.Fingerprint {
		return "fingerprints"
	}
	return "card data"
}

// keyState says what a key does now.
func keyState(key card.KeyInfo, now time.Time) string {
	switch {
	case key.Active:
		return "active"
	case key.From.After(now):
		return "active from " + key.From.Format(time.DateTime)
	case key.Fingerprint:
		return "unused"
	default:
		return "opens"
	}
}

// days returns an age in days once it has any.
func days(age time.Duration) string {
	if age < 48*time.Hour {
		return age.Round(time.Minute).String()
	}
	return fmt.Sprintf("%d days", age/(24*time.Hour))
}

// publicKeysCommand prints the public keys.
type publicKeysCommand struct {
	keysFlag

	FromNATS bool `name:"from-nats" help:"Ask the running workers, as publishers do, and need no right to read their keys."`
	JSON     bool `help:"Print JSON, which is what is printed without it too."`
}

// Help returns the example of the command.
func (publicKeysCommand) Help() string {
	return `Prints a JWK Set (RFC 7517). Publishers seal to its first key. The others are those that workers still open, and those that take over later.
Workers serve the same on a request subject, discount.keys.

Example:
  worker keys public -c worker.yaml > discount-keys.json
  worker keys public --from-nats -c shop.yaml`
}

// Run prints them.
func (c *publicKeysCommand) Run(t *terminal) error {
	if c.FromNATS {
		set, err := fetchKeys(t, c.configFlag)
		if err != nil {
			return err
		}
		if _, err := card.ReadSet(set); err != nil {
			return err
		}
		return t.print(strings.TrimSpace(string(set)))
	}
	ring, err := c.ring(t)
	if err != nil {
		return err
	}
	set, err := ring.PublicSet()
	if err != nil {
		return err
	}
	return t.print(string(set))
}

// fetchTimeout is how long the workers' keys are waited for.
const fetchTimeout = 5 * time.Second

// fetchKeys asks the workers for their public keys.
func fetchKeys(t *terminal, f configFlag) ([]byte, error) {
	settings, err := f.load(t)
	if err != nil {
		return nil, err
	}
	connected, publisher, err := connectClient(t, settings, "keys", nil)
	if err != nil {
		return nil, err
	}
	defer closeBroker(t, connected)
	ctx, cancel := context.WithTimeout(t.ctx, fetchTimeout)
	defer cancel()
	return publisher.PublicKeys(ctx)
}

// rotateKeysCommand makes a key that takes over.
type rotateKeysCommand struct {
	keysFlag

	ActiveIn    time.Duration `default:"10m" placeholder:"DURATION" help:"When the new key takes over (10m); until then every worker needs its file."`
	Fingerprint bool          `help:"Make a new fingerprint key instead. Events before and after it can't be joined by card any more."`
	JSON        bool          `help:"Print JSON."`
}

// Help returns the example of the command.
func (rotateKeysCommand) Help() string {
	return `Writes a new key pair beside the others and overwrites nothing. Workers read it within a minute, without a restart, and open with it at
once; they seal to it, and tell publishers to, once its time has come. docs/keys.md goes through all steps.

Example:
  worker keys rotate -c worker.yaml
  worker keys rotate --dir keys --active-in 1h`
}

// rotated is what a rotation made.
type rotated struct {
	ID       string    `json:"kid"`
	From     time.Time `json:"from"`
	Files    []string  `json:"files"`
	Previous string    `json:"previous"`
}

// Run makes the key and says what to do next.
func (c *rotateKeysCommand) Run(t *terminal) error {
	if c.ActiveIn < 0 {
		return usagef("--active-in must not be negative")
	}
	dir, err := c.dir(t)
	if err != nil {
		return err
	}
	before, err := card.LoadRing(dir)
	if err != nil {
		return err
	}
	made, err := c.make(dir, before, time.Now().UTC())
	if err != nil {
		return err
	}
	if c.JSON {
		return t.printJSON(made)
	}
	return t.print(c.next(made))
}

// make writes the new key and reads it back, so that what is told to be there is there.
func (c *rotateKeysCommand) make(dir string, before *card.Ring, now time.Time) (rotated, error) {
	made := rotated{From: now.Add(c.ActiveIn).Truncate(time.Second)}
	var err error
	if c.Fingerprint {
		made.Files = make([]string, 1)
		made.Files[0], err = card.NewFingerprintKey(dir, now, made.From)
	} else {
		made.Files, err = card.NewKeyPair(dir, now, made.From)
	}
	if err != nil {
		return made, err
	}
	after, err := card.LoadRing(dir)
	if err != nil {
		return made, err
	}
	for _, key := range before.Keys() {
		if key.Active && key.Fingerprint == c.Fingerprint {
			made.Previous = key.ID
		}
	}
	for _, key := range after.Keys() {
		if key.File == made.Files[0] {
			made.ID = key.ID
		}
	}
	return made, nil
}

// next says what is to be done after a rotation.
func (c *rotateKeysCommand) next(made rotated) string {
	text := fmt.Sprintf("made %s\n  %s\n\nNext:\n", made.ID, strings.Join(made.Files, "\n  "))
	text += fmt.Sprintf("  1. Give every worker the file %s before %s; each reads it while it runs.\n", made.Files[0], made.From.Format(time.RFC3339))
	if c.Fingerprint {
		return text + fmt.Sprintf("  2. Keep %s for as long as events are joined by the fingerprints it took.", made.Previous)
	}
	return text + fmt.Sprintf(`  2. From then on publishers get it from discount.keys (worker keys public); hand it to those who keep a file.
  3. Wait until nothing is sealed to %s any more: discount_worker_sealed_opened_total{kid="%s"} stands still
     for as long as the longest deadline and horizon.
  4. Seal the dead letters anew: worker dead reseal --apply
  5. Take the files of %s away from every worker.`, made.Previous, made.Previous, made.Previous)
}
