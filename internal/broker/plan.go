package broker

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// Kind says what a step is about.
type Kind string

// The kinds of objects.
const (
	// KindStream is a stream.
	KindStream Kind = "stream"
	// KindConsumer is a durable pull consumer.
	KindConsumer Kind = "consumer"
	// KindBucket is a key-value bucket.
	KindBucket Kind = "bucket"
)

// Action says what a step does. No action deletes.
type Action string

// The actions.
const (
	// ActionKeep leaves an object as it is.
	ActionKeep Action = "keep"
	// ActionCreate makes an object that is missing.
	ActionCreate Action = "create"
	// ActionChange updates settings of an object in a way that loses no message.
	ActionChange Action = "change"
	// ActionInTheWay is a difference that needs somebody's decision: to remove it would lose messages, or the server refuses to.
	ActionInTheWay Action = "in_the_way"
)

// Change is one setting whose value differs from the topology's. Field is its name on the wire.
type Change struct {
	Field string `json:"field"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Step is what a plan has to do about one object.
type Step struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`
	Action Action `json:"action"`
	// Stream is the stream of a consumer, "" for every other kind.
	Stream string `json:"stream,omitempty"`
	// Changes lists the settings that differ.
	Changes []Change `json:"changes,omitempty"`
	// Reason says why a step is in the way, or what is worth knowing of one that is not.
	Reason string `json:"reason,omitempty"`

	stream   jetstream.StreamConfig
	consumer jetstream.ConsumerConfig
}

// String returns the step as one line for a person.
func (s Step) String() string {
	name := s.Name
	if s.Stream != "" {
		name = s.Stream + "/" + name
	}
	line := fmt.Sprintf("%-10s %-8s %s", s.Action, s.Kind, name)
	for _, c := range s.Changes {
		line += fmt.Sprintf("\n           %s: %s -> %s", c.Field, c.From, c.To)
	}
	if s.Reason != "" {
		line += "\n           " + s.Reason
	}
	return line
}

// Plan is what it takes to give a broker its topology.
type Plan struct {
	Steps []Step `json:"steps"`

	topology Topology
}

// Done tells that there is nothing to do: every object is there and as it must be.
func (p Plan) Done() bool { return len(p.of(ActionKeep)) == len(p.Steps) }

// InTheWay returns the steps that need somebody's decision first.
func (p Plan) InTheWay() []Step { return p.of(ActionInTheWay) }

func (p Plan) of(action Action) []Step {
	return slices.DeleteFunc(slices.Clone(p.Steps), func(s Step) bool { return s.Action != action })
}

// same tells that two plans do the same. Their reasons may differ: these count messages.
func (p Plan) same(other Plan) bool {
	return slices.EqualFunc(p.Steps, other.Steps, func(a, b Step) bool {
		return a.Kind == b.Kind && a.Name == b.Name && a.Stream == b.Stream && a.Action == b.Action && slices.Equal(a.Changes, b.Changes)
	})
}

// applied is the start of the metadata keys under which a stream carries the limits this package last gave it. They tell a
// limit that somebody raised by hand, which is left alone, from one that the configuration has narrowed since.
const applied = "discountquery."

// difference is what a comparison of an object with the topology found.
type difference[C any] struct {
	next    C
	changes []Change
	frozen  []string
	left    []string
}

// compare returns how have differs from want in the given fields. Its next is have with those fields of want laid over it, so
// that everything else stays as its owner set it.
func compare[C any](fields []field[C], have, want C, metadata map[string]string) difference[C] {
	d := difference[C]{next: have}
	for _, f := range fields {
		from, to := f.show(&have), f.show(&want)
		if from == to {
			continue
		}
		if f.wider != nil && f.wider(&have, &want) && metadata[applied+f.name] != from {
			d.left = append(d.left, fmt.Sprintf("%s is %s, wider than the %s asked for: somebody set it, so it stays", f.name, from, to))
			continue
		}
		if f.frozen != nil {
			if why := f.frozen(&have, &want); why != "" {
				d.frozen = append(d.frozen, f.name+" "+why)
			}
		}
		d.changes = append(d.changes, Change{Field: f.name, From: from, To: to})
		f.copy(&d.next, &want)
	}
	return d
}

// settle gives the step the action that the difference and the blocks found elsewhere ask for.
func (d difference[C]) settle(step Step, blocks ...string) Step {
	step.Changes = d.changes
	blocks = append(d.frozen, blocks...)
	switch {
	case len(blocks) > 0:
		step.Action, step.Reason = ActionInTheWay, strings.Join(blocks, "; ")
	case len(d.changes) > 0:
		step.Action, step.Reason = ActionChange, strings.Join(d.left, "; ")
	default:
		step.Action, step.Reason = ActionKeep, strings.Join(d.left, "; ")
	}
	return step
}

// withApplied returns config with the limits among changes recorded in its metadata. No changes means all limits: it is new.
func withApplied(config jetstream.StreamConfig, fields []field[jetstream.StreamConfig], changes []Change) jetstream.StreamConfig {
	metadata := maps.Clone(config.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	for _, f := range fields {
		changed := slices.ContainsFunc(changes, func(c Change) bool { return c.Field == f.name })
		if f.wider != nil && (changed || len(changes) == 0) {
			metadata[applied+f.name] = f.show(&config)
		}
	}
	config.Metadata = metadata
	return config
}
