package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// asProcess makes this test binary be something else: the worker, or a NATS server. So tests have real processes without building one.
const asProcess = "DISCOUNT_TEST_PROCESS"

func TestMain(m *testing.M) {
	switch os.Getenv(asProcess) {
	case "worker":
		if err := os.Unsetenv(asProcess); err != nil {
			os.Exit(exitNo)
		}
		os.Exit(runProcess())
	case "worker with dumps":
		os.Exit(processWithDumps())
	case "nats":
		os.Exit(runNATS(os.Args[1:]))
	default:
		goleak.VerifyTestMain(m)
	}
}

// runNATS runs a nats-server with the usual flags until a signal ends it.
func runNATS(args []string) int {
	options, err := server.ConfigureOptions(flags(), args, server.PrintServerAndExit, func() {}, server.PrintTLSHelpAndDie)
	if err != nil {
		return exitUsage
	}
	s, err := server.NewServer(options)
	if err != nil {
		return exitNo
	}
	s.ConfigureLogger()
	if err := server.Run(s); err != nil {
		return exitNo
	}
	s.WaitForShutdown()
	return exitOK
}

// outcome is what one command line came to.
type outcome struct {
	code   int
	stdout string
	stderr string
}

// command runs a command line in this process.
func command(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, nil, strings.NewReader(stdin), &stdout, &stderr)
	return outcome{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	kept := t.TempDir()
	got := command(t, "", "demo", "--queries", "60", "--json", "--keep", kept)
	require.Equal(t, exitOK, got.code, got.stderr)
	var summary map[string]any
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &summary), "standard output holds one JSON value and nothing else")
	require.EqualValues(t, 60, summary["sent"])
	require.EqualValues(t, 60, summary["completed"])
	require.EqualValues(t, 0, summary["missing"])
	require.EqualValues(t, 0, summary["duplicates"])
	require.GreaterOrEqual(t, summary["upstreamCalls"], float64(60))
	require.Len(t, summary["callsPerWorker"], 2)
	require.Contains(t, summary, "tooMany")
	require.Contains(t, got.stderr, "completed 60")
	require.DirExists(t, kept+"/store")

	again := command(t, "", "demo", "--keep", kept)
	require.Equal(t, exitNo, again.code, "a directory that is in use is not touched")
	require.Contains(t, again.stderr, "not empty")
}

func TestDemoTable(t *testing.T) {
	t.Parallel()
	got := command(t, "", "demo", "--queries", "5")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, "Every query ended in exactly one result.")
	require.Contains(t, got.stdout, "latency p99")
	require.Contains(t, got.stdout, "2 worker(s) kept one rate: ")
	require.Contains(t, got.stdout, "; 0 too many")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"no command":           {nil, exitUsage, "expected one of"},
		"unknown command":      {[]string{"rum"}, exitUsage, "unexpected argument rum"},
		"unknown flag":         {[]string{"demo", "--querie", "3"}, exitUsage, `did you mean "--queries"`},
		"negative queries":     {[]string{"demo", "--queries=-1"}, exitUsage, "--queries"},
		"missing config":       {[]string{"run", "-c", "nowhere.yaml"}, exitUsage, "nowhere.yaml"},
		"both cards":           {[]string{"ask", "easypay", "--card-cd", "008", "--card-bin", "12345678"}, exitUsage, "--card"},
		"no card number":       {[]string{"ask", "unionpay", "--card", "6200000000000006", "--user-token", "x"}, exitUsage, "check digit"},
		"result without key":   {[]string{"result", "--client", "shop"}, exitUsage, "--source"},
		"print as JSON":        {[]string{"check", "--print", "--json", "-c", "testdata/password.yaml"}, exitUsage, "--print"},
		"plan and apply":       {[]string{"setup", "--plan", "--apply"}, exitUsage, "--plan"},
		"unknown fault":        {[]string{"sandbox", "--faults", "easypay:explode", "--keys", "x"}, exitUsage, "explode"},
		"nobody there":         {[]string{"result", "--key", "abc", "-c", "testdata/nobody.yaml"}, exitUnreachable, "no NATS server answers"},
		"setup, nobody there":  {[]string{"setup", "-c", "testdata/nobody.yaml"}, exitUnreachable, "no NATS server answers"},
		"unknown key":          {[]string{"check", "-c", "testdata/unknown-key.yaml"}, exitUsage, "lanes.interactive.slots"},
		"check, nobody there":  {[]string{"check", "-c", "testdata/nobody.yaml"}, exitUnreachable, "could not be reached"},
		"ask, no public key":   {[]string{"ask", "unionpay", "--card", "6200000000000005", "--user-token", "x", "-c", "testdata/nobody.yaml"}, exitNo, "worker keys new"},
		"seal without a key":   {[]string{"seal", "--source", "a", "--id", "b"}, exitUsage, "--public-key or --from-nats"},
		"seal without a query": {[]string{"seal", "--public-key", "x"}, exitUsage, "--source"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", test.args...)
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stdout+got.stderr, test.says)
			require.NotContains(t, got.stdout+got.stderr, "6200000000000006")
		})
	}
}

func TestEveryCommandHasAnExample(t *testing.T) {
	t.Parallel()
	for _, words := range []string{
		"run", "demo", "setup", "pace show", "pace set", "pace pause", "pace resume", "pace reset", "check", "ask easypay", "ask unionpay",
		"result", "seal", "keys new", "keys ls", "keys public", "keys rotate", "sandbox", "version",
	} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", append(strings.Fields(words), "--help")...)
			require.Equal(t, exitOK, got.code)
			require.Contains(t, got.stdout, "Example:\n")
			require.Contains(t, got.stdout, "worker "+words)
		})
	}
	require.Contains(t, command(t, "", "--help").stdout, "Exit codes: 0 ok")
}

func TestVersion(t *testing.T) {
	t.Parallel()
	require.Contains(t, command(t, "", "version").stdout, "worker ")
	var parsed map[string]string
	require.NoError(t, json.Unmarshal([]byte(command(t, "", "version", "--json").stdout), &parsed))
	require.NotEmpty(t, parsed["version"])
}

func TestPrintConfiguration(t *testing.T) {
	t.Parallel()
	got := command(t, "", "check", "--print", "-c", "testdata/password.yaml")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, "interactive:")
	require.NotContains(t, got.stdout, "hunter2")
}
