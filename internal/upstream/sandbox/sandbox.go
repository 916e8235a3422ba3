// Package sandbox is both upstreams as one real HTTP server that can be told to misbehave; it must never import another room
// of this project, so that no mistake of the client can hide in shared code, and it never logs or keeps card data.
package sandbox

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Provider names one of the two simulated upstreams.
type Provider string

// The simulated upstreams, and the word for both of them in a fault.
const (
	// EasyPay is KICC's instant discount coupon inquiry.
	EasyPay Provider = "easypay"
	// UnionPay is UnionPay International's cardholder instant discount usage query.
	UnionPay Provider = "unionpay"
	// Both stands for either provider, each with a fault state of its own. It is valid in faults only.
	Both Provider = "*"
)

// Options says how a sandbox behaves when nothing is told to go wrong. The zero value serves EasyPay well and refuses every
// UnionPay call, because it holds no keys.
type Options struct {
	// Seed makes rates, ranges and UnionPay figures repeatable: the same seed gives the same draws and the same usage of a card.
	Seed uint64
	// Now is the wall clock behind timestamps and HTTP dates; nil means time.Now. Arrivals always use the monotonic clock.
	Now func() time.Time
	// ArrivalCapacity is the number of arrivals kept per provider, rounded up to a multiple of 4,096; 0 means 1,048,576.
	ArrivalCapacity int
	// EasyPay holds what concerns EasyPay only.
	EasyPay EasyPayOptions
	// UnionPay holds what concerns UnionPay only.
	UnionPay UnionPayOptions
}

// Sandbox is both simulated upstreams. Its methods can be called at any time from any goroutine.
type Sandbox struct {
	now      func() time.Time
	started  time.Time
	seed     uint64
	easyPay  easyPay
	unionPay unionPay
	ledgers  map[Provider]*ledger
	plan     atomic.Pointer[plan]
	bomb     func() []byte
	buffers  sync.Pool
}

// New returns a sandbox without faults. It starts nothing: serve its two handlers, or call Start.
func New(o Options) *Sandbox {
	if o.Now == nil {
		o.Now = time.Now
	}
	started := time.Now()
	s := &Sandbox{
		now:      o.Now,
		started:  started,
		seed:     o.Seed,
		easyPay:  newEasyPay(o.EasyPay),
		unionPay: newUnionPay(o.UnionPay, o.Seed),
		ledgers: map[Provider]*ledger{
			EasyPay:  newLedger(started, o.ArrivalCapacity),
			UnionPay: newLedger(started, o.ArrivalCapacity),
		},
		bomb:    sync.OnceValue(makeBomb),
		buffers: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
	s.plan.Store(&plan{})
	return s
}

// EasyPay returns the handler of EasyPay: the current and the legacy address. Every request to it counts as an arrival.
func (s *Sandbox) EasyPay() http.Handler { return http.HandlerFunc(s.serveEasyPay) }

// UnionPay returns the handler of UnionPay. Every request to it counts as an arrival.
func (s *Sandbox) UnionPay() http.Handler { return http.HandlerFunc(s.serveUnionPay) }

// SetFaults replaces all faults at once and arms them anew: their counters, draws and limits start from the beginning.
// Calls that are being answered keep the faults they met. When one fault is invalid, nothing changes.
func (s *Sandbox) SetFaults(faults []Fault) error {
	p, err := arm(faults, s.seed)
	if err != nil {
		return err
	}
	s.plan.Store(p)
	return nil
}

// Faults returns a copy of the faults in force, in the order they were given.
func (s *Sandbox) Faults() []Fault { return cloneFaults(s.plan.Load().faults) }

// Reset forgets every arrival and count and arms the faults anew. UUIDs and reference numbers stay remembered, because an
// upstream doesn't forget them either.
func (s *Sandbox) Reset() {
	for _, l := range s.ledgers {
		l.reset()
	}
	for {
		old := s.plan.Load()
		if s.plan.CompareAndSwap(old, old.rearmed(s.seed)) {
			return
		}
	}
}

// Arrivals returns when the kept requests of a provider arrived, as offsets from the creation of the sandbox, oldest first.
// An unknown provider has none.
func (s *Sandbox) Arrivals(p Provider) []time.Duration {
	if l := s.ledgers[p]; l != nil {
		return l.arrivals(nil)
	}
	return nil
}

// ArrivalsOf is Arrivals for one account: a mallId or an insCode. Requests whose account couldn't be read belong to none.
func (s *Sandbox) ArrivalsOf(p Provider, account string) []time.Duration {
	if l := s.ledgers[p]; l != nil {
		return l.arrivals(&account)
	}
	return nil
}

// MaxInWindow returns the largest number of a provider's kept arrivals within any span shorter than the window.
func (s *Sandbox) MaxInWindow(p Provider, window time.Duration) int {
	return MaxInWindow(s.Arrivals(p), window)
}

// Violations returns how many kept arrivals of a provider broke the rule "in no window more than rate x window + burst calls".
// The rate is in calls per second.
func (s *Sandbox) Violations(p Provider, rate float64, burst int) int {
	return Violations(s.Arrivals(p), rate, burst)
}

// mediaTypeJSON reports whether a Content-Type names JSON, whatever its parameters.
func mediaTypeJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/json")
}
