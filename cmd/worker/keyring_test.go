package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/app"
	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/query"
)

// vault is a site whose keys are rotated while queries are asked.
type vault struct {
	*site

	keys   string
	broker *app.Broker
	ran    []string

	mu     sync.Mutex
	asked  int
	failed []string
	sealed map[string]int
}

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{site: newSite(t), sealed: map[string]int{}}
	v.keys = filepath.Join(v.dir, "keys")
	file, err := os.OpenFile(v.config, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = fmt.Fprintf(file, "\ncards: {keys_dir: %q}\n", v.keys)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	require.Eventually(t, func() bool { return v.do(t, "setup", "--apply").code == exitOK }, time.Minute, 50*time.Millisecond)
	settings, err := config.Load(v.config, nil)
	require.NoError(t, err)
	v.broker, err = app.OpenBroker(t.Context(), settings, app.BrokerOptions{Name: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = v.broker.Close(context.Background()) })
	return v
}

// step runs a command of the page about keys and reads its JSON into into, unless that is nil.
func (v *vault) step(t *testing.T, code int, into any, args ...string) outcome {
	t.Helper()
	v.ran = append(v.ran, strings.Join(args, " "))
	got := v.do(t, args...)
	require.Equal(t, code, got.code, got.stdout+got.stderr)
	if into != nil {
		require.NoError(t, json.Unmarshal([]byte(got.stdout), into), got.stdout)
	}
	return got
}

func (v *vault) client(name string) *client.Client {
	return client.New(client.Options{
		Conn: v.broker.Conn, JS: v.broker.JS, Subjects: query.NewSubjects("discount"), Name: name, ResultStream: "DISCOUNT_RESULTS",
	})
}

// load asks, with the key that the workers say at that moment, until ctx ends.
func (v *vault) load(t *testing.T, ctx context.Context, name string) {
	publisher := v.client(name)
	number, err := card.ParseNumber("6200000000000005")
	require.NoError(t, err)
	for i := 0; ctx.Err() == nil; i++ {
		within, cancel := context.WithTimeout(context.Background(), time.Minute)
		publisher.Sealer, err = publisher.FetchSealer(within)
		require.NoError(t, err)
		result, err := publisher.Ask(within, client.Question{
			Provider: query.UnionPay, Lane: query.Interactive, Source: "urn:shop", ID: fmt.Sprintf("%s-%d", name, i), UnionPay: &query.UnionPayQuestion{},
			Card: &card.Details{UserToken: card.NewSecret("demo"), Number: number},
		})
		cancel()
		require.NoError(t, err, "each query that was asked is answered")
		v.mu.Lock()
		v.asked++
		v.sealed[publisher.Sealer.KeyID()]++
		if result.Status != query.Completed {
			v.failed = append(v.failed, string(result.Event))
		}
		v.mu.Unlock()
	}
}

// asks returns how many queries were sealed to a key and answered.
func (v *vault) asks(kid string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sealed[kid]
}

// opened returns what the worker counts for a key, "" for a key that it does not hold.
func (v *vault) opened(t *testing.T, kid string) string {
	t.Helper()
	admin := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := admin.Get("http://" + v.admin + "/metrics")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), `discount_worker_sealed_opened_total{kid="`+kid+`"} `)
	value, _, _ := strings.Cut(rest, "\n")
	return value
}

// first returns the id of the key that publishers are told to seal to, and all of them.
func (v *vault) first(t *testing.T) (kid string, all []string) {
	t.Helper()
	var set struct{ Keys []struct{ Kid string } }
	v.step(t, exitOK, &set, "keys", "public", "--from-nats")
	for _, key := range set.Keys {
		all = append(all, key.Kid)
	}
	return all[0], all
}

// TestRotationStepByStep goes through the steps of docs/keys.md with a running worker, while queries are asked.
func TestRotationStepByStep(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.startWorker(t)
	for i := range 3 { // Letters that are sealed to the old key: nobody can mend them, which does not matter here.
		_, err := v.client("careless").Publish(t.Context(), client.Question{
			Provider: query.EasyPay, Lane: query.Bulk, Source: "urn:shop", ID: fmt.Sprint(i), EasyPay: &query.EasyPayQuestion{CardBin: "12345678", CardCd: "008"},
		})
		require.NoError(t, err)
	}
	old, _ := v.first(t)
	ctx, stop := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	for i := range 3 {
		asking.Go(func() { v.load(t, ctx, fmt.Sprintf("shop%d", i)) })
	}
	require.Eventually(t, func() bool { return v.asks(old) > 5 }, time.Minute, 20*time.Millisecond)

	var made rotated
	v.step(t, exitOK, &made, "keys", "rotate", "--active-in", "4s", "--json")
	require.Equal(t, old, made.Previous)
	require.Eventually(t, func() bool { return v.opened(t, made.ID) != "" }, time.Minute, 50*time.Millisecond, "the worker has read it")
	require.Contains(t, v.step(t, exitOK, nil, "keys", "ls").stdout, made.ID)
	require.Eventually(t, func() bool { kid, _ := v.first(t); return kid == made.ID }, time.Minute, 200*time.Millisecond)
	require.Eventually(t, func() bool { return v.asks(made.ID) > 10 }, time.Minute, 20*time.Millisecond, "publishers use it")
	before := v.opened(t, old)
	require.NotEqual(t, "0", before)

	v.step(t, exitNo, nil, "dead", "reseal")
	var done resealed
	v.step(t, exitOK, &done, "dead", "reseal", "--apply", "--yes", "--json")
	require.Equal(t, 3, done.Done)
	require.Zero(t, done.After.Left)
	require.Equal(t, map[string]int{made.ID: 3}, done.After.Letters)
	v.step(t, exitOK, &done, "dead", "reseal", "--apply", "--json")
	require.Zero(t, done.Of, "nothing is left, and that is JSON too")
	require.Contains(t, v.step(t, exitOK, nil, "dead", "reseal").stdout, "0 letters are not sealed to "+made.ID)
	require.Equal(t, before, v.opened(t, old), "the old key's count stands still")

	for _, kind := range []string{".private.jwk", ".public.jwk"} {
		require.NoError(t, os.Remove(filepath.Join(v.keys, old+kind)))
	}
	require.Eventually(t, func() bool { _, all := v.first(t); return len(all) == 1 }, time.Minute, 200*time.Millisecond)
	count := v.asks(made.ID)
	require.Eventually(t, func() bool { return v.asks(made.ID) > count+10 }, time.Minute, 20*time.Millisecond)
	stop()
	asking.Wait()
	t.Logf("%d queries asked: %v", v.asked, v.sealed)
	require.Empty(t, v.failed, "none failed by the rotation")
	v.step(t, exitOK, nil, "dead", "show", "--seq", "4", "--reveal", "--json")
	v.requireDocumented(t)
}

// requireDocumented checks that every step of the page is one that was gone through.
func (v *vault) requireDocumented(t *testing.T) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "keys.md"))
	require.NoError(t, err)
	_, steps, found := strings.Cut(string(page), "## Rotation, step by step")
	require.True(t, found)
	steps, _, _ = strings.Cut(steps, "### ")
	count := 0
	for line := range strings.Lines(steps) {
		if words, ok := strings.CutPrefix(line, "        worker "); ok {
			count++
			words, _, _ = strings.Cut(words, " -c ")
			require.True(t, v.hasRun(words), "the page says %q", words)
		}
	}
	require.Equal(t, 5, count)
}

func (v *vault) hasRun(words string) bool {
	for _, line := range v.ran {
		if strings.HasPrefix(line, words) {
			return true
		}
	}
	return false
}

func TestKeysAtTheTerminal(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "keys")
	missing := command(t, "", "keys", "rotate", "--dir", dir)
	require.Equal(t, exitNo, missing.code)
	require.Contains(t, missing.stderr, "worker keys new")
	require.Equal(t, exitOK, command(t, "", "keys", "new", "--dir", dir).code)
	old, err := card.LoadRing(dir)
	require.NoError(t, err)

	said := command(t, "", "keys", "rotate", "--dir", dir)
	require.Equal(t, exitOK, said.code, said.stderr)
	require.Contains(t, said.stdout, old.Sealer().KeyID())
	require.Contains(t, said.stdout, "worker dead reseal --apply")
	ring, err := card.LoadRing(dir)
	require.NoError(t, err)
	require.Equal(t, old.Sealer().KeyID(), ring.Sealer().KeyID(), "its time has not come")
	var listed []card.KeyInfo
	require.NoError(t, json.Unmarshal([]byte(command(t, "", "keys", "ls", "--dir", dir, "--json").stdout), &listed))
	require.Len(t, listed, 3)
	require.True(t, card.IsThumbprint(listed[0].Thumbprint))
	require.Contains(t, command(t, "", "keys", "ls", "--dir", dir).stdout, listed[0].Thumbprint)
	require.InDelta(t, 10*time.Minute, time.Until(listed[1].From), float64(2*time.Minute))
	require.Contains(t, command(t, "", "keys", "ls", "--dir", dir).stdout, "active from ")

	require.Equal(t, exitOK, command(t, "", "keys", "rotate", "--dir", dir, "--active-in", "0s").code)
	joining := command(t, "", "keys", "rotate", "--dir", dir, "--fingerprint", "--active-in", "0s")
	require.Contains(t, joining.stdout, "joined by the fingerprints")
	after, err := card.LoadRing(dir)
	require.NoError(t, err)
	require.Len(t, after.Keys(), 5)
	files, err := filepath.Glob(filepath.Join(dir, "*.private.jwk"))
	require.NoError(t, err)
	for _, file := range files {
		info, err := os.Stat(file)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	}
	public := command(t, "", "keys", "public", "--dir", dir)
	sealer, err := card.ReadSet([]byte(public.stdout))
	require.NoError(t, err)
	require.Equal(t, after.Sealer().KeyID(), sealer.KeyID())
	require.NotContains(t, public.stdout, `"d"`)
	require.Equal(t, exitUsage, command(t, "", "keys", "rotate", "--dir", dir, "--active-in=-1s").code)
	require.Equal(t, exitUnreachable, command(t, "", "keys", "public", "--from-nats", "-c", "testdata/nobody.yaml").code)
	require.Equal(t, exitUsage, command(t, "{}", "seal", "--from-nats", "--public-key", "x", "--source", "a", "--id", "b").code)
	require.Equal(t, exitUnreachable, command(t, "{}", "seal", "--from-nats", "--source", "a", "--id", "b", "-c", "testdata/nobody.yaml").code)
}

// TestSealWithTheKeyOfTheWorkers seals with the key that a running worker serves, and has the query answered.
func TestSealWithTheKeyOfTheWorkers(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	v.startWorker(t)
	seal := func(more ...string) outcome {
		all := append([]string{"seal", "--source", "urn:shop", "--id", "1", "-c", v.config}, more...)
		return command(t, `{"userToken":"demo","cardNo":"6200000000000005"}`, all...)
	}
	ring, err := card.LoadRing(v.keys)
	require.NoError(t, err)
	another := strings.Repeat("A", 43) // The thumbprint of no key that anybody has.
	refused := seal("--from-nats", "--thumbprint", another)
	require.Equal(t, exitNo, refused.code, refused.stderr)
	require.Empty(t, refused.stdout)
	require.Contains(t, refused.stderr, "none of the keys has a pinned thumbprint")
	require.Equal(t, exitUsage, seal("--from-nats", "--thumbprint", "abc").code)
	require.Equal(t, exitUsage, seal("--public-key", "x", "--thumbprint", another).code)
	require.Equal(t, exitOK, seal("--from-nats").code, "without a pin it is as it was")
	sealed := seal("--from-nats", "--thumbprint", another, "--thumbprint", ring.Keys()[0].Thumbprint)
	require.Equal(t, exitOK, sealed.code, sealed.stderr)
	body, err := json.Marshal(map[string]any{
		"specversion": "1.0", "id": "1", "source": "urn:shop", "type": query.TypeRequested, "data": map[string]any{"data": strings.TrimSpace(sealed.stdout)},
	})
	require.NoError(t, err)
	_, err = v.broker.JS.Publish(t.Context(), "discount.query.unionpay.interactive.shop", body)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return v.do(t, "result", "--client", "shop", "--source", "urn:shop", "--id", "1").code == exitOK
	}, time.Minute, 50*time.Millisecond)
}
