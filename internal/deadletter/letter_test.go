package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// picked returns the sequences of the letters that a filter picks.
func (b *bundle) picked(filter Filter) []uint64 {
	b.t.Helper()
	sequences := []uint64{}
	require.NoError(b.t, b.Each(context.Background(), filter, func(letter Letter) error {
		sequences = append(sequences, letter.Sequence)
		return nil
	}))
	return sequences
}

func TestFilters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 2)           // 1 and 2, rejected
	b.die("cafe", 1)                   // 3, rejected
	b.buryRaw("shop", []byte(`{"x":`)) // 4, malformed
	second, err := b.Find(t.Context(), 2)
	require.NoError(t, err)
	third, err := b.Find(t.Context(), 3)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		filter Filter
		want   []uint64
	}{
		"all":             {Filter{}, []uint64{1, 2, 3, 4}},
		"key":             {Filter{Key: keys[1]}, []uint64{2}},
		"provider":        {Filter{Provider: query.EasyPay}, []uint64{1, 2, 3, 4}},
		"other provider":  {Filter{Provider: query.UnionPay}, []uint64{}},
		"client":          {Filter{Client: "shop"}, []uint64{1, 2, 4}},
		"reason":          {Filter{Reason: query.ReasonMalformed}, []uint64{4}},
		"client + reason": {Filter{Client: "shop", Reason: query.ReasonRejected}, []uint64{1, 2}},
		"sequence":        {Filter{Sequence: 3}, []uint64{3}},
		"beyond the last": {Filter{Sequence: 99}, []uint64{}},
		"cause":           {Filter{Cause: second.Cause}, []uint64{1, 2, 3}},
		"code":            {Filter{Code: string(fault.UpstreamBroken)}, []uint64{1, 2, 3}},
		"id":              {Filter{ID: "0"}, []uint64{1, 3}},
		"order":           {Filter{Order: "order-1"}, []uint64{2}},
		"from":            {Filter{From: second.Stored}, []uint64{2, 3, 4}},
		"just after":      {Filter{From: second.Stored.Add(1)}, []uint64{3, 4}},
		"to":              {Filter{To: third.Stored}, []uint64{1, 2}},
		"from and to":     {Filter{From: second.Stored, To: third.Stored}, []uint64{2}},
		"long ago":        {Filter{To: second.Stored.Add(-time.Hour)}, []uint64{}},
		"not yet":         {Filter{From: time.Now().Add(time.Hour)}, []uint64{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, b.picked(test.filter))
		})
	}
}

func TestFirstSinceFindsTheFirst(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Empty(t, b.picked(Filter{From: time.Now()}), "an empty stream")
	b.die("shop", 9)
	for _, gone := range []uint64{1, 2, 5, 9} {
		require.NoError(t, b.remove(t.Context(), gone))
	}
	require.NoError(t, b.Each(t.Context(), Filter{}, func(letter Letter) error {
		got, err := b.firstSince(t.Context(), letter.Stored)
		require.NoError(t, err)
		require.LessOrEqual(t, got, letter.Sequence)
		require.Equal(t, letter.Sequence, b.picked(Filter{From: letter.Stored})[0])
		return nil
	}))
}

func TestFiltersThatMatchNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	now := time.Now()
	for name, filter := range map[string]Filter{
		"wildcard key":    {Key: "*"},
		"two tokens":      {Client: "a.b"},
		"all below":       {Provider: ">"},
		"unknown reason":  {Reason: "tired"},
		"ends at once":    {From: now, To: now},
		"ends too early":  {From: now, To: now.Add(-1)},
		"blank in client": {Client: "a b"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Error(t, filter.Validate())
			require.Error(t, b.Each(t.Context(), filter, func(Letter) error { return nil }))
			_, err := b.PlanReplay(t.Context(), filter)
			require.Error(t, err)
		})
	}
	require.True(t, Filter{}.IsZero())
	require.True(t, Filter{Again: true}.IsZero(), "it picks everything all the same")
	require.False(t, Filter{Client: "shop"}.IsZero())
}

func TestEachEndsWithTheErrorOfItsCaller(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	enough := errors.New("enough")
	seen := 0
	require.ErrorIs(t, b.Each(t.Context(), Filter{}, func(Letter) error { seen++; return enough }), enough)
	require.Equal(t, 1, seen)
}

func TestFind(t *testing.T) {
	t.Parallel()
	b := setup(t)
	keys := b.die("shop", 2)
	letter, err := b.Find(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, keys[1], letter.Query.Key)
	require.Equal(t, "order-1", letter.Order)
	require.False(t, letter.Unreadable)
	same, err := b.Last(t.Context(), keys[1])
	require.NoError(t, err)
	require.Equal(t, letter.Sequence, same.Sequence)
	for _, sequence := range []uint64{0, 3} {
		_, err = b.Find(t.Context(), sequence)
		require.ErrorIs(t, err, ErrNoLetter)
	}
	for _, key := range []string{"nothing", "*", ""} {
		_, err = b.Last(t.Context(), key)
		require.ErrorIs(t, err, ErrNoLetter)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	b.buryRaw("shop", []byte(`{"x":`))
	b.buryRaw("cafe", []byte(`{"y":`))
	groups, err := b.Groups(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, groups, 2)
	first, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	third, err := b.Find(t.Context(), 3)
	require.NoError(t, err)
	require.Equal(t, Group{
		Cause: first.Cause, Provider: query.EasyPay, Reason: query.ReasonRejected, Kind: "rejected", Code: fault.UpstreamBroken, Upstream: "9999",
		Count: 3, First: first.Stored, Last: third.Stored, Example: 3, Key: third.Query.Key, Action: actions[fault.UpstreamBroken],
	}, groups[0])
	require.Equal(t, 2, groups[1].Count)
	require.Equal(t, fault.BadJSON, groups[1].Code)
}

func TestEveryCauseHasAnAction(t *testing.T) {
	t.Parallel()
	for code, text := range actions {
		require.True(t, strings.HasSuffix(text, "."), code)
		require.NotContains(t, strings.TrimSuffix(text, "."), ". ", "one sentence: %s", code)
	}
	for _, reason := range query.Reasons() {
		text := action(&Letter{DeadData: query.DeadData{Reason: reason, Code: "new_code"}})
		require.Equal(t, reason == query.ReasonExpired, strings.HasPrefix(text, "Nobody"), reason)
	}
	require.Contains(t, action(&Letter{Unreadable: true}), "can't be read")
	require.Contains(t, action(&Letter{DeadData: query.DeadData{Reason: query.ReasonRejected, Code: fault.CrashLoop}}), "canary of 1")
}

func TestDrop(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 3)
	b.die("cafe", 2)
	plan, err := b.PlanDrop(t.Context(), Filter{Client: "shop"})
	require.NoError(t, err)
	require.Equal(t, 3, plan.Letters)
	require.Len(t, plan.Groups, 1)
	require.Len(t, b.picked(Filter{}), 5, "a plan changes nothing")
	require.Empty(t, b.audits())
	b.refuse(fault.UpstreamBroken)
	b.bury("shop", map[string]any{"specversion": "1.0", "id": "later", "source": "urn:test", "type": query.TypeRequested, "data": map[string]any{"cardCd": "008"}})
	dropped, err := b.Drop(t.Context(), plan)
	require.NoError(t, err)
	require.Equal(t, 3, dropped)
	require.Equal(t, []uint64{4, 5, 6}, b.picked(Filter{}), "what died since was not in the plan")
	require.Equal(t, query.AuditData{
		Action: "dead.drop", Actor: "kim@desk", Target: "letters up to 5", Reason: "case 1", After: "3 letters of 1 causes",
	}, b.audits()[0])

	dropped, err = b.Drop(t.Context(), plan)
	require.NoError(t, err)
	require.Zero(t, dropped)
	require.NoError(t, b.remove(t.Context(), 1), "one that is gone is no error")
	nothing, err := b.Drop(t.Context(), Plan{})
	require.NoError(t, err)
	require.Zero(t, nothing)
}

func TestNothingIsDoneThatIsNotWrittenDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	letter, err := b.Find(t.Context(), 1)
	require.NoError(t, err)
	deaf := b.open(func(o *Options) { o.Auditor = deafAuditor{} })
	plan, err := deaf.PlanReplay(t.Context(), Filter{})
	require.NoError(t, err)
	_, err = deaf.Start(t.Context(), Request{Plan: plan, Rate: 1})
	require.ErrorIs(t, err, errDeaf)
	_, err = deaf.Drop(t.Context(), plan)
	require.ErrorIs(t, err, errDeaf)
	_, err = deaf.Reveal(t.Context(), letter)
	require.ErrorIs(t, err, errDeaf)
	_, err = deaf.Draft(t.Context(), letter)
	require.ErrorIs(t, err, errDeaf)
	batch := b.begin(b.Letters, Filter{})
	_, err = deaf.Cancel(t.Context(), batch.ID)
	require.ErrorIs(t, err, errDeaf)
	unchanged, err := b.Batch(t.Context(), batch.ID)
	require.NoError(t, err)
	require.Equal(t, Paused, unchanged.State)
	require.Len(t, b.picked(Filter{}), 2)
}

var errDeaf = errors.New("deaf")

// deafAuditor can't write anything down.
type deafAuditor struct{}

func (deafAuditor) Audit(context.Context, string, time.Time, query.AuditData) error { return errDeaf }

func TestExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	_, err := b.server.JS.Publish(t.Context(), "discount.dead.abc.easypay.shop.rejected", []byte("\xff{"))
	require.NoError(t, err)
	var out bytes.Buffer
	count, err := b.Export(t.Context(), Filter{}, &out)
	require.NoError(t, err)
	require.Equal(t, 3, count)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	require.Len(t, lines, 3)
	var line struct {
		Sequence   uint64          `json:"sequence"`
		Event      json.RawMessage `json:"event"`
		Unreadable []byte          `json:"unreadable"`
	}
	require.NoError(t, json.Unmarshal([]byte(lines[1]), &line))
	require.EqualValues(t, 2, line.Sequence)
	letter, err := b.Find(t.Context(), 2)
	require.NoError(t, err)
	require.JSONEq(t, string(letter.event), string(line.Event))
	require.NoError(t, json.Unmarshal([]byte(lines[2]), &line))
	require.Equal(t, []byte("\xff{"), line.Unreadable)
	require.NotContains(t, out.String(), "51004\\\"", "payloads stay sealed")

	_, err = b.Export(t.Context(), Filter{}, fullDisk{})
	require.ErrorIs(t, err, errFull)
}

var errFull = errors.New("full")

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestBatchesAreListed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 2)
	first := b.begin(b.Letters, Filter{Sequence: 1})
	second := b.begin(b.Letters, Filter{})
	b.run(b.Letters, first.ID)
	var ids []string
	require.NoError(t, b.Batches(t.Context(), func(batch Batch) error {
		ids = append(ids, batch.ID+" "+string(batch.State))
		return nil
	}))
	require.Equal(t, []string{second.ID + " paused", first.ID + " done"}, ids, "the one that changed longest ago first")
	enough := errors.New("enough")
	require.ErrorIs(t, b.Batches(t.Context(), func(Batch) error { return enough }), enough)
}

func TestLedgerForgetsLettersThatAreGone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.die("shop", 4)
	b.run(b.Letters, b.begin(b.Letters, Filter{}).ID)
	for _, gone := range []uint64{1, 2} {
		require.NoError(t, b.remove(t.Context(), gone))
	}
	b.begin(b.Letters, Filter{})
	for sequence, want := range map[uint64]bool{1: false, 2: false, 3: true, 4: true} {
		owner, err := b.ledger.owner(t.Context(), sequence)
		require.NoError(t, err)
		require.Equal(t, want, owner != nil, sequence)
	}
	stream, err := b.server.JS.Stream(t.Context(), "KV_"+b.Names.ReplaysBucket())
	require.NoError(t, err)
	_, err = stream.GetLastMsgForSubject(t.Context(), "$KV."+b.Names.ReplaysBucket()+".letter.1")
	require.ErrorIs(t, err, jetstream.ErrMsgNotFound, "nothing of it is left, not even a mark")
}
