package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// MakePlan reads what the broker holds and returns what it takes to give it the topology. It changes nothing.
// The user needs the rights to STREAM.INFO, STREAM.NAMES, CONSUMER.INFO and CONSUMER.LIST below $JS.API.
func MakePlan(ctx context.Context, js jetstream.JetStream, topology Topology) (Plan, error) {
	return planner{js: js, list: true}.plan(ctx, topology)
}

// Verify returns the steps that are left to do, or none if the broker holds the whole topology. It serves the running worker,
// which has the least rights: it asks only STREAM.INFO and CONSUMER.INFO of the objects in the topology, so it does not see
// other streams and consumers that would be in the way.
func Verify(ctx context.Context, js jetstream.JetStream, topology Topology) ([]Step, error) {
	plan, err := planner{js: js}.plan(ctx, topology)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(plan.Steps, func(s Step) bool { return s.Action == ActionKeep }), nil
}

// planner reads the broker.
type planner struct {
	js jetstream.JetStream
	// list allows the requests that look beyond the objects of the topology.
	list bool
}

// holder is a stream, or the stream behind a bucket.
type holder struct {
	kind   Kind
	name   string
	want   jetstream.StreamConfig
	fields []field[jetstream.StreamConfig]
}

func (p planner) plan(ctx context.Context, topology Topology) (Plan, error) {
	if err := topology.Validate(); err != nil {
		return Plan{}, err
	}
	plan := Plan{topology: topology}
	missing := map[string]bool{}
	for _, h := range holders(topology) {
		step, present, err := p.holder(ctx, h)
		if err != nil {
			return Plan{}, err
		}
		missing[h.want.Name] = !present
		plan.Steps = append(plan.Steps, step)
	}
	names := topology.Names()
	for _, stream := range []string{names.Queries(), names.Retries()} {
		bindings := slices.DeleteFunc(topology.Consumers(), func(b Binding) bool { return b.Stream != stream })
		steps, err := p.consumers(ctx, stream, bindings, missing[stream])
		if err != nil {
			return Plan{}, err
		}
		plan.Steps = append(plan.Steps, steps...)
	}
	return plan, nil
}

func holders(topology Topology) []holder {
	var all []holder
	for _, want := range topology.Streams() {
		all = append(all, holder{kind: KindStream, name: want.Name, want: want, fields: streamFields()})
	}
	for _, bucket := range topology.Buckets() {
		all = append(all, holder{kind: KindBucket, name: bucket.Bucket, want: bucketStream(bucket), fields: bucketFields()})
	}
	return all
}

// holder plans one stream and tells whether it is there.
func (p planner) holder(ctx context.Context, h holder) (step Step, present bool, err error) {
	step = Step{Kind: h.kind, Name: h.name}
	info, err := p.streamInfo(ctx, h.want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		step.Action, step.stream = ActionCreate, withApplied(h.want, h.fields, nil)
		step, err = p.checkOverlap(ctx, step, h.want.Subjects)
		return step, false, err
	}
	if err != nil {
		return Step{}, false, requestProblem("plan", "read "+h.want.Name, "$JS.API.STREAM.INFO."+h.want.Name, err)
	}
	want := h.want
	if want.Retention != jetstream.WorkQueuePolicy {
		// A further subject does no harm where nothing is taken off by being read.
		want.Subjects = union(info.Config.Subjects, want.Subjects)
	}
	d := compare(h.fields, info.Config, want, info.Config.Metadata)
	stored, err := p.orphans(ctx, h.want.Name, without(info.Config.Subjects, want.Subjects))
	if err != nil {
		return Step{}, false, err
	}
	step = d.settle(step, append(narrowed(d.changes, d.next, info.State), stored...)...)
	step.stream = withApplied(d.next, h.fields, d.changes)
	step, err = p.checkOverlap(ctx, step, without(want.Subjects, info.Config.Subjects))
	return step, true, err
}

// narrowed returns why limits that become narrower would lose messages that are stored.
func narrowed(changes []Change, next jetstream.StreamConfig, state jetstream.StreamState) []string {
	var why []string
	for _, c := range changes {
		switch {
		case c.Field == "max_bytes" && next.MaxBytes > 0 && state.Bytes > uint64(next.MaxBytes):
			why = append(why, fmt.Sprintf("max_bytes %d is less than the %d bytes stored", next.MaxBytes, state.Bytes))
		case c.Field == "max_age" && next.MaxAge > 0 && state.Msgs > 0 && time.Since(state.FirstTime) > next.MaxAge:
			why = append(why, fmt.Sprintf("max_age %s would remove messages stored since %s", next.MaxAge, state.FirstTime.UTC().Format(time.RFC3339)))
		}
	}
	return why
}

// orphans returns why subjects can't be taken from a stream: messages are stored under them that nobody would read.
func (p planner) orphans(ctx context.Context, stream string, subjects []string) ([]string, error) {
	var why []string
	for _, subject := range subjects {
		info, err := p.streamInfo(ctx, stream, jetstream.WithSubjectFilter(subject))
		if err != nil {
			return nil, requestProblem("plan", "read "+stream, "$JS.API.STREAM.INFO."+stream, err)
		}
		var stored uint64
		for _, n := range info.State.Subjects {
			stored += n
		}
		if stored > 0 {
			why = append(why, fmt.Sprintf("%d messages are still stored under %s: serve it until they are answered", stored, subject))
		}
	}
	return why, nil
}

// checkOverlap turns a step into one in the way if another stream holds any of the subjects it would add.
func (p planner) checkOverlap(ctx context.Context, step Step, subjects []string) (Step, error) {
	if !p.list {
		return step, nil
	}
	for _, subject := range subjects {
		owners, err := p.owners(ctx, subject)
		if err != nil {
			return Step{}, err
		}
		if others := without(owners, []string{step.stream.Name}); len(others) > 0 {
			step.Action = ActionInTheWay
			step.Reason = fmt.Sprintf("%s is held by the stream %s already: take the subject from it or choose another prefix",
				subject, strings.Join(others, ", "))
			return step, nil
		}
	}
	return step, nil
}

// owners returns the names of the streams that hold any subject that the given one could match.
func (p planner) owners(ctx context.Context, subject string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	lister := p.js.StreamNames(ctx, jetstream.WithStreamListSubject(subject))
	var owners []string
	for name := range lister.Name() {
		owners = append(owners, name)
	}
	if err := lister.Err(); err != nil {
		return nil, requestProblem("plan", "list the streams on "+subject, "$JS.API.STREAM.NAMES", err)
	}
	return owners, nil
}

func (p planner) streamInfo(ctx context.Context, name string, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stream, err := p.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	if len(opts) == 0 {
		return stream.CachedInfo(), nil
	}
	return stream.Info(ctx, opts...)
}

// bucketStream returns the stream that nats.go makes for a bucket, so that a bucket is planned like any other stream.
func bucketStream(bucket jetstream.KeyValueConfig) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "KV_" + bucket.Bucket, Subjects: []string{"$KV." + bucket.Bucket + ".>"}, Description: bucket.Description,
		MaxMsgsPerSubject: int64(bucket.History), MaxBytes: bucket.MaxBytes, MaxAge: bucket.TTL, Storage: bucket.Storage, Replicas: bucket.Replicas,
		Discard: jetstream.DiscardNew, AllowRollup: true, DenyDelete: true, AllowDirect: true,
		MaxMsgs: -1, MaxMsgSize: -1, MaxConsumers: -1, Duplicates: window(bucket.TTL),
	}
}

func union(a, b []string) []string {
	return append(slices.Clone(a), without(b, a)...)
}

func without(list, remove []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(remove, s) })
}
