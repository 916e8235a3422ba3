package quota

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// naive is the order written down as plainly as possible: lists of clients' lists.
type naive struct {
	classes [classes][]naiveClient
	credit  float64
}

type naiveClient struct {
	name    string
	waiting []int
}

func (n *naive) push(class Class, client string, id int) {
	for i := range n.classes[class] {
		if c := &n.classes[class][i]; c.name == client {
			c.waiting = append(c.waiting, id)
			return
		}
	}
	n.classes[class] = append(n.classes[class], naiveClient{client, []int{id}})
}

func (n *naive) remove(id int) {
	for class := range n.classes {
		for i := range n.classes[class] {
			c := &n.classes[class][i]
			if k := slices.Index(c.waiting, id); k >= 0 {
				c.waiting = slices.Delete(c.waiting, k, k+1)
			}
		}
		n.classes[class] = slices.DeleteFunc(n.classes[class], func(c naiveClient) bool { return len(c.waiting) == 0 })
	}
}

func (n *naive) pop(share float64) int {
	class := -1
	for i := range n.classes {
		if len(n.classes[i]) > 0 {
			class = i
			break
		}
	}
	if class < 0 {
		return -1
	}
	if len(n.classes[Bulk]) == 0 {
		n.credit = 0
	} else if n.credit += share; n.credit >= 1 || class == int(Bulk) {
		n.credit, class = max(n.credit-1, 0), int(Bulk)
	}
	first := n.classes[class][0]
	id := first.waiting[0]
	n.classes[class] = append(slices.Clone(n.classes[class][1:]), first)
	n.remove(id)
	return id
}

func TestOrderIsTheNaiveOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		share := rapid.Float64Range(0.01, 0.9).Draw(r, "share")
		o, n := newOrder[int](share), &naive{}
		waiting := map[int]*ticket[int]{}
		next := 0
		r.Repeat(map[string]func(*rapid.T){
			"push": func(r *rapid.T) {
				class := Class(rapid.IntRange(0, classes-1).Draw(r, "class"))
				client := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(r, "client")
				before := o.before(class, client)
				waiting[next] = o.push(class, client, next)
				n.push(class, client, next)
				require.Equal(r, before+1, o.before(class, client))
				next++
			},
			"pop": func(r *rapid.T) {
				got, ok := o.pop()
				want := n.pop(share)
				require.Equal(r, want >= 0, ok)
				if ok {
					require.Equal(r, want, got.value)
					require.False(r, o.remove(got), "it does not wait any more")
					delete(waiting, want)
				}
			},
			"remove": func(r *rapid.T) {
				if len(waiting) == 0 {
					return
				}
				ids := make([]int, 0, len(waiting))
				for id := range waiting {
					ids = append(ids, id)
				}
				slices.Sort(ids)
				id := rapid.SampledFrom(ids).Draw(r, "id")
				require.True(r, o.remove(waiting[id]))
				n.remove(id)
				delete(waiting, id)
			},
			"": func(r *rapid.T) {
				require.Equal(r, len(waiting), o.length)
				seen := 0
				o.each(func(*ticket[int]) { seen++ })
				require.Equal(r, len(waiting), seen)
			},
		})
	})
}

func TestClassesGoInOrderAndBulkKeepsItsShare(t *testing.T) {
	t.Parallel()
	o := newOrder[string](0.1)
	for i := range 1000 {
		o.push(Bulk, fmt.Sprint("b", i%3), "bulk")
		o.push(Interactive, fmt.Sprint("i", i%3), "interactive")
		if i < 100 {
			o.push(Ask, "a", "ask")
		}
	}
	got := map[string]int{}
	for range 110 {
		turn, _ := o.pop()
		got[turn.value]++
	}
	require.InDelta(t, 11, got["bulk"], 1)
	require.InDelta(t, 99, got["ask"], 1)
	require.LessOrEqual(t, got["interactive"], 1)
}

func TestBulkSavesUpNothingWhileItDoesNotWait(t *testing.T) {
	t.Parallel()
	o := newOrder[int](0.1)
	for range 1000 {
		o.push(Interactive, "a", 0)
	}
	for range 500 {
		o.pop()
	}
	o.push(Bulk, "b", 1)
	o.push(Bulk, "b", 1)
	first := 0
	for i := range 9 {
		turn, _ := o.pop()
		first += turn.value
		require.Zero(t, first, "turn %d", i)
	}
}

func TestRestoredWaiterIsFirst(t *testing.T) {
	t.Parallel()
	o := newOrder[int](0.1)
	for i := range 4 {
		o.push(Bulk, fmt.Sprint(i%2), i)
	}
	turn, _ := o.pop()
	o.restore(turn)
	again, _ := o.pop()
	require.Same(t, turn, again)
	require.Equal(t, 3, o.length)
}

// TestInteractiveHardlyWaitsBehindAnyBacklog counts turns: with 100,000 bulk queries waiting, an interactive one waits for one turn more in ten.
func TestInteractiveHardlyWaitsBehindAnyBacklog(t *testing.T) {
	t.Parallel()
	turns := func(bulk int) int {
		o := newOrder[int](0.1)
		for i := range bulk {
			o.push(Bulk, fmt.Sprint(i%20), -1)
		}
		for i := range 100 {
			o.push(Interactive, fmt.Sprint(i%20), i)
		}
		for n, left := 0, 100; ; n++ {
			if turn, _ := o.pop(); turn.class == Interactive {
				if left--; left == 0 {
					return n + 1
				}
			}
		}
	}
	require.Equal(t, 100, turns(0))
	require.LessOrEqual(t, turns(100_000), 112)
}

func BenchmarkOrder(b *testing.B) {
	o := newOrder[int](0.1)
	for i := range 100_000 {
		o.push(Bulk, fmt.Sprint(i%20), i)
	}
	b.ReportAllocs()
	for b.Loop() {
		turn, _ := o.pop()
		o.push(turn.class, turn.client, turn.value)
	}
}
