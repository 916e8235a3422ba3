// Package tail reads results and dead letters as they are stored, from the past into the future, and picks those that somebody wants to see.
// It must never ack, change or hold a backlog, and it must never print or know a flag.
package tail

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"discountquery.example/worker/internal/broker"
	"discountquery.example/worker/internal/query"
)

// Options are the parts of a Reader.
type Options struct {
	JS       jetstream.JetStream
	Names    broker.Names
	Subjects query.Subjects
	// Timeout bounds one exchange with the broker. Patience is how long a broker that was there and went away is waited for while the past
	// is read. What is to come is waited for without an end.
	Timeout  time.Duration
	Patience time.Duration
}

// Reader reads results and dead letters with ordered consumers of its own. It may be used by many goroutines.
type Reader struct{ Options }

// New returns a reader of the given parts. It asks the broker nothing.
func New(options Options) *Reader { return &Reader{Options: options} }

// All as Request.Last means every event.
const All = -1

// MaxLast bounds Request.Last, because that many events are held at once.
const MaxLast = 10_000

// Request says what to read.
type Request struct {
	Filter Filter
	// Since is when the first event was stored; zero is no bound.
	Since time.Time
	// Last is how many of the newest events that are stored already are read, at most MaxLast: 0 for none of them, All for each.
	Last int
	// Follow goes on with what is stored from then on. Without it, reading ends with what was stored when it began.
	Follow bool
	// OnNotice is told what happens beside the events, one notice at a time but not in the events' goroutine. It may be nil.
	OnNotice func(Notice)
}

// NoticeKind says what happened.
type NoticeKind string

// The kinds of notices.
const (
	// Lost is a connection that was lost. It is waited for.
	Lost NoticeKind = "lost"
	// Back is a connection that was got back. Nothing was missed.
	Back NoticeKind = "back"
	// CaughtUp is the end of the past: all that was stored when reading began is read.
	CaughtUp NoticeKind = "caught_up"
	// Unreadable is a message that is no event of its stream's kind. It was left out.
	Unreadable NoticeKind = "unreadable"
)

// Notice is something that happened beside the events.
type Notice struct {
	Kind NoticeKind
	// Stream and Sequence say where an unreadable message lies. Why is a closed code.
	Stream   string
	Sequence uint64
	Why      string
}

// Read calls f with one event after the other until f returns an error, which is then returned, or ctx ends, or all is read. Events of the
// past come in the order in which they were stored, over both streams; what comes while it is read does so too within its stream.
//
// The error is a fault of BrokerUnreachable if the broker does not answer, which is what a missing right looks like from here. When ctx
// ends, there is no error.
func (r *Reader) Read(ctx context.Context, request Request, f func(Event) error) error {
	if err := request.validate(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	notify := serialized(request.OnNotice)
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(ctx, notify) })
	defer watching.Wait()
	defer stop()

	sources, err := r.open(ctx, request, notify)
	if err != nil {
		return quiet(ctx, err)
	}
	if request.Last > 0 {
		if err := r.readLast(ctx, sources, request, f); err != nil || !request.Follow {
			return quiet(ctx, err)
		}
	}
	return quiet(ctx, r.readOn(ctx, sources, notify, f))
}

func (r Request) validate() error {
	if r.Last < All || r.Last > MaxLast {
		return fmt.Errorf("the last %d events at most", MaxLast)
	}
	return r.Filter.Validate()
}

// quiet drops an error that only says that ctx has ended.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil && stopped(err) {
		return nil
	}
	return err
}

// serialized returns a function that calls f one at a time, or does nothing if there is none.
func serialized(f func(Notice)) func(Notice) {
	if f == nil {
		return func(Notice) {}
	}
	var mu sync.Mutex
	return func(n Notice) {
		mu.Lock()
		defer mu.Unlock()
		f(n)
	}
}

// watch tells when the connection is lost and when it is back, until ctx ends.
func (r *Reader) watch(ctx context.Context, notify func(Notice)) {
	conn := r.JS.Conn()
	changes := conn.StatusChanged(nats.RECONNECTING, nats.CONNECTED)
	defer conn.RemoveStatusListener(changes)
	lost := false
	for {
		select {
		case status := <-changes:
			switch {
			case status == nats.RECONNECTING && !lost:
				lost = true
				notify(Notice{Kind: Lost})
			case status == nats.CONNECTED && lost:
				lost = false
				notify(Notice{Kind: Back})
			}
		case <-ctx.Done():
			return
		}
	}
}

// open looks at the streams that the request is about.
func (r *Reader) open(ctx context.Context, request Request, notify func(Notice)) ([]*source, error) {
	var sources []*source
	for name, subject := range request.Filter.subjects(r.Names, r.Subjects) {
		s := &source{
			reader: r, stream: name, subject: subject, filter: request.Filter, notify: notify, follow: request.Follow,
			past: make(chan Event),
		}
		if err := s.look(ctx); err != nil {
			return nil, err
		}
		switch {
		case request.Last >= 0:
			s.at.sequence = s.end + 1 // What is there already is read apart, or not at all.
		case request.Since.IsZero():
			s.at.sequence = s.first
		default:
			s.at.since = request.Since
		}
		sources = append(sources, s)
	}
	return sources, nil
}

// readOn reads the past of all sources in the order of their times, and then what comes.
func (r *Reader) readOn(ctx context.Context, sources []*source, notify func(Notice), f func(Event) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	reading, within := errgroup.WithContext(ctx)
	live, done := make(chan Event), make(chan struct{})
	for _, s := range sources {
		s.live = live
		reading.Go(func() error { return s.run(within) })
	}
	var ended error
	go func() {
		defer close(done)
		ended = reading.Wait()
	}()
	failed := func() bool {
		select {
		case <-done:
			return ended != nil
		default:
			return false
		}
	}
	err := merge(ctx, sources, f)
	if err == nil {
		if ctx.Err() == nil && !failed() {
			notify(Notice{Kind: CaughtUp})
		}
		err = take(live, done, f)
	}
	stop()
	<-done
	if err != nil {
		return err
	}
	return ended
}

// merge calls f with the past of all sources, the event that was stored first first. It returns an error of f only.
func merge(ctx context.Context, sources []*source, f func(Event) error) error {
	heads := make([]*Event, len(sources))
	for {
		var first *Event
		at := 0
		for i, s := range sources {
			going := true
			if heads[i] == nil {
				heads[i], going = s.next(ctx)
			}
			if !going {
				return nil
			}
			if heads[i] != nil && (first == nil || heads[i].Stored.Before(first.Stored)) {
				first, at = heads[i], i
			}
		}
		if first == nil {
			return nil
		}
		heads[at] = nil
		if err := f(*first); err != nil {
			return err
		}
	}
}

// take calls f with what comes until all sources are done.
func take(live <-chan Event, done <-chan struct{}, f func(Event) error) error {
	for {
		select {
		case event := <-live:
			if err := f(event); err != nil {
				return err
			}
		case <-done:
			return nil
		}
	}
}
