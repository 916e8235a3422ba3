package ask

import (
	"cmp"
	"context"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"discountquery.example/worker/internal/query"
)

// message is one request.
type message struct {
	subject  string
	replyTo  string
	header   map[string][]string
	data     []byte
	received time.Time
}

// answer is what is replied to one request: an event, or a refusal if the code is not Answered.
type answer struct {
	code  Code
	event []byte
	// contentType is that of event, "" for a CloudEvent.
	contentType string
	// after says when a refused request is worth sending again.
	after time.Duration
}

// endpoint takes the requests on one subject and has each handled in a slot of its own.
type endpoint struct {
	service *Service
	name    string
	subject string
	slots   chan struct{}
	tally   tally
	work    work
}

// work handles one request and returns its answer, unless it has handed one to early before: the first one is the reply.
type work func(ctx context.Context, m message, early func(answer)) answer

func newEndpoint(s *Service, name, subject string, slots int, work work) *endpoint {
	return &endpoint{
		service: s, name: name, subject: subject, slots: make(chan struct{}, slots), tally: tally{replies: map[Code]int64{}}, work: work,
	}
}

// handle takes one request. The broker's client calls it for one request after the other, so it does no more than to find a slot: what it
// can't take is refused here and now, and never waits behind what is under way.
func (e *endpoint) handle(work context.Context, request micro.Request) {
	m := message{
		subject: request.Subject(), replyTo: request.Reply(), header: request.Headers(), data: request.Data(), received: time.Now(),
	}
	if !e.service.isInbox(m.replyTo) {
		e.told(m, Unanswerable)
		return
	}
	if e.service.tooLarge(m) {
		e.refuse(m, request, TooLarge)
		return
	}
	select {
	case e.slots <- struct{}{}:
	default:
		e.refuse(m, request, Overloaded)
		return
	}
	if !e.service.begin() {
		<-e.slots
		e.refuse(m, request, Stopping)
		return
	}
	go e.run(work, m)
}

// refuse replies through the service framework, so that the refusal is in its statistics too. Only handle may: the framework looks at a
// request when handle returns, and a reply from elsewhere would race with that.
func (e *endpoint) refuse(m message, request micro.Request, code Code) {
	header := micro.WithHeaders(micro.Headers(code.header(0)))
	if request.Error(code.status(), string(code), nil, header) != nil {
		code = Unsent
	}
	e.told(m, code)
}

// run handles a request that has a slot. The slot is free before the reply is sent, so that whoever sends one request after the other never
// finds its own slot taken.
func (e *endpoint) run(ctx context.Context, m message) {
	defer e.service.flying.Done()
	var once sync.Once
	reply := func(a answer) { once.Do(func() { e.reply(m, a) }) }
	a := e.work(ctx, m, reply)
	<-e.slots
	reply(a)
}

// reply sends the reply to a request that had a slot.
func (e *endpoint) reply(m message, a answer) {
	out := nats.NewMsg(m.replyTo)
	code := a.code
	if code == Answered {
		out.Header.Set("Content-Type", cmp.Or(a.contentType, query.ContentTypeEvent))
		out.Data = a.event
	} else {
		out.Header = code.header(a.after)
		out.Header.Set(micro.ErrorCodeHeader, code.status())
		out.Header.Set(micro.ErrorHeader, string(code))
	}
	if e.service.Conn.PublishMsg(out) != nil {
		code = Unsent
	}
	e.told(m, code)
}

// told counts a request that was done with.
func (e *endpoint) told(m message, code Code) {
	took := time.Since(m.received)
	e.tally.add(code, took)
	e.service.OnReply(Reply{Endpoint: e.name, Code: code, Took: took})
}

// serviceReply is how the broker begins the reply subjects of requests from other accounts. It takes none from a client that begin so.
const serviceReply = "_R_."

// isInbox tells whether a reply may go to a subject. Whoever sends a request names the reply's subject, and the broker holds it against our
// rights and not against the sender's: without this, a client could have us write its event among the results of others.
func (s *Service) isInbox(subject string) bool {
	return strings.HasPrefix(subject, s.InboxPrefix) || strings.HasPrefix(subject, serviceReply)
}

// tooLarge tells whether a request is larger than the queue would take.
func (s *Service) tooLarge(m message) bool {
	size := len(m.data)
	for name, values := range m.header {
		for _, value := range values {
			size += len(name) + len(value)
		}
	}
	return size > s.MaxBytes
}
