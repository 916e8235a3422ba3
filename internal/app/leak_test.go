package app

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/config"
	"discountquery.example/worker/internal/deadletter"
	"discountquery.example/worker/internal/leak"
	"discountquery.example/worker/internal/query"
)

// spoilt are the ways in which sealed data can be wrong.
func (h *hunt) spoilt(t *testing.T, id string) map[string]string {
	t.Helper()
	details := h.card(t)
	seal := func(body string) string {
		sealed, err := h.site.ring.Sealer().Seal([]byte(body))
		require.NoError(t, err)
		return sealed
	}
	moved, err := h.site.ring.Sealer().SealDetails(*details, card.Binding{ID: "another", Source: "urn:shop", Type: query.TypeRequested})
	require.NoError(t, err)
	number := details.Number.Reveal()
	bound := fmt.Sprintf(`"id":"%s","source":"","type":"%s"`, id, query.TypeRequested)
	return map[string]string{
		"moved":    moved,
		"no JSON":  seal("card " + number + " of " + details.UserToken.Reveal()),
		"a number": seal(number),
		"cvv":      seal(fmt.Sprintf(`{%s,"userToken":"%s","cardNo":"%s","cvv":"123"}`, bound, details.UserToken.Reveal(), number)),
		"no Luhn":  seal(fmt.Sprintf(`{%s,"userToken":"%s","cardNo":"%s"}`, bound, details.UserToken.Reveal(), number[:15]+"x")),
		"cut":      moved[:len(moved)-8],
	}
}

// spoils publishes what can't be read: wrongly sealed, and not sealed at all.
func (h *hunt) spoils(t *testing.T) {
	t.Helper()
	send := func(provider query.Provider, id, body string, header nats.Header) {
		message := &nats.Msg{Subject: h.Subjects.Query(provider, query.Interactive, "shop"), Data: []byte(body), Header: nats.Header{"Nats-Msg-Id": {id}}}
		maps.Copy(message.Header, header)
		_, err := h.broker.JS.PublishMsg(t.Context(), message)
		require.NoError(t, err)
		h.queries++
	}
	for i := range perSpill {
		for name, sealed := range h.spoilt(t, fmt.Sprintf("cvv-%d", i)) {
			send(query.UnionPay, fmt.Sprintf("%s-%d", name, i), `{"data":"`+sealed+`"}`, nil)
		}
		number, token := withCheckDigit(fmt.Sprintf("%s%06d", spiltCard, i)), fmt.Sprint(spiltToken, i)
		plain := fmt.Sprintf(`{"data":{"userToken":"%s","cardNo":"%s"}}`, token, number)
		send(query.UnionPay, fmt.Sprintf("unsealed-%d", i), plain, nil)
		send(query.UnionPay, fmt.Sprintf("broken-%d", i), plain[:len(plain)-3], nil)
		send(query.EasyPay, fmt.Sprintf("unknown-%d", i), `{"cardCd":"008","cardNo":"`+number+`"}`, nil)
		send(query.EasyPay, fmt.Sprintf("bin-%d", i), `{"cardBin":"`+number+`"}`, nil)
		send(query.EasyPay, fmt.Sprintf("amount-%d", i), `{"cardCd":"008","amount":`+number+`000}`, nil)
		header := nats.Header{"X-Card": {number}, "Traceparent": {number}, "Tracestate": {"card=" + number}}
		send(query.EasyPay, fmt.Sprintf("header-%d", i), `{"cardCd":`, header)
	}
}

// settled waits until every query that was published is off the queues.
func (h *hunt) settled(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		names := h.topology.Names()
		return h.count(t, names.Queries()) == 0 && h.count(t, names.Retries()) == 0
	}, 8*patience, 100*time.Millisecond)
}

// operates does what operators do with dead letters: look, reveal, export, replay.
func (h *hunt) operates(t *testing.T) {
	t.Helper()
	settings := h.site.Config
	settings.NATS.URL = config.URL(h.ClientURL())
	letters, err := OpenDeadLetters(t.Context(), settings, DeadLettersOptions{Actor: "kim", Why: "a hunt", Keys: true})
	require.NoError(t, err)
	defer letters.Close(t.Context())
	var shown strings.Builder
	groups, err := letters.Groups(t.Context(), deadletter.Filter{})
	require.NoError(t, err)
	show(t, &shown, groups)
	count := 0
	require.NoError(t, letters.Each(t.Context(), deadletter.Filter{}, func(letter deadletter.Letter) error {
		if count++; count%4 != 0 {
			return nil
		}
		looked, err := letters.Show(t.Context(), letter)
		require.NoError(t, err)
		show(t, &shown, looked)
		revealed, err := letters.Reveal(t.Context(), letter)
		show(t, &shown, revealed)
		show(t, &shown, fmt.Sprint(err))
		return nil
	}))
	require.Greater(t, count, 10*perSpill, "there are dead letters")
	_, err = letters.Export(t.Context(), deadletter.Filter{}, &shown)
	require.NoError(t, err)
	h.outputs["operators"] = shown.String()

	require.NoError(t, h.site.sandbox.SetFaults(nil))
	plan, err := letters.PlanReplay(t.Context(), deadletter.Filter{Client: "shop"})
	require.NoError(t, err)
	require.Greater(t, plan.Ready, 10*perSpill)
	batch, err := letters.Start(t.Context(), deadletter.Request{Plan: plan, Rate: 5000})
	require.NoError(t, err)
	_, err = letters.Run(t.Context(), batch.ID, nil)
	require.NoError(t, err)
}

func show(t *testing.T, to io.Writer, value any) {
	t.Helper()
	require.NoError(t, json.NewEncoder(to).Encode(value))
}

// looksUp reads pages, metrics and results as clients do.
func (h *hunt) looksUp(t *testing.T) {
	t.Helper()
	for page, status := range map[string]int{
		"/healthz": 200, "/readyz": 200, "/metrics": 200, "/none": 404, "/debug/pprof/": 404, "/debug/pprof/heap": 404, "/debug/pprof/cmdline": 404,
		"/debug/vars": 404,
	} {
		response, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Get("http://" + h.AdminAddr() + page)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode, page)
		h.outputs[page] = fmt.Sprint(response.Header) + string(body)
	}
	h.outputs["figures"] = h.figures(t)
	var printed strings.Builder
	require.NoError(t, h.site.Print(&printed))
	h.outputs["configuration"] = printed.String()
	for i := range perRequest {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		found, err := h.Lookup(ctx, query.Key("shop", "urn:shop", fmt.Sprintf("plain-%d", i)))
		cancel()
		require.NoError(t, err)
		h.outputs["lookups"] += string(found.Event)
	}
}

// results returns every message that the stream holds.
func (h *hunt) results(t *testing.T, name string) string {
	t.Helper()
	consumer, err := h.broker.JS.OrderedConsumer(t.Context(), name, jetstream.OrderedConsumerConfig{})
	require.NoError(t, err)
	var all strings.Builder
	for left := h.count(t, name); left > 0; {
		batch, err := consumer.Fetch(left, jetstream.FetchMaxWait(patience))
		require.NoError(t, err)
		for m := range batch.Messages() {
			_, err = fmt.Fprintf(&all, "%s %v %s\n", m.Subject(), m.Headers(), m.Data())
			require.NoError(t, err)
			left--
		}
		require.NoError(t, batch.Error())
	}
	return all.String()
}

// TestLeakHunt sends thousands of queries with known card data every way that there is, and looks for them in everything that came out and in
// every byte that the broker keeps. docs/security.md has its figures.
func TestLeakHunt(t *testing.T) {
	t.Parallel()
	h := newHunt(t)
	h.asksAll(t)
	h.spoils(t)
	h.settled(t)
	h.panics(t)
	h.outlasts(t)
	h.operates(t)
	h.settled(t)
	h.looksUp(t)
	h.exceeds(t)
	h.stops(t)
	names := h.topology.Names()
	h.outputs["results"], h.outputs["dead letters"] = h.results(t, names.Results()), h.results(t, names.Dead())
	h.outputs["audit"] = h.results(t, names.Audit())
	require.NoError(t, h.broker.Conn.Flush())
	h.stop()
	h.wait(t)
	h.outputs["log"], h.outputs["traces"] = h.site.log.String(), h.collector.everything()
	require.Greater(t, len(h.outputs["traces"]), 100_000)
	require.Contains(t, h.outputs["results"], "fingerprint")

	h.searched(t)
}

// searched looks for every mark in everything. What was spilt is looked for outside the queue, in which it came, and off the wire.
func (h *hunt) searched(t *testing.T) {
	t.Helper()
	hunted, err := leak.New(huntedCard, huntedToken, huntedMobile)
	require.NoError(t, err)
	everything, err := leak.New(huntedCard, huntedToken, huntedMobile, spiltCard, spiltToken)
	require.NoError(t, err)
	var hits []string
	keep := func(where string, findings []leak.Finding) {
		for _, finding := range findings {
			hits = append(hits, where+" "+finding.String())
		}
	}
	wire := h.wire.bytes()
	keep("wire", hunted.Find(wire))
	bytes := len(wire)
	for name, text := range h.outputs {
		bytes += len(text)
		keep(name, everything.Find([]byte(text)))
	}
	queue := func(name string) bool { return strings.Contains(name, "/"+h.topology.Names().Queries()+"/") }
	store := os.DirFS(h.site.DataDir)
	outside, read, err := everything.FindIn(store, queue)
	require.NoError(t, err)
	inside, more, err := hunted.FindIn(store, func(name string) bool { return !queue(name) })
	require.NoError(t, err)
	keep("store", append(outside, inside...))
	t.Logf("%d queries, %d cards, %d bytes searched: %d on the wire, %d in the store; %d hits",
		h.queries, h.cards, bytes+read+more, len(wire), read+more, len(hits))
	require.NotZero(t, read)
	require.NotZero(t, more)
	require.Empty(t, hits, strings.Join(hits, "\n"))
	require.NotEmpty(t, everything.Find(wire), "what was spilt did pass the wire: the search works")
}
