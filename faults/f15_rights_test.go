//go:build faults

package faults

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/query"
)

// right is something that a worker may do.
type right struct {
	publish   []string
	subscribe []string
	// without says why a running worker can do without it; "" if it has to tell that it is missing.
	without string
	// short tells that it is also taken away in the short form.
	short bool
}

// rights are what a worker needs. The name says what is lost without it.
var rights = map[string]right{
	"results":   {publish: []string{"discount.result.>"}, short: true},
	"dead":      {publish: []string{"discount.dead.>"}},
	"retries":   {publish: []string{"discount.retry.at.>"}},
	"pulls":     {publish: []string{"$JS.API.CONSUMER.MSG.NEXT.>"}, short: true},
	"acks":      {publish: []string{"$JS.ACK.>"}},
	"look":      {publish: []string{"$JS.API.STREAM.MSG.GET.>"}},
	"the rest":  {publish: []string{"$JS.API.STREAM.INFO.>"}}, // Told when the figures are read, every 15 s.
	"consumers": {publish: []string{"$JS.API.CONSUMER.INFO.>"}},
	"pace":      {publish: []string{"$KV.discount_pace.>"}},
	"read pace": {publish: []string{"$JS.API.DIRECT.GET.>"}},
	"controls":  {publish: []string{"$JS.API.CONSUMER.CREATE.KV_discount_pace.>"}},
	"answers":   {publish: []string{"$KV.discount_answers.>"}}, // Told, and answered without.
	"inbox":     {subscribe: []string{"_INBOX.>"}},
	"requests":  {subscribe: []string{"discount.ask.>", "discount.lookup.>", "discount.keys", "$SRV.>"}},
	"replies":   {publish: []string{"_INBOX.>"}, without: "only who sends a request misses its reply"},
	"account":   {publish: []string{"$JS.API.INFO"}, without: "only looked at when a worker starts"},
	"unwatch":   {publish: []string{"$JS.API.CONSUMER.DELETE.KV_discount_pace.>"}, without: "a watch that is not ended ends by itself"},
	"flow":      {publish: []string{"$JS.FC.>"}, without: "a watch brings a few messages, far below what has to be confirmed"},
}

// TestF15Revoked takes one right after the other from a running worker. It must say that it is not ready, and name the right, unless it can do
// without it; it must ack nothing that is not stored, and go on when it gets the right back.
func TestF15Revoked(t *testing.T) {
	t.Parallel()
	s := newSite(t, siteOptions{
		broker: usersWithout(), login: ", user: worker, password_file: password", user: []nats.Option{nats.UserInfo("admin", "admin")},
		password: "worker", settings: scheduling(),
	})
	// Some of the queries need a dead letter and some a retry.
	s.upstream.misbehave(t, "easypay:code=E999%3,easypay:status=503%4")
	l := newLoad(s)
	w := s.startWorker(t)
	var harmless []string
	for name, taken := range rights {
		switch {
		case taken.without != "":
			harmless = append(harmless, name)
		case taken.short || full():
			s.revoke(t, name)
			began := time.Now()
			says := w.saysMissing(t, l, taken)
			t.Logf("F15 %s: told after %s (target 10 s): %s", name, time.Since(began).Round(time.Millisecond), says)
			s.revoke(t)
			require.Empty(t, s.quiesce(t, soon), "%s is allowed again, but the worker says: %s", name, w.problems())
			require.Eventually(t, func() bool {
				reply, err := s.conn.Request("discount.lookup.shop", []byte(`{"source":"urn:shop","id":"none"}`), time.Second)
				return err == nil && reply.Header.Get(micro.ErrorCodeHeader) == "404"
			}, soon, 100*time.Millisecond, "%s is allowed again, but requests are not served", name)
			t.Logf("F15 %s: all done %s later", name, time.Since(began).Round(time.Millisecond))
		}
	}
	s.revoke(t, harmless...)
	for range 10 {
		l.fresh(t)
	}
	s.finish(t, l, soon, 30)
	w.awaitReady(t)
	for _, name := range harmless {
		require.NotContains(t, w.problems(), rights[name].subject())
		t.Logf("F15 %s: not needed: %s", name, rights[name].without)
	}
}

// subject returns how the subjects of a right begin.
func (r right) subject() string {
	return strings.TrimRight(slices.Concat(r.publish, r.subscribe)[0], ">")
}

// saysMissing asks queries until the worker says that it is not ready because a right is missing, and returns what it says.
func (w *worker) saysMissing(t *testing.T, l *load, missing right) (says string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.fresh(t)
		says = w.problems()
		return slices.ContainsFunc(slices.Concat(missing.publish, missing.subscribe), func(subject string) bool {
			return strings.Contains(says, "_denied: "+strings.TrimRight(subject, ">"))
		})
	}, soon, 100*time.Millisecond)
	return says
}

// fresh publishes a query that takes an answer to the same question, if it is not older than a minute: the worker looks for one.
func (l *load) fresh(t *testing.T) {
	t.Helper()
	l.mu.Lock()
	l.last++
	amount := 100_000 + l.last
	l.mu.Unlock()
	asked, minute := question(query.EasyPay, amount), time.Minute
	asked.MaxAge = &minute
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if key, err := l.client.Publish(ctx, asked); err == nil {
		l.note(key, amount, 0)
	}
}

// revoke takes these rights from the worker, and gives all others back. If its watch of the pace would need a right, it has to begin anew.
func (s *site) revoke(t *testing.T, names ...string) {
	t.Helper()
	only := s.brokers[0]
	reloads := func() int { return strings.Count(only.output.String(), "Reloaded server configuration") }
	before := reloads()
	only.configure(t, usersWithout(names...))
	only.signal(t, syscall.SIGHUP)
	require.Eventually(t, func() bool { return reloads() > before }, soon, 10*time.Millisecond)
	if !slices.Contains(names, "controls") {
		return
	}
	stream, err := s.js.Stream(t.Context(), "KV_discount_pace")
	require.NoError(t, err)
	for watch := range stream.ConsumerNames(t.Context()).Name() {
		require.NoError(t, stream.DeleteConsumer(t.Context(), watch))
	}
}

// usersWithout returns the users of a server, with some rights of the worker's left out.
func usersWithout(revoked ...string) string {
	var publish, subscribe []string
	for name, right := range rights {
		if slices.Contains(revoked, name) {
			continue
		}
		for _, subject := range right.publish {
			publish = append(publish, fmt.Sprintf("%q", subject))
		}
		for _, subject := range right.subscribe {
			subscribe = append(subscribe, fmt.Sprintf("%q", subject))
		}
	}
	return fmt.Sprintf("authorization { users: [\n {user: admin, password: admin}\n {user: worker, password: worker, permissions: { publish: [%s], subscribe: [%s] } }\n] }\n",
		strings.Join(publish, ", "), strings.Join(subscribe, ", "))
}
