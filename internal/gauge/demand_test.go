package gauge

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// queue returns work of easypay's interactive lane, of which a replica does 80 a second.
func queue(changes ...func(*Work)) Work {
	w := Work{Provider: "easypay", Hold: 100 * time.Millisecond, Slots: 10}
	for _, change := range changes {
		change(&w)
	}
	return w
}

func TestReplicas(t *testing.T) {
	t.Parallel()
	arriving := func(rate float64) func(*Work) { return func(w *Work) { w.Arrivals, w.Handled = rate, rate } }
	waiting := func(count uint64) func(*Work) { return func(w *Work) { w.Backlog = count } }
	handled := func(rate float64) func(*Work) { return func(w *Work) { w.Handled = rate } }
	bulk := func(w *Work) { w.Bulk = true }
	of := func(provider string) func(*Work) { return func(w *Work) { w.Provider = provider } }
	free := map[string]float64{"easypay": math.Inf(1), "unionpay": math.Inf(1)}
	for name, test := range map[string]struct {
		work  []Work
		takes map[string]float64
		want  Demand
	}{
		"nothing at all":                   {nil, free, Demand{1, LimitNone}},
		"nothing to do":                    {[]Work{queue()}, free, Demand{1, LimitNone}},
		"little to do":                     {[]Work{queue(arriving(1))}, free, Demand{1, LimitNone}},
		"just one replica's work":          {[]Work{queue(arriving(80))}, free, Demand{1, LimitNone}},
		"a little more":                    {[]Work{queue(arriving(81))}, free, Demand{2, LimitNone}},
		"much more":                        {[]Work{queue(arriving(800))}, free, Demand{10, LimitNone}},
		"backlog of a minute":              {[]Work{queue(waiting(60 * 80))}, free, Demand{1, LimitWorkers}},
		"backlog of two minutes":           {[]Work{queue(waiting(120 * 80))}, free, Demand{2, LimitWorkers}},
		"bulk has ten minutes":             {[]Work{queue(bulk, waiting(600*80))}, free, Demand{1, LimitWorkers}},
		"bulk of twenty minutes":           {[]Work{queue(bulk, waiting(1200*80))}, free, Demand{2, LimitWorkers}},
		"arrivals and backlog":             {[]Work{queue(arriving(80), waiting(60*160))}, free, Demand{3, LimitWorkers}},
		"upstream takes less":              {[]Work{queue(arriving(800))}, map[string]float64{"easypay": 160}, Demand{2, LimitNone}},
		"upstream is used up":              {[]Work{queue(waiting(1e6), handled(150))}, map[string]float64{"easypay": 160}, Demand{2, LimitUpstream}},
		"upstream could take more":         {[]Work{queue(waiting(1e6), handled(100))}, map[string]float64{"easypay": 160}, Demand{2, LimitWorkers}},
		"upstream is down":                 {[]Work{queue(arriving(800), waiting(1e6))}, map[string]float64{"easypay": 0}, Demand{1, LimitUpstream}},
		"upstream is unknown":              {[]Work{queue(arriving(800), waiting(1e6))}, nil, Demand{1, LimitUpstream}},
		"more wait than are worked on":     {[]Work{queue(waiting(1e6), func(w *Work) { w.Waited = time.Second })}, free, Demand{209, LimitUpstream}},
		"what waits less than a second":    {[]Work{queue(arriving(100), waiting(100))}, free, Demand{2, LimitNone}},
		"queues have slots of their own":   {[]Work{queue(arriving(80)), queue(bulk, arriving(80))}, free, Demand{1, LimitNone}},
		"the queue in need decides":        {[]Work{queue(arriving(80)), queue(bulk, arriving(240))}, free, Demand{3, LimitNone}},
		"one is down, the other is not":    {[]Work{queue(waiting(1e6)), queue(of("unionpay"), arriving(160))}, map[string]float64{"unionpay": 200}, Demand{2, LimitUpstream}},
		"one is down, one short of us":     {[]Work{queue(waiting(1e6)), queue(of("unionpay"), waiting(9600))}, map[string]float64{"unionpay": 200}, Demand{2, LimitWorkers}},
		"one short of us, one is down":     {[]Work{queue(of("unionpay"), waiting(9600)), queue(waiting(1e6))}, map[string]float64{"unionpay": 200}, Demand{2, LimitWorkers}},
		"slow calls take more slots":       {[]Work{queue(arriving(80), func(w *Work) { w.Hold = time.Second })}, free, Demand{10, LimitNone}},
		"no slots":                         {[]Work{queue(arriving(8), func(w *Work) { w.Slots = 0 })}, free, Demand{1, LimitNone}},
		"there is an end":                  {[]Work{queue(waiting(math.MaxUint64))}, free, Demand{mostReplicas, LimitWorkers}},
		"no end of slots and of messages":  {[]Work{queue(waiting(math.MaxUint64), func(w *Work) { w.Hold = math.MaxInt64 })}, free, Demand{mostReplicas, LimitWorkers}},
		"handled by others than we can do": {[]Work{queue(handled(1e9), waiting(1e6))}, free, Demand{209, LimitNone}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, Replicas(test.work, test.takes))
		})
	}
}

// TestReplicasAsTheWorldChanges draws any work and changes one thing.
func TestReplicasAsTheWorldChanges(t *testing.T) {
	t.Parallel()
	names := []string{"easypay", "unionpay"}
	rate := rapid.OneOf(rapid.Float64Range(0, 5000), rapid.SampledFrom([]float64{0, math.Inf(1)}))
	rapid.Check(t, func(t *rapid.T) {
		takes := map[string]float64{}
		for _, name := range names {
			takes[name] = rate.Draw(t, name)
		}
		work := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Work {
			return Work{
				Provider: rapid.SampledFrom(names).Draw(t, "provider"), Bulk: rapid.Bool().Draw(t, "bulk"),
				Arrivals: rapid.Float64Range(0, 1000).Draw(t, "arrivals"), Handled: rapid.Float64Range(0, 1000).Draw(t, "handled"),
				Backlog: rapid.Uint64Range(0, 1e7).Draw(t, "backlog"), Slots: rapid.IntRange(0, 100).Draw(t, "slots"),
				Hold:   time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "hold")),
				Waited: time.Duration(rapid.Int64Range(0, int64(10*time.Second)).Draw(t, "waited")),
			}
		}), 1, 8).Draw(t, "work")
		before := Replicas(work, takes)
		if before.Replicas < 1 || before.Replicas > mostReplicas {
			t.Fatalf("%d replicas", before.Replicas)
		}
		i, name := rapid.IntRange(0, len(work)-1).Draw(t, "which"), rapid.SampledFrom(names).Draw(t, "whose")

		more := append([]Work{}, work...)
		more[i].Backlog += rapid.Uint64Range(0, 1e7).Draw(t, "more backlog")
		if after := Replicas(more, takes); after.Replicas < before.Replicas {
			t.Fatalf("%d replicas for a backlog, %d for a longer one", before.Replicas, after.Replicas)
		}
		slower := map[string]float64{names[0]: takes[names[0]], names[1]: takes[names[1]]}
		slower[name] = min(takes[name], rate.Draw(t, "slower"))
		if after := Replicas(work, slower); after.Replicas > before.Replicas {
			t.Fatalf("%d replicas, and %d once the upstream takes less", before.Replicas, after.Replicas)
		}
		outage := map[string]float64{}
		after := Replicas(work, outage)
		if after.Replicas != 1 || after.Limit == LimitWorkers {
			t.Fatalf("with both upstreams down: %v", after)
		}
	})
}

func TestLimits(t *testing.T) {
	t.Parallel()
	require.Equal(t, []Limit{"none", "upstream", "workers"}, Limits())
}
