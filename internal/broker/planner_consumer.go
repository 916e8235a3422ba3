package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
)

// consumers plans the consumers of one stream. If the stream is missing, so are they.
func (p planner) consumers(ctx context.Context, stream string, bindings []Binding, missing bool) ([]Step, error) {
	foreign, err := p.foreign(ctx, stream, bindings, missing)
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, binding := range bindings {
		step, err := p.consumer(ctx, binding, missing, foreign)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step)
	}
	for _, other := range foreign {
		steps = append(steps, Step{Kind: KindConsumer, Stream: stream, Name: other.Name, Action: ActionKeep,
			Reason: "is not in the configuration: remove it by hand if nobody needs it"})
	}
	return steps, nil
}

// foreign returns the consumers of the stream that are not among the bindings.
func (p planner) foreign(ctx context.Context, stream string, bindings []Binding, missing bool) ([]*jetstream.ConsumerInfo, error) {
	if !p.list || missing {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	fail := func(err error) error {
		return requestProblem("plan", "list the consumers of "+stream, "$JS.API.CONSUMER.LIST."+stream, err)
	}
	handle, err := p.js.Stream(ctx, stream)
	if err != nil {
		return nil, fail(err)
	}
	lister := handle.ListConsumers(ctx)
	var foreign []*jetstream.ConsumerInfo
	for info := range lister.Info() {
		if !slices.ContainsFunc(bindings, func(b Binding) bool { return b.Config.Durable == info.Name }) {
			foreign = append(foreign, info)
		}
	}
	if err := lister.Err(); err != nil {
		return nil, fail(err)
	}
	slices.SortFunc(foreign, func(a, b *jetstream.ConsumerInfo) int { return strings.Compare(a.Name, b.Name) })
	return foreign, nil
}

func (p planner) consumer(ctx context.Context, binding Binding, missing bool, foreign []*jetstream.ConsumerInfo) (Step, error) {
	want := binding.Config
	step := Step{Kind: KindConsumer, Stream: binding.Stream, Name: want.Durable, Action: ActionCreate, consumer: want}
	if missing {
		return step, nil
	}
	blocks := overlapping(want, foreign)
	info, err := p.consumerInfo(ctx, binding.Stream, want.Durable)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound):
		if len(blocks) > 0 {
			step.Action, step.Reason = ActionInTheWay, strings.Join(blocks, "; ")
		}
		return step, nil
	case errors.Is(err, jetstream.ErrNotPullConsumer):
		step.Action, step.Reason = ActionInTheWay, "it is a push consumer, which can't become a pull consumer: remove it by hand"
		return step, nil
	case err != nil:
		return Step{}, requestProblem("plan", "read "+binding.Stream+"/"+want.Durable, "$JS.API.CONSUMER.INFO."+binding.Stream+"."+want.Durable, err)
	}
	d := compare(consumerFields(), info.Config, want, nil)
	if lowered := want.MaxDeliver < info.Config.MaxDeliver || info.Config.MaxDeliver < 0; lowered && info.NumRedelivered > 0 {
		// The server gives such messages up without an advisory (nats-server issue 7148).
		blocks = append(blocks, fmt.Sprintf("max_deliver can't be lowered while %d messages are being delivered again: "+
			"wait until they are settled", info.NumRedelivered))
	}
	step = d.settle(step, blocks...)
	step.consumer = d.next
	return step, nil
}

// overlapping returns why a consumer can't stand beside others: on a work queue each message has one reader.
func overlapping(want jetstream.ConsumerConfig, foreign []*jetstream.ConsumerInfo) []string {
	var why []string
	for _, other := range foreign {
		filters := filtersOf(&other.Config)
		collide := func(filter string) bool { return server.SubjectsCollide(filter, want.FilterSubject) }
		if len(filters) == 0 || slices.ContainsFunc(filters, collide) {
			why = append(why, fmt.Sprintf("the consumer %s reads the same messages: remove it by hand", other.Name))
		}
	}
	return why
}

func (p planner) consumerInfo(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := p.js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, err
	}
	return consumer.CachedInfo(), nil
}
