// Package ask answers queries and lookups on the reply subject of whoever sent them, beside the queue. It holds who may ask now and what is
// replied, and must never ack, store, decide about a query or call an upstream.
package ask

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"discountquery.example/worker/internal/query"
)

// Asker takes one query to its end. It may be called by many goroutines and must not panic.
type Asker interface {
	// Ask returns the result event of the query in delivery once it is stored: the completed or the failed one, or the one that was
	// stored before if the query has its result already. No call to the upstream may be under way after until; what must be stored
	// then is stored all the same, until ctx ends.
	//
	// A Malformed fault means that the query could not be read so far that a result could be addressed. Any other error means that
	// no result is stored.
	Ask(ctx context.Context, delivery query.Delivery, until time.Time) (event []byte, err error)
}

// Finder reads stored results.
type Finder interface {
	// Lookup returns the last stored result event of the query with key, if that query is client's. It must not tell a result of
	// another client from no result. An error means that the results could not be read before ctx ended.
	Lookup(ctx context.Context, key, client string) (event []byte, found bool, err error)
}

// Options are the parts of a Service. Those that say so have a default.
type Options struct {
	Conn     *nats.Conn
	Subjects query.Subjects
	Decoder  *query.Decoder
	Asker    Asker
	Results  Finder
	// Providers are those that can be asked.
	Providers []query.Provider
	// Build names the worker's version to whoever lists the services.
	Build string
	// Slots is how many queries to one provider are under way at once, 64 by default. Each provider has its own.
	Slots int
	// LookupSlots is how many lookups are under way at once, 64 by default.
	LookupSlots int
	// Patience is how long a query without a deadline of its own may take, 3 seconds by default.
	Patience time.Duration
	// MaxPatience is how long any query may take, 10 seconds by default: a later deadline counts as this one.
	MaxPatience time.Duration
	// LookupTimeout bounds one lookup, 2 seconds by default.
	LookupTimeout time.Duration
	// MaxBytes is the largest request that is read, in bytes of headers and payload, 64 KiB by default.
	MaxBytes int
	// InboxPrefix is how every reply subject must begin, "_INBOX" by default: "_INBOX_shop.…" is one too.
	InboxPrefix string
	// Delay estimates how long q would wait now before it is asked. A query that would wait beyond its deadline is refused at once. It may
	// be nil.
	Delay func(q *query.Query) time.Duration
	// Keys returns the public keys to seal to, as a JWK Set. It must be quick. Without it there is no such endpoint.
	Keys func() ([]byte, error)
	// State returns the state of this worker for whoever asks for statistics. It must be quick and may be nil.
	State func() Replica
	// OnServing is told that requests are taken, again after each Renew, OnReply each request that was done with, by many goroutines. Both must be quick
	// and may be nil.
	OnServing func()
	OnReply   func(Reply)
}

// Reply is what became of one request.
type Reply struct {
	// Endpoint is the name of the endpoint: one per provider, and one for lookups.
	Endpoint string
	Code     Code
	// Took is the time from the request to the reply.
	Took time.Duration
}

// Service answers requests. It can serve once.
type Service struct {
	Options

	endpoints map[string]*endpoint
	anew      chan struct{}

	mu       sync.Mutex
	stopping bool
	flying   sync.WaitGroup
}

// Name is the service's name in discovery ($SRV.INFO.discount).
const Name = "discount"

// queueGroup makes the broker hand each request to one of the replicas.
const queueGroup = "worker"

// lookupEndpoint and askEndpoint name the endpoints in discovery and statistics.
const (
	lookupEndpoint = "lookup"
	askEndpoint    = "ask-"
	keysEndpoint   = "keys"
)

// New returns a service of the given parts. It takes no request yet.
func New(options Options) *Service {
	options.fill()
	s := &Service{Options: options, endpoints: map[string]*endpoint{}, anew: make(chan struct{}, 1)}
	for _, provider := range s.Providers {
		name := askEndpoint + string(provider)
		s.endpoints[name] = newEndpoint(s, name, s.Subjects.Ask(provider, "*"), s.Slots, s.ask)
	}
	s.endpoints[lookupEndpoint] = newEndpoint(s, lookupEndpoint, s.Subjects.Lookup("*"), s.LookupSlots, s.lookup)
	if s.Keys != nil {
		s.endpoints[keysEndpoint] = newEndpoint(s, keysEndpoint, s.Subjects.Keys(), s.LookupSlots, s.publicKeys)
	}
	return s
}

func (o *Options) fill() {
	o.Slots, o.LookupSlots = positive(o.Slots, 64), positive(o.LookupSlots, 64)
	o.Patience, o.MaxPatience = positive(o.Patience, 3*time.Second), positive(o.MaxPatience, 10*time.Second)
	o.LookupTimeout = positive(o.LookupTimeout, 2*time.Second)
	o.MaxBytes = positive(o.MaxBytes, 64<<10)
	if o.InboxPrefix == "" {
		o.InboxPrefix = "_INBOX"
	}
	if o.Delay == nil {
		o.Delay = func(*query.Query) time.Duration { return 0 }
	}
	if o.OnServing == nil {
		o.OnServing = func() {}
	}
	if o.OnReply == nil {
		o.OnReply = func(Reply) {}
	}
}

func positive[T int | time.Duration](value, otherwise T) T {
	if value > 0 {
		return value
	}
	return otherwise
}

// Serves tells whether requests are taken on a subject, which may be one with wildcards.
func (s *Service) Serves(subject string) bool {
	for _, e := range s.endpoints {
		if e.subject == subject {
			return true
		}
	}
	return false
}

// Renew makes Serve subscribe anew, and returns at once. A broker that takes the right to a subject away drops what was subscribed, and says
// nothing when the right is given back.
func (s *Service) Renew() {
	select {
	case s.anew <- struct{}{}:
	default: // It is about to.
	}
}

// Serve takes requests until take ends, then waits until every request under way is answered. work is the context of the handlers: ending
// it makes them give up. A connection that is lost and comes back needs nothing: its subscriptions come back with it.
func (s *Service) Serve(take, work context.Context) error {
	for {
		running, err := s.subscribe(work)
		if err != nil {
			return err
		}
		s.OnServing()
		select {
		case <-take.Done():
			return s.stop(running)
		case <-s.anew:
		}
		if err := running.Stop(); err != nil {
			return fmt.Errorf("renew service: %w", err)
		}
	}
}

// subscribe starts to take requests. They reach us when it returns.
func (s *Service) subscribe(work context.Context) (micro.Service, error) {
	running, err := micro.AddService(s.Conn, micro.Config{
		Name: Name, Version: semanticVersion(s.Build), Description: "Discount queries with the answer as the reply, and stored results by key.",
		Metadata: map[string]string{"build": s.Build}, QueueGroup: queueGroup, StatsHandler: s.stats,
	})
	if err != nil {
		return nil, fmt.Errorf("start service: %w", err)
	}
	for name, e := range s.endpoints {
		handler := micro.ContextHandler(work, e.handle)
		if err := running.AddEndpoint(name, handler, micro.WithEndpointSubject(e.subject)); err != nil {
			return nil, errors.Join(fmt.Errorf("serve %s: %w", e.subject, err), s.stop(running))
		}
	}
	s.flush()
	return running, nil
}

// stop lets go of the subjects, so that other replicas get what comes, and waits for what is under way here. A request that was on its way
// to us is still taken; one that comes even later is told that we are stopping.
func (s *Service) stop(running micro.Service) error {
	err := running.Stop()
	s.flush()
	s.mu.Lock()
	s.stopping = true
	s.mu.Unlock()
	s.flying.Wait()
	if err != nil {
		return fmt.Errorf("stop service: %w", err)
	}
	return nil
}

// flushTimeout bounds the wait for the broker to have seen what we subscribe to.
const flushTimeout = time.Second

// flush waits until the broker has seen what was sent so far. That fails only while there is no connection, and then nothing comes either.
func (s *Service) flush() { _ = s.Conn.FlushTimeout(flushTimeout) }

// begin tells whether a request may be taken, and counts it as under way if so.
func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return false
	}
	s.flying.Add(1)
	return true
}
