package app

import (
	"flag"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// waiting is how many tests run at once, on however few cores: they wait for timers and for each other most of the time.
const waiting = "4"

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Set("test.parallel", waiting) != nil {
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}
