package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// Direction says whereto bytes go.
type Direction uint8

// The two directions of a connection.
const (
	ToServer Direction = iota
	ToClient
)

// Options say what a proxy does.
type Options struct {
	// Target is the address of the server.
	Target string
	// Observe is told what passes, one event at a time of each direction of each connection. It may be nil.
	Observe func(Event)
	// Opaque carries bytes that are not the protocol of clients. There are no events then, and rules strike nothing.
	Opaque bool
}

// Proxy forwards connections to one server. Its methods can be called at any time from any goroutine.
type Proxy struct {
	options  Options
	listener net.Listener
	stop     context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]struct{}
	opened  int
	closed  bool
	refuses bool
	silent  bool
	rules   []*armed
	latency time.Duration
	jitter  time.Duration
	rate    int
}

// Start listens on a free port of the loopback interface.
func Start(ctx context.Context, options Options) (*Proxy, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start proxy: %w", err)
	}
	if options.Observe == nil {
		options.Observe = func(Event) {}
	}
	dialing, stop := context.WithCancel(context.WithoutCancel(ctx))
	p := &Proxy{options: options, listener: listener, stop: stop, links: map[*link]struct{}{}}
	p.running.Go(func() { p.accept(dialing) })
	return p, nil
}

// Addr returns the address at which clients reach the server.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends every connection and returns when nothing runs any more.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	_ = p.listener.Close() // It was open, and nobody waits for what it says.
	p.Reset()
	p.running.Wait()
}

// Refuse makes the proxy reset new connections at once, or take them again.
func (p *Proxy) Refuse(refuses bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses = refuses
}

// Reset resets both sides of every connection.
func (p *Proxy) Reset() {
	for _, l := range p.open() {
		l.reset()
	}
}

// Swallow makes everything vanish that goes in the given directions on the connections there are now, for as long as they live. Neither
// side is told: not even that the other one has gone.
func (p *Proxy) Swallow(directions ...Direction) {
	for _, l := range p.open() {
		for _, to := range directions {
			l.pumps[to].swallows.Store(true)
		}
	}
}

// Silence makes everything vanish in both directions, on the connections there are now and on new ones, as Swallow does. When it ends,
// those connections are reset: whoever was cut off connects anew.
func (p *Proxy) Silence(silent bool) {
	p.mu.Lock()
	p.silent = silent
	p.mu.Unlock()
	if silent {
		p.Swallow(ToServer, ToClient)
		return
	}
	for _, l := range p.open() {
		if l.pumps[ToServer].swallows.Load() || l.pumps[ToClient].swallows.Load() {
			l.reset()
		}
	}
}

// Delay makes every frame arrive later, by the latency and a random part of the jitter. Their order stays.
func (p *Proxy) Delay(latency, jitter time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency, p.jitter = latency, jitter
}

// Trickle bounds each direction of each connection to so many bytes per second, one at a time; 0 means no bound.
func (p *Proxy) Trickle(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = bytesPerSecond
}

// CutAfter resets each connection there is now after n more bytes of one direction.
func (p *Proxy) CutAfter(to Direction, n int) {
	for _, l := range p.open() {
		l.pumps[to].budget.Store(int64(n) + 1)
	}
}

// SetRules replaces all rules. The first one that strikes a frame is the one that shows.
func (p *Proxy) SetRules(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = nil
	for _, rule := range rules {
		p.rules = append(p.rules, &armed{Rule: rule})
	}
}

// Struck returns how often the rules in force have struck.
func (p *Proxy) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	struck := 0
	for _, rule := range p.rules {
		struck += rule.struck
	}
	return struck
}

// Longest returns the length of the longest frame that the rules in force have struck.
func (p *Proxy) Longest() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	longest := 0
	for _, rule := range p.rules {
		longest = max(longest, rule.longest)
	}
	return longest
}

// Opened returns how many connections have reached the server since the start.
func (p *Proxy) Opened() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.opened
}

// Connected returns how many connections there are now.
func (p *Proxy) Connected() int { return len(p.open()) }

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	return links
}

func (p *Proxy) accept(ctx context.Context) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // Closed.
		}
		p.running.Go(func() { p.serve(ctx, client) })
	}
}

// serve forwards one connection until it ends.
func (p *Proxy) serve(ctx context.Context, client net.Conn) {
	p.mu.Lock()
	refuses := p.refuses || p.closed
	p.mu.Unlock()
	if refuses {
		reset(client)
		return
	}
	server, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", p.options.Target)
	if err != nil {
		reset(client)
		return
	}
	l := p.add(client, server)
	if l == nil {
		reset(client)
		reset(server)
		return
	}
	p.options.Observe(Event{Link: l.number, Kind: Opened})
	l.run()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// add registers a connection, unless the proxy was closed or has begun to refuse meanwhile.
func (p *Proxy) add(client, server net.Conn) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuses {
		return nil
	}
	p.opened++
	l := newLink(p, p.opened, client, server)
	for _, pump := range l.pumps {
		pump.swallows.Store(p.silent)
	}
	p.links[l] = struct{}{}
	return l
}

// plan says what becomes of a frame.
func (p *Proxy) plan(event *Event, known bool, length int) *Rule {
	if !known {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.IndexFunc(p.rules, func(a *armed) bool { return a.strikes(event, length) })
	if at < 0 {
		return nil
	}
	return p.rules[at].now()
}

// due returns when a frame that came now may arrive.
func (p *Proxy) due(now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	delay := p.latency
	if p.jitter > 0 {
		delay += rand.N(p.jitter) //nolint:gosec // A delay, not a secret.
	}
	return now.Add(delay)
}

func (p *Proxy) trickle() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rate
}

// reset closes a connection without a farewell: what was not sent is thrown away and the other side gets an RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // If it fails the connection is closed all the same.
	}
	_ = conn.Close()
}
