package config_test

import (
	"fmt"
	"os"

	"discountquery.example/worker/internal/config"
)

// The environment wins over the file; here there is no file.
func ExampleLoad() {
	cfg, err := config.Load("", []string{"DISCOUNT_LANES__INTERACTIVE__SLOTS=64"})
	fmt.Println(cfg.Lanes.Interactive.Slots, err)
	_, err = config.Load("", []string{"DISCOUNT_LANES__INTERACTIVE__SLOT=64", "DISCOUNT_SHUTDOWN__GRACE=25"})
	fmt.Println(err)
	// Output:
	// 64 <nil>
	// DISCOUNT_LANES__INTERACTIVE__SLOT: unknown variable; did you mean DISCOUNT_LANES__INTERACTIVE__SLOTS?
	// DISCOUNT_SHUTDOWN__GRACE: shutdown.grace: must be a duration with units, such as 200ms, 30s or 1h30m
}

// Validate names every problem and what to do.
func ExampleConfig_Validate() {
	cfg := config.Default()
	cfg.Log.Level = "verbose"
	cfg.Consumer.AckWait = cfg.HTTP.AttemptTimeout
	fmt.Println(cfg.Validate())
	// Output:
	// consumer.ack_wait: must be longer than every provider's attempt timeout, or queries are handed out twice; raise it
	// log.level: must be one of debug, info, warn, error
}

// A password in an address is not printed.
func ExampleURL() {
	address := config.URL("nats://worker:hunter2@broker:4222")
	fmt.Fprintf(os.Stdout, "%v\n", address)
	// Output: nats://worker:xxxxx@broker:4222
}
