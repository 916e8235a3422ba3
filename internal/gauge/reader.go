package gauge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/broker"
)

// Options are the parts of a Reader.
type Options struct {
	JS       jetstream.JetStream
	Topology broker.Topology
	// Reasons are the reasons that a query can die of, ReplayStates the states that a batch of replays can be in. Nothing else is told
	// apart, so that no label comes from what is stored.
	Reasons      []string
	ReplayStates []string
	// Timeout bounds one reading; 0 means no bound but the context's.
	Timeout time.Duration
}

// Reader reads figures. It remembers what a reading found, so that the next one asks only for what has changed; it is for one goroutine.
type Reader struct {
	Options

	dead    deadCount
	replays replays
}

// New returns a Reader. It asks the broker for nothing yet.
//
// All that is read takes the rights to STREAM.INFO and CONSUMER.INFO of the topology and to MSG.GET of the queries and the retries, which
// a worker has anyway, and for the replays DIRECT.GET of the stream behind their bucket.
func New(options Options) *Reader { return &Reader{Options: options} }

// Read returns the figures. On an error it returns all that could be read nevertheless: see Figures.
func (r *Reader) Read(ctx context.Context) (Figures, error) {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	found, err := r.survey(ctx)
	if err != nil {
		return Figures{}, err
	}
	figures := found.figures(r.Topology)
	var errDead, errReplays error
	if figures.Dead, errDead = r.countDead(ctx, found.streams[r.Topology.Names().Dead()]); errDead != nil {
		errDead = fmt.Errorf("count dead letters: %w", errDead)
	}
	if figures.Replays, errReplays = r.countReplays(ctx); errReplays != nil {
		errReplays = fmt.Errorf("count replays: %w", errReplays)
	}
	return figures, errors.Join(errDead, errReplays)
}

// survey is what the broker said of its streams and consumers.
type survey struct {
	streams   map[string]*jetstream.StreamInfo
	consumers []consumerInfo
	// oldest is when the oldest message of a queue was stored.
	oldest map[place]time.Time
}

// place names one queue.
type place struct {
	stream, provider, lane string
}

// consumerInfo is what the broker said of one consumer.
type consumerInfo struct {
	place

	info *jetstream.ConsumerInfo
}

// survey asks for all streams and consumers, and for the oldest message of each queue. On a work queue what was acked is gone, so the oldest
// that is stored is the oldest that is not acked.
func (r *Reader) survey(ctx context.Context) (survey, error) {
	found := survey{streams: map[string]*jetstream.StreamInfo{}, oldest: map[place]time.Time{}}
	handles := map[string]jetstream.Stream{}
	for _, config := range r.Topology.Streams() {
		stream, err := r.JS.Stream(ctx, config.Name)
		if err != nil {
			return survey{}, fmt.Errorf("read stream %s: %w", config.Name, err)
		}
		handles[config.Name], found.streams[config.Name] = stream, stream.CachedInfo()
	}
	for _, binding := range r.Topology.Consumers() {
		consumer, err := r.JS.Consumer(ctx, binding.Stream, binding.Config.Name)
		if err != nil {
			return survey{}, fmt.Errorf("read consumer %s of stream %s: %w", binding.Config.Name, binding.Stream, err)
		}
		at := place{stream: binding.Stream, provider: binding.Provider, lane: binding.Lane}
		found.consumers = append(found.consumers, consumerInfo{place: at, info: consumer.CachedInfo()})
		if _, asked := found.oldest[at]; asked {
			continue // Another client's consumer of the same queue.
		}
		if found.oldest[at], err = oldest(ctx, handles[binding.Stream], r.filter(at)); err != nil {
			return survey{}, fmt.Errorf("read oldest message of %s: %w", binding.Stream, err)
		}
	}
	return found, nil
}

// filter returns the subjects of a queue, over all clients.
func (r *Reader) filter(at place) string {
	names := r.Topology.Names()
	if at.stream == names.Retries() {
		return names.RetryFilter(at.provider, at.lane)
	}
	return names.QueryFilter(at.provider, at.lane)
}

// oldest returns when the first message on a subject was stored, zero if there is none.
func oldest(ctx context.Context, stream jetstream.Stream, filter string) (time.Time, error) {
	message, err := stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(filter))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return message.Time, nil
}
