package deadletter

import (
	"context"
	"fmt"

	"discountquery.example/worker/internal/query"
)

// Plan is what a replay or a drop would do.
type Plan struct {
	Filter Filter `json:"filter"`
	// Upto is the last sequence that was looked at: what dies later is not part of the plan.
	Upto uint64 `json:"upto"`
	// Letters counts the letters that are picked, Ready those of them that would be replayed.
	Letters int `json:"letters"`
	Ready   int `json:"ready"`
	// LeftOut counts the others by their standing.
	LeftOut map[Standing]int `json:"leftOut,omitzero"`
	// Groups are the causes of the letters that would be replayed, or of all of them in the plan of a drop.
	Groups []Group `json:"groups"`
}

// PlanReplay is the dry run of a replay: it looks at every letter that is picked and changes nothing.
func (l *Letters) PlanReplay(ctx context.Context, filter Filter) (Plan, error) {
	return l.plan(ctx, filter, func(letter *Letter) (Standing, error) {
		standing, _, err := l.standing(ctx, letter)
		if err != nil || standing != Ready {
			return standing, err
		}
		owner, err := l.ledger.owner(ctx, letter.Sequence)
		if owner == nil || err != nil {
			return standing, err
		}
		free, err := l.free(ctx, *owner, letter.Sequence, filter.Again)
		if !free {
			standing = l.heldSince(owner.At)
		}
		return standing, err
	})
}

// PlanDrop is the dry run of a drop.
func (l *Letters) PlanDrop(ctx context.Context, filter Filter) (Plan, error) {
	return l.plan(ctx, filter, func(*Letter) (Standing, error) { return Ready, nil })
}

func (l *Letters) plan(ctx context.Context, filter Filter, judge func(*Letter) (Standing, error)) (Plan, error) {
	if err := filter.Validate(); err != nil {
		return Plan{}, err
	}
	info, err := l.info(ctx)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Filter: filter, Upto: info.State.LastSeq, LeftOut: map[Standing]int{}}
	groups := tally{}
	if plan.Upto > 0 {
		err = l.each(ctx, filter, 1, plan.Upto, func(letter *Letter) error {
			standing, err := judge(letter)
			if err != nil {
				return err
			}
			plan.Letters++
			if standing != Ready {
				plan.LeftOut[standing]++
				return nil
			}
			plan.Ready++
			groups.add(letter)
			return nil
		})
	}
	plan.Groups = groups.sorted()
	return plan, err
}

// Drop deletes the letters of a plan for good, after having written that down, and returns how many were deleted.
func (l *Letters) Drop(ctx context.Context, plan Plan) (int, error) {
	if plan.Letters == 0 {
		return 0, nil
	}
	what := fmt.Sprintf("%d letters of %d causes", plan.Letters, len(plan.Groups))
	if err := l.audit(ctx, query.AuditDeadDrop, fmt.Sprintf("letters up to %d", plan.Upto), what); err != nil {
		return 0, err
	}
	dropped := 0
	err := l.each(ctx, plan.Filter, 1, plan.Upto, func(letter *Letter) error {
		if err := l.remove(ctx, letter.Sequence); err != nil {
			return err
		}
		dropped++
		return nil
	})
	return dropped, err
}
