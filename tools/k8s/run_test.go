package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// patience bounds every wait. Only a test that fails takes so long.
const patience = 2 * time.Minute

// town is an overlay that runs on this machine: its broker, and the worker's binary for its other pods.
type town struct {
	*rendered

	worker string
	broker *server.Server
	ca     []byte
	seeds  map[string][]byte
}

// settle builds the worker and starts the broker from what its pod finds.
func settle(t *testing.T, overlay string) *town {
	t.Helper()
	n := &town{rendered: built(t, overlay), worker: filepath.Join(t.TempDir(), "worker"), seeds: map[string][]byte{}}
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", n.worker, "./cmd/worker")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))

	owner, _ := brokerOf(n.rendered)
	p := pod{PodTemplateSpec: &owner.Spec.Template, owner: owner}
	users, err := inventedUsers(n.rendered, p.Spec.Containers[0])
	require.NoError(t, err)
	for variable := range users {
		pair, err := nkeys.CreateUser()
		require.NoError(t, err)
		users[variable], err = pair.PublicKey()
		require.NoError(t, err)
		n.seeds[variable], err = pair.Seed()
		require.NoError(t, err)
	}
	options, err := readServerWith(n.rendered, p, p.Spec.Containers[0], users)
	require.NoError(t, err)
	options.Host, options.Port, options.StoreDir, options.NoSigs, options.NoLog = "127.0.0.1", -1, t.TempDir(), true, true
	n.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: options.TLSConfig.Certificates[0].Certificate[0]})
	n.broker, err = server.NewServer(options)
	require.NoError(t, err)
	n.broker.Start()
	t.Cleanup(n.stop)
	require.True(t, n.broker.ReadyForConnections(patience))
	return n
}

// stop ends the broker.
func (n *town) stop() {
	n.broker.Shutdown()
	n.broker.WaitForShutdown()
}

// command returns what a pod of ours runs, with its own arguments and variables, its folders under another one, and the seed of a user.
func (n *town) command(t *testing.T, p pod, user string, more ...string) *exec.Cmd {
	t.Helper()
	dir, c := t.TempDir(), p.Spec.Containers[0]
	require.NoError(t, mount(n.rendered, p, c, dir))
	for file, content := range map[string][]byte{"nkey": n.seeds[user], "ca.crt": n.ca} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "etc/discount/nats", file), content, 0o600))
	}
	args := slices.Clone(c.Args)
	args[slices.Index(args, settingsFile)] = filepath.Join(dir, settingsFile)
	cards := filepath.Join(dir, "etc/discount/cards")
	said, err := exec.CommandContext(t.Context(), n.worker, "keys", "new", "--dir", cards).CombinedOutput()
	require.NoError(t, err, string(said))
	command := exec.CommandContext(t.Context(), n.worker, args...)
	for _, e := range c.Env {
		command.Env = append(command.Env, e.Name+"="+e.Value)
	}
	// What stands at another place on this machine. The rest is the overlay's.
	command.Env = append(append(command.Env, "DISCOUNT_NATS__URL=tls://"+n.broker.Addr().String(), "DISCOUNT_CARDS__KEYS_DIR="+cards,
		"DISCOUNT_NATS__NKEY_FILE="+filepath.Join(dir, "etc/discount/nats/nkey"),
		"DISCOUNT_NATS__TLS__CA_FILE="+filepath.Join(dir, "etc/discount/nats/ca.crt")), more...)
	return command
}

// ask returns the status of a page that a probe asks for, 0 if nobody answers.
func ask(t *testing.T, address string, probe *corev1.Probe) int {
	t.Helper()
	client := http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + address + probe.HTTPGet.Path)
	if err != nil {
		return 0
	}
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

// TestPodsRun starts what the pods start: a worker that finds no streams and ends, the job that makes them, twice, and a worker that becomes
// ready. Then it takes the broker away, which makes the worker unready and must not have it killed, and stops the worker within its time.
func TestPodsRun(t *testing.T) {
	t.Parallel()
	n := settle(t, "single")
	job, _ := named[*batchv1.Job](n.rendered, "setup")
	deployment, _ := named[*appsv1.Deployment](n.rendered, "worker")
	setup, worker := pod{PodTemplateSpec: &job.Spec.Template, owner: job}, pod{PodTemplateSpec: &deployment.Spec.Template, owner: deployment}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := free.Addr().String()
	require.NoError(t, free.Close())
	listen := "DISCOUNT_ADMIN__LISTEN=" + address

	early, err := n.command(t, worker, "NATS_WORKER", listen).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(early), "run `worker setup --apply`")
	for range 2 {
		said, err := n.command(t, setup, "NATS_SETUP").CombinedOutput()
		require.NoError(t, err, string(said))
	}

	running, log := n.command(t, worker, "NATS_WORKER", listen), &bytes.Buffer{}
	running.Stdout, running.Stderr = log, log
	require.NoError(t, running.Start())
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	c := worker.Spec.Containers[0]
	require.Eventually(t, func() bool { return ask(t, address, c.ReadinessProbe) == http.StatusOK }, patience, 50*time.Millisecond)
	require.Equal(t, http.StatusOK, ask(t, address, c.StartupProbe))
	n.stop()
	require.Eventually(t, func() bool { return ask(t, address, c.ReadinessProbe) == http.StatusServiceUnavailable }, patience, 50*time.Millisecond)
	require.Equal(t, http.StatusOK, ask(t, address, c.LivenessProbe), "the kubelet would kill it")
	require.NoError(t, running.Process.Signal(syscall.SIGTERM))
	select {
	case err := <-ended:
		t.Log(fmt.Sprint("ended: ", err), "\n", strings.Count(log.String(), "\n"), "lines")
	case <-time.After(time.Duration(*worker.Spec.TerminationGracePeriodSeconds) * time.Second):
		require.Fail(t, "the kubelet would have killed it by now", log)
	}
}
