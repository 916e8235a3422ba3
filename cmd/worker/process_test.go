package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/freeport"
)

func flags() *flag.FlagSet { return flag.NewFlagSet("nats-server", flag.ContinueOnError) }

// process is a real process that ends with its test.
type process struct {
	cmd    *exec.Cmd
	output *safeBuffer
	done   chan error
}

// safeBuffer can be read while a process writes to it.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

// start starts this test binary as the named process.
func start(t *testing.T, as, dir string, args ...string) *process {
	t.Helper()
	return startWith(t, nil, as, dir, args...)
}

// startWith is start with more variables.
func startWith(t *testing.T, variables []string, as, dir string, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := &process{cmd: exec.Command(self, args...), output: &safeBuffer{}, done: make(chan error, 1)}
	p.cmd.Dir = dir
	p.cmd.Env = append(append(os.Environ(), asProcess+"="+as), variables...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	require.NoError(t, p.cmd.Start())
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		select {
		case <-p.done:
		case <-time.After(10 * time.Second):
			t.Error("a process did not end")
		}
		if t.Failed() {
			t.Logf("%s %v:\n%s", as, args, p.output)
		}
	})
	return p
}

// kill ends the process at once, as kill -9 does.
func (p *process) kill(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Kill())
	p.done <- <-p.done
}

// site is a broker, a sandbox and a configuration for them, all in processes of their own.
type site struct {
	dir    string
	config string
	admin  string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir(), admin: freeport.Address(t)}
	broker := freeport.Address(t)
	_, port, err := net.SplitHostPort(broker)
	require.NoError(t, err)
	start(t, "nats", s.dir, "-js", "-sd", filepath.Join(s.dir, "js"), "-a", "127.0.0.1", "-p", port)
	easypay, unionpay := freeport.Address(t), freeport.Address(t)
	sandbox := start(t, "worker", s.dir, "sandbox", "--easypay", easypay, "--unionpay", unionpay, "--admin", "")
	require.Eventually(t, func() bool { return strings.Contains(sandbox.output.String(), "public_key_file") }, time.Minute, 20*time.Millisecond)
	s.config = filepath.Join(s.dir, "worker.yaml")
	settings := fmt.Sprintf("nats: {url: \"nats://%s\"}\nadmin: {listen: \"%s\"}\nconsumer: {ack_wait: 6s}\nshutdown: {grace: 10s}\n%s",
		broker, s.admin, sandbox.output.String())
	require.NoError(t, os.WriteFile(s.config, []byte(settings), 0o600))
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", filepath.Join(s.dir, "keys")).code)
	return s
}

// do runs a command line with the site's configuration.
func (s *site) do(t *testing.T, args ...string) outcome {
	t.Helper()
	return command(t, "", append(args, "-c", s.config)...)
}

// startWorker starts a worker process and waits until it is ready.
func (s *site) startWorker(t *testing.T) *process {
	t.Helper()
	p := start(t, "worker", s.dir, "run", "-c", s.config)
	require.Eventually(t, func() bool { return s.status("/readyz") == http.StatusOK }, time.Minute, 20*time.Millisecond)
	return p
}

func (s *site) status(page string) int {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + s.admin + page)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode
}

// TestWorkerAgainstASeparateBroker is the whole way with four real processes: setup, run, ask, kill -9, restart, stop.
func TestWorkerAgainstASeparateBroker(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	require.Eventually(t, func() bool { return s.do(t, "setup").code == exitNo }, time.Minute, 50*time.Millisecond, "an empty broker leaves things to do")
	refused := start(t, "worker", s.dir, "run", "-c", s.config)
	refused.done <- <-refused.done
	require.Equal(t, exitNo, refused.cmd.ProcessState.ExitCode())
	require.Contains(t, refused.output.String(), "worker setup --apply", "the worker creates nothing itself")

	require.Equal(t, exitOK, s.do(t, "setup", "--apply").code)
	require.Equal(t, exitOK, s.do(t, "setup").code, "after it nothing is left to do")
	worker := s.startWorker(t)
	checked := s.do(t, "check")
	require.Equal(t, exitOK, checked.code, checked.stdout)
	require.Contains(t, checked.stdout, "permissions")
	s.askBoth(t, "before")

	worker.kill(t)
	s.askWhileNobodyWorks(t)
	worker = s.startWorker(t)
	require.Eventually(t, func() bool {
		return s.do(t, "result", "--client", "shop", "--source", "urn:shop", "--id", "left-behind").code == exitOK
	}, time.Minute, 50*time.Millisecond, "what was asked while nobody worked is answered")
	s.askBoth(t, "after")

	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	worker.done <- <-worker.done
	require.Equal(t, exitOK, worker.cmd.ProcessState.ExitCode(), worker.output.String())
	for _, secret := range []string{"6200000000000005", "tokenOfTheCardholder"} {
		require.NotContains(t, worker.output.String(), secret)
	}
}

// askBoth asks both providers and reads the results again by their identity.
func (s *site) askBoth(t *testing.T, id string) {
	t.Helper()
	easypay := s.do(t, "ask", "easypay", "--client", "shop", "--source", "urn:shop", "--id", id+"-easypay", "--card-bin", "12345678", "--amount", "151004", "--timeout", "30s")
	require.Equal(t, exitOK, easypay.code, easypay.stderr)
	unionpay := s.do(t, "ask", "unionpay", "--client", "shop", "--source", "urn:shop", "--id", id+"-unionpay", "--card", "6200000000000005",
		"--user-token", "tokenOfTheCardholder", "--timeout", "30s")
	require.Equal(t, exitOK, unionpay.code, unionpay.stderr)
	require.NotContains(t, unionpay.stdout, "6200000000000005")
	for _, asked := range []struct {
		name   string
		answer outcome
	}{{"easypay", easypay}, {"unionpay", unionpay}} {
		var event struct {
			Type string `json:"type"`
			Data struct {
				Outcome string `json:"outcome"`
			} `json:"data"`
		}
		require.NoError(t, json.Unmarshal([]byte(asked.answer.stdout), &event))
		require.Equal(t, "discount.query.completed.v1", event.Type)
		require.Equal(t, "ok", event.Data.Outcome)
		stored := s.do(t, "result", "--client", "shop", "--source", "urn:shop", "--id", id+"-"+asked.name)
		require.Equal(t, asked.answer.stdout, stored.stdout)
	}
}

// askWhileNobodyWorks publishes a query that nobody takes up.
func (s *site) askWhileNobodyWorks(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	args := []string{"ask", "easypay", "--client", "shop", "--source", "urn:shop", "--id", "left-behind", "--card-cd", "008", "--timeout", "1m", "-c", s.config}
	var stderr bytes.Buffer
	require.Equal(t, exitNo, run(ctx, args, nil, strings.NewReader(""), io.Discard, &stderr))
	require.Contains(t, stderr.String(), "was stored")
}

// TestEmbeddedServerSurvives is the single machine: the worker's own server keeps what was asked over a kill -9.
func TestEmbeddedServerSurvives(t *testing.T) {
	t.Parallel()
	s := &site{dir: t.TempDir(), admin: freeport.Address(t)}
	easypay := freeport.Address(t)
	start(t, "worker", s.dir, "sandbox", "--easypay", easypay, "--unionpay", "", "--admin", "")
	s.config = filepath.Join(s.dir, "worker.yaml")
	settings := fmt.Sprintf("embedded: {listen: \"%s\"}\nadmin: {listen: \"%s\"}\nproviders: {easypay: {base_url: \"http://%s\", mall_id: T5102001}}\n",
		freeport.Address(t), s.admin, easypay)
	require.NoError(t, os.WriteFile(s.config, []byte(settings), 0o600))
	without := start(t, "worker", s.dir, "run", "-c", s.config)
	without.done <- <-without.done
	require.Contains(t, without.output.String(), "worker keys new", "a worker without keys says how to make them")
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", filepath.Join(s.dir, "keys")).code)

	worker := s.startWorker(t)
	asked := s.do(t, "ask", "easypay", "--client", "shop", "--source", "urn:shop", "--id", "1", "--card-cd", "008", "--timeout", "30s")
	require.Equal(t, exitOK, asked.code, asked.stderr)
	second := start(t, "worker", s.dir, "run", "-c", s.config)
	second.done <- <-second.done
	require.NotEqual(t, exitOK, second.cmd.ProcessState.ExitCode(), "two workers can't share one store")
	worker.kill(t)
	s.startWorker(t)
	require.Equal(t, asked.stdout, s.do(t, "result", "--client", "shop", "--source", "urn:shop", "--id", "1").stdout)
}

// TestSecondSignalEndsAtOnce stops a worker whose upstream hangs: the first signal lets it wait, the second one does not.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := &site{dir: t.TempDir(), admin: freeport.Address(t)}
	easypay := freeport.Address(t)
	start(t, "worker", s.dir, "sandbox", "--easypay", easypay, "--unionpay", "", "--admin", "", "--faults", "easypay:hang")
	s.config = filepath.Join(s.dir, "worker.yaml")
	settings := fmt.Sprintf("embedded: {listen: \"%s\"}\nadmin: {listen: \"%s\"}\nshutdown: {grace: 5m}\nhttp: {attempt_timeout: 1m}\n"+
		"consumer: {ack_wait: 3m}\nproviders: {easypay: {base_url: \"http://%s\", mall_id: T5102001}}\n", freeport.Address(t), s.admin, easypay)
	require.NoError(t, os.WriteFile(s.config, []byte(settings), 0o600))
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", filepath.Join(s.dir, "keys")).code)
	worker := s.startWorker(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	run(ctx, []string{"ask", "easypay", "--card-cd", "008", "--timeout", "5m", "-c", s.config}, nil, strings.NewReader(""), io.Discard, io.Discard)

	require.NoError(t, worker.cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return s.status("/readyz") == http.StatusServiceUnavailable }, time.Minute, 10*time.Millisecond)
	require.Equal(t, http.StatusOK, s.status("/healthz"), "it waits for what is under way")
	// A signal that comes in the same moment as the first one counts as the same one, so it is sent until the worker has ended.
	for deadline := time.After(30 * time.Second); ; {
		select {
		case err := <-worker.done:
			worker.done <- err
			require.ErrorContains(t, err, "terminated")
			return
		case <-time.After(100 * time.Millisecond):
			_ = worker.cmd.Process.Signal(syscall.SIGTERM) // It may have ended just now.
		case <-deadline:
			require.FailNow(t, "the second signal did not end the worker")
		}
	}
}

func TestSealedTextOpensForItsQueryOnly(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	made := command(t, "", "keys", "new", "--dir", dir, "--json")
	require.Equal(t, exitOK, made.code, made.stderr)
	var files map[string]string
	require.NoError(t, json.Unmarshal([]byte(made.stdout), &files))
	args := []string{"seal", "--public-key", files["public"], "--source", "urn:shop", "--id", "1"}
	sealed := command(t, `{"userToken":"abc","cardNo":"6200000000000005"}`, args...)
	require.Equal(t, exitOK, sealed.code, sealed.stderr)
	require.Equal(t, 4, strings.Count(sealed.stdout, "."))
	for name, input := range map[string]string{
		"empty": "", "not JSON": "6200000000000005", "no token": `{"cardNo":"6200000000000005"}`,
		"unknown member": `{"userToken":"abc","cardNo":"6200000000000005","cvv":"123"}`, "wrong check digit": `{"userToken":"abc","cardNo":"6200000000000004"}`,
		"too long": strings.Repeat(" ", maxSealInput+1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			refused := command(t, input, args...)
			require.Equal(t, exitUsage, refused.code)
			require.NotContains(t, refused.stderr, "620000000000000")
		})
	}
}
