package deploy

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/freeport"
	"discountquery.example/worker/internal/query"
)

// node is one server of a cluster: a process of its own, because what differs between the nodes is in the environment.
type node struct {
	address string
	log     *lockedText
	input   io.WriteCloser
	process *exec.Cmd
}

// lockedText is what a process writes.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// startNode starts this binary as a server.
func startNode(t *testing.T, address string, environment ...string) *node {
	t.Helper()
	n := &node{address: address, log: &lockedText{}}
	n.process = exec.Command(os.Args[0])
	n.process.Env = append(append(os.Environ(), environment...), nodeVariable+"=cluster.conf", "NATS_LISTEN="+address)
	n.process.Stdout, n.process.Stderr = n.log, n.log
	input, err := n.process.StdinPipe()
	require.NoError(t, err)
	n.input = input
	require.NoError(t, n.process.Start())
	t.Cleanup(func() {
		_ = n.input.Close() // This is how it is told to end.
		_ = n.process.Wait()
		if t.Failed() {
			t.Log(n.log)
		}
	})
	return n
}

// startCluster starts the three nodes of the files.
func startCluster(t *testing.T) []*node {
	t.Helper()
	dir := t.TempDir()
	var addresses, routes []string
	for range 6 {
		addresses = append(addresses, freeport.Address(t))
	}
	for i := range 3 {
		routes = append(routes, fmt.Sprintf("NATS_ROUTE_%d=nats://%s", i+1, addresses[3+i]))
	}
	var nodes []*node
	for i := range 3 {
		nodes = append(nodes, startNode(t, addresses[i], append(routes,
			fmt.Sprintf("NATS_SERVER_NAME=nats-%d", i), "NATS_CLUSTER_LISTEN="+addresses[3+i], "NATS_STORE_DIR="+filepath.Join(dir, fmt.Sprint(i)))...))
	}
	return nodes
}

// clusterConfig returns the configuration of a role's program on the cluster, with all streams on all three nodes.
func clusterConfig(r role, nodes []*node) config.Config {
	c := ordinary()
	var urls []string
	for _, n := range nodes {
		urls = append(urls, "nats://"+n.address)
	}
	c.NATS.URL, c.NATS.NKeyFile, c.NATS.InboxPrefix = config.URL(strings.Join(urls, ",")), ground.seeds[r.variable], r.inbox
	c.NATS.TLS.CAFile, c.Streams.Replicas = os.Getenv("NATS_TLS_CA"), 3
	return c
}

// TestClusterAnswersAQuery starts three nodes, gives them the topology with the rights of setup, runs a worker with its own, and asks as a client.
func TestClusterAnswersAQuery(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var last error
	require.NoError(t, until(ctx, func() (bool, error) {
		last = applied(ctx, clusterConfig(roleOf("setup"), nodes))
		return last == nil, nil
	}), "%v", last)

	stop, _, err := run(ctx, clusterConfig(roleOf("worker"), nodes))
	require.NoError(t, err)
	defer func() { require.NoError(t, stop()) }()
	shop, err := app.OpenBroker(ctx, clusterConfig(roleOf("publisher shop"), nodes), app.BrokerOptions{})
	require.NoError(t, err)
	defer shop.Close(ctx)
	result, err := publisher(shop, "shop").Ask(ctx, easyPay("over three nodes", "029"))
	require.NoError(t, err)
	require.Equal(t, query.Completed, result.Status)

	admin, err := app.OpenBroker(ctx, clusterConfig(roleOf("admin"), nodes), app.BrokerOptions{})
	require.NoError(t, err)
	defer admin.Close(ctx)
	streams := admin.JS.ListStreams(ctx)
	count := 0
	for info := range streams.Info() {
		count++
		require.NotEmpty(t, info.Cluster.Leader, info.Config.Name)
		require.Len(t, info.Cluster.Replicas, 2, info.Config.Name)
	}
	require.NoError(t, streams.Err())
	require.Equal(t, 9, count)
}

// applied is `worker setup --apply`, which fails until the cluster has a leader.
func applied(ctx context.Context, c config.Config) error {
	opened, err := app.OpenSetup(ctx, c)
	if err != nil {
		return err
	}
	defer opened.Close(ctx)
	plan, err := opened.Plan(ctx)
	if err != nil {
		return err
	}
	return opened.Apply(ctx, plan, func(string) {})
}

// TestRouteNeedsACertificate shows that who has a client's certificate gets no route: it could read and write everything.
func TestRouteNeedsACertificate(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t)
	says := func(n *node, text string) func() bool {
		return func() bool { return strings.Contains(n.log.String(), text) }
	}
	require.Eventually(t, says(nodes[0], "metadata leader"), patience, 20*time.Millisecond)
	free := []string{freeport.Address(t), freeport.Address(t)}
	stranger := startNode(t, free[0], append(slices.Clone(nodes[0].process.Env),
		"NATS_SERVER_NAME=stranger", "NATS_CLUSTER_LISTEN="+free[1], "NATS_STORE_DIR="+t.TempDir(),
		"NATS_CLUSTER_TLS_CERT="+os.Getenv("NATS_TLS_CERT"), "NATS_CLUSTER_TLS_KEY="+os.Getenv("NATS_TLS_KEY"))...)
	require.Eventually(t, says(nodes[0], "TLS route handshake error"), patience, 20*time.Millisecond)
	require.NotContains(t, stranger.log.String(), "[FTL]")
	for _, n := range nodes {
		require.NotContains(t, n.log.String(), "Remote: stranger")
	}
}
