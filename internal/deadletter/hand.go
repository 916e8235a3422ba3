package deadletter

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sync/errgroup"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/publish"
	"discountquery.example/worker/internal/query"
)

// publish claims letters and publishes the replays of those that no other batch owns. The others are not Ready any more.
func (r *run) publish(ctx context.Context, due []*judged) error {
	if len(due) == 0 {
		return nil
	}
	if err := r.limiter.WaitN(ctx, len(due)); err != nil {
		return fault.Because("wait for pace", fault.Interrupted, fault.Stopped, err)
	}
	owners, err := r.claim(ctx, due)
	if err != nil {
		return err
	}
	var replays []publish.Replay
	for i, owner := range owners {
		switch {
		case owner.Batch != r.ID:
			due[i].standing = r.desk.heldSince(owner.At)
			continue
		case owner.Run != r.name && r.desk.resultsForget(owner.At):
			due[i].standing = Doubtful
			continue
		}
		replay, err := r.replay(due[i])
		if err != nil {
			return err
		}
		replays = append(replays, replay)
	}
	return r.desk.steady(ctx, "publish replays", func(ctx context.Context) error { return r.desk.Replayer.Replay(ctx, replays) })
}

// claim claims letters, all at once, and returns who owns each.
func (r *run) claim(ctx context.Context, due []*judged) ([]claim, error) {
	owners := make([]claim, len(due))
	mine := claim{Batch: r.ID, Run: r.name, At: time.Now().UTC()}
	claiming, ctx := errgroup.WithContext(ctx)
	for i, next := range due {
		claiming.Go(func() error {
			var err error
			owners[i], err = r.desk.ledger.take(ctx, next.letter.Sequence, mine, func(owner claim) (bool, error) {
				return r.desk.free(ctx, owner, next.letter.Sequence, r.Filter.Again)
			})
			return err
		})
	}
	return owners, claiming.Wait()
}

// replay returns the replay of a letter. Its id is the same whoever publishes it, unless the broker is to forget one that got lost.
func (r *run) replay(next *judged) (publish.Replay, error) {
	letter := next.letter
	body, err := json.Marshal(r.retry(letter, next.failed))
	if err != nil {
		return publish.Replay{}, fmt.Errorf("encode replay: %w", err)
	}
	id := "replay." + strconv.FormatUint(letter.Sequence, 10) + "." + strconv.Itoa(letter.Revision+1)
	if r.Filter.Again {
		id += "." + r.ID
	}
	return publish.Replay{ID: id, Provider: letter.Query.Provider, Client: letter.Query.Client, Body: body}, nil
}

// retry returns what a worker needs to ask the letter's query again.
func (r *run) retry(letter *Letter, failed uint64) query.Retry {
	payload := letter.Payload
	if r.Payload != "" {
		payload = r.Payload
	}
	asked := letter.Query
	return query.Retry{
		Origin: letter.Origin, FirstSeen: time.Now().UTC(), Attempts: withoutPanics(letter.Attempts), Asked: &asked, Payload: payload,
		Replay: &query.Replay{
			ReplayRef: query.ReplayRef{Revision: letter.Revision + 1, Batch: r.ID, Actor: r.Actor},
			Result:    failed, Letter: letter.Sequence, TraceParent: letter.TraceParent,
		},
	}
}

// withoutPanics returns the attempts that were no panics: with those a replay would be set aside again at its first failure.
func withoutPanics(attempts []query.Attempt) []query.Attempt {
	kept := make([]query.Attempt, 0, len(attempts))
	for _, attempt := range attempts {
		if attempt.Code != fault.Panicked {
			kept = append(kept, attempt)
		}
	}
	return kept
}
