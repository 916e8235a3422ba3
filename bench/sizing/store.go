package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/query"
	"discountquery.example/worker/internal/upstream/sandbox"
)

// sample is how many messages of each kind are stored to see how long they are.
const sample = 300

// store is what the broker needs for each message, in bytes, by what it is.
type store struct {
	names []string
	bytes map[string]float64
	// heap and disk are what the broker needs for each result that it keeps, with kept of them.
	heap, disk float64
	// empty is the resident memory of a broker without messages, full that with kept results.
	empty, full float64
	pace        uint64
}

func (s *store) add(name string, bytes float64) {
	s.names = append(s.names, name)
	s.bytes[name] = bytes
}

// stored measures the messages of queries, results, dead letters and answers, and what the broker needs for results that it keeps.
func stored(ctx context.Context, u *upstreams, p plan) (*store, error) {
	found := &store{bytes: map[string]float64{}}
	s, err := newSite(ctx, u, p.sync)
	if err != nil {
		return nil, err
	}
	defer s.close()
	template, err := s.fill(ctx, u, p, found)
	if err != nil {
		return nil, err
	}
	keeper, err := newSite(ctx, u, false) // What is kept in memory does not depend on when it reaches the disk.
	if err != nil {
		return nil, err
	}
	defer keeper.close()
	return found, keeper.keep(ctx, p, template, found)
}

// fill stores some of everything, and returns one result.
func (s *site) fill(ctx context.Context, u *upstreams, p plan, found *store) ([]byte, error) {
	if err := u.take(0); err != nil {
		return nil, err
	}
	steps := []struct {
		name, stream string
		do           func(provider query.Provider) error
	}{
		{"query of %s", names().Queries(), func(provider query.Provider) error { return s.publish(ctx, provider, 0, sample) }},
		{"result of %s", names().Results(), func(query.Provider) error { return s.drained(ctx) }},
		{"dead letter of %s", names().Dead(), func(provider query.Provider) error { return s.die(ctx, u, provider) }},
	}
	for _, provider := range p.providers {
		for _, step := range steps {
			grown, err := s.grown(ctx, step.stream, func() error { return step.do(provider) })
			if err != nil {
				return nil, err
			}
			found.add(fmt.Sprintf(step.name, provider), grown)
		}
	}
	grown, err := s.grown(ctx, "KV_"+names().AnswersBucket(), func() error { return s.share(ctx) })
	found.add("shared answer", grown)
	if err != nil {
		return nil, err
	}
	if _, found.pace, err = s.stream(ctx, "KV_"+names().PaceBucket()); err != nil {
		return nil, err
	}
	results, err := s.js.Stream(ctx, names().Results())
	if err != nil {
		return nil, err
	}
	last, err := results.GetMsg(ctx, 1)
	if err != nil {
		return nil, err
	}
	return last.Data, nil
}

// grown returns by how many bytes for each message a stream grows.
func (s *site) grown(ctx context.Context, name string, do func() error) (float64, error) {
	messages, bytes, err := s.stream(ctx, name)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	more, grown, err := s.stream(ctx, name)
	if err == nil && more <= messages {
		err = fmt.Errorf("%s does not grow", name)
	}
	return float64(grown-bytes) / float64(more-messages), err
}

// drained has a worker answer all queries.
func (s *site) drained(ctx context.Context) error {
	if err := s.hire(ctx, 1); err != nil {
		return err
	}
	defer s.dismiss()
	return s.await(ctx, names().Queries(), func(n uint64) bool { return n == 0 })
}

// die publishes queries that die of a code nobody knows.
func (s *site) die(ctx context.Context, u *upstreams, provider query.Provider) error {
	err := u.sandbox.SetFaults([]sandbox.Fault{{Provider: sandbox.Both, Kind: sandbox.KindCode, Param: "Z9"}})
	return errors.Join(err, s.publish(ctx, provider, sample, 2*sample), s.drained(ctx), u.take(0))
}

// share publishes queries whose answers may be shared.
func (s *site) share(ctx context.Context) error {
	for n := range sample {
		q, err := question(query.EasyPay, 3*sample+n)
		if err != nil {
			return err
		}
		q.MaxAge = new(time.Minute)
		if _, err := s.publisher.Publish(ctx, q); err != nil {
			return err
		}
	}
	return s.drained(ctx)
}

// keep stores copies of a result under keys of their own, as workers do.
func (s *site) keep(ctx context.Context, p plan, template []byte, found *store) error {
	before, err := s.broker.memory()
	if err != nil {
		return err
	}
	disk, err := size(s.store)
	if err != nil {
		return err
	}
	js, err := jetstream.New(s.conn, jetstream.WithPublishAsyncMaxPending(500))
	if err != nil {
		return err
	}
	for n := range p.kept {
		key := query.Key("shop", "urn:shop:checkout", strconv.Itoa(n))
		message := &nats.Msg{Subject: subjects().Result(key, query.EasyPay, "shop", string(query.Completed)), Data: template}
		_, err := js.PublishMsgAsync(message, jetstream.WithExpectLastSequenceForSubject(0, subjects().ResultGuard(key)), jetstream.WithStallWait(time.Minute))
		if err != nil {
			return err
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return ctx.Err()
	}
	messages, _, err := s.stream(ctx, names().Results())
	if err == nil && messages != uint64(p.kept) { //nolint:gosec // It is not negative.
		err = fmt.Errorf("%d of %d results are stored", messages, p.kept)
	}
	after, memoryErr := s.broker.memory()
	grown, sizeErr := size(s.store)
	found.heap = (float64(after.Heap) - float64(before.Heap)) / float64(p.kept)
	found.disk = float64(grown-disk) / float64(p.kept)
	found.empty, found.full = float64(before.Resident), float64(after.Resident)
	return errors.Join(err, memoryErr, sizeErr)
}

// size returns the bytes of all files below dir.
func size(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // The broker has just replaced it.
		}
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}
