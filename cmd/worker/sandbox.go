package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"discountquery.example/worker/internal/upstream/sandbox"
)

// sandboxCommand runs the simulated upstreams.
type sandboxCommand struct {
	EasyPay  string `name:"easypay" default:"127.0.0.1:9101" help:"Address of the simulated EasyPay; empty for none."`
	UnionPay string `name:"unionpay" default:"127.0.0.1:9102" help:"Address of the simulated UnionPay; empty for none."`
	Admin    string `default:"127.0.0.1:9100" help:"Address to read counts and change faults; empty for none."`
	Keys     string `default:"sandbox-keys" help:"Directory of the UnionPay keys of both sides; made if it is missing."`
	Faults   string `help:"Faults, such as easypay:status=503@0.1,unionpay:latency=1s."`
	Seed     uint64 `default:"1" help:"Seed of everything that is drawn by chance."`
}

// Help returns the grammar of faults and the example of the command.
func (sandboxCommand) Help() string {
	return sandbox.FaultHelp() + `
Example:
  worker sandbox --faults 'easypay:status=503@0.1,unionpay:latency=50ms-2s'`
}

// Run serves the upstreams until a signal comes.
func (c *sandboxCommand) Run(t *terminal) error {
	faults, err := sandbox.ParseFaults(c.Faults)
	if err != nil {
		return usagef("--faults: %w", err)
	}
	options := sandbox.Options{Seed: c.Seed}
	var keys sandbox.Keys
	if c.UnionPay != "" {
		if keys, err = sandboxKeys(c.Keys); err != nil {
			return err
		}
		options.UnionPay = keys.UnionPay()
	}
	upstreams := sandbox.New(options)
	if err := upstreams.SetFaults(faults); err != nil {
		return usagef("--faults: %w", err)
	}
	running, err := upstreams.Start(t.ctx, sandbox.Listen{EasyPay: c.EasyPay, UnionPay: c.UnionPay, Admin: c.Admin})
	if err != nil {
		return err
	}
	if err := t.print(c.settings(running, keys)); err != nil {
		return err
	}
	<-t.ctx.Done()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 5*time.Second)
	defer cancel()
	return running.Close(ctx)
}

// sandboxKeys loads the keys in dir, or makes them.
func sandboxKeys(dir string) (sandbox.Keys, error) {
	keys, err := sandbox.LoadKeys(dir)
	if !errors.Is(err, os.ErrNotExist) {
		return keys, err
	}
	if keys, err = sandbox.NewKeys(); err != nil {
		return keys, err
	}
	err = keys.WriteTo(dir)
	return keys, err
}

// settings returns the part of a worker's configuration that reaches the sandbox, ready to be pasted.
func (c *sandboxCommand) settings(running *sandbox.Running, keys sandbox.Keys) string {
	text := "# The sandbox runs."
	if c.Admin != "" {
		text += fmt.Sprintf(" Counts: %s/stats  Faults: PUT %s/faults", running.AdminURL(), running.AdminURL())
	}
	text += "\n# A worker reaches it with:\nproviders:\n  easypay:\n"
	if c.EasyPay == "" {
		text += "    enabled: false"
	} else {
		text += "    base_url: " + running.EasyPayURL() + "\n    mall_id: T5102001"
	}
	if c.UnionPay == "" {
		return text
	}
	dir, err := filepath.Abs(c.Keys)
	if err != nil {
		dir = c.Keys
	}
	return text + fmt.Sprintf(unionPaySettings, running.UnionPayURL(), sandbox.UnionPayPath, sandbox.DefaultAppID,
		keys.ClientSignKid, filepath.Join(dir, "client-sign.key.pem"),
		keys.UPISignKid, filepath.Join(dir, "upi-sign.pub.pem"),
		keys.UPIEncryptKid, filepath.Join(dir, "upi-encrypt.pub.pem"))
}

// unionPaySettings is what reaches the simulated UnionPay: its URL, path and application id, and three keys with their ids.
const unionPaySettings = `
  unionpay:
    enabled: true
    base_url: %s
    path: %s
    proc_type: "01"
    sign_cert_id: "001"
    enc_cert_id: "002"
    ins_code: "100120156"
    app_id: "%s"
    pid: "1234567890"
    jws:
      kid: "%s"
      private_key_file: %s
    response:
      key_files:
        "%s": %s
    encryption:
      kid: "%s"
      public_key_file: %s`
