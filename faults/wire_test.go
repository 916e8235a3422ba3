//go:build faults

package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"discountquery.example/worker/faults/proxy"
	"discountquery.example/worker/internal/query"
)

// wire watches everything that workers and brokers tell each other, and keeps the rule that no query is acked before its outcome is known
// to be stored: a result, with the dead letter that it may promise, a dead letter for a message that nobody can be answered for, or a
// scheduled retry (I2). It also counts.
type wire struct {
	mu sync.Mutex
	// delivered holds whose message lies at a place, for those that a worker has got or read: "stream/sequence" to key.
	delivered map[string]string
	// nameless holds the keys of messages that name no query.
	nameless map[string]bool
	// answered holds the keys whose result is known to be stored, owing those of them whose result promises a dead letter, buried those with
	// a dead letter, and scheduled counts the retries that are known to be stored and were not followed by an ack yet.
	answered  map[string]bool
	owing     map[string]bool
	buried    map[string]bool
	scheduled map[string]int
	// early are acks that came too soon, in words.
	early []string

	figures figures
	// published counts the results that were sent, by connection and key, and promises says which of them promised a dead letter.
	published map[string]int
	promises  map[string]bool
	// first is closed at the next delivery.
	first chan struct{}
}

// figures are what a wire has counted.
type figures struct {
	Deliveries  int
	Redelivered int
	Acks        int
	Results     int
	// Refused counts results that were refused because there was one.
	Refused int
	// Scheduled counts retries that were stored.
	Scheduled int
	// AnswersLost counts answers of the broker that the proxy kept back or cut.
	AnswersLost int
	// Worst is the largest number of deliveries of one message.
	Worst int
}

func newWire() *wire {
	return &wire{
		delivered: map[string]string{}, nameless: map[string]bool{}, answered: map[string]bool{}, owing: map[string]bool{}, buried: map[string]bool{},
		scheduled: map[string]int{}, published: map[string]int{}, promises: map[string]bool{}, first: make(chan struct{}),
	}
}

// observe takes one event of a proxy.
func (w *wire) observe(event proxy.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch event.Kind {
	case proxy.Delivered:
		if event.Delivery.Stream == queriesStream || event.Delivery.Stream == retriesStream { // Workers follow buckets too.
			w.deliver(&event)
		}
	case proxy.Published:
		if key, ok := tokenAfter(event.Subject, "discount.result."); ok && !event.Stopped {
			w.figures.Results++
			w.published[sender(&event, key)]++
			w.promises[sender(&event, key)] = promisesLetter(event.Payload)
		}
	case proxy.Replied:
		w.reply(&event)
	case proxy.Settled:
		if proxy.IsAck(event.Payload) {
			w.ack(&event)
		}
	case proxy.Opened:
	}
}

func (w *wire) deliver(event *proxy.Event) {
	if event.Stopped {
		return
	}
	w.figures.Deliveries++
	w.figures.Worst = max(w.figures.Worst, event.Delivery.Number)
	if event.Delivery.Number > 1 {
		w.figures.Redelivered++
	}
	select {
	case <-w.first:
	default:
		close(w.first)
	}
	w.locate(event)
}

// locate notes whose message lies at a place.
func (w *wire) locate(event *proxy.Event) {
	key, named := keyOf(event)
	w.delivered[place(event.Delivery)] = key
	if !named {
		w.nameless[key] = true
	}
}

// reply learns from the broker's answers what is stored.
func (w *wire) reply(event *proxy.Event) {
	if event.Stopped {
		w.figures.AnswersLost++
		return
	}
	var answer struct {
		Error *struct {
			Code int `json:"err_code"`
		} `json:"error"`
		Seq     uint64 `json:"seq"`
		Message struct {
			Subject string `json:"subject"`
			Seq     uint64 `json:"seq"`
			Header  []byte `json:"hdrs"`
			Data    []byte `json:"data"`
		} `json:"message"`
	}
	if json.Unmarshal(event.Payload, &answer) != nil {
		return
	}
	// Of all errors only one says that something is stored: the guard found a message.
	stored := answer.Error == nil && answer.Seq > 0 || answer.Error != nil && answer.Error.Code == 10071
	if key, ok := tokenAfter(event.Subject, "discount.result."); ok && stored {
		w.answered[key] = true
		if answer.Error != nil {
			w.figures.Refused++
		} else if w.promises[sender(event, key)] {
			w.owing[key] = true
		}
	}
	if key, ok := tokenAfter(event.Subject, "discount.dead."); ok && stored {
		w.buried[key] = true
	}
	if key, ok := tokenAfter(event.Subject, "discount.retry.at."); ok && stored {
		w.scheduled[key]++
		w.figures.Scheduled++
	}
	stream, got := strings.CutPrefix(event.Subject, "$JS.API.STREAM.MSG.GET.")
	if !got || answer.Message.Seq == 0 {
		return
	}
	if key, ok := tokenAfter(answer.Message.Subject, "discount.result."); ok {
		w.answered[key] = true
		w.owing[key] = w.owing[key] || promisesLetter(answer.Message.Data)
		return
	}
	if key, ok := tokenAfter(answer.Message.Subject, "discount.dead."); ok {
		w.buried[key] = true
		return
	}
	// Whoever sweeps reads what the broker has given up on, and may ack it.
	w.locate(&proxy.Event{
		Subject: answer.Message.Subject, Header: answer.Message.Header, Payload: answer.Message.Data,
		Delivery: proxy.Delivery{Stream: stream, Sequence: answer.Message.Seq},
	})
}

// ack judges an ack as it leaves a worker.
func (w *wire) ack(event *proxy.Event) {
	w.figures.Acks++
	at := place(event.Delivery)
	key, known := w.delivered[at]
	switch {
	case !known:
		w.early = append(w.early, fmt.Sprintf("ack of %s, which was never delivered", at))
	case w.answered[key] && (w.buried[key] || !w.owing[key]), w.nameless[key] && w.buried[key]:
	case w.scheduled[key] > 0: // The retry may be answered before its origin is acked.
		w.scheduled[key]--
	case w.answered[key]:
		w.early = append(w.early, fmt.Sprintf("ack of %s, query %s, delivery %d, before the dead letter that its result promises", at, key, event.Delivery.Number))
	default:
		w.early = append(w.early, fmt.Sprintf("ack of %s, query %s, delivery %d, before its outcome was known to be stored", at, key, event.Delivery.Number))
	}
}

// sender says who has sent a result of a query: a connection.
func sender(event *proxy.Event, key string) string { return fmt.Sprintf("%d/%s", event.Link, key) }

// promisesLetter tells whether a result says that there is a dead letter too.
func promisesLetter(result []byte) bool {
	var event struct {
		Data struct {
			DeadLetter bool `json:"deadLetter"`
		} `json:"data"`
	}
	return json.Unmarshal(result, &event) == nil && event.Data.DeadLetter
}

// keyOf returns the key of a delivered message, and false for one that names no query: then its place in the stream is its identity.
func keyOf(event *proxy.Event) (string, bool) {
	if _, scheduler, ok := bytes.Cut(event.Header, []byte("Nats-Scheduler: discount.retry.at.")); ok {
		key, _, _ := bytes.Cut(scheduler, []byte("\r\n"))
		return string(key), true
	}
	at := strings.LastIndexByte(event.Subject, '.')
	who := event.Subject[at+1:]
	var asked struct {
		ID     string `json:"id"`
		Source string `json:"source"`
	}
	if json.Unmarshal(event.Payload, &asked) == nil && asked.ID != "" {
		return query.Key(who, asked.Source, asked.ID), true
	}
	place := "urn:discountquery:stream:" + event.Delivery.Stream
	return query.Key(who, place, fmt.Sprint(event.Delivery.Sequence)), false
}

func place(d proxy.Delivery) string { return fmt.Sprintf("%s/%d", d.Stream, d.Sequence) }

// tokenAfter returns the token that follows a prefix of a subject.
func tokenAfter(subject, prefix string) (string, bool) {
	rest, ok := strings.CutPrefix(subject, prefix)
	if !ok {
		return "", false
	}
	token, _, _ := strings.Cut(rest, ".")
	return token, true
}

// figuresNow returns what was counted so far.
func (w *wire) figuresNow() figures {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.figures
}

// earlyAcks returns the acks that came too soon.
func (w *wire) earlyAcks() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.early
}

// mostPublished returns the largest number of results of one query that went over one connection.
func (w *wire) mostPublished() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := 0
	for _, n := range w.published {
		most = max(most, n)
	}
	return most
}

// nextDelivery returns a channel that is closed at the next delivery.
func (w *wire) nextDelivery() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.first = make(chan struct{})
	return w.first
}
