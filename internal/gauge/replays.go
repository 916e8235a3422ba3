package gauge

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/nats-io/nats.go/jetstream"
)

// replays remembers the state of each batch, up to a sequence of the stream behind the bucket.
type replays struct {
	created time.Time
	next    uint64
	states  map[string]string
}

// countReplays counts the batches by their state. A batch that was written again since the last time has a new sequence, so only what is new
// is read. What can't be read, and a state that is not known, is not counted.
func (r *Reader) countReplays(ctx context.Context) (map[string]uint64, error) {
	bucket := r.Topology.Names().ReplaysBucket()
	stream, err := r.JS.Stream(ctx, "KV_"+bucket)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if !info.Created.Equal(r.replays.created) || info.State.LastSeq+1 < r.replays.next {
		r.replays = replays{created: info.Created, next: 1, states: map[string]string{}}
	}
	for r.replays.next <= info.State.LastSeq {
		message, err := stream.GetMsg(ctx, r.replays.next, jetstream.WithGetMsgSubject("$KV."+bucket+".batch.*"))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		r.replays.take(message)
	}
	r.replays.next = max(r.replays.next, info.State.LastSeq+1)
	return r.replays.count(r.ReplayStates), nil
}

// take notes the state of one batch. An entry without a value is one that was deleted.
func (p *replays) take(message *jetstream.RawStreamMsg) {
	var batch struct {
		State string `json:"state"`
	}
	p.next = message.Sequence + 1
	delete(p.states, message.Subject)
	if json.Unmarshal(message.Data, &batch) == nil {
		p.states[message.Subject] = batch.State
	}
}

// count counts the batches in each of the states given.
func (p *replays) count(states []string) map[string]uint64 {
	counts := map[string]uint64{}
	for _, state := range states {
		counts[state] = 0
	}
	for _, state := range p.states {
		if slices.Contains(states, state) {
			counts[state]++
		}
	}
	return counts
}
