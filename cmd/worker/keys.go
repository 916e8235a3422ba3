package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/strict"
)

// keysCommand makes keys and shows them.
type keysCommand struct {
	New    newKeysCommand    `cmd:"" help:"Make a key pair for sealed card data and a key for fingerprints."`
	Ls     lsKeysCommand     `cmd:"" help:"List the workers' keys: which one seals, which take over when."`
	Public publicKeysCommand `cmd:"" help:"Print the public keys for publishers as a JWK Set, the one to seal to first."`
	Rotate rotateKeysCommand `cmd:"" help:"Make a new key pair that takes over in a while, and say what to do next."`
}

// newKeysCommand makes a new key pair and fingerprint key.
type newKeysCommand struct {
	Dir  string `default:"keys" help:"Directory for the files; nothing in it is overwritten."`
	JSON bool   `help:"Print JSON."`
}

// Help returns the example of the command.
func (newKeysCommand) Help() string {
	return `Writes three JWK files: the private key and the fingerprint key for the workers (keep them secret, give every
worker the same ones), and the public key for publishers.

Example:
  worker keys new --dir keys`
}

// Run makes the keys.
func (c *newKeysCommand) Run(t *terminal) error {
	files, err := card.NewKeys(c.Dir, time.Now())
	if err != nil {
		return err
	}
	if c.JSON {
		return t.printJSON(map[string]string{"private": files[0], "public": files[1], "fingerprint": files[2]})
	}
	return t.print(fmt.Sprintf("private key      %s\npublic key       %s  (for publishers)\nfingerprint key  %s", files[0], files[1], files[2]))
}

// sealCommand seals card data.
type sealCommand struct {
	configFlag

	PublicKey  string   `xor:"key" placeholder:"FILE" help:"The worker's public key (JWK)."`
	FromNATS   bool     `name:"from-nats" xor:"key" help:"Get the key to use now from the workers, over NATS."`
	Thumbprint []string `placeholder:"SHA256" help:"With --from-nats: seal to a key with this thumbprint only, as worker keys ls prints it."`
	Source     string   `required:"" help:"CloudEvents source of the query that will carry it."`
	ID         string   `required:"" help:"CloudEvents id of the query that will carry it."`
}

// Help returns the example of the command.
func (sealCommand) Help() string {
	return `Reads {"userToken": ..., "cardNo": ..., "mobile": ...} from standard input and prints the sealed text (a compact
JWE), which is the "data" member of a query for unionpay. It is bound to that query's id and source.

With --from-nats and no --thumbprint, whoever replies on discount.keys is trusted: the workers, and anybody who has their NATS key or
administers the broker. Give --thumbprint once for each key that may be in use; no other key is sealed to.

Example:
  worker seal --public-key keys/20260102-030405-0a1b2c3d.public.jwk --source urn:shop:checkout --id order-42 < card.json
  worker seal --from-nats -c shop.yaml --source urn:shop:checkout --id order-42 < card.json
  worker seal --from-nats --thumbprint NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs -c shop.yaml --source urn:shop --id 1 < card.json`
}

// Validate requires that a key is named. It runs when the command line was read.
func (c *sealCommand) Validate() error {
	if c.PublicKey == "" && !c.FromNATS {
		return errors.New("say which key to seal to: --public-key or --from-nats")
	}
	return nil
}

// sealer returns the sealer to the key in the file, or to the one that the workers say.
func (c *sealCommand) sealer(t *terminal) (*card.Sealer, error) {
	switch {
	case !c.FromNATS && len(c.Thumbprint) > 0:
		return nil, usagef("--thumbprint goes with --from-nats: a file is trusted as it is")
	case !c.FromNATS:
		return card.LoadSealer(c.PublicKey)
	case slices.ContainsFunc(c.Thumbprint, func(pin string) bool { return !card.IsThumbprint(pin) }):
		return nil, usagef("--thumbprint is no SHA-256 thumbprint of a key: 43 letters, digits, - and _, as worker keys ls prints it")
	}
	set, err := fetchKeys(t, c.configFlag)
	if err != nil {
		return nil, err
	}
	sealer, err := card.ReadSet(set, c.Thumbprint...)
	if errors.Is(err, card.ErrNotPinned) {
		return nil, fmt.Errorf("%w: the workers have other keys by now, or somebody else replies in their place; nothing was sealed", err)
	}
	return sealer, err
}

// maxSealInput bounds the input of seal in bytes.
const maxSealInput = 4 << 10

// Run seals the data on standard input.
func (c *sealCommand) Run(t *terminal) error {
	sealer, err := c.sealer(t)
	if err != nil {
		return err
	}
	input, err := io.ReadAll(io.LimitReader(t.stdin, maxSealInput+1))
	if err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	var data struct {
		UserToken string `json:"userToken"`
		CardNo    string `json:"cardNo"`
		Mobile    string `json:"mobile"`
	}
	if len(input) > maxSealInput || strict.ReadExactly(bytes.TrimSpace(input), &data) != nil || data.UserToken == "" {
		return usagef(`standard input must be JSON with "userToken", "cardNo" and, if wanted, "mobile", all text`)
	}
	number, err := card.ParseNumber(data.CardNo)
	if err != nil {
		return usagef("cardNo is not a card number: it must have 13 to 19 digits and a right check digit")
	}
	sealed, err := sealer.SealDetails(
		card.Details{UserToken: card.NewSecret(data.UserToken), Number: number, Mobile: card.NewSecret(data.Mobile)},
		card.Binding{ID: c.ID, Source: c.Source, Type: query.TypeRequested})
	if err != nil {
		return err
	}
	return t.print(sealed)
}
