package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"discountquery.example/worker/tools/image/base"
)

// jailPlan is the variable that makes this test binary enter a jail instead of running tests.
const jailPlan = "IMAGE_TEST_JAIL"

// jail is a container as poor as can be: the files of the image as the root, read-only; a few folders mounted into it; no /proc, no /dev and
// no /tmp; the user of the image, without rights and without a way to new ones.
type jail struct {
	Root   string
	Mounts []mount
	// Look tells to look around and to print what is seen, instead of running Command.
	Look        bool
	Command     []string
	Environment []string
	// UID and GID are those of the image's user.
	UID, GID int
	// Privileged tells that the process starts as root. Otherwise it starts in a user namespace, as the user that the image names.
	Privileged bool
}

// mount is a folder of this machine and its place in the jail, which is made if it is missing, as container runtimes do.
type mount struct {
	From, To string
	Writable bool
}

// seen is what a process sees that looks around in a jail.
type seen struct {
	UID, GID     int
	Authorities  int
	SamePool     bool
	Zone         string
	WriteAsRoot  string
	Write        string
	WriteMounted string
	NoNewPrivs   bool
	Folders      []string
}

// enterJail does what the plan says and returns an exit code, unless the process has become another program by then.
func enterJail(plan string) int {
	runtime.LockOSThread()
	var j jail
	if err := json.Unmarshal([]byte(plan), &j); err != nil {
		fmt.Fprintln(os.Stderr, "jail:", err)
		return 125
	}
	if err := j.enter(); err != nil {
		fmt.Fprintln(os.Stderr, "jail:", err)
		return 125
	}
	return 0
}

func (j jail) enter() error {
	if err := j.mount(); err != nil {
		return err
	}
	var s seen
	s.WriteAsRoot = problem(os.WriteFile("/worker.new", nil, 0o600))
	if err := j.drop(); err != nil {
		return err
	}
	if j.Look {
		return s.look(j)
	}
	return fmt.Errorf("start %s: %w", j.Command[0], unix.Exec(j.Command[0], j.Command, j.Environment))
}

// mount builds the root and moves into it.
func (j jail) mount() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("leave the mounts of this machine alone: %w", err)
	}
	if err := bind(j.Root, j.Root); err != nil {
		return err
	}
	for _, one := range j.Mounts {
		to := filepath.Join(j.Root, one.To)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if err := bind(one.From, to); err != nil {
			return err
		}
		if !one.Writable {
			if err := readOnly(to); err != nil {
				return err
			}
		}
	}
	if err := readOnly(j.Root); err != nil {
		return err
	}
	if err := errors.Join(os.Chdir(j.Root), unix.Chroot("."), os.Chdir("/")); err != nil {
		return fmt.Errorf("move to the root: %w", err)
	}
	return nil
}

func bind(from, to string) error {
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", to, err)
	}
	return nil
}

func readOnly(at string) error {
	if err := unix.Mount("", at, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV, ""); err != nil {
		return fmt.Errorf("mount %s read-only: %w", at, err)
	}
	return nil
}

// drop gives up all rights, for good.
func (j jail) drop() error {
	if j.Privileged {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(j.GID), syscall.Setuid(j.UID)); err != nil {
			return fmt.Errorf("become %d: %w", j.UID, err)
		}
	} else if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid new rights: %w", err)
	}
	return nil
}

// look prints what there is to see.
func (s seen) look(j jail) error {
	s.UID, s.GID = os.Getuid(), os.Getgid()
	system, err := x509.SystemCertPool()
	if err != nil {
		return fmt.Errorf("system's certificates: %w", err)
	}
	bundle, err := os.ReadFile("/" + base.CertificatesFile)
	if err != nil {
		return err
	}
	own := x509.NewCertPool()
	own.AppendCertsFromPEM(bundle)
	s.Authorities, s.SamePool = bytes.Count(bundle, []byte("BEGIN CERTIFICATE")), system.Equal(own)
	zone, err := time.LoadLocation("Asia/Seoul")
	if err != nil {
		return fmt.Errorf("time zones: %w", err)
	}
	s.Zone = time.Unix(testEpoch, 0).In(zone).Format("15:04 MST")
	s.Write = problem(os.WriteFile("/worker.new", nil, 0o600))
	for _, one := range j.Mounts {
		s.WriteMounted += problem(os.WriteFile(filepath.Join("/", one.To, "new"), nil, 0o600)) + ";"
	}
	flag, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	s.NoNewPrivs = flag == 1
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		s.Folders = append(s.Folders, entry.Name())
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// problem names the system's error, or nothing.
func problem(err error) string {
	if number, ok := errors.AsType[syscall.Errno](err); ok {
		return unix.ErrnoName(number)
	}
	if err != nil {
		return err.Error()
	}
	return "none"
}

// inmate is a process in a jail.
type inmate struct {
	*exec.Cmd

	output *output
	done   chan error
}

// output can be read while a process writes to it.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.String()
}

// permission is the sentence for a machine on which no container can be started.
const permission = `this machine lets the test make no namespaces, so the image can't be started as a container would be.
Run it as root, or allow unprivileged user namespaces: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or user.max_user_namespaces above 0`

// start starts a process in the jail. It ends with its test.
func (j jail) start(t *testing.T) *inmate {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	j.Privileged = os.Geteuid() == 0
	plan, err := json.Marshal(j)
	require.NoError(t, err)
	p := &inmate{Cmd: exec.Command(self), output: &output{}, done: make(chan error, 1)}
	p.Env = []string{jailPlan + "=" + string(plan)}
	p.Stdout, p.Stderr = p.output, p.output
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if !j.Privileged {
		p.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		p.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: j.UID, HostID: os.Getuid(), Size: 1}}
		p.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: j.GID, HostID: os.Getgid(), Size: 1}}
		p.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SYS_CHROOT}
	}
	require.NoError(t, p.Start(), permission)
	go func() { p.done <- p.Wait() }()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%v:\n%s", j.Command, p.output)
		}
	})
	return p
}

// wait waits for the end of the process and returns its exit code.
func (p *inmate) wait(t *testing.T) int {
	t.Helper()
	select {
	case err := <-p.done:
		p.done <- err
	case <-time.After(patience):
		t.Fatal("a process did not end")
	}
	code := p.ProcessState.ExitCode()
	if code == 125 && strings.Contains(p.output.String(), "operation not permitted") {
		t.Fatalf("%s\n%s", permission, p.output)
	}
	return code
}
