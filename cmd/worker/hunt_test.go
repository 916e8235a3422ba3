package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/freeport"
	"discountquery.example/worker/internal/leak"
	"discountquery.example/worker/internal/query"
)

// dumpsAt is the variable with the address at which a worker that was started "with dumps" writes dumps of its heap.
const dumpsAt = "DISCOUNT_TEST_DUMPS"

// processWithDumps is runProcess, but for a page that writes a dump of the heap into the file it is asked for.
func processWithDumps() int {
	listener, err := net.Listen("tcp", os.Getenv(dumpsAt))
	if err != nil || os.Unsetenv(asProcess) != nil || os.Unsetenv(dumpsAt) != nil {
		return exitNo
	}
	pages := http.NewServeMux()
	pages.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		runtime.GC() // What is in pools goes with the second one.
		runtime.GC()
		file, err := os.Create(r.URL.Query().Get("file"))
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		debug.WriteHeapDump(file.Fd())
		if file.Close() != nil {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	go func() { _ = (&http.Server{Handler: pages, ReadHeaderTimeout: time.Minute}).Serve(listener) }()
	return runProcess()
}

// How all card data of the hunt begins. The spilt number is what a publisher sends unsealed although it must not.
const (
	huntedCard  = "620345678"
	huntedToken = "TerminalTokenOf"
	spiltCard   = "620876543"
)

// How much is asked.
const (
	huntedPlain = 300
	huntedDead  = 20
	huntedHeld  = 20
)

// Programmes for which the simulated UnionPay misbehaves.
const (
	pidRejected = "0000000099"
	pidHangs    = "0000000098"
)

// den is a site of real processes whose card data can be looked for.
type den struct {
	*site

	worker    *process
	dumps     string
	publisher *client.Client
	broker    *app.Broker
	finder    *leak.Finder
	cards     int
	searched  int
}

func newDen(t *testing.T) *den {
	t.Helper()
	d := &den{site: &site{dir: t.TempDir(), admin: freeport.Address(t)}, dumps: freeport.Address(t)}
	address := freeport.Address(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	start(t, "nats", d.dir, "-js", "-sd", filepath.Join(d.dir, "js"), "-a", "127.0.0.1", "-p", port)
	faults := fmt.Sprintf("unionpay:code=Z9[pid=%s],unionpay:hang[pid=%s]", pidRejected, pidHangs)
	upstreams := start(t, "worker", d.dir, "sandbox", "--easypay", freeport.Address(t), "--unionpay", freeport.Address(t), "--admin", "", "--faults", faults)
	require.Eventually(t, func() bool { return strings.Contains(upstreams.output.String(), "public_key_file") }, time.Minute, 20*time.Millisecond)
	d.config = filepath.Join(d.dir, "worker.yaml")
	keys := filepath.Join(d.dir, "keys")
	settings := fmt.Sprintf("nats: {url: \"nats://%s\"}\nadmin: {listen: \"%s\"}\ncards: {keys_dir: \"%s\"}\nlog: {level: debug}\n%s\n    pace: {rate: 1000/s, burst: 100}\n",
		address, d.admin, keys, upstreams.output.String())
	require.NoError(t, os.WriteFile(d.config, []byte(settings), 0o600))
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", keys).code)
	require.Eventually(t, func() bool { return d.do(t, "setup", "--apply").code == exitOK }, time.Minute, 50*time.Millisecond)
	d.connect(t, keys)
	d.finder, err = leak.New(huntedCard, huntedToken, spiltCard)
	require.NoError(t, err)
	d.worker = startWith(t, []string{dumpsAt + "=" + d.dumps, "GOTRACEBACK=crash"}, "worker with dumps", d.dir, "run", "-c", d.config)
	require.Eventually(t, func() bool { return d.status("/readyz") == http.StatusOK }, time.Minute, 20*time.Millisecond)
	return d
}

// connect makes a publisher that seals to the worker's key.
func (d *den) connect(t *testing.T, keys string) {
	t.Helper()
	settings, err := config.Load(d.config, nil)
	require.NoError(t, err)
	d.broker, err = app.OpenBroker(t.Context(), settings, app.BrokerOptions{Name: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = d.broker.Close(context.Background()) })
	ring, err := card.LoadRing(keys)
	require.NoError(t, err)
	d.publisher = client.New(client.Options{
		Conn: d.broker.Conn, JS: d.broker.JS, Subjects: query.NewSubjects("discount"), Name: "shop", ResultStream: "DISCOUNT_RESULTS", Sealer: ring.Sealer(),
	})
}

// publish publishes queries, each with a card of its own.
func (d *den) publish(t *testing.T, name, pid string, count int) {
	t.Helper()
	for i := range count {
		d.cards++
		_, err := d.publisher.Publish(t.Context(), client.Question{
			Provider: query.UnionPay, Lane: query.Interactive, Source: "urn:shop", ID: fmt.Sprintf("%s-%d", name, i), Correlation: "order",
			UnionPay: &query.UnionPayQuestion{PID: pid},
			Card:     &card.Details{Number: numberLike(t, huntedCard, d.cards), UserToken: card.NewSecret(fmt.Sprint(huntedToken, d.cards))},
		})
		require.NoError(t, err)
	}
}

// numberLike returns a card number that begins with a mark.
func numberLike(t *testing.T, mark string, n int) card.Number {
	t.Helper()
	for digit := range 10 {
		if number, err := card.ParseNumber(fmt.Sprintf("%s%06d%d", mark, n, digit)); err == nil {
			return number
		}
	}
	require.FailNow(t, "no digit makes a card number")
	return card.Number{}
}

// spill publishes card data as it must not be published.
func (d *den) spill(t *testing.T) {
	t.Helper()
	for i := range huntedDead {
		number := numberLike(t, spiltCard, i).Reveal()
		for name, body := range map[string]string{
			"unsealed": `{"data":{"userToken":"` + huntedToken + `","cardNo":"` + number + `"}}`,
			"broken":   `{"data":"` + number,
		} {
			message := nats.NewMsg(query.NewSubjects("discount").Query(query.UnionPay, query.Interactive, "shop"))
			message.Data = []byte(body)
			message.Header.Set("Nats-Msg-Id", fmt.Sprintf("%s-%d", name, i))
			_, err := d.broker.JS.PublishMsg(t.Context(), message)
			require.NoError(t, err)
		}
	}
}

// drained waits until no query is left.
func (d *den) drained(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		left := uint64(0)
		for _, name := range []string{"DISCOUNT_QUERIES", "DISCOUNT_RETRIES"} {
			stream, err := d.broker.JS.Stream(t.Context(), name)
			if err != nil {
				return false
			}
			left += stream.CachedInfo().State.Msgs
		}
		return left == 0
	}, 3*time.Minute, 50*time.Millisecond)
}

// dump has the worker write a dump of its heap, and returns it.
func (d *den) dump(t *testing.T) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "heap")
	reader := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := reader.Get("http://" + d.dumps + "/?file=" + url.QueryEscape(file))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(text, []byte("go1.7 heap dump")), "it is one")
	return text
}

// distinct returns how many different secrets with a mark are in text.
func distinct(text []byte, mark string) int {
	found := map[string]bool{}
	for _, secret := range regexp.MustCompile(mark+`\d+`).FindAll(text, -1) {
		found[string(secret)] = true
	}
	return len(found)
}

// clean looks for every mark in what somebody was shown.
func (d *den) clean(t *testing.T, where, text string) {
	t.Helper()
	d.searched += len(text)
	for _, finding := range d.finder.Find([]byte(text)) {
		t.Errorf("leak: %s: %s", where, finding)
	}
}

// TestLeakHuntAtTheTerminal looks for card data in everything that the commands for operators print about one store, in what a worker writes
// when it is told to die with all its stacks, and in a dump of its heap. docs/security.md has its figures.
func TestLeakHuntAtTheTerminal(t *testing.T) {
	t.Parallel()
	d := newDen(t)
	d.publish(t, "plain", "", huntedPlain)
	d.publish(t, "rejected", pidRejected, huntedDead)
	d.spill(t)
	d.drained(t)
	d.forgets(t)
	d.publish(t, "held", pidHangs, huntedHeld)
	d.holds(t)
	d.commands(t)
	d.dies(t)
	t.Logf("%d cards, %d bytes of output searched", d.cards, d.searched)
}

// leftOver is the part of the cards, one in so many, that may still be in the heap of a worker that has nothing to do. Go does not promise to
// forget any: the rest of a buffer that is in use again, or what stands beside a short string, lives on by chance. But whatever keeps card data
// on purpose or by mistake (a cache, a log, a metric, a goroutine that hangs) keeps that of most queries.
const leftOver = 20

// forgets looks at the heap of a worker that has nothing to do.
func (d *den) forgets(t *testing.T) {
	t.Helper()
	heap := d.dump(t)
	cards, tokens := distinct(heap, huntedCard), distinct(heap, huntedToken)
	t.Logf("heap after draining, %d bytes: %d of %d card numbers, %d tokens, %d spilt numbers", len(heap), cards, d.cards, tokens, distinct(heap, spiltCard))
	require.LessOrEqual(t, max(cards, tokens), d.cards/leftOver, "something keeps card data of queries that are done")
}

// holds looks at the heap of a worker whose queries hang: there the card data must be, or nobody has looked.
func (d *den) holds(t *testing.T) {
	t.Helper()
	var heap []byte
	require.Eventually(t, func() bool {
		heap = d.dump(t)
		return distinct(heap, huntedCard) > huntedHeld/2
	}, 2*time.Minute, 100*time.Millisecond, "card data of queries under way is in the heap")
	t.Logf("heap with %d queries under way, %d bytes: %d card numbers", huntedHeld, len(heap), distinct(heap, huntedCard))
	require.NotEmpty(t, d.finder.Find(heap), "what is looked for elsewhere would be found")
}

// commands runs every command that only shows, while the worker has queries that hang.
func (d *den) commands(t *testing.T) {
	t.Helper()
	var letters []string
	for line := range strings.Lines(d.do(t, "dead", "ls", "--limit", "0", "--json").stdout) {
		var letter struct {
			Sequence uint64 `json:"sequence"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &letter))
		letters = append(letters, fmt.Sprint(letter.Sequence))
	}
	require.Len(t, letters, 3*huntedDead, "rejected, unsealed and broken")
	lines := [][]string{
		{"top", "--once"}, {"top", "--once", "--json"}, {"tail", "--no-follow", "--last", "1000"}, {"tail", "--no-follow", "--last", "1000", "--wide"},
		{"tail", "--no-follow", "--last", "1000", "--json"}, {"dead", "ls", "--limit", "0"}, {"dead", "ls", "--limit", "0", "--json"}, {"dead", "groups"},
		{"dead", "groups", "--json"}, {"dead", "export"}, {"dead", "batches"}, {"dead", "replay"}, {"pace", "show"}, {"pace", "show", "--json"},
		{"keys", "ls"}, {"check"}, {"check", "--json"}, {"check", "--print"}, {"setup"},
		{"result", "--client", "shop", "--source", "urn:shop", "--id", "plain-0"}, {"result", "--client", "shop", "--source", "urn:shop", "--id", "rejected-0"},
	}
	for i, sequence := range letters {
		if i%10 == 0 {
			lines = append(lines, []string{"dead", "show", "--seq", sequence}, []string{"dead", "show", "--seq", sequence, "--reveal", "--why", "a hunt"})
		}
	}
	for _, args := range lines {
		got := d.do(t, args...)
		require.Contains(t, []int{exitOK, exitNo}, got.code, "%v: %s", args, got.stderr)
		require.NotEmpty(t, got.stdout+got.stderr, args)
		d.clean(t, strings.Join(args, " "), got.stdout+got.stderr)
	}
}

// dies ends the worker in the way that makes Go print the stacks of all goroutines, with its queries under way.
func (d *den) dies(t *testing.T) {
	t.Helper()
	require.NoError(t, d.worker.cmd.Process.Signal(syscall.SIGQUIT))
	d.worker.done <- <-d.worker.done
	require.Contains(t, d.worker.output.String(), "goroutine ", "it has printed its stacks")
	d.clean(t, "what the worker wrote", d.worker.output.String())
	cores, err := filepath.Glob(filepath.Join(d.dir, "*core*"))
	require.NoError(t, err)
	require.Empty(t, cores, "it left a core dump")
}
