package deadletter

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

func TestReplayCompletesWhatFailed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 20)
	plan, err := b.PlanReplay(t.Context(), Filter{Client: "shop"})
	require.NoError(t, err)
	require.Equal(t, 20, plan.Letters)
	require.Equal(t, 20, plan.Ready)
	require.Len(t, plan.Groups, 1)
	require.Empty(t, b.replays("shop"), "a plan changes nothing")
	require.Empty(t, b.audits())

	batch := b.begin(b.Letters, Filter{Client: "shop"})
	require.Equal(t, Paused, batch.State)
	var told []Progress
	done, err := b.Run(t.Context(), batch.ID, func(p Progress) { told = append(told, p) })
	require.NoError(t, err)
	require.Equal(t, Done, done.State)
	require.Equal(t, 20, done.Published)
	require.Equal(t, 20, done.Seen)
	require.False(t, done.Finished.IsZero())
	require.NotEmpty(t, told)
	require.Zero(t, told[len(told)-1].Left)

	replays := b.replays("shop")
	require.Len(t, replays, 20)
	var retry query.Retry
	require.NoError(t, query.ReadStrict(replays[0].Data, &retry))
	require.Equal(t, query.ReplayRef{Revision: 1, Batch: batch.ID, Actor: "kim@desk"}, retry.Replay.ReplayRef)
	require.EqualValues(t, 1, retry.Replay.Letter)
	require.EqualValues(t, 1, retry.Replay.Result)
	require.Len(t, retry.Attempts, 1, "it carries its history")
	require.Equal(t, "DISCOUNT_QUERIES", retry.Origin.Stream)
	for i, replay := range replays {
		require.EqualValues(t, i+1, letterOf(t, replay), "in the order in which they died")
	}
	b.work("shop")
	b.requireAnswered("shop", keys)
	require.Equal(t, []query.AuditAction{query.AuditDeadReplay}, b.actions())
	require.Equal(t, query.AuditData{
		Action: "dead.replay", Actor: "kim@desk", Target: batch.ID, Reason: "case 1", After: "20 letters at 5000/s",
	}, b.audits()[0])
}

// TestAReplayKnowsTheTraceOfItsLetter has it linked to the trace in which the query died, of which it is no part.
func TestAReplayKnowsTheTraceOfItsLetter(t *testing.T) {
	t.Parallel()
	const context = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	b := setup(t)
	b.die("shop", 1, "traceparent", context)
	b.die("quiet", 1)
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	for client, want := range map[string]string{"shop": context, "quiet": ""} {
		var retry query.Retry
		require.NoError(t, query.ReadStrict(b.replays(client)[0].Data, &retry))
		require.Equal(t, want, retry.Replay.TraceParent, client)
		require.Empty(t, retry.TraceParent, client)
	}
}

func TestNoLetterIsReplayedTwice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 10)
	first := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	require.Equal(t, 10, first.Published)

	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Zero(t, plan.Ready)
	require.Equal(t, map[Standing]int{Owned: 10}, plan.LeftOut, "before the workers have come to it")
	second := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	require.Zero(t, second.Published)
	require.Equal(t, map[Standing]int{Owned: 10}, second.LeftOut)

	b.work("shop")
	third := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	require.Equal(t, map[Standing]int{Answered: 10}, third.LeftOut, "after they have answered")
	require.Len(t, b.replays("shop"), 10)
	b.requireAnswered("shop", keys)
	for key, calls := range b.calls {
		require.Equal(t, 2, calls, key)
	}
}

func TestTwoBatchesAtOnceShareTheLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 100)
	var batches []Batch
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, filter := range []Filter{{}, {Client: "shop"}, {Provider: query.EasyPay}, {Reason: query.ReasonRejected}} {
		l := b.open(nil)
		id := b.begin(l, filter).ID
		all.Go(func() {
			batch, err := l.Run(context.Background(), id, nil)
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				batches = append(batches, batch)
			}
		})
	}
	all.Wait()
	require.Len(t, batches, 4)
	published := 0
	for _, batch := range batches {
		require.Equal(t, 100, batch.Seen)
		published += batch.Published
	}
	require.Equal(t, 100, published)
	require.Len(t, b.replays("shop"), 100)
	b.work("shop")
	b.requireAnswered("shop", keys)
}

func TestAReplayThatDiesAgainCanBeReplayedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 1)
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	b.refuse(fault.UpstreamConfig)
	b.work("shop")
	second, err := b.Last(t.Context(), keys[0])
	require.NoError(t, err)
	require.Equal(t, 1, second.Revision)
	require.EqualValues(t, 2, second.Sequence)
	require.Len(t, second.Attempts, 2, "it knows its history")

	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Superseded: 1}, plan.LeftOut)
	require.Equal(t, 1, plan.Ready)
	b.answer()
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	replays := b.replays("shop")
	require.Len(t, replays, 2)
	require.True(t, b.worker.Handle(t.Context(), replays[1]).Done)
	require.Equal(t, []string{"failed", "failed", "completed"}, b.statuses("shop")[keys[0]])
}

func TestLettersThatDieDuringABatchAreNotPartOfIt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	batch := b.begin(b.Letters, Filter{})
	b.die("later", 3)
	done := b.run(b.Letters, batch.ID)
	require.Equal(t, 3, done.Published)
	require.Empty(t, b.replays("later"))
}

func TestUnsettledLettersAreLeftOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	// A letter whose holder crashed before it wrote the failed result.
	_, err = b.server.JS.Publish(t.Context(), b.subject.Dead(query.Key("other", "urn:test", "0"), query.EasyPay, "other", "rejected"),
		withKey(t, letter, "other"))
	require.NoError(t, err)
	plan, err := b.PlanReplay(t.Context(), Filter{Client: "other"})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Unsettled: 1}, plan.LeftOut)
	batch := b.run(b.Letters, b.begin(b.Letters, Filter{Client: "other"}).ID)
	require.Zero(t, batch.Published)
	owner, err := b.ledger.owner(t.Context(), 2)
	require.NoError(t, err)
	require.Nil(t, owner, "what is left out is not claimed")
}

func TestLettersWithoutAProviderAndUnreadableOnes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	_, err := b.server.JS.Publish(t.Context(), "discount.dead.abc.easypay.shop.rejected", []byte(`{"type":`))
	require.NoError(t, err)
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Unserved: 1}, plan.LeftOut)
	groups, err := b.Groups(t.Context(), Filter{Cause: unreadable})
	require.NoError(t, err)
	require.Len(t, groups, 1)
	require.Equal(t, "abc", groups[0].Key)
	require.Contains(t, groups[0].Action, "can't be read")
	done := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	require.Equal(t, 1, done.Published)
}

func TestNamelessLettersAreReplayedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.buryRaw("shop", []byte(`{"no": "json`))
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	require.True(t, letter.nameless())
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	b.work("shop")
	plan, err := b.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, map[Standing]int{Superseded: 1}, plan.LeftOut)
	require.Equal(t, 1, plan.Ready, "its second letter")
	require.Empty(t, b.statuses("shop"))
}

func TestRequestsThatCannotBe(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	for name, change := range map[string]func(*Request){
		"no rate":           func(r *Request) { r.Rate = 0 },
		"too fast":          func(r *Request) { r.Rate = maxRate + 1 },
		"no rate at all":    func(r *Request) { r.Rate = math.NaN() },
		"negative canary":   func(r *Request) { r.Canary = -1 },
		"too many canaries": func(r *Request) { r.Canary = maxCanary + 1 },
		"edit of another":   func(r *Request) { r.Edit = &Edit{sequence: 7} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := Request{Plan: Plan{Letters: 1}, Rate: 1}
			change(&request)
			_, err := b.Start(t.Context(), request)
			require.Error(t, err)
		})
	}
	_, err := b.Run(t.Context(), "nothing", nil)
	require.ErrorIs(t, err, ErrNoBatch)
	_, err = b.Run(t.Context(), "*", nil)
	require.ErrorIs(t, err, ErrNoBatch)
}

func TestCancel(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 120)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 10 })
	ended := make(chan Batch, 1)
	l := b.open(nil)
	go func() {
		stopped, err := l.Run(context.Background(), batch.ID, nil)
		if err == nil {
			ended <- stopped
		}
	}()
	require.Eventually(t, func() bool { return b.published() >= 10 }, patience, 2*time.Millisecond)
	cancelled, err := b.Cancel(t.Context(), batch.ID)
	require.NoError(t, err)
	require.Equal(t, Cancelled, cancelled.State)
	select {
	case stopped := <-ended:
		require.Equal(t, Cancelled, stopped.State)
	case <-time.After(patience):
		require.Fail(t, "the process at work did not notice")
	}
	published := len(b.replays("shop"))
	require.Less(t, published, 120)
	require.Equal(t, Cancelled, b.run(b.Letters, batch.ID).State, "an end is an end")
	_, err = b.Cancel(t.Context(), batch.ID)
	require.ErrorContains(t, err, "has ended")
	require.Len(t, b.replays("shop"), published)

	rest := b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	require.Equal(t, 120-published, rest.Published, "another batch can have the rest")
	b.work("shop")
	b.requireAnswered("shop", keys)
	require.Equal(t, []query.AuditAction{query.AuditDeadReplay, query.AuditReplayCancel, query.AuditDeadReplay}, b.actions())
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 100)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 100 })
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		for b.published() < 20 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		interrupt()
	}()
	paused, err := b.Run(ctx, batch.ID, nil)
	require.Equal(t, fault.Interrupted, fault.KindOf(err))
	require.Equal(t, Paused, paused.State)
	require.GreaterOrEqual(t, paused.Published, 19)
	require.Less(t, paused.Published, 100)
	require.Equal(t, paused.Seen, paused.Published, "each letter is counted once")
	done := b.run(b.open(nil), batch.ID)
	require.Equal(t, Done, done.State)
	require.Equal(t, 100, done.Published)
	require.Len(t, b.replays("shop"), 100)
	b.work("shop")
	b.requireAnswered("shop", keys)
}

func TestSurvivesARestartOfTheBroker(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 100)
	batch := b.begin(b.Letters, Filter{}, func(r *Request) { r.Rate = 100 })
	ended := make(chan error, 1)
	go func() {
		_, err := b.Run(context.Background(), batch.ID, nil)
		ended <- err
	}()
	require.Eventually(t, func() bool { return b.published() >= 30 }, patience, 2*time.Millisecond)
	b.server.Stop()
	b.server.Resume(t)
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(2 * patience):
		require.Fail(t, "it did not go on")
	}
	require.Len(t, b.replays("shop"), 100)
	b.work("shop")
	b.requireAnswered("shop", keys)
}
