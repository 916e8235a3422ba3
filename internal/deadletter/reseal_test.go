package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/card"
	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// rotate gives the workers a new key and returns the ids of the old and of the new one.
func (b *bundle) rotate() (before, after string) {
	b.t.Helper()
	before = b.ring.Sealer().KeyID()
	for after = before; after == before; after = b.ring.Sealer().KeyID() {
		now := time.Now() // Of two keys of one second, either can be the one that seals.
		_, err := card.NewKeyPair(b.keys, now, now)
		require.NoError(b.t, err)
		b.reload()
	}
	return before, after
}

// reload reads the keys again.
func (b *bundle) reload() {
	b.t.Helper()
	next, err := card.LoadRing(b.keys)
	require.NoError(b.t, err)
	b.ring.Replace(next)
}

// destroy takes a key away.
func (b *bundle) destroy(kid string) {
	b.t.Helper()
	require.NoError(b.t, os.Remove(filepath.Join(b.keys, kid+".private.jwk")))
	b.reload()
}

// all returns all letters.
func (b *bundle) all() []Letter {
	b.t.Helper()
	var all []Letter
	require.NoError(b.t, b.Each(context.Background(), Filter{}, func(letter Letter) error {
		all = append(all, letter)
		return nil
	}))
	return all
}

// resealed seals all letters anew and returns how far that came, and what is left.
func (b *bundle) resealed(l *Letters) (Resealed, SealedTo) {
	b.t.Helper()
	plan, err := l.PlanReseal(b.t.Context())
	require.NoError(b.t, err)
	done, err := l.Reseal(b.t.Context(), plan, func(Resealed) {})
	require.NoError(b.t, err)
	left, err := l.PlanReseal(b.t.Context())
	require.NoError(b.t, err)
	return done, left
}

// but returns a letter without what changes when it is sealed anew.
func but(letter Letter) Letter {
	letter.Sequence, letter.placed = 0, time.Time{}
	letter.event = []byte(strings.Replace(string(letter.event), letter.Payload, "", 1))
	letter.Payload = ""
	return letter
}

func TestResealKeepsEverythingElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 5)
	before := b.all()
	old, fresh := b.rotate()
	plan, err := b.PlanReseal(t.Context())
	require.NoError(t, err)
	require.Equal(t, SealedTo{Target: fresh, Letters: map[string]int{old: 5}, Left: 5, Upto: 5}, plan)
	require.Equal(t, before, b.all(), "a plan changes nothing")
	var told []int
	done, err := b.Reseal(t.Context(), plan, func(p Resealed) { told = append(told, p.Seen) })
	require.NoError(t, err)
	require.Equal(t, Resealed{Seen: 5, Of: 5, Done: 5, LeftOut: map[Standing]int{}}, done)
	require.Equal(t, []int{1, 2, 3, 4, 5}, told)
	left, err := b.PlanReseal(t.Context())
	require.NoError(t, err)
	require.Equal(t, SealedTo{Target: fresh, Letters: map[string]int{fresh: 5}, Upto: 10}, left)
	after := b.all()
	require.Len(t, after, 5)
	for i := range after {
		require.Equal(t, but(before[i]), but(after[i]))
		require.Equal(t, before[i].Sequence+5, after[i].Sequence)
	}
	require.Equal(t, []query.AuditAction{query.AuditDeadReseal}, b.actions())

	b.destroy(old)
	revealed, err := b.Reveal(t.Context(), after[0])
	require.NoError(t, err, "the old key is needed no more")
	require.Contains(t, string(revealed.Body), "12345678")
	b.run(b.Letters, b.begin(b.Letters, Filter{Client: "shop"}).ID)
	b.work("shop")
	b.requireAnswered("shop", keys)
	again, err := b.Reseal(t.Context(), left, nil)
	require.NoError(t, err)
	require.Zero(t, again.Of, "there is nothing to do, and nothing to write down")
}

func TestTimesOutliveTheMove(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("first", 2)
	died := b.all()
	time.Sleep(2 * time.Millisecond) // The broker's clock must tell them apart.
	b.die("second", 1)
	middle := b.all()[2].Stored
	b.rotate()
	b.resealed(b.Letters)
	for name, c := range map[string]struct {
		filter Filter
		want   int
	}{
		"before": {Filter{To: middle}, 2}, "from then on": {Filter{From: middle}, 1}, "between": {Filter{From: died[1].Stored, To: middle}, 1},
		"since the move": {Filter{From: time.Now()}, 0},
	} {
		count := 0
		require.NoError(t, b.Each(t.Context(), c.filter, func(Letter) error { count++; return nil }))
		require.Equal(t, c.want, count, name)
	}
	groups, err := b.Groups(t.Context(), Filter{})
	require.NoError(t, err)
	require.Equal(t, []time.Time{died[0].Stored, middle}, []time.Time{groups[0].First, groups[0].Last})
}

func TestResealForAKeyThatSealsNoMore(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 1)
	b.rotate()
	plan, err := b.PlanReseal(t.Context())
	require.NoError(t, err)
	b.rotate()
	_, err = b.Reseal(t.Context(), plan, nil)
	require.ErrorContains(t, err, "another key seals now")
	require.Empty(t, b.actions(), "what is not done is not written down")
}

// TestResealLeavesAReplayAlone seals anew while replays are under way, and again when they have ended.
func TestResealLeavesAReplayAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 3)
	b.die("office", 2)
	batch := b.begin(b.Letters, Filter{Client: "shop"})
	old, _ := b.rotate()
	plan, err := b.PlanReseal(t.Context())
	require.NoError(t, err)
	_, err = b.Reseal(t.Context(), plan, nil)
	require.ErrorIs(t, err, errReplaysOpen)
	require.ErrorContains(t, err, batch.ID)
	b.run(b.Letters, batch.ID)
	done, left := b.resealed(b.Letters)
	require.Equal(t, Resealed{Seen: 5, Of: 5, Done: 2, LeftOut: map[Standing]int{Owned: 3}}, done)
	require.Equal(t, 3, left.Left, "they are counted until they are gone")
	require.Equal(t, 3, left.Letters[old])
	b.work("shop")
	b.requireAnswered("shop", keys)
	done, left = b.resealed(b.Letters)
	require.Equal(t, 3, done.Done)
	require.Zero(t, left.Left)
}

// revisions returns the revisions of a query's letters in the order of the stream.
func (b *bundle) revisions(key string) []int {
	var all []int
	for _, letter := range b.all() {
		if letter.Query.Key == key {
			all = append(all, letter.Revision)
		}
	}
	return all
}

// dieAgain replays all letters of a client and has them die once more.
func (b *bundle) dieAgain(client string) {
	b.t.Helper()
	b.refuse(fault.UpstreamBroken)
	b.run(b.Letters, b.begin(b.Letters, Filter{Client: client}).ID)
	b.work(client)
	b.answer()
}

func TestRevisionsStayInTheirOrder(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 2)
	b.dieAgain("shop")
	b.rotate()
	purge(t, b)
	b.dieAgain("shop") // This one is sealed to the new key.
	purge(t, b)
	before := map[string]Letter{}
	for _, letter := range b.all() {
		before[letter.Query.Key] = letter
	}
	require.Equal(t, []int{0, 1, 2}, b.revisions(keys[0]))
	done, left := b.resealed(b.Letters)
	require.Zero(t, left.Left)
	require.Equal(t, 4, done.Seen)
	for _, key := range keys {
		require.Equal(t, []int{0, 1, 2}, b.revisions(key), "each once")
		last, err := b.Last(t.Context(), key)
		require.NoError(t, err)
		require.Equal(t, but(before[key]), but(last), "the last one is the last one")
	}
	b.run(b.Letters, b.begin(b.Letters, Filter{Client: "shop"}).ID)
	b.work("shop")
	for _, key := range keys {
		require.Equal(t, []string{"failed", "failed", "failed", "completed"}, b.statuses("shop")[key])
	}
}

// TestAnOrderThatWasCutShort is cut short when the first letter of a query lies behind the second one, which needed no new seal.
func TestAnOrderThatWasCutShort(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := b.die("shop", 1)[0]
	b.rotate()
	b.dieAgain("shop")
	before, err := b.Last(t.Context(), key)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l := b.open(func(o *Options) { o.Resealer = &dying{Resealer: o.Resealer, left: 1, stop: stop} })
	plan, err := l.PlanReseal(ctx)
	require.NoError(t, err)
	_, err = l.Reseal(ctx, plan, func(Resealed) {})
	require.Error(t, err)
	require.Equal(t, []int{0, 1, 0}, b.revisions(key))
	_, left := b.resealed(b.Letters)
	require.Zero(t, left.Left)
	require.Equal(t, []int{0, 1}, b.revisions(key))
	last, err := b.Last(t.Context(), key)
	require.NoError(t, err)
	require.Equal(t, but(before), but(last))
}

// purge drops the retries that the worker was handed, as acks would.
func purge(t *testing.T, b *bundle) {
	t.Helper()
	stream, err := b.server.JS.Stream(t.Context(), b.Names.Retries())
	require.NoError(t, err)
	for next := stream.CachedInfo().State.FirstSeq; next <= stream.CachedInfo().State.LastSeq; next++ {
		_ = stream.DeleteMsg(t.Context(), next)
	}
	require.Zero(t, b.published())
}

// dying is a Resealer that stops after a number of writes, before or after the last of them.
type dying struct {
	Resealer

	mu     sync.Mutex
	left   int
	stored bool
	stop   context.CancelFunc
}

func (d *dying) Reseal(ctx context.Context, key, subject string, event []byte, died time.Time, last uint64) (uint64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left--
	if d.left >= 0 {
		return d.Resealer.Reseal(ctx, key, subject, event, died, last)
	}
	if d.stored {
		_, _ = d.Resealer.Reseal(context.WithoutCancel(ctx), key, subject, event, died, last)
	}
	d.stop()
	return 0, errors.New("the process died")
}

// TestResealIsCutShort is cut short after each write, before and after it was stored, and ends as if it never was.
func TestResealIsCutShort(t *testing.T) {
	t.Parallel()
	for _, stored := range []bool{false, true} {
		b := setup(t)
		keys := b.die("shop", 2)
		b.dieAgain("shop")
		for writes := range 4 {
			b.rotate()
			ctx, stop := context.WithCancel(t.Context())
			l := b.open(func(o *Options) {
				o.Resealer = &dying{Resealer: o.Resealer, left: writes, stored: stored, stop: stop}
			})
			plan, err := l.PlanReseal(ctx)
			require.NoError(t, err)
			_, err = l.Reseal(ctx, plan, func(Resealed) {})
			require.Error(t, err)
			_, left := b.resealed(b.open(nil))
			require.Zero(t, left.Left)
			for _, key := range keys {
				require.Equal(t, []int{0, 1}, b.revisions(key), "after %d writes", writes)
			}
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // The next key is of another second.
		}
	}
}

func TestSeveralResealAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 20)
	before := b.all()
	b.rotate()
	var resealing sync.WaitGroup
	for range 4 {
		l := b.open(nil)
		resealing.Go(func() {
			plan, err := l.PlanReseal(t.Context())
			require.NoError(t, err)
			_, err = l.Reseal(t.Context(), plan, func(Resealed) {})
			require.NoError(t, err)
		})
	}
	resealing.Wait()
	_, left := b.resealed(b.Letters)
	require.Zero(t, left.Left)
	after := map[string]Letter{}
	for _, letter := range b.all() {
		require.NotContains(t, after, letter.Query.Key, "each letter once")
		after[letter.Query.Key] = but(letter)
	}
	for i, key := range keys {
		require.Equal(t, but(before[i]), after[key])
	}
}

func TestWhatCannotBeSealedAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	old, _ := b.rotate()
	b.destroy(old)
	_, err := b.server.JS.Publish(t.Context(), "discount.dead.somekey.easypay.shop.rejected", []byte("no letter"))
	require.NoError(t, err)
	done, left := b.resealed(b.Letters)
	require.Equal(t, map[Standing]int{Unopened: 2, Unserved: 1}, done.LeftOut)
	require.Equal(t, map[string]int{old: 2, "unreadable": 1}, left.Letters)
	require.Equal(t, 3, left.Left)
	_, err = b.open(func(o *Options) { o.Ring = nil }).PlanReseal(t.Context())
	require.ErrorIs(t, err, errNoKeys)
	stale := left
	stale.Target = old
	_, err = b.Reseal(t.Context(), stale, nil)
	require.ErrorContains(t, err, "look again")
}

// TestAQueryIsMovedWholeOrNotAtAll has letters of one query of which only the first can be opened.
func TestAQueryIsMovedWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	key := b.die("shop", 1)[0]
	b.rotate()
	b.dieAgain("shop")
	lost := b.ring.Sealer().KeyID()
	require.Eventually(t, func() bool { return time.Now().UTC().Format("20060102-150405") > lost[:15] }, patience, 10*time.Millisecond)
	b.rotate()
	b.destroy(lost)
	before := b.all()
	done, left := b.resealed(b.Letters)
	require.Equal(t, map[Standing]int{Unopened: 2}, done.LeftOut)
	require.Equal(t, 2, left.Left)
	require.Equal(t, before, b.all())
	require.Equal(t, []int{0, 1}, b.revisions(key))
}

// TestRightsToReseal has the rights that docs/deadletters.md says, and none of them is too many.
func TestRightsToReseal(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	own := []string{
		"discount.audit.dead.reseal", "discount.dead.>", "$KV.discount_replays.letter.*", "$JS.API.STREAM.MSG.DELETE.DISCOUNT_DEAD",
		"$JS.API.DIRECT.GET.KV_discount_replays",
	}
	b.rotate()
	for i := range len(own) + 1 {
		l := b.operator(t, append(mayLook(), own[:i]...))
		plan, err := l.PlanReseal(t.Context())
		require.NoError(t, err)
		done, err := l.Reseal(t.Context(), plan, func(Resealed) {})
		if i < len(own) {
			require.Error(t, err, "without %v", own[i:])
			continue
		}
		require.NoError(t, err)
		require.Equal(t, 2, done.Done)
	}
}

func TestThePlanIsData(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(SealedTo{Target: "b", Letters: map[string]int{"a": 1, "b": 2}, Left: 1, Upto: 3})
	require.NoError(t, err)
	require.JSONEq(t, `{"target":"b","letters":{"a":1,"b":2},"left":1,"upto":3}`, string(text))
}
