package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"discountquery.example/worker/internal/query"
)

// load is one row: what workers are given to do.
type load struct {
	provider query.Provider
	latency  time.Duration
	workers  int
	// rate is how many queries a second are published; negative for a backlog that never ends.
	rate int
}

// took is what a load came to.
type took struct {
	perSecond float64
	// cores is the processor time of all workers for each second, cpu that for 1,000 queries in seconds.
	cores float64
	cpu   float64
	// resident is the memory of the largest worker in bytes.
	resident float64
}

// guess is how many queries a second a load can't exceed, so that its backlog lasts.
func (l load) guess(p plan) float64 {
	most := 3000.0
	if l.provider == query.UnionPay {
		most = 500
	}
	if l.latency > 0 {
		most = min(most, 1.3*float64(l.workers*p.slots)/l.latency.Seconds())
	}
	return most
}

// lasts returns how long a load is measured, and how long before: until the slots are out of step.
func (l load) lasts(p plan) (warm, measured time.Duration) {
	second := time.Duration(p.seconds * float64(time.Second))
	return max(second/4, l.latency), max(second, 4*l.latency)
}

// endless measures workers that have more to do than they can.
func endless(ctx context.Context, u *upstreams, p plan, l load) (took, error) {
	s, err := newSite(ctx, u, p.sync)
	if err != nil {
		return took{}, err
	}
	defer s.close()
	return s.drain(ctx, u, p, l)
}

func (s *site) drain(ctx context.Context, u *upstreams, p plan, l load) (took, error) {
	if err := u.take(l.latency); err != nil {
		return took{}, err
	}
	warm, lasts := l.lasts(p)
	const starting = time.Second / 2 // The first worker is at work before the last one is.
	backlog := int(l.guess(p)*(starting+warm+lasts).Seconds()) + l.workers*p.slots
	if err := s.publish(ctx, l.provider, 0, backlog); err != nil {
		return took{}, err
	}
	if err := s.hire(ctx, l.workers); err != nil {
		return took{}, err
	}
	if err := s.await(ctx, names().Results(), func(n uint64) bool { return n > 0 }); err != nil {
		return took{}, err
	}
	if err := rest(ctx, warm); err != nil {
		return took{}, err
	}
	return s.watch(ctx, lasts, uint64(backlog)) //nolint:gosec // It is not negative.
}

// steady measures one worker to which queries are published at a rate.
func steady(ctx context.Context, u *upstreams, p plan, l load) (took, error) {
	s, err := newSite(ctx, u, p.sync)
	if err != nil {
		return took{}, err
	}
	defer s.close()
	return s.trickle(ctx, u, p, l)
}

func (s *site) trickle(ctx context.Context, u *upstreams, p plan, l load) (took, error) {
	if err := errors.Join(u.take(l.latency), s.hire(ctx, 1)); err != nil {
		return took{}, err
	}
	within, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.publishAt(within, l.provider, l.rate) }()
	warm, lasts := l.lasts(p)
	err := rest(ctx, warm)
	var measured took
	if err == nil {
		measured, err = s.watch(ctx, 2*lasts, 0)
	}
	stop()
	return measured, errors.Join(err, <-ended)
}

// publishAt publishes queries at a rate until ctx ends.
func (s *site) publishAt(ctx context.Context, provider query.Provider, rate int) error {
	if rate == 0 {
		<-ctx.Done()
		return nil
	}
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := s.publish(context.WithoutCancel(ctx), provider, n, n+1); err != nil {
			return err
		}
	}
}

// watch measures what the workers do for a while, or until all of the backlog is done.
func (s *site) watch(ctx context.Context, lasts time.Duration, backlog uint64) (took, error) {
	before, cpuBefore, _, err := s.look(ctx)
	if err != nil {
		return took{}, err
	}
	began := time.Now()
	for time.Since(began) < lasts {
		if done, _, err := s.stream(ctx, names().Results()); err != nil || backlog > 0 && done >= backlog {
			if err != nil {
				return took{}, err
			}
			break
		}
		if err := rest(ctx, 10*time.Millisecond); err != nil {
			return took{}, err
		}
	}
	if died, _, err := s.stream(ctx, names().Dead()); err != nil || died > 0 {
		return took{}, errors.Join(fmt.Errorf("%d queries died instead of being answered", died), err)
	}
	after, cpuAfter, resident, err := s.look(ctx)
	seconds := time.Since(began).Seconds()
	t := took{perSecond: float64(after-before) / seconds, cores: (cpuAfter - cpuBefore) / seconds, resident: resident}
	if after > before {
		t.cpu = (cpuAfter - cpuBefore) / float64(after-before) * 1000
	}
	return t, err
}

// look returns how many results there are, the processor time of all workers in seconds, and the memory of the largest in bytes.
func (s *site) look(ctx context.Context) (results uint64, cpu, resident float64, err error) {
	for _, worker := range s.workers {
		page, err := worker.page(ctx, "/metrics")
		if err != nil {
			return 0, 0, 0, err
		}
		used, usedErr := figure(page, "process_cpu_seconds_total")
		holds, holdsErr := figure(page, "process_resident_memory_bytes")
		if err := errors.Join(usedErr, holdsErr); err != nil {
			return 0, 0, 0, err
		}
		cpu, resident = cpu+used, max(resident, holds)
	}
	results, _, err = s.stream(ctx, names().Results())
	return results, cpu, resident, err
}
