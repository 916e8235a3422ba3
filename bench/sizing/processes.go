package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// What this program can be.
const (
	processBroker = "broker"
	processWorker = "worker"
)

// order tells a process what to be. It is the first line of its input.
type order struct {
	Dir      string
	NATS     string
	EasyPay  string
	UnionPay string
	Kids     [3]string
	Slots    int
	Sync     bool
}

// hello is the first line that a process says.
type hello struct {
	URL   string
	Admin string
}

// memory is what a broker says about itself, in bytes.
type memory struct {
	Heap     uint64
	Resident uint64
}

// child is a process of this program. It ends when its input does, or is killed.
type child struct {
	hello

	command *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
}

// spawn starts a process of this program and waits for its first line.
func spawn(ctx context.Context, as string, o order) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{command: exec.CommandContext(ctx, self)}
	c.command.Env, c.command.Stderr = append(os.Environ(), asProcess+"="+as), os.Stderr
	if c.in, err = c.command.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = json.NewDecoder(out)
	if err := c.command.Start(); err != nil {
		return nil, err
	}
	if err := errors.Join(json.NewEncoder(c.in).Encode(o), c.out.Decode(&c.hello)); err != nil {
		c.kill()
		return nil, fmt.Errorf("%s: %w", as, err)
	}
	return c, nil
}

// kill ends the process at once: what stopping costs is not measured, and nothing of it is kept.
func (c *child) kill() {
	_ = c.command.Process.Kill() // It may have ended already.
	_ = c.command.Wait()         // That it was killed is no news.
}

// memory asks a broker for its memory.
func (c *child) memory() (memory, error) {
	var m memory
	_, err := io.WriteString(c.in, "memory\n")
	return m, errors.Join(err, c.out.Decode(&m))
}

// serveBroker runs a server with the worker's streams until the input ends.
func serveBroker(ctx context.Context) error {
	o, in, err := readOrder()
	if err != nil {
		return err
	}
	c := o.settings()
	c.DataDir, c.Embedded.Listen, c.Embedded.SyncAlways = filepath.Join(o.Dir, "store"), "127.0.0.1:0", o.Sync
	server, err := app.OpenBroker(ctx, c, app.BrokerOptions{Serve: true})
	if err != nil {
		return err
	}
	defer func() { _ = server.Close(context.WithoutCancel(ctx)) }()
	if err := server.Prepare(ctx, app.Topology(c)); err != nil {
		return err
	}
	say := json.NewEncoder(os.Stdout)
	if err := say.Encode(hello{URL: server.ClientURL()}); err != nil {
		return err
	}
	for in.Scan() {
		runtime.GC()
		debug.FreeOSMemory()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		if err := say.Encode(memory{Heap: stats.HeapAlloc, Resident: resident(os.Getpid())}); err != nil {
			return err
		}
	}
	return in.Err()
}

// serveWorker runs a worker until the input ends.
func serveWorker(ctx context.Context) error {
	o, in, err := readOrder()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	log, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	service, err := app.New(ctx, app.Options{Config: o.settings(), Build: "sizing", Log: log})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(hello{Admin: service.AdminAddr()}); err != nil {
		return errors.Join(err, service.Close(ctx))
	}
	go func() {
		for in.Scan() { // Until the input ends.
		}
		stop()
	}()
	return service.Run(ctx)
}

func readOrder() (order, *bufio.Scanner, error) {
	in := bufio.NewScanner(os.Stdin)
	var o order
	if !in.Scan() {
		return o, nil, errors.Join(errors.New("no order"), in.Err())
	}
	return o, in, json.Unmarshal(in.Bytes(), &o)
}

// settings returns the defaults, with a pace that nobody meets and the sandbox as the upstreams.
func (o order) settings() config.Config {
	c := config.Default()
	c.NATS.URL, c.Cards.KeysDir, c.Admin.Listen = config.URL(o.NATS), filepath.Join(o.Dir, "keys"), "127.0.0.1:0"
	c.Lanes.Interactive.Slots, c.Shutdown.Grace = o.Slots, 10*time.Second
	free := config.Pace{Rate: config.Rate{Calls: 100_000, Per: time.Second}, Burst: 100_000}
	c.Providers.EasyPay.BaseURL, c.Providers.EasyPay.MallID, c.Providers.EasyPay.Pace = config.URL(o.EasyPay), "T5102001", free
	u := &c.Providers.UnionPay
	u.Enabled, u.BaseURL, u.Path, u.Pace = true, config.URL(o.UnionPay), sandbox.UnionPayPath, free
	u.ProcType, u.SignCertID, u.EncCertID, u.InsCode, u.AppID, u.PID = "01", "001", "002", "100120156", sandbox.DefaultAppID, "1234567890"
	upi := func(name string) string { return filepath.Join(o.Dir, "upi", name) }
	u.JWS.KID, u.JWS.PrivateKeyFile = o.Kids[0], upi("client-sign.key.pem")
	u.Response.KeyFiles = map[string]string{o.Kids[1]: upi("upi-sign.pub.pem")}
	u.Encryption.KID, u.Encryption.PublicKeyFile = o.Kids[2], upi("upi-encrypt.pub.pem")
	return c
}

// resident returns the resident memory of a process in bytes, 0 where the system does not tell.
func resident(pid int) uint64 {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseUint(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * uint64(os.Getpagesize())
}

// names returns the names of the streams and buckets.
func names() broker.Names { return app.Topology(config.Default()).Names() }

// subjects returns the subjects of queries and results.
func subjects() query.Subjects { return query.NewSubjects(config.Default().Prefix) }
