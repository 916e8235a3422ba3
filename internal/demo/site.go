package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"discountquery.example/worker/internal/config"
)

// Site is where the parts of a demo are while they run.
type Site struct {
	// Dir holds everything; Config is the file in it that every command takes as its configuration.
	Dir    string `json:"dir"`
	Config string `json:"config"`
	// Broker and Upstreams are the addresses of the broker and of the upstreams' admin pages, which take faults.
	Broker    string `json:"broker"`
	Upstreams string `json:"upstreams"`
}

// ConfigFile is the name of the configuration in a demo's directory.
const ConfigFile = "worker.yaml"

// Reopen runs broker, upstreams and workers again on the directory that an earlier demo kept (options.Keep), asks nothing and calls
// options.OnAsked. The upstreams behave.
func Reopen(ctx context.Context, options Options) error {
	dir, err := filepath.Abs(options.Keep)
	if err != nil {
		return fmt.Errorf("find %s: %w", options.Keep, err)
	}
	if _, err := os.Stat(filepath.Join(dir, ConfigFile)); err != nil {
		return fmt.Errorf("%s holds no demo that can be opened again: it needs --with-failures or --stay, and --keep", options.Keep)
	}
	d := &demo{Options: options, dir: dir, again: true, pace: agreed()}
	_, err = d.run(ctx)
	return err
}

// show makes the upstreams behave, writes down how to reach everything and hands over.
func (d *demo) show(brokerURL string, summary *Summary) error {
	if err := d.sandbox.SetFaults(nil); err != nil {
		return err
	}
	summary.Site = Site{
		Dir: d.dir, Config: filepath.Join(d.dir, ConfigFile), Broker: brokerURL, Upstreams: d.upstream.AdminURL(),
	}
	c := d.config
	c.NATS.URL = config.URL(brokerURL)
	if err := writeConfig(summary.Site.Config, c); err != nil {
		return err
	}
	return d.OnAsked(*summary)
}

// writeConfig writes a configuration for its owner, over an older one if there is one.
func writeConfig(name string, c config.Config) (err error) {
	file, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return c.Print(file)
}
