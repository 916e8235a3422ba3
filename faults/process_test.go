//go:build faults

package faults

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// process is a real process that ends with its test.
type process struct {
	name   string
	cmd    *exec.Cmd
	output *tail
	done   chan struct{}
}

// tail keeps the end of what a process writes, and counts the pulls that it says it has given up.
type tail struct {
	mu      sync.Mutex
	text    bytes.Buffer
	givenUp int
}

const tailLength = 8 << 10

func (o *tail) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.givenUp += bytes.Count(p, []byte(jetstream.ErrNoHeartbeat.Error()))
	if o.text.Len() > 4*tailLength {
		kept := bytes.Clone(o.text.Bytes()[o.text.Len()-tailLength:])
		o.text.Reset()
		o.text.Write(kept)
	}
	return o.text.Write(p)
}

// pullsGivenUp returns how many pulls the process has given up because two heartbeats of the broker did not come.
func (o *tail) pullsGivenUp() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.givenUp
}

func (o *tail) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// start starts a process in dir with variables added to the environment. configure may change it before it starts.
func start(t *testing.T, name, dir string, cmd *exec.Cmd, environment ...string) *process {
	t.Helper()
	p := &process{name: name, cmd: cmd, output: &tail{}, done: make(chan struct{})}
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), environment...)
	cmd.Stdout = listen(t, name, p.output)
	if cmd.Stderr == nil {
		cmd.Stderr = cmd.Stdout
	}
	dieWithParent(cmd)
	require.NoError(t, cmd.Start())
	go func() {
		_ = cmd.Wait() // What it says is in cmd.ProcessState.
		close(p.done)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s wrote:\n%s", name, lastLines(p.output.String(), 12))
		}
	})
	return p
}

func lastLines(text string, n int) string {
	lines := bytes.Split([]byte(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}

// kill ends the process as kill -9 does and returns when it has ended.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // It may have ended already.
	<-p.done
}

func (p *process) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(signal))
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait waits until the process has ended and returns its status.
func (p *process) wait(t *testing.T, within time.Duration) syscall.WaitStatus {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(within):
		require.FailNow(t, "the process did not end", "%s within %s", p.name, within)
	}
	return p.cmd.ProcessState.Sys().(syscall.WaitStatus)
}
