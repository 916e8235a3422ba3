//go:build faults

package faults

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
)

// rights are what a running worker needs, line by line. The name says what is lost without it.
var rights = map[string]struct {
	publish   string
	subscribe string
}{
	"results":   {publish: "discount.result.>"},
	"dead":      {publish: "discount.dead.>"},
	"retries":   {publish: "discount.retry.at.>"},
	"pulls":     {publish: "$JS.API.CONSUMER.MSG.NEXT.>"},
	"acks":      {publish: "$JS.ACK.>"},
	"look":      {publish: "$JS.API.STREAM.MSG.GET.>"},
	"the rest":  {publish: "$JS.API.STREAM.INFO.>"},
	"consumers": {publish: "$JS.API.CONSUMER.INFO.>"},
	"account":   {publish: "$JS.API.INFO"},
	"pace":      {publish: "$KV.discount_pace.>"},
	"read pace": {publish: "$JS.API.DIRECT.GET.>"},
	"controls":  {publish: "$JS.API.CONSUMER.CREATE.KV_discount_pace.>"},
	"unwatch":   {publish: "$JS.API.CONSUMER.DELETE.KV_discount_pace.>"},
	"flow":      {publish: "$JS.FC.>"},
	"answers":   {publish: "$KV.discount_answers.>"},
	"inbox":     {subscribe: "_INBOX.>"},
}

// TestF15Revoked takes one right after the other from a running worker. It must say that it is not ready, ack nothing that is not stored,
// and go on when it gets the right back.
func TestF15Revoked(t *testing.T) {
	t.Parallel()
	for _, revoked := range []string{"results", "pulls", "acks", "dead", "retries", "pace"} {
		t.Run(revoked, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, siteOptions{
				broker: usersWithout(""), login: ", user: worker, password_file: password", user: []nats.Option{nats.UserInfo("admin", "admin")},
				password: "worker",
			})
			switch revoked {
			case "dead":
				s.upstream.misbehave(t, "easypay:code=E999")
			case "retries":
				s.upstream.misbehave(t, "easypay:429=1s%3")
			}
			l := newLoad(s)
			w := s.startWorker(t)
			only := s.brokers[0]
			l.publish(t.Context(), 5)
			only.configure(t, usersWithout(revoked))
			only.signal(t, syscall.SIGHUP)
			require.Eventually(t, func() bool { return strings.Contains(only.output.String(), "Reloaded server configuration") }, soon, 10*time.Millisecond)
			l.publish(t.Context(), 10)
			took := w.awaitUnready(t)
			problems := w.problems()
			pause(t.Context(), 2*time.Second)
			only.configure(t, usersWithout(""))
			only.signal(t, syscall.SIGHUP)
			s.upstream.misbehave(t, "")
			s.finish(t, l, soon, 30)
			require.Eventually(t, w.ready, soon, 20*time.Millisecond, "the right is back, but the worker says: %s", w.problems())
			t.Logf("F15 %s: not ready after %s (target 10 s): %s", revoked, took, problems)
		})
	}
}

// usersWithout returns the users of a server, with one right of the worker's left out.
func usersWithout(revoked string) string {
	var publish, subscribe []string
	for name, right := range rights {
		switch {
		case name == revoked:
		case right.publish != "":
			publish = append(publish, fmt.Sprintf("%q", right.publish))
		default:
			subscribe = append(subscribe, fmt.Sprintf("%q", right.subscribe))
		}
	}
	return fmt.Sprintf("authorization { users: [\n {user: admin, password: admin}\n {user: worker, password: worker, permissions: { publish: [%s], subscribe: [%s] } }\n] }\n",
		strings.Join(publish, ", "), strings.Join(subscribe, ", "))
}
