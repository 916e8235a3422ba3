package broker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

func TestCompareLeavesWhatItDoesNotCareAbout(t *testing.T) {
	t.Parallel()
	want := streamNamed(t, DefaultTopology(), "DISCOUNT_RESULTS")
	have := want
	have.Description, have.Compression, have.MaxConsumers = "mine", jetstream.S2Compression, 7
	d := compare(streamFields(), have, want, nil)
	require.Empty(t, d.changes)
	require.Empty(t, d.frozen)
	require.Equal(t, have, d.next)
}

func TestCompareLimits(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		have, want int64
		applied    string
		changed    bool
		left       bool
	}{
		"same":                             {have: 10, want: 10},
		"both without limit":               {have: -1, want: -1},
		"narrower than asked for":          {have: 5, want: 10, changed: true},
		"asked for no limit":               {have: 5, want: -1, changed: true},
		"wider, set by somebody":           {have: 20, want: 10, left: true},
		"no limit, set by somebody":        {have: -1, want: 10, left: true},
		"wider, raised after we set it":    {have: 20, want: 10, applied: "15", left: true},
		"narrowed by the configuration":    {have: 20, want: 10, applied: "20", changed: true},
		"no limit before, then one":        {have: -1, want: 10, applied: "unlimited", changed: true},
		"narrower, whoever set it earlier": {have: 5, want: 10, applied: "5", changed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			have, want := jetstream.StreamConfig{MaxBytes: tc.have}, jetstream.StreamConfig{MaxBytes: tc.want}
			d := compare(streamFields(), have, want, map[string]string{applied + "max_bytes": tc.applied})
			require.Equal(t, tc.left, len(d.left) > 0)
			require.Equal(t, tc.changed, len(d.changes) > 0)
			if tc.changed {
				require.Equal(t, tc.want, d.next.MaxBytes)
				return
			}
			require.Equal(t, tc.have, d.next.MaxBytes)
		})
	}
}

func TestNarrowedSaysWhatWouldBeLost(t *testing.T) {
	t.Parallel()
	stored := jetstream.StreamState{Msgs: 3, Bytes: 500, FirstTime: time.Now().Add(-time.Hour)}
	bytes, age := []Change{{Field: "max_bytes"}}, []Change{{Field: "max_age"}}
	require.Len(t, narrowed(bytes, jetstream.StreamConfig{MaxBytes: 499}, stored), 1)
	require.Empty(t, narrowed(bytes, jetstream.StreamConfig{MaxBytes: 500}, stored))
	require.Empty(t, narrowed(bytes, jetstream.StreamConfig{MaxBytes: -1}, stored))
	require.Len(t, narrowed(age, jetstream.StreamConfig{MaxAge: 59 * time.Minute}, stored), 1)
	require.Empty(t, narrowed(age, jetstream.StreamConfig{MaxAge: 2 * time.Hour}, stored))
	require.Empty(t, narrowed(age, jetstream.StreamConfig{MaxAge: 0}, stored))
	require.Empty(t, narrowed(age, jetstream.StreamConfig{MaxAge: time.Minute}, jetstream.StreamState{}), "nothing stored, nothing lost")
	require.Empty(t, narrowed(nil, jetstream.StreamConfig{MaxBytes: 1, MaxAge: 1}, stored), "an old limit is not this plan's doing")
}

func TestAppliedLimitsAreRecorded(t *testing.T) {
	t.Parallel()
	config := jetstream.StreamConfig{MaxBytes: 10, MaxAge: time.Hour, Metadata: map[string]string{"team": "shop"}}
	fresh := withApplied(config, streamFields(), nil)
	require.Equal(t, "10", fresh.Metadata["discountquery.max_bytes"])
	require.Equal(t, "1h0m0s", fresh.Metadata["discountquery.max_age"])
	require.Equal(t, "shop", fresh.Metadata["team"])
	changed := withApplied(config, streamFields(), []Change{{Field: "max_bytes"}})
	require.Equal(t, map[string]string{"team": "shop", "discountquery.max_bytes": "10"}, changed.Metadata)
	require.Equal(t, map[string]string{"team": "shop"}, config.Metadata, "the caller's map is not touched")
}

func TestStepsReadWell(t *testing.T) {
	t.Parallel()
	step := Step{Kind: KindConsumer, Name: "easypay-bulk", Stream: "DISCOUNT_QUERIES", Action: ActionChange,
		Changes: []Change{{Field: "ack_wait", From: "10s", To: "30s"}}, Reason: "because"}
	require.Equal(t, "change     consumer DISCOUNT_QUERIES/easypay-bulk\n           ack_wait: 10s -> 30s\n           because", step.String())

	text, err := json.Marshal(Plan{Steps: []Step{step, {Kind: KindStream, Name: "S", Action: ActionKeep}}})
	require.NoError(t, err)
	require.JSONEq(t, `{"steps":[
		{"kind":"consumer","name":"easypay-bulk","action":"change","stream":"DISCOUNT_QUERIES","changes":[{"field":"ack_wait","from":"10s","to":"30s"}],"reason":"because"},
		{"kind":"stream","name":"S","action":"keep"}]}`, string(text))
}

func TestPlanIsDoneWhenEverythingIsKept(t *testing.T) {
	t.Parallel()
	require.True(t, Plan{Steps: []Step{{Action: ActionKeep}}}.Done())
	plan := Plan{Steps: []Step{{Action: ActionKeep}, {Action: ActionCreate}, {Name: "x", Action: ActionInTheWay}}}
	require.False(t, plan.Done())
	require.Equal(t, []Step{{Name: "x", Action: ActionInTheWay}}, plan.InTheWay())
}

func TestOverlapping(t *testing.T) {
	t.Parallel()
	want := jetstream.ConsumerConfig{FilterSubject: "p.query.a.b.*"}
	for name, tc := range map[string]struct {
		other jetstream.ConsumerConfig
		in    bool
	}{
		"no filter":      {jetstream.ConsumerConfig{}, true},
		"wider":          {jetstream.ConsumerConfig{FilterSubject: "p.>"}, true},
		"narrower":       {jetstream.ConsumerConfig{FilterSubject: "p.query.a.b.one"}, true},
		"one of several": {jetstream.ConsumerConfig{FilterSubjects: []string{"q.x", "p.query.*.b.one"}}, true},
		"elsewhere":      {jetstream.ConsumerConfig{FilterSubjects: []string{"q.x", "p.query.a.c.*"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			why := overlapping(want, []*jetstream.ConsumerInfo{{Name: "other", Config: tc.other}})
			require.Equal(t, tc.in, len(why) > 0)
		})
	}
}
