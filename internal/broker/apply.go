package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"discountquery.example/worker/internal/fault"
)

// Apply carries out a plan: it creates and changes, and never deletes. Progress, if not nil, gets each step once it is done.
//
// If any step is in the way nothing at all is done, and the error answers errors.Is for ErrInTheWay. If the broker is no longer
// as it was when the plan was made nothing is done either, and the error answers for ErrPlanStale. To apply a plan twice is
// therefore an error, to plan and apply again is not. The user needs the rights of MakePlan, and those to STREAM.CREATE,
// STREAM.UPDATE and CONSUMER.CREATE below $JS.API.
func Apply(ctx context.Context, js jetstream.JetStream, plan Plan, progress func(Step)) error {
	if blocked := plan.InTheWay(); len(blocked) > 0 {
		return problem("apply", fault.BrokerRefused, ErrInTheWay, "nothing was changed, because of %s", describe(blocked))
	}
	fresh, err := MakePlan(ctx, js, plan.topology)
	if err != nil {
		return err
	}
	if !fresh.same(plan) {
		return problem("apply", fault.BrokerRefused, ErrPlanStale, "nothing was changed: the broker has changed since the plan was made: plan again")
	}
	steps := slices.Clone(fresh.Steps)
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(turn(a), turn(b)) })
	for _, step := range steps {
		if err := apply(ctx, js, step); err != nil {
			return err
		}
		if progress != nil {
			progress(step)
		}
	}
	return nil
}

// turn orders steps: streams before their consumers, and a consumer that gives up messages before one that is made for them.
func turn(s Step) int {
	switch {
	case s.Kind != KindConsumer:
		return 0
	case s.Action != ActionCreate:
		return 1
	default:
		return 2
	}
}

// apply carries out one step. It says create or update and never both in one request: a server has lost the state of a consumer
// when it refused such a request (nats-server pull request 8491).
func apply(ctx context.Context, js jetstream.JetStream, step Step) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	var subject string
	switch {
	case step.Action == ActionKeep:
		return nil
	case step.Kind == KindConsumer && step.Action == ActionCreate:
		subject = "$JS.API.CONSUMER.CREATE." + step.Stream
		_, err = js.CreateConsumer(ctx, step.Stream, step.consumer)
	case step.Kind == KindConsumer:
		subject = "$JS.API.CONSUMER.CREATE." + step.Stream
		_, err = js.UpdateConsumer(ctx, step.Stream, step.consumer)
	case step.Action == ActionCreate:
		subject = "$JS.API.STREAM.CREATE." + step.stream.Name
		_, err = js.CreateStream(ctx, step.stream)
	default:
		subject = "$JS.API.STREAM.UPDATE." + step.stream.Name
		_, err = js.UpdateStream(ctx, step.stream)
	}
	if err == nil {
		return nil
	}
	what := fmt.Sprintf("%s %s %s", step.Action, step.Kind, step.Name)
	if apiErr, ok := errors.AsType[*jetstream.APIError](err); ok && apiErr.ErrorCode == codeNoStorage {
		return problem("apply", fault.BrokerRefused, err,
			"%s: the server has no room for its limit of %d bytes: "+
				"give the server a larger store (embedded.max_store for the embedded one) or lower the limit", what, step.stream.MaxBytes)
	}
	return requestProblem("apply", what, subject, err)
}

// codeNoStorage is the server's error for a reservation beyond its store (JSStorageResourcesExceededErr).
const codeNoStorage = 10047

func describe(steps []Step) string {
	var all []string
	for _, s := range steps {
		all = append(all, fmt.Sprintf("%s %s: %s", s.Kind, s.Name, s.Reason))
	}
	return strings.Join(all, "; ")
}
