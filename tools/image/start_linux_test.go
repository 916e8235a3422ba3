package main

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/tools/image/base"
)

// patience bounds every wait. What is waited for takes a second; only something stuck takes as long.
const patience = time.Minute

// host is a machine that runs containers of the image.
type host struct {
	root   string
	config v1.Config
	keys   string
	settings,
	admin, easypay string
}

// newHost unpacks the image for this machine's processor, and starts a broker that holds nothing yet.
func newHost(t *testing.T) *host {
	t.Helper()
	f := theImage(t)
	platform := "linux/" + runtime.GOARCH
	require.Contains(t, f.images, platform)
	file, err := f.images[platform].ConfigFile()
	require.NoError(t, err)
	h := &host{root: folder(t, "root"), keys: folder(t, "keys"), config: file.Config, admin: freeAddress(t), easypay: freeAddress(t)}
	for name, one := range f.unpacked(t, platform) {
		place(t, filepath.Join(h.root, name), one)
	}
	// What a container may write to belongs to its user.
	require.NoError(t, os.Chmod(h.keys, 0o700))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(h.keys, base.Nonroot, base.Nonroot))
	}
	h.settings = configMap(t, fmt.Sprintf(`nats: {url: "nats://%s"}
admin: {listen: "%s"}
cards: {keys_dir: /etc/discount-keys}
shutdown: {grace: 10s}
providers: {easypay: {base_url: "http://%s", mall_id: T5102001}}
`, broker(t), h.admin, h.easypay))
	return h
}

// folder makes a folder that everybody may enter, whatever the umask.
func folder(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// place writes one file of the image as a container runtime would, folders first if need be.
func place(t *testing.T, name string, one entry) {
	t.Helper()
	if one.header.Typeflag == tar.TypeDir {
		require.NoError(t, os.MkdirAll(name, 0o755))
	} else {
		require.NoError(t, os.MkdirAll(filepath.Dir(name), 0o755))
		require.NoError(t, os.WriteFile(name, one.body, 0o600))
	}
	require.NoError(t, os.Chmod(name, os.FileMode(one.header.Mode)))
}

// configMap writes settings into a folder that looks like a mounted ConfigMap: files are links into a folder that a link names, and readable
// for their group only.
func configMap(t *testing.T, settings string) string {
	t.Helper()
	dir := folder(t, "config")
	require.NoError(t, os.Mkdir(filepath.Join(dir, "..2026_01_01"), 0o755))
	require.NoError(t, os.Symlink("..2026_01_01", filepath.Join(dir, "..data")))
	require.NoError(t, os.Symlink("..data/worker.yaml", filepath.Join(dir, "worker.yaml")))
	file := filepath.Join(dir, "..data", "worker.yaml")
	require.NoError(t, os.WriteFile(file, []byte(settings), 0o600))
	if os.Geteuid() == 0 {
		require.NoError(t, os.Chown(file, 0, base.Nonroot))
	}
	require.NoError(t, os.Chmod(file, 0o440))
	return dir
}

// broker starts a NATS server and returns its address.
func broker(t *testing.T) string {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		JetStreamMaxStore: 1 << 40, JetStreamMaxMemory: 1 << 40,
	})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	require.True(t, s.ReadyForConnections(patience))
	return s.Addr().String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}

// jail returns a container with the configuration and the keys mounted, keys writable if asked for.
func (h *host) jail(t *testing.T, writable bool, args ...string) jail {
	t.Helper()
	var uid, gid int
	_, err := fmt.Sscanf(h.config.User, "%d:%d", &uid, &gid)
	require.NoError(t, err, "the user is named by number, so that a cluster can see that it is not root")
	return jail{
		UID: uid, GID: gid,
		Root: h.root, Command: append(slices.Clone(h.config.Entrypoint), args...), Environment: append(slices.Clone(h.config.Env), "TZ=Asia/Seoul"),
		Mounts: []mount{{From: h.settings, To: base.ConfigDir}, {From: h.keys, To: "etc/discount-keys", Writable: writable}},
	}
}

// do runs a command in a container and returns its exit code and what it printed.
func (h *host) do(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	p := h.jail(t, false, args...).start(t)
	return p.wait(t), p.output.String()
}

func TestLookAroundInTheImage(t *testing.T) {
	t.Parallel()
	j := newHost(t).jail(t, true)
	j.Look = true
	p := j.start(t)
	require.Zero(t, p.wait(t), p.output)
	var s seen
	require.NoError(t, json.Unmarshal([]byte(p.output.String()), &s), p.output)
	require.Greater(t, s.Authorities, 100)
	t.Logf("%d authorities", s.Authorities)
	s.Authorities = 0
	require.Equal(t, seen{
		UID: base.Nonroot, GID: base.Nonroot, SamePool: true, Zone: "09:00 KST", NoNewPrivs: true,
		WriteAsRoot: "EROFS", Write: "EROFS", WriteMounted: "EROFS;none;", Folders: []string{"etc", "usr", "worker"},
	}, s)
}

// TestImageRunsAsAContainerWould is the whole way of a deployment, each step with the image itself and a root that can't be written to: keys,
// streams, both processes, a query, a stop.
func TestImageRunsAsAContainerWould(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	code, printed := h.do(t, "version")
	require.Zero(t, code, printed)
	require.Regexp(t, `^worker `+regexp.QuoteMeta(testVersion)+` go\S+ linux/`+runtime.GOARCH+"\n$", printed)

	code, printed = h.do(t, "keys", "new", "--dir", "/etc/more-keys")
	require.NotZero(t, code)
	require.Contains(t, printed, "read-only file system")
	made := h.jail(t, true, "keys", "new", "--dir", "/etc/discount-keys").start(t)
	require.Zero(t, made.wait(t), made.output)

	code, printed = h.do(t, "setup", "--apply", "-c", "/etc/discount/worker.yaml")
	require.Zero(t, code, printed)
	h.jail(t, false, "sandbox", "--easypay", h.easypay, "--unionpay", "", "--admin", "").start(t)
	worker := h.jail(t, false, h.config.Cmd...).start(t)
	require.Eventually(t, func() bool { return h.status("/readyz") == http.StatusOK }, patience, 20*time.Millisecond, worker.output)
	require.Equal(t, http.StatusOK, h.status("/healthz"))

	h.isConfined(t, worker)
	code, printed = h.do(t, "ask", "easypay", "--card-bin", "12345678", "--amount", "151004", "--timeout", "30s", "-c", "/etc/discount/worker.yaml")
	require.Zero(t, code, printed)
	require.Contains(t, printed, "discount.query.completed.v1")
	code, printed = h.do(t, "check", "-c", "/etc/discount/worker.yaml")
	require.Zero(t, code, printed)

	require.NoError(t, worker.Process.Signal(syscall.SIGTERM))
	require.Zero(t, worker.wait(t), worker.output)
	require.Contains(t, worker.output.String(), "+09:00", "the zone that TZ names is the log's")
	require.Equal(t, []string{"etc", "usr", "worker"}, names(t, h.root), "nothing was written")
}

func (h *host) status(page string) int {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + h.admin + page)
	if err != nil {
		return 0
	}
	_ = response.Body.Close()
	return response.StatusCode
}

// isConfined reads from the kernel who the process is and what it may do.
func (h *host) isConfined(t *testing.T, p *inmate) {
	t.Helper()
	proc := filepath.Join("/proc", strconv.Itoa(p.Process.Pid))
	text, err := os.ReadFile(filepath.Join(proc, "status"))
	require.NoError(t, err)
	status := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		status[name] = strings.TrimSpace(value)
	}
	nonroot := strings.TrimSpace(strings.Repeat(strconv.Itoa(base.Nonroot)+"\t", 4))
	require.Equal(t, nonroot, inside(t, proc, "uid_map", status["Uid"]))
	require.Equal(t, nonroot, inside(t, proc, "gid_map", status["Gid"]))
	require.Equal(t, "1", status["NoNewPrivs"])
	for _, set := range []string{"CapPrm", "CapEff", "CapInh", "CapAmb"} {
		require.Equal(t, strings.Repeat("0", 16), status[set], set)
	}
	mounts, err := os.ReadFile(filepath.Join(proc, "mountinfo"))
	require.NoError(t, err)
	require.Regexp(t, `(?m)^\S+ \S+ \S+ \S+ / ro,nosuid,nodev`, string(mounts))
	require.Regexp(t, `(?m)^\S+ \S+ \S+ \S+ /etc/discount ro,nosuid,nodev`, string(mounts))
	program, err := os.Readlink(filepath.Join(proc, "exe"))
	require.NoError(t, err)
	require.Equal(t, "/"+programPath, "/"+filepath.Base(program))
}

// inside translates the ids of a process, which the kernel writes as they are for us, into those that the process sees.
func inside(t *testing.T, proc, table, ids string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(proc, table))
	require.NoError(t, err)
	var first, outside, count int64
	_, err = fmt.Sscan(string(text), &first, &outside, &count)
	require.NoError(t, err)
	var translated []string
	for id := range strings.FieldsSeq(ids) {
		number, err := strconv.ParseInt(id, 10, 64)
		require.NoError(t, err)
		require.Less(t, number-outside, count)
		translated = append(translated, strconv.FormatInt(number-outside+first, 10))
	}
	return strings.Join(translated, "\t")
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var all []string
	for _, entry := range entries {
		all = append(all, entry.Name())
	}
	return all
}
