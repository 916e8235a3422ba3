package app

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/client"
	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// How every card number, token and mobile of the hunt begins. The spilt ones are what a publisher sends unsealed although it must not: they lie
// in the queue as they came, and must be nowhere else.
const (
	huntedCard   = "620123456"
	huntedToken  = "HuntedTokenOf"
	huntedMobile = "86-1391234"
	spiltCard    = "620765432"
	spiltToken   = "SpiltTokenOf"
)

// How much is asked, beside huntedQueries.
const (
	perFault   = 4
	perSpill   = 20
	perRequest = 50
)

// hunt is a worker whose every output is kept.
type hunt struct {
	*running

	site      *site
	collector *collector
	wire      *tap
	// outputs are texts that somebody was shown, by name.
	outputs map[string]string
	queries int
	cards   int
}

// tap keeps every message that passes a broker: subject, headers and body.
type tap struct {
	mu  sync.Mutex
	all []byte
}

func (w *tap) take(m *nats.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = fmt.Appendf(w.all, "%s %s %v %s\n", m.Subject, m.Reply, m.Header, m.Data)
}

func (w *tap) bytes() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.all)
}

func newHunt(t *testing.T) *hunt {
	t.Helper()
	h := &hunt{site: newSite(t), collector: newCollector(t), wire: &tap{}, outputs: map[string]string{}}
	s := h.site
	s.tracing = h.collector.tracing()
	s.Log.Level = "debug"
	s.Breaker.MinCalls, s.Breaker.OpenFor = 100_000, 100*time.Millisecond // Faults must strike, not stop the rest.
	s.HTTP.AttemptTimeout, s.Retry.MaxAttempts = 300*time.Millisecond, 2
	require.NoError(t, s.sandbox.SetFaults(h.faults(t)))
	built, err := New(t.Context(), Options{Config: s.Config, Build: "test", Log: s.log, Tracing: s.tracing})
	require.NoError(t, err)
	setTrap(built)
	h.running = s.start(t, built)
	h.ready(t)
	h.taps(t)
	return h
}

// taps keeps every message of the broker from now on.
func (h *hunt) taps(t *testing.T) {
	t.Helper()
	subscription, err := h.broker.Conn.Subscribe(">", h.wire.take)
	require.NoError(t, err)
	require.NoError(t, subscription.SetPendingLimits(-1, -1))
}

// params are the parameters of the kinds of fault that need one.
func params() map[string]string {
	return map[string]string{"status": "=503", "code": "=99", "latency": "=5s"}
}

// faults returns every kind of fault that UnionPay's half of the sandbox can play, each for a programme of its own. Left out are those that
// strike every call: they have their turn in outlasts and exceeds.
func (h *hunt) faults(t *testing.T) []sandbox.Fault {
	t.Helper()
	_, table, found := strings.Cut(sandbox.FaultHelp(), "[F=V]")
	require.True(t, found)
	var lines []string
	for _, match := range regexp.MustCompile(`(?m)^  ([a-z0-9]+)\S* .*$`).FindAllStringSubmatch(table, -1) {
		kind := match[1]
		if kind == "down" || kind == "limit" || strings.Contains(match[0], "(easypay only)") {
			continue
		}
		lines = append(lines, fmt.Sprintf("unionpay:%s%s[pid=%010d]", kind, params()[kind], len(lines)+1))
	}
	require.Greater(t, len(lines), 25, "the table of faults is read")
	faults, err := sandbox.ParseFaults(strings.Join(lines, ","))
	require.NoError(t, err)
	return faults
}

// card returns the next card, with all that must not be seen.
func (h *hunt) card(t *testing.T) *card.Details {
	t.Helper()
	h.cards++
	number, err := card.ParseNumber(withCheckDigit(fmt.Sprintf("%s%06d", huntedCard, h.cards)))
	require.NoError(t, err)
	return &card.Details{
		Number: number, UserToken: card.NewSecret(fmt.Sprint(huntedToken, h.cards)), Mobile: card.NewSecret(fmt.Sprintf("%s%05d", huntedMobile, h.cards)),
	}
}

// withCheckDigit appends the digit that makes a card number of digits.
func withCheckDigit(digits string) string {
	for digit := range 10 {
		if number := fmt.Sprint(digits, digit); passes(number) {
			return number
		}
	}
	return digits
}

func passes(number string) bool {
	_, err := card.ParseNumber(number)
	return err == nil
}

func (h *hunt) question(t *testing.T, id string, lane query.Lane) client.Question {
	t.Helper()
	return client.Question{
		Provider: query.UnionPay, Lane: lane, Source: "urn:shop", ID: id, Correlation: "order-" + id, UnionPay: &query.UnionPayQuestion{}, Card: h.card(t),
	}
}

// asksAll publishes what is answered and what meets a fault, and sends requests, many at once.
func (h *hunt) asksAll(t *testing.T) {
	t.Helper()
	var published, direct []client.Question
	for i := range huntedQueries {
		question := h.question(t, fmt.Sprintf("plain-%d", i), []query.Lane{query.Interactive, query.Bulk}[i%2])
		if i%20 == 0 {
			question.MaxAge = new(time.Minute)
		}
		published = append(published, question)
	}
	for _, fault := range h.site.sandbox.Faults() {
		for i := range perFault {
			question := h.question(t, fmt.Sprintf("%s-%d", fault.Kind, i), query.Interactive)
			question.UnionPay.PID, question.Expires = fault.Match[0].Value, time.Now().Add(3*time.Second)
			published = append(published, question)
		}
	}
	for i := range perRequest {
		direct = append(direct, h.question(t, fmt.Sprintf("direct-%d", i), query.Interactive))
	}
	h.queries += len(published) + len(direct)
	ctx, cancel := context.WithTimeout(t.Context(), 8*patience)
	defer cancel()
	atOnce(published, func(question client.Question) {
		_, err := h.Publish(ctx, question)
		assertNone(t, err)
	})
	atOnce(direct, func(question client.Question) {
		_, _ = h.Direct(ctx, question) // It may be refused: the worker is busy.
	})
}

// atOnce calls f with each question, sixteen at a time.
func atOnce(questions []client.Question, f func(client.Question)) {
	var working sync.WaitGroup
	next := make(chan client.Question)
	for range 16 {
		working.Go(func() {
			for question := range next {
				f(question)
			}
		})
	}
	for _, question := range questions {
		next <- question
	}
	close(next)
	working.Wait()
}

// assertNone fails the test from another goroutine than its own.
func assertNone(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
