//go:build faults

package faults

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/query"
)

// TestF00GivenUpPullsAreCounted shows the outputs of two workers, one of which gave up a pull, as one line says and others do not.
func TestF00GivenUpPullsAreCounted(t *testing.T) {
	t.Parallel()
	quiet, busy := &tail{}, &tail{}
	for _, line := range []string{
		`{"level":"info","msg":"consumer","consumer":"easypay-bulk","event":"pulling"}`,
		`{"level":"warn","msg":"consumer","consumer":"easypay-bulk","event":"pull_failed","error":"context deadline exceeded"}`,
	} {
		_, err := quiet.Write([]byte(line + "\n"))
		require.NoError(t, err)
	}
	_, err := busy.Write([]byte(`{"level":"warn","msg":"consumer","consumer":"easypay-bulk","event":"pull_failed","error":"nats: no heartbeat received"}` + "\n"))
	require.NoError(t, err)
	require.Zero(t, quiet.pullsGivenUp())
	require.Equal(t, 1, busy.pullsGivenUp())
	s := &site{outputs: []*tail{quiet, busy}}
	s.requireNoneAgain(t, report{figures: figures{Redelivered: slotsOfAPull}})
}

// TestF00EarlyAcksAreSeen shows the rule of the wire what it must refuse, and what it must not.
func TestF00EarlyAcksAreSeen(t *testing.T) {
	t.Parallel()
	key := query.Key(shop, source, "1")
	at := proxy.Delivery{Stream: queriesStream, Consumer: "easypay-interactive", Number: 1, Sequence: 7}
	due := proxy.Delivery{Stream: retriesStream, Consumer: "easypay-interactive", Number: 1, Sequence: 9}
	delivered := proxy.Event{
		Kind: proxy.Delivered, Subject: "discount.query.easypay.interactive." + shop, Delivery: at,
		Payload: fmt.Appendf(nil, `{"id":"1","source":"%s"}`, source),
	}
	returned := proxy.Event{
		Kind: proxy.Delivered, Subject: "discount.retry.due.easypay.interactive." + shop, Delivery: due,
		Header: []byte("NATS/1.0\r\nNats-Scheduler: discount.retry.at." + key + "\r\n\r\n"),
	}
	unreadable := proxy.Event{Kind: proxy.Delivered, Subject: delivered.Subject, Delivery: at, Payload: []byte("nonsense")}
	nameless := query.Key(shop, "urn:discountquery:stream:"+queriesStream, "7")
	ack := func(of proxy.Delivery) proxy.Event {
		return proxy.Event{Kind: proxy.Settled, Delivery: of, Payload: []byte("+ACK")}
	}
	answer := func(subject, payload string) proxy.Event {
		return proxy.Event{Kind: proxy.Replied, Subject: subject, Payload: []byte(payload)}
	}
	result, letter, retry := "discount.result."+key+".easypay.shop.completed", "discount.dead."+key+".easypay.shop.rejected", "discount.retry.at."+key
	const stored = `{"stream":"S","seq":1}`
	swept := answer("$JS.API.STREAM.MSG.GET."+queriesStream, fmt.Sprintf(`{"message":{"subject":"%s","seq":7,"data":"%s"}}`,
		delivered.Subject, base64.StdEncoding.EncodeToString(delivered.Payload)))
	failed, promise := "discount.result."+key+".easypay.shop.failed", `{"data":{"deadLetter":true}}`
	promised := proxy.Event{Kind: proxy.Published, Subject: failed, Payload: []byte(promise)}
	found := answer("$JS.API.STREAM.MSG.GET."+resultsStream, fmt.Sprintf(`{"message":{"subject":"%s","seq":3,"data":"%s"}}`,
		failed, base64.StdEncoding.EncodeToString([]byte(promise))))
	lost := answer(result, stored)
	lost.Stopped = true
	for name, test := range map[string]struct {
		events []proxy.Event
		early  int
	}{
		"a result, then the ack":             {[]proxy.Event{delivered, answer(result, stored), ack(at)}, 0},
		"the ack at once":                    {[]proxy.Event{delivered, ack(at)}, 1},
		"a result that was only sent":        {[]proxy.Event{delivered, {Kind: proxy.Published, Subject: result}, ack(at)}, 1},
		"a confirmation that did not arrive": {[]proxy.Event{delivered, lost, ack(at)}, 1},
		"a result that was refused":          {[]proxy.Event{delivered, answer(result, `{"error":{"code":503,"err_code":10077}}`), ack(at)}, 1},
		"a race that is not decided":         {[]proxy.Event{delivered, answer(result, `{"error":{"code":400,"err_code":10164}}`), ack(at)}, 1},
		"somebody was first":                 {[]proxy.Event{delivered, answer(result, `{"error":{"code":400,"err_code":10071}}`), ack(at)}, 0},
		"the result was found":               {[]proxy.Event{delivered, answer("$JS.API.STREAM.MSG.GET."+resultsStream, `{"message":{"subject":"`+result+`","seq":3}}`), ack(at)}, 0},
		"swept up and answered":              {[]proxy.Event{swept, answer(result, stored), ack(at)}, 0},
		"swept up and not answered":          {[]proxy.Event{swept, ack(at)}, 1},
		"no result was found":                {[]proxy.Event{delivered, answer("$JS.API.STREAM.MSG.GET."+resultsStream, `{"error":{"code":404,"err_code":10037}}`), ack(at)}, 1},
		"the result of another query":        {[]proxy.Event{delivered, answer("discount.result.other.easypay.shop.completed", stored), ack(at)}, 1},
		"a dead letter alone":                {[]proxy.Event{delivered, answer(letter, stored), ack(at)}, 1},
		"a dead letter and a result":         {[]proxy.Event{delivered, answer(letter, stored), answer(result, stored), ack(at)}, 0},
		"a promised dead letter":             {[]proxy.Event{delivered, promised, answer(failed, stored), answer(letter, stored), ack(at)}, 0},
		"a promise alone":                    {[]proxy.Event{delivered, promised, answer(failed, stored), ack(at)}, 1},
		"a promise of the round after":       {[]proxy.Event{delivered, answer(retry, stored), returned, promised, answer(failed, stored), ack(at)}, 0},
		"a promise that was refused":         {[]proxy.Event{delivered, promised, answer(failed, `{"error":{"code":400,"err_code":10071}}`), ack(at)}, 0},
		"a promise that was found":           {[]proxy.Event{delivered, found, ack(at)}, 1},
		"a promise that was kept by another": {[]proxy.Event{delivered, found, answer("$JS.API.STREAM.MSG.GET."+deadStream, `{"message":{"subject":"`+letter+`","seq":2}}`), ack(at)}, 0},
		"a dead letter that names nobody":    {[]proxy.Event{unreadable, answer("discount.dead."+nameless+".none.none.malformed", stored), ack(at)}, 0},
		"nothing that names nobody":          {[]proxy.Event{unreadable, ack(at)}, 1},
		"a schedule":                         {[]proxy.Event{delivered, answer(retry, stored), ack(at)}, 0},
		"one schedule does not do for two":   {[]proxy.Event{delivered, answer(retry, stored), ack(at), returned, ack(due)}, 1},
		"a schedule, and then a result":      {[]proxy.Event{delivered, answer(retry, stored), ack(at), returned, answer(result, stored), ack(due)}, 0},
		"an ack of what was never delivered": {[]proxy.Event{ack(at)}, 1},
		"a sign of life is no ack":           {[]proxy.Event{delivered, {Kind: proxy.Settled, Delivery: at, Payload: []byte("+WPI")}}, 0},
		"a nak is no ack":                    {[]proxy.Event{delivered, {Kind: proxy.Settled, Delivery: at, Payload: []byte(`-NAK {"delay":1}`)}}, 0},
		"an empty payload is an ack":         {[]proxy.Event{delivered, {Kind: proxy.Settled, Delivery: at}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWire()
			for _, event := range test.events {
				w.observe(event)
			}
			require.Len(t, w.earlyAcks(), test.early)
		})
	}
}
