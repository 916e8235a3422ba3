package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection through the proxy.
type link struct {
	proxy  *Proxy
	number int
	pumps  [2]*pump
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex
	replies map[string]string
}

// pump carries one direction of a link.
type pump struct {
	link *link
	to   Direction
	from net.Conn
	into net.Conn
	// parcels are on their way, in order.
	parcels chan parcel
	// swallows makes everything vanish.
	swallows atomic.Bool
	// budget is one more than the bytes that are left until the link is cut; 0 means no end.
	budget atomic.Int64
}

// parcel is a piece of a direction with what becomes of it.
type parcel struct {
	bytes []byte
	due   time.Time
	// event is told when the parcel leaves for the client; nil if there is nothing to tell.
	event *Event
	// cut resets the link after the parcel.
	cut bool
}

// onTheWay is how many parcels a direction holds while they are delayed.
const onTheWay = 4096

func newLink(p *Proxy, number int, client, server net.Conn) *link {
	l := &link{proxy: p, number: number, done: make(chan struct{}), replies: map[string]string{}}
	l.pumps[ToServer] = &pump{link: l, to: ToServer, from: client, into: server, parcels: make(chan parcel, onTheWay)}
	l.pumps[ToClient] = &pump{link: l, to: ToClient, from: server, into: client, parcels: make(chan parcel, onTheWay)}
	return l
}

// run forwards until the link ends.
func (l *link) run() {
	var running sync.WaitGroup
	for _, p := range l.pumps {
		running.Go(p.read)
		running.Go(p.write)
	}
	running.Wait()
}

// reset ends the link at once.
func (l *link) reset() {
	l.once.Do(func() {
		close(l.done)
		reset(l.pumps[ToServer].from)
		reset(l.pumps[ToServer].into)
	})
}

// expect notes that an answer to what was published on subject will come on the reply subject.
func (l *link) expect(reply, subject string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.replies[reply] = subject
}

// expected returns the subject that was published to, if an answer on the reply subject is expected. It is expected once.
func (l *link) expected(reply string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	subject, ok := l.replies[reply]
	delete(l.replies, reply)
	return subject, ok
}

// read cuts what comes into frames and says what becomes of each.
func (p *pump) read() {
	defer close(p.parcels)
	parser := &Parser{opaque: p.link.proxy.options.Opaque}
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.from.Read(buffer)
		for _, frame := range parser.Feed(buffer[:n]) {
			if !p.send(p.wrap(&frame)) {
				return
			}
		}
		if err != nil {
			p.send(parcel{bytes: parser.Rest(), due: time.Now()})
			return
		}
	}
}

// arrives tells whether the receiver can use a frame of which it gets a part. A client takes a message as soon as it has all of its payload
// and does not wait for the end of the line.
func arrives(part, frame []byte) bool { return len(part) >= len(frame)-len("\r\n") }

func (p *pump) send(next parcel) bool {
	select {
	case p.parcels <- next:
		return true
	case <-p.link.done:
		return false
	}
}

// wrap makes a parcel of a frame. What the client sends is told here, because it has left the client.
func (p *pump) wrap(frame *Frame) parcel {
	event, known := p.link.kindOf(p.to, frame)
	rule := p.link.proxy.plan(&event, known, len(frame.Raw))
	next := parcel{bytes: frame.Raw, due: p.link.proxy.due(time.Now())}
	if rule != nil {
		next.cut = !rule.Drop
		next.bytes = frame.Raw[:min(rule.Offset, len(frame.Raw))]
		if rule.Drop {
			next.bytes = nil
		}
		event.Stopped = !arrives(next.bytes, frame.Raw)
	}
	switch {
	case !known:
	case p.to == ToServer:
		p.link.proxy.options.Observe(event)
	default:
		next.event = &event
	}
	return next
}

// write carries the parcels on. When one side has gone and all it sent is carried on, the link ends; a side that hears nothing of the
// other is not told that either.
func (p *pump) write() {
	for next := range p.parcels {
		if !p.wait(next.due) || !p.carry(next) {
			p.link.reset()
			return
		}
	}
	if !p.swallows.Load() {
		p.link.close()
	}
}

// close ends the link in order: what was written still arrives.
func (l *link) close() {
	l.once.Do(func() {
		close(l.done)
		_ = l.pumps[ToServer].from.Close()
		_ = l.pumps[ToServer].into.Close()
	})
}

// wait waits until a parcel is due and tells whether the link still lives.
func (p *pump) wait(due time.Time) bool {
	left := time.Until(due)
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.link.done:
		return false
	}
}

// carry writes one parcel and tells whether the link goes on.
func (p *pump) carry(next parcel) bool {
	if p.swallows.Load() {
		return true
	}
	bytes, cut := p.within(next.bytes)
	if next.event != nil {
		next.event.Stopped = next.event.Stopped || !arrives(bytes, next.bytes)
		p.link.proxy.options.Observe(*next.event)
	}
	if !p.put(bytes) {
		return false
	}
	if next.cut || cut {
		p.settle()
		return false
	}
	return true
}

// within returns the part of the bytes that the budget leaves, and whether it is used up then.
func (p *pump) within(bytes []byte) ([]byte, bool) {
	budget := p.budget.Load()
	if budget == 0 {
		return bytes, false
	}
	left := int(budget - 1)
	if len(bytes) >= left {
		return bytes[:left], true
	}
	p.budget.Store(budget - int64(len(bytes)))
	return bytes, false
}

// put writes bytes, one at a time if the proxy trickles.
func (p *pump) put(bytes []byte) bool {
	for len(bytes) > 0 {
		rate := p.link.proxy.trickle()
		if rate == 0 {
			_, err := p.into.Write(bytes)
			return err == nil
		}
		if _, err := p.into.Write(bytes[:1]); err != nil {
			return false
		}
		bytes = bytes[1:]
		if !p.wait(time.Now().Add(time.Second / time.Duration(rate))) {
			return false
		}
	}
	return true
}

// settle gives the bytes before a cut the time to be read: a reset throws away what the other side has not read yet.
func (p *pump) settle() { p.wait(time.Now().Add(beforeReset)) }

const beforeReset = 5 * time.Millisecond
