package upstream

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"discountquery.example/worker/internal/fault"
)

// BreakerPolicy says when an upstream counts as down.
type BreakerPolicy struct {
	// MinCalls is how many calls there must be within Window before their failures are judged.
	MinCalls int
	// FailureRatio is the share of failed calls, from 0 to 1, from which on the breaker opens.
	FailureRatio float64
	// Window is how far back calls are counted.
	Window time.Duration
	// OpenFor is how long no call is made before a single one tries again.
	OpenFor time.Duration
}

// BreakerState is what a breaker lets through.
type BreakerState string

// The states of a breaker.
const (
	// BreakerClosed lets every call through.
	BreakerClosed BreakerState = "closed"
	// BreakerHalfOpen lets one call through at a time.
	BreakerHalfOpen BreakerState = "half-open"
	// BreakerOpen lets none through.
	BreakerOpen BreakerState = "open"
)

// breakerBuckets is in how many parts the window moves on.
const breakerBuckets = 10

// breakerPoll is how often a waiting call looks whether it may go.
const breakerPoll = 50 * time.Millisecond

// Breaker keeps calls from an upstream that is down, throttles us or refuses our credentials. It may be used by many goroutines.
type Breaker struct {
	steps *gobreaker.TwoStepCircuitBreaker[struct{}]
	// refused tells that the upstream refused our credentials: that concerns every query, so one answer is enough. It is only
	// touched from gobreaker's callbacks, which it calls one at a time under its own lock.
	refused bool
	// until is when an open breaker lets a call through, in nanoseconds of Unix time.
	until atomic.Int64
	// trying is how many callers try a half-open breaker or are about to: those that WaitUp let through, and calls that were allowed.
	trying atomic.Int32
}

// NewBreaker returns a closed breaker. onChange is told each change of state and must return at once; it may be nil.
func NewBreaker(policy BreakerPolicy, onChange func(to BreakerState)) *Breaker {
	b := &Breaker{}
	b.steps = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: 1, Interval: policy.Window, BucketPeriod: policy.Window / breakerBuckets, Timeout: policy.OpenFor,
		ReadyToTrip: func(counts gobreaker.Counts) bool {
			failed := float64(counts.TotalFailures)
			finished := failed + float64(counts.TotalSuccesses)
			return b.refused || finished >= float64(policy.MinCalls) && failed >= policy.FailureRatio*finished
		},
		IsSuccessful: func(err error) bool {
			b.refused = fault.KindOf(err) == fault.Unauthorized
			return upstreamWorks(err)
		},
		// What was cut short by us says nothing about the upstream.
		IsExcluded: func(err error) bool { return err != nil && fault.KindOf(err) == fault.Interrupted },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.until.Store(time.Now().Add(policy.OpenFor).UnixNano())
			}
			if onChange != nil {
				onChange(stateOf(to))
			}
		},
	})
	return b
}

// upstreamWorks tells whether the outcome of a call speaks for the upstream: an answer does, and so does a refusal of this one query.
func upstreamWorks(err error) bool {
	if err == nil {
		return true
	}
	kind := fault.KindOf(err)
	return kind == fault.Rejected || kind == fault.Malformed
}

func stateOf(state gobreaker.State) BreakerState {
	switch state {
	case gobreaker.StateClosed:
		return BreakerClosed
	case gobreaker.StateHalfOpen:
		return BreakerHalfOpen
	case gobreaker.StateOpen:
		return BreakerOpen
	default:
		return BreakerOpen
	}
}

// State returns the breaker's state.
func (b *Breaker) State() BreakerState { return stateOf(b.steps.State()) }

// Capacity returns how many more queries are worth taking up now: none while the upstream is down or is being tried, one to try with, or any
// number.
func (b *Breaker) Capacity() int {
	switch b.State() {
	case BreakerOpen:
		return 0
	case BreakerHalfOpen:
		if b.trying.Load() > 0 {
			return 0
		}
		return 1
	case BreakerClosed:
		return math.MaxInt
	default:
		return 0
	}
}

// UpIn returns how long it is until a call can be worth trying, 0 if it is already.
func (b *Breaker) UpIn() time.Duration {
	if b.State() != BreakerOpen {
		return 0
	}
	return max(time.Until(time.Unix(0, b.until.Load())), 0)
}

// Allow returns what to tell the outcome of a call to, or a BreakerOpen fault if no call may be made now.
func (b *Breaker) Allow() (done func(err error), err error) {
	tell, err := b.steps.Allow()
	if err != nil {
		return nil, fault.Because("breaker", fault.Unavailable, fault.BreakerOpen, err)
	}
	if b.State() != BreakerHalfOpen {
		return tell, nil
	}
	b.trying.Add(1)
	return func(err error) {
		tell(err) // First, so that nobody takes a permit for a place that is not free yet.
		b.trying.Add(-1)
	}, nil
}

// WaitUp returns when a call may be worth a permit, and fails only when ctx ends. A query that waits here costs no attempt.
//
// While the upstream is down, one caller at a time gets through to try it again: until it was allowed a call or refused one, and has called
// leave. The others would only take permits that they could not use; each looks anew after a while.
func (b *Breaker) WaitUp(ctx context.Context) (leave func(), err error) {
	if b.State() == BreakerClosed {
		return func() {}, nil
	}
	ticker := time.NewTicker(breakerPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if leave, ok := b.pass(); ok {
				return leave, nil
			}
		case <-ctx.Done():
			kind := fault.Interrupted
			if ctx.Err() == context.DeadlineExceeded {
				kind = fault.Expired
			}
			return nil, fault.Because("wait for upstream", kind, fault.BreakerOpen, ctx.Err())
		}
	}
}

// pass lets a caller through to its permit if it can be worth one now.
func (b *Breaker) pass() (leave func(), ok bool) {
	switch b.State() {
	case BreakerClosed:
		return func() {}, true
	case BreakerHalfOpen:
		return func() { b.trying.Add(-1) }, b.trying.CompareAndSwap(0, 1)
	case BreakerOpen:
	}
	return nil, false
}
