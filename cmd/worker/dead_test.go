package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/freeport"
	"discountquery.example/worker/internal/query"
)

// morgue is a site whose upstream can be told to misbehave.
type morgue struct {
	*site

	sandbox string
	store   string
	port    string
	nats    *process
	broker  *app.Broker
}

func newMorgue(t *testing.T) *morgue {
	t.Helper()
	m := &morgue{site: &site{dir: t.TempDir(), admin: freeport.Address(t)}, sandbox: freeport.Address(t)}
	address, easypay := freeport.Address(t), freeport.Address(t)
	_, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	m.store, m.port = filepath.Join(m.dir, "js"), port
	m.startNATS(t)
	start(t, "worker", m.dir, "sandbox", "--easypay", easypay, "--unionpay", "", "--admin", m.sandbox)
	m.config = filepath.Join(m.dir, "worker.yaml")
	settings := fmt.Sprintf("nats: {url: \"nats://%s\"}\nadmin: {listen: \"%s\"}\nconsumer: {ack_wait: 6s}\nshutdown: {grace: 10s}\ncards: {keys_dir: \"%s\"}\n"+
		"providers: {easypay: {base_url: \"http://%s\", mall_id: T5102001, pace: {rate: 5000/s, burst: 100}}, unionpay: {enabled: false}}\n",
		address, m.admin, filepath.Join(m.dir, "keys"), easypay)
	require.NoError(t, os.WriteFile(m.config, []byte(settings), 0o600))
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", filepath.Join(m.dir, "keys")).code)
	require.Eventually(t, func() bool { return m.do(t, "setup", "--apply").code == exitOK }, time.Minute, 50*time.Millisecond)
	settingsRead, err := config.Load(m.config, nil)
	require.NoError(t, err)
	m.broker, err = app.OpenBroker(t.Context(), settingsRead, app.BrokerOptions{Name: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = m.broker.Close(context.Background()) })
	return m
}

// startNATS starts the broker, also again on the same store.
func (m *morgue) startNATS(t *testing.T) {
	t.Helper()
	m.nats = start(t, "nats", m.dir, "-js", "-sd", m.store, "-a", "127.0.0.1", "-p", m.port)
}

// misbehave tells the sandbox which faults to have, "" for none.
func (m *morgue) misbehave(t *testing.T, faults string) {
	t.Helper()
	require.Eventually(t, func() bool {
		request, err := http.NewRequest(http.MethodPut, "http://"+m.sandbox+"/faults", strings.NewReader(faults))
		require.NoError(t, err)
		answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, time.Minute, 20*time.Millisecond)
}

// die publishes queries that die of a code nobody knows, and returns their keys.
func (m *morgue) die(t *testing.T, name string, count int) []string {
	t.Helper()
	m.misbehave(t, "easypay:code=Z123")
	keys := m.publish(t, name, count)
	require.Eventually(t, func() bool { return len(m.statuses(t, name)) == count }, time.Minute, 50*time.Millisecond)
	m.misbehave(t, "")
	return keys
}

// publish publishes bulk queries of a client and returns their keys.
func (m *morgue) publish(t *testing.T, name string, count int) []string {
	t.Helper()
	var keys []string
	for i := range count {
		key, err := m.publisher(name).Publish(t.Context(), client.Question{
			Provider: query.EasyPay, Lane: query.Bulk, Source: "urn:shop", ID: fmt.Sprintf("%s-%d", name, i), EasyPay: &query.EasyPayQuestion{CardBin: "12345678"},
			Correlation: fmt.Sprintf("order-%d", i),
		})
		require.NoError(t, err)
		keys = append(keys, key)
	}
	return keys
}

// publisher returns a client of that name.
func (m *morgue) publisher(name string) *client.Client {
	return client.New(client.Options{
		Conn: m.broker.Conn, JS: m.broker.JS, Subjects: query.NewSubjects("discount"), Name: name, ResultStream: "DISCOUNT_RESULTS",
	})
}

// statuses returns the statuses of all results of a client by key.
func (m *morgue) statuses(t *testing.T, name string) map[string]string {
	t.Helper()
	stream, err := m.broker.JS.Stream(t.Context(), "DISCOUNT_RESULTS")
	require.NoError(t, err)
	all := map[string]string{}
	for next := uint64(1); ; {
		message, err := stream.GetMsg(t.Context(), next, jetstream.WithGetMsgSubject("discount.result.*.*."+name+".*"))
		if err != nil {
			require.ErrorIs(t, err, jetstream.ErrMsgNotFound)
			return all
		}
		tokens := strings.Split(message.Subject, ".")
		all[tokens[2]] += tokens[5] + " "
		next = message.Sequence + 1
	}
}

// answered waits until each query was completed once, after it had failed once.
func (m *morgue) answered(t *testing.T, name string, keys []string) {
	t.Helper()
	require.Eventually(t, func() bool {
		return strings.Count(fmt.Sprint(m.statuses(t, name)), "completed") >= len(keys)
	}, time.Minute, 50*time.Millisecond)
	statuses := m.statuses(t, name)
	require.Len(t, statuses, len(keys))
	for _, key := range keys {
		require.Equal(t, "failed completed ", statuses[key])
	}
}

// dead runs one of the commands about dead letters and reads its JSON into v, unless that is nil.
func (m *morgue) dead(t *testing.T, code int, v any, args ...string) outcome {
	t.Helper()
	got := m.do(t, append([]string{"dead"}, args...)...)
	require.Equal(t, code, got.code, got.stdout+got.stderr)
	require.NotContains(t, got.stdout+got.stderr, "6200000000000005")
	if v != nil {
		require.NoError(t, json.Unmarshal([]byte(got.stdout), v), got.stdout)
	}
	return got
}

// TestDeadLettersAtTheTerminal is the way of an operator with real processes: look, repair, replay, be killed, resume, cancel, drop.
func TestDeadLettersAtTheTerminal(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	keys := m.die(t, "shop", 60)

	var groups []deadletter.Group
	m.dead(t, exitOK, &groups, "groups", "--json")
	require.Len(t, groups, 1)
	require.Equal(t, 60, groups[0].Count)
	require.Contains(t, m.dead(t, exitOK, nil, "groups").stdout, "provider's manual")
	listed := m.dead(t, exitOK, nil, "ls", "--order", "order-7").stdout
	require.Equal(t, 2, strings.Count(listed, "\n"), "a heading and one letter")
	require.Contains(t, m.dead(t, exitOK, nil, "ls", "--limit", "3").stderr, "more than 3")
	require.Equal(t, 60, strings.Count(m.dead(t, exitOK, nil, "ls", "--json").stdout, "\n"))
	m.dead(t, exitNo, nil, "show", "--key", "nothing")
	var shown struct {
		Standing string               `json:"standing"`
		Revealed *deadletter.Revealed `json:"revealed"`
	}
	m.dead(t, exitOK, &shown, "show", "--key", keys[0])
	require.Equal(t, "ready", shown.Standing)
	require.Nil(t, shown.Revealed)
	m.dead(t, exitOK, &shown, "show", "--key", keys[0], "--reveal", "--why", "case 1")
	require.Contains(t, string(shown.Revealed.Body), "12345678")

	var plan deadletter.Plan
	m.dead(t, exitOK, &plan, "replay", "--cause", groups[0].Cause, "--json")
	require.Equal(t, 60, plan.Ready)
	require.Contains(t, m.dead(t, exitUsage, nil, "replay", "--apply").stderr, "--all")
	require.Contains(t, m.dead(t, exitNo, nil, "replay", "--client", "shop", "--apply").stderr, "Nothing was done", "without a yes nothing is done")

	id := m.killMidway(t, groups[0].Cause)
	require.Contains(t, m.dead(t, exitOK, nil, "batches").stdout, id)
	var done deadletter.Batch
	m.dead(t, exitOK, &done, "replay", "--resume", id, "--json")
	require.Equal(t, deadletter.Done, done.State)
	require.Equal(t, 60, done.Published)
	m.answered(t, "shop", keys)
	m.dead(t, exitOK, &plan, "replay", "--json")
	require.Equal(t, 60, plan.LeftOut[deadletter.Answered])

	m.stopAndCancel(t)
	m.dropAll(t, 60+20)
}

// killMidway starts a replay in a process of its own, kills it when a third is published, and returns the id of the batch.
func (m *morgue) killMidway(t *testing.T, cause string) string {
	t.Helper()
	replaying := start(t, "worker", m.dir, "dead", "replay", "--cause", cause, "--apply", "--yes", "--rate", "20", "--canary", "2", "-c", m.config)
	require.Eventually(t, func() bool {
		return strings.Count(fmt.Sprint(m.statuses(t, "shop")), "completed") >= 20
	}, time.Minute, 20*time.Millisecond)
	replaying.kill(t)
	_, rest, found := strings.Cut(replaying.output.String(), "\nreplay ")
	require.True(t, found, replaying.output.String())
	id, _, _ := strings.Cut(rest, "\n")
	require.Less(t, strings.Count(fmt.Sprint(m.statuses(t, "shop")), "completed"), 60)
	return id
}

// stopAndCancel replays while the cause is not repaired, which the canaries tell, and cancels what is left.
func (m *morgue) stopAndCancel(t *testing.T) {
	t.Helper()
	m.die(t, "careless", 17)
	m.misbehave(t, "easypay:code=Z123")
	var stopped deadletter.Batch
	m.dead(t, exitNo, &stopped, "replay", "--client", "careless", "--apply", "--yes", "--rate", "100", "--canary", "3", "--json")
	require.Equal(t, deadletter.Stopped, stopped.State)
	require.Equal(t, 3, stopped.Published)
	var cancelled deadletter.Batch
	m.dead(t, exitOK, &cancelled, "replay", "--cancel", stopped.ID, "--json")
	require.Equal(t, deadletter.Cancelled, cancelled.State)
	require.Contains(t, m.dead(t, exitNo, nil, "replay", "--cancel", stopped.ID).stderr, "has ended")
	require.Contains(t, m.dead(t, exitNo, nil, "replay", "--resume", "nothing").stderr, "no such replay")
	m.misbehave(t, "")
}

// dropAll exports and drops all letters.
func (m *morgue) dropAll(t *testing.T, letters int) {
	t.Helper()
	exported := m.dead(t, exitOK, nil, "export")
	require.Equal(t, exported.stdout, m.dead(t, exitOK, nil, "export", "--json").stdout, "it is JSON anyway")
	require.Equal(t, letters, strings.Count(exported.stdout, "\n"))
	require.NotContains(t, exported.stdout, "12345678\\\"", "payloads stay sealed")
	require.Contains(t, m.dead(t, exitOK, nil, "drop", "--client", "shop").stderr, "Nothing was changed")
	require.Contains(t, m.dead(t, exitUsage, nil, "drop", "--apply", "--yes").stderr, "--all")
	require.Contains(t, m.dead(t, exitOK, nil, "drop", "--client", "shop", "--apply", "--yes").stdout, "dropped 60")
	var dropped map[string]int
	m.dead(t, exitOK, &dropped, "drop", "--all", "--apply", "--yes", "--json")
	require.Equal(t, map[string]int{"dropped": letters - 60}, dropped)
	for _, command := range []string{"drop", "replay"} {
		var plan deadletter.Plan
		m.dead(t, exitOK, &plan, command, "--all", "--apply", "--yes", "--json")
		require.Zero(t, plan.Letters)
	}
	require.Contains(t, m.dead(t, exitOK, nil, "groups").stdout, "no such dead letters")
}

// edit runs replay --edit with a variable set.
func (m *morgue) edit(t *testing.T, environ string, args ...string) outcome {
	t.Helper()
	var stdout, stderr strings.Builder
	code := run(t.Context(), append(append([]string{"dead", "replay", "--edit"}, args...), "-c", m.config), []string{environ, "PATH=" + os.Getenv("PATH")},
		strings.NewReader(""), &stdout, &stderr)
	return outcome{code: code, stdout: stdout.String(), stderr: stderr.String()}
}

// editor writes an editor that changes a file by a script of sed, and returns it as a variable.
func (m *morgue) editor(t *testing.T, script string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "editor")
	require.NoError(t, os.WriteFile(name, []byte("#!/bin/sh\nsed -i '"+script+"' \"$1\"\n"), 0o700))
	return "EDITOR=" + name
}

// TestEditAtTheTerminal replays a letter after its query was edited.
func TestEditAtTheTerminal(t *testing.T) {
	t.Parallel()
	m := newMorgue(t)
	m.startWorker(t)
	m.die(t, "shop", 1)
	editor := filepath.Join(m.dir, "editor")
	require.NoError(t, os.WriteFile(editor, []byte("#!/bin/sh\nsed -i 's/12345678/87654321/' \"$1\"\nls -l \"$1\" >&2\necho \"$1\" > "+m.dir+"/edited\n"), 0o700))
	edit := func(environ string, args ...string) outcome { return m.edit(t, environ, args...) }
	require.Equal(t, exitUsage, edit("EDITOR="+editor, "--client", "shop").code, "one letter at a time")
	require.Contains(t, edit("EDITOR=true", "--seq", "1").stderr, "nothing was changed")
	require.Contains(t, edit("EDITOR=false", "--seq", "1").stderr, "run the editor")
	dry := edit("EDITOR="+editor, "--seq", "1")
	require.Equal(t, exitOK, dry.code, dry.stderr)
	require.Contains(t, dry.stdout, `+     "cardBin": "87654321"`)
	require.Contains(t, dry.stderr, "-rw-------")
	name, err := os.ReadFile(filepath.Join(m.dir, "edited"))
	require.NoError(t, err)
	require.NoFileExists(t, strings.TrimSpace(string(name)))

	applied := edit("VISUAL="+editor, "--seq", "1", "--apply", "--yes")
	require.Equal(t, exitOK, applied.code, applied.stdout+applied.stderr)
	var completed struct {
		Data query.CompletedData `json:"data"`
	}
	require.Eventually(t, func() bool {
		got := m.do(t, "result", "--client", "shop", "--source", "urn:shop", "--id", "shop-0")
		return got.code == exitOK && json.Unmarshal([]byte(got.stdout), &completed) == nil
	}, time.Minute, 50*time.Millisecond)
	require.Equal(t, "87654321", completed.Data.Query.EasyPay.CardBin)
	require.Equal(t, 1, completed.Data.Replay.Revision)
}

func TestDeadCommandsHaveExamples(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"dead ls", "dead groups", "dead show", "dead replay", "dead batches", "dead drop", "dead export", "dead reseal"} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", append(strings.Fields(words), "--help")...)
			require.Equal(t, exitOK, got.code)
			require.Contains(t, got.stdout, "Example:\n")
			require.Contains(t, got.stdout, "worker "+words)
		})
	}
}

func TestDeadUsage(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"unknown provider":       {[]string{"ls", "--provider", "visa"}, exitUsage, "--provider"},
		"unknown reason":         {[]string{"ls", "--reason", "expired"}, exitUsage, "--reason"},
		"a key that is none":     {[]string{"ls", "--key", "*"}, exitUsage, "the key has"},
		"a client that is none":  {[]string{"groups", "--client", "a.b"}, exitUsage, "the client has"},
		"a time that is none":    {[]string{"ls", "--from", "yesterday"}, exitUsage, "--from"},
		"two beginnings":         {[]string{"ls", "--from", "2026-01-02T03:04:05Z", "--newer", "1h"}, exitUsage, "--newer"},
		"two ends":               {[]string{"ls", "--to", "2026-01-02T03:04:05Z", "--older", "1h"}, exitUsage, "--older"},
		"ends before it begins":  {[]string{"ls", "--newer", "1h", "--older", "2h"}, exitUsage, "ends before"},
		"which letter":           {[]string{"show"}, exitUsage, "say which letter: --seq or --key"},
		"both letters":           {[]string{"show", "--seq", "1", "--key", "a"}, exitUsage, "--key"},
		"resume and cancel":      {[]string{"replay", "--resume", "a", "--cancel", "b"}, exitUsage, "--cancel"},
		"resume and again":       {[]string{"replay", "--resume", "a", "--again"}, exitUsage, "--again"},
		"resume with a filter":   {[]string{"replay", "--resume", "a", "--client", "shop"}, exitUsage, "leave out filters"},
		"resume since a time":    {[]string{"replay", "--resume", "a", "--newer", "1h"}, exitUsage, "leave out filters"},
		"resume with a canary":   {[]string{"replay", "--resume", "a", "--canary", "5"}, exitUsage, "leave out filters"},
		"resume all":             {[]string{"replay", "--resume", "a", "--all"}, exitUsage, "leave out filters"},
		"resume and edit":        {[]string{"replay", "--resume", "a", "--edit", "--seq", "1"}, exitUsage, "leave out filters"},
		"cancel with a filter":   {[]string{"replay", "--cancel", "a", "--seq", "1"}, exitUsage, "leave out filters"},
		"cancel at a rate":       {[]string{"replay", "--cancel", "a", "--rate", "1"}, exitUsage, "--rate"},
		"cancel and wait":        {[]string{"replay", "--cancel", "a", "--canary-wait", "1s"}, exitUsage, "--canary-wait"},
		"resume at a rate":       {[]string{"replay", "--resume", "a", "--rate", "1", "-c", "testdata/nobody.yaml"}, exitUnreachable, "no NATS server answers"},
		"a long reason":          {[]string{"drop", "--why", strings.Repeat("x", 257)}, exitUsage, "--why"},
		"nobody there":           {[]string{"ls", "-c", "testdata/nobody.yaml"}, exitUnreachable, "no NATS server answers"},
		"reveal without the key": {[]string{"show", "--seq", "1", "--reveal", "-c", "testdata/nobody.yaml"}, exitNo, "worker keys new"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := command(t, "", append([]string{"dead"}, test.args...)...)
			require.Equal(t, test.code, got.code, got.stderr)
			require.Contains(t, got.stdout+got.stderr, test.says)
		})
	}
}
