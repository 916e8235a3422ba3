//go:build faults

package faults

import (
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asProcess makes this test binary be a NATS server, so that tests have real ones without building any.
const asProcess = "FAULTS_PROCESS"

// The flags of a soak, and the seed of everything that is drawn by chance. A seed that is not given is drawn and printed.
var (
	soakFor = flag.Duration("soak", 5*time.Second, "how long TestSoak injects faults")
	seed    = flag.Uint64("seed", 0, "seed of the faults' times and kinds; 0 draws one")
)

// waiting is how many tests run at once: they wait for processes most of the time. More of them would keep two cores busy without a pause, and a
// worker that gets no processor for two seconds gives up its pulls, after which something may be delivered again.
const waiting = "9"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) == "nats" {
		os.Exit(runNATS(os.Args[1:]))
	}
	flag.Parse()
	if *seed == 0 {
		*seed = rand.Uint64N(1 << 32)
	}
	dir, err := os.MkdirTemp("", "discount-faults-")
	if err != nil || os.Setenv(binaryDir, dir) != nil || flag.Set("test.parallel", waiting) != nil {
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(dir) // It is a temporary folder of the system.
		os.Exit(code)
	}))
}

// runNATS runs a nats-server with the usual flags until a signal ends it.
func runNATS(args []string) int {
	flags := flag.NewFlagSet("nats-server", flag.ContinueOnError)
	options, err := server.ConfigureOptions(flags, args, server.PrintServerAndExit, func() {}, server.PrintTLSHelpAndDie)
	if err != nil {
		return 2
	}
	s, err := server.NewServer(options)
	if err != nil {
		return 1
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return 1
	}
	s.WaitForShutdown()
	return 0
}

// binaryDir names the folder of the worker that is built for this run.
const binaryDir = "FAULTS_BINARY_DIR"

// workerTags names further build tags of the worker, with commas between them: a worker that is broken on purpose is built so.
const workerTags = "FAULTS_WORKER_TAGS"

// built is the worker with crash points, built once, with the race detector if this test has it.
var built = sync.OnceValues(func() (string, error) { return build("worker") })

// builtNext is the same worker as the next version, built once.
var builtNext = sync.OnceValues(func() (string, error) { return build("worker-next", "-ldflags", "-X main.version=next") })

func build(name string, more ...string) (string, error) {
	binary := filepath.Join(os.Getenv(binaryDir), name)
	args := append([]string{"build", "-tags", strings.Trim("crashpoints,"+os.Getenv(workerTags), ","), "-o", binary}, more...)
	if raceDetector {
		args = append(args, "-race")
	}
	building := exec.Command("go", append(args, "../cmd/worker")...)
	building.Stderr = os.Stderr
	return binary, building.Run()
}

func workerBinary(t *testing.T) string {
	t.Helper()
	binary, err := built()
	require.NoError(t, err)
	return binary
}

// full tells whether the heavy form of each test runs.
func full() bool { return os.Getenv("FAULTS") == "full" || every() }

// every tells that no place is left out where thousands could be tried.
func every() bool { return os.Getenv("FAULTS") == "every" }

// times returns how often a fault is injected: seldom in every test run, often in the proof.
func times(short, long int) int {
	if full() {
		return long
	}
	return short
}

// chance returns the source of all that one test draws.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	of := uint64(14695981039346656037)
	for _, b := range []byte(t.Name()) {
		of = (of ^ uint64(b)) * 1099511628211
	}
	t.Logf("seed %d", *seed)
	return rand.New(rand.NewPCG(*seed, of))
}
