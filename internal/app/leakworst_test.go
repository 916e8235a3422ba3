package app

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/quota"
	"discountquery.example/worker/internal/upstream"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// How much is asked on the worst days.
const (
	perPanic  = 5
	perOutage = 20
	perLimit  = 60
	perStop   = 100
)

// Programmes whose queries make the worker panic.
const (
	pidPanicsFirst = "0000009998"
	pidPanicsLast  = "0000009999"
)

// trap is a provider that panics with all it knows: when it prepares the request of one programme, and when it reads the response of another.
type trap struct {
	upstream.Provider
}

// Prepare implements upstream.Provider.
func (p trap) Prepare(now time.Time, question upstream.Question) (upstream.Exchange, error) {
	known := question.Card.Number.Reveal() + " " + question.Card.UserToken.Reveal() + " " + question.Card.Mobile.Reveal()
	if question.Query.UnionPay.PID == pidPanicsFirst {
		panic(known)
	}
	exchange, err := p.Provider.Prepare(now, question)
	if question.Query.UnionPay.PID == pidPanicsLast {
		exchange.Read = func(upstream.Response) (query.Answer, error) { panic(errors.New(known)) }
	}
	return exchange, err
}

// setTrap puts the trap into a worker that does not run yet.
func setTrap(built *App) {
	asks := built.gauges.takes.callers.clients[quota.Account{Provider: query.UnionPay, Name: defaultAccount}]
	asks.Provider = trap{asks.Provider}
}

// panics asks what makes the worker panic, on the queue and as requests.
func (h *hunt) panics(t *testing.T) {
	t.Helper()
	for _, pid := range []string{pidPanicsFirst, pidPanicsLast} {
		h.publishes(t, "panic-"+pid, perPanic, func(question *client.Question) { question.UnionPay.PID = pid })
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		question := h.question(t, "panic-direct-"+pid, query.Interactive)
		question.UnionPay.PID = pid
		_, _ = h.Direct(ctx, question) // It fails, as it should.
		cancel()
		h.queries++
	}
	h.settled(t)
	require.Len(t, h.site.lines(`"msg":"query bury"`, `"reason":"quarantined"`), 2*perPanic)
	require.NotEmpty(t, h.site.lines(`"code":"panicked"`, `"stack"`), "stacks are logged")
}

// publishes sends queries that change makes different.
func (h *hunt) publishes(t *testing.T, name string, count int, change func(*client.Question)) {
	t.Helper()
	var published []client.Question
	for i := range count {
		question := h.question(t, fmt.Sprintf("%s-%d", name, i), query.Interactive)
		change(&question)
		published = append(published, question)
	}
	h.queries += count
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	atOnce(published, func(question client.Question) {
		_, err := h.Publish(ctx, question)
		assertNone(t, err)
	})
}

// outlasts asks while every call is reset.
func (h *hunt) outlasts(t *testing.T) {
	t.Helper()
	h.site.fail(t, sandbox.Fault{Provider: sandbox.UnionPay, Kind: sandbox.KindDown})
	h.publishes(t, "down", perOutage, func(question *client.Question) { question.Expires = time.Now().Add(3 * time.Second) })
	h.settled(t)
	require.NotEmpty(t, h.site.lines(`"code":"deadline_passed"`), "some died of it")
	h.site.fail(t)
}

// exceeds asks more than the upstream allows. It lowers the pace for what comes after it.
func (h *hunt) exceeds(t *testing.T) {
	t.Helper()
	h.site.fail(t, sandbox.Fault{Provider: sandbox.UnionPay, Kind: sandbox.KindLimit, Param: "1/5"})
	h.publishes(t, "limit", perLimit, func(*client.Question) {})
	require.Eventually(t, func() bool { return len(h.site.lines(`"http_status":429`)) > 0 }, patience, 50*time.Millisecond, "some are refused")
	h.site.fail(t)
	h.settled(t)
}

// stops ends the worker while it is busy, and has another one finish.
func (h *hunt) stops(t *testing.T) {
	t.Helper()
	h.site.fail(t, sandbox.Fault{Provider: sandbox.UnionPay, Kind: sandbox.KindLatency, Param: "250ms"})
	h.publishes(t, "stop", perStop, func(*client.Question) {})
	require.Eventually(t, func() bool { return h.site.sandbox.Stats().Providers[sandbox.UnionPay].InFlight > 0 }, patience, time.Millisecond)
	h.outputs["stacks"] = stacks()
	h.stop()
	h.wait(t)
	h.site.fail(t)
	h.running = h.site.run(t)
	h.ready(t)
	h.taps(t)
	h.settled(t)
}

// stacks returns the stacks of all goroutines, as a Go program prints them when it crashes.
func stacks() string {
	text := make([]byte, 16<<20)
	return string(text[:runtime.Stack(text, true)])
}

// TestTheTrapTellsWhatItKnows makes sure that what the hunt looks for is in the panics.
func TestTheTrapTellsWhatItKnows(t *testing.T) {
	t.Parallel()
	h := &hunt{site: newSite(t)}
	question := h.question(t, "1", query.Interactive)
	asked := upstream.Question{Query: &query.Query{UnionPay: question.UnionPay}, Card: question.Card}
	question.UnionPay.PID = pidPanicsFirst
	defer func() {
		known, _ := recover().(string)
		for _, mark := range []string{huntedCard, huntedToken, huntedMobile} {
			require.Contains(t, known, mark)
		}
	}()
	_, _ = trap{}.Prepare(time.Now(), asked)
}
