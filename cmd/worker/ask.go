package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// askCommand publishes one query and waits for its result.
type askCommand struct {
	EasyPay  askEasyPayCommand  `cmd:"" name:"easypay" help:"Ask EasyPay which coupons a card company offers."`
	UnionPay askUnionPayCommand `cmd:"" name:"unionpay" help:"Ask UnionPay how much of an offer a cardholder has used."`
}

// askFlags are the flags of both kinds of query.
type askFlags struct {
	configFlag

	Client  string        `default:"cli" help:"Client token in the subject."`
	Source  string        `default:"urn:discountquery:cli" help:"CloudEvents source of the query."`
	ID      string        `help:"CloudEvents id of the query; random by default."`
	Lane    string        `default:"interactive" enum:"interactive,bulk" help:"Lane: interactive or bulk."`
	Order   string        `help:"Order id, echoed in the result as correlationid."`
	Trace   string        `name:"traceparent" placeholder:"CONTEXT" help:"W3C trace context of whoever asks, with which the worker's spans go on."`
	Timeout time.Duration `default:"10s" help:"How long to wait; also the query's deadline."`
	MaxAge  time.Duration `default:"-1s" placeholder:"DURATION" help:"Take an answer to the same question that is not older, such as 30s."`
	Direct  bool          `help:"Send a request and wait for the reply, beside the queue; before all others, but not kept if no worker takes it."`
}

// askEasyPayCommand asks EasyPay.
type askEasyPayCommand struct {
	askFlags

	MallID  string `name:"mall-id" help:"KICC's merchant id; the configured one by default."`
	CardCd  string `name:"card-cd" xor:"card" help:"Card company code, 3 characters, such as 008."`
	CardBin string `name:"card-bin" xor:"card" help:"First 8 digits of the card number."`
	Amount  int64  `help:"Payment in won."`
}

// Help returns the example of the command.
func (askEasyPayCommand) Help() string {
	return `Example:
  worker ask easypay --mall-id T5102001 --card-bin 12345678 --amount 51004`
}

// Run publishes the query and prints its result.
func (c *askEasyPayCommand) Run(t *terminal) error {
	question := &query.EasyPayQuestion{MallID: c.MallID, CardCd: c.CardCd, CardBin: c.CardBin}
	if c.Amount < 0 {
		return usagef("--amount must be above 0")
	}
	if c.Amount > 0 {
		question.Amount = &c.Amount
	}
	return c.ask(t, client.Question{Provider: query.EasyPay, EasyPay: question}, "")
}

// askUnionPayCommand asks UnionPay.
type askUnionPayCommand struct {
	askFlags

	PID       string `name:"pid" help:"Offer, up to 10 digits; the configured one by default."`
	ScenID    string `name:"scen-id" help:"Scenario, up to 4 characters."`
	Card      string `required:"" help:"Card number. Use test numbers only: a command line is not a safe place."`
	UserToken string `required:"" help:"The cardholder's user token at UnionPay."`
	Mobile    string `help:"The cardholder's mobile number."`
	PublicKey string `placeholder:"FILE" help:"The worker's public key (JWK); by default the one in cards.keys_dir that seals now."`
}

// Help returns the example of the command.
func (askUnionPayCommand) Help() string {
	return `The card data is sealed to the worker's public key before it leaves this process.

Example:
  worker ask unionpay --pid 1234567890 --card 6200000000000005 --user-token test1`
}

// Run seals the card data, publishes the query and prints its result.
func (c *askUnionPayCommand) Run(t *terminal) error {
	number, err := card.ParseNumber(c.Card)
	if err != nil {
		return usagef("--card is not a card number: it must have 13 to 19 digits and a right check digit")
	}
	return c.ask(t, client.Question{
		Provider: query.UnionPay, UnionPay: &query.UnionPayQuestion{PID: c.PID, ScenID: c.ScenID},
		Card: &card.Details{Number: number, UserToken: card.NewSecret(c.UserToken), Mobile: card.NewSecret(c.Mobile)},
	}, c.PublicKey)
}

// ask publishes the question and prints its result.
func (f askFlags) ask(t *terminal, question client.Question, publicKey string) error {
	settings, err := f.load(t)
	if err != nil {
		return err
	}
	if f.MaxAge > query.MaxMaxAge {
		return usagef("--max-age must be at most %s", query.MaxMaxAge)
	}
	if !query.IsToken(f.Client) {
		return usagef("--client must be 1 to 64 letters, digits, - or _")
	}
	var sealer *card.Sealer
	if question.Card != nil {
		if sealer, err = loadSealer(settings, publicKey); err != nil {
			return err
		}
	}
	connected, publisher, err := f.connect(t, settings, sealer)
	if err != nil {
		return err
	}
	defer closeBroker(t, connected)
	question.Source, question.ID, question.Lane, question.Correlation = f.Source, f.ID, query.Lane(f.Lane), f.Order
	question.TraceParent = f.Trace
	ctx, cancel := context.WithTimeout(t.ctx, f.Timeout)
	defer cancel()
	question.Expires = time.Now().Add(f.Timeout)
	if f.MaxAge >= 0 {
		question.MaxAge = &f.MaxAge
	}
	ask := publisher.Ask
	if f.Direct {
		ask = publisher.Direct
	}
	result, err := ask(ctx, question)
	if errors.Is(err, client.ErrNoResult) {
		return fmt.Errorf("%w after %s; look again with: worker result --key %s", err, f.Timeout, result.Key)
	}
	if err != nil {
		return err
	}
	return t.printResult(result)
}

func (f askFlags) connect(t *terminal, settings config.Config, sealer *card.Sealer) (*app.Broker, *client.Client, error) {
	return connectClient(t, settings, f.Client, sealer)
}

// connectClient connects as a publisher with the given token.
func connectClient(t *terminal, settings config.Config, name string, sealer *card.Sealer) (*app.Broker, *client.Client, error) {
	connected, err := app.OpenBroker(t.ctx, settings, app.BrokerOptions{Name: "discount-" + name})
	if err != nil {
		return nil, nil, err
	}
	return connected, client.New(client.Options{
		Conn: connected.Conn, JS: connected.JS, Subjects: query.NewSubjects(settings.Prefix), Name: name,
		ResultStream: app.Topology(settings).Names().Results(), Sealer: sealer,
	}), nil
}

func closeBroker(t *terminal, connected *app.Broker) {
	_ = connected.Close(context.WithoutCancel(t.ctx)) // The command has its answer; nothing is under way any more.
}

// loadSealer returns the sealer to the worker's public key.
func loadSealer(settings config.Config, publicKey string) (*card.Sealer, error) {
	if publicKey != "" {
		return card.LoadSealer(publicKey)
	}
	ring, err := card.LoadRing(settings.Cards.KeysDir)
	if err != nil {
		return nil, fmt.Errorf("%w (or name the worker's public key with --public-key)", err)
	}
	return ring.Sealer(), nil
}

// printResult prints a result's event. A failed one makes the command end with exit code 1.
func (t *terminal) printResult(result client.Result) error {
	event := jsontext.Value(result.Event)
	if err := event.Indent(jsontext.WithIndent("  ")); err != nil {
		return fmt.Errorf("result %s is not JSON", result.Key)
	}
	if err := t.print(string(event)); err != nil {
		return err
	}
	if result.Status != query.Completed {
		return errNo
	}
	return nil
}

// resultCommand reads a stored result.
type resultCommand struct {
	configFlag

	Key    string `xor:"what" help:"The query's key."`
	Client string `help:"Client token of the query."`
	Source string `help:"CloudEvents source of the query."`
	ID     string `xor:"what" help:"CloudEvents id of the query."`
}

// Help returns the example of the command.
func (resultCommand) Help() string {
	return `Prints the result's event as JSON. Exit code 1 means that there is none, or that the query failed.

Example:
  worker result --client shop --source urn:shop:checkout --id order-42`
}

// Run prints the stored result.
func (c *resultCommand) Run(t *terminal) error {
	settings, err := c.load(t)
	if err != nil {
		return err
	}
	key := c.Key
	if key == "" {
		if c.Client == "" || c.Source == "" || c.ID == "" {
			return usagef("give either --key, or --client, --source and --id")
		}
		key = query.Key(c.Client, c.Source, c.ID)
	}
	if !query.IsToken(key) {
		return usagef("--key is not a key")
	}
	connected, reader, err := connectClient(t, settings, "result", nil)
	if err != nil {
		return err
	}
	defer closeBroker(t, connected)
	result, err := reader.Result(t.ctx, key)
	if err != nil {
		return err
	}
	return t.printResult(result)
}
