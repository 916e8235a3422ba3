package quota

import "container/list"

// Class says whose turn it is when a call may be made: a lower class goes first.
type Class int

// The classes.
const (
	// Ask is for a caller that is connected and waits for its reply.
	Ask Class = iota
	// Interactive is for queries somebody waits for.
	Interactive
	// Bulk is for queries that may take hours. They have a guaranteed share, so that they never starve.
	Bulk
)

// classes is how many there are.
const classes = 3

// order is the order in which waiters get their turn: by class, within a class one client after the other, and within a client as they
// came. It is not safe for use by several goroutines.
type order[T any] struct {
	lines [classes]line
	// share is the part of all turns that bulk gets if it wants them.
	share float64
	// credit is what bulk has saved up of its share while it waited.
	credit float64
	length int
}

// line holds the clients of one class that have waiters; the first one is next.
type line struct {
	ring    list.List
	clients map[string]*list.Element
	length  int
}

// queue holds the waiters of one client.
type queue struct {
	client  string
	waiters list.List
}

// ticket is a place in the order.
type ticket[T any] struct {
	value  T
	class  Class
	client string
	place  *list.Element
}

func newOrder[T any](share float64) *order[T] {
	o := &order[T]{share: share}
	for i := range o.lines {
		o.lines[i].clients = make(map[string]*list.Element)
	}
	return o
}

// push adds a waiter behind the others of its client.
func (o *order[T]) push(class Class, client string, value T) *ticket[T] {
	t := &ticket[T]{value: value, class: class, client: client}
	t.place = o.queue(t, false).waiters.PushBack(t)
	o.count(class, 1)
	return t
}

// restore puts a waiter that had its turn and could not use it before all others of its class.
func (o *order[T]) restore(t *ticket[T]) {
	t.place = o.queue(t, true).waiters.PushFront(t)
	o.count(t.class, 1)
}

// queue returns the queue of the ticket's client, first in its line if wanted.
func (o *order[T]) queue(t *ticket[T], first bool) *queue {
	line := &o.lines[t.class]
	place, known := line.clients[t.client]
	if !known {
		place = line.ring.PushBack(&queue{client: t.client})
		line.clients[t.client] = place
	}
	if first {
		line.ring.MoveToFront(place)
	}
	found, _ := place.Value.(*queue)
	return found
}

// remove takes a waiter out, and tells whether it still waited.
func (o *order[T]) remove(t *ticket[T]) bool {
	if t.place == nil {
		return false
	}
	line := &o.lines[t.class]
	client := line.clients[t.client]
	q, _ := client.Value.(*queue)
	q.waiters.Remove(t.place)
	t.place = nil
	if q.waiters.Len() == 0 {
		line.ring.Remove(client)
		delete(line.clients, t.client)
	}
	o.count(t.class, -1)
	return true
}

// pop takes out the waiter whose turn it is.
func (o *order[T]) pop() (*ticket[T], bool) {
	class, ok := o.turn()
	if !ok {
		return nil, false
	}
	line := &o.lines[class]
	place := line.ring.Front()
	q, _ := place.Value.(*queue)
	t, _ := q.waiters.Front().Value.(*ticket[T])
	line.ring.MoveToBack(place)
	o.remove(t)
	return t, true
}

// turn returns the class whose turn it is. Bulk saves up its share while others go first, and nothing while it does not wait.
func (o *order[T]) turn() (Class, bool) {
	if o.length == 0 {
		return 0, false
	}
	if o.waiting(Bulk) == 0 {
		o.credit = 0
	} else if o.credit += o.share; o.credit >= 1 || o.length == o.waiting(Bulk) {
		o.credit = max(o.credit-1, 0)
		return Bulk, true
	}
	for class := range Class(classes) {
		if o.waiting(class) > 0 {
			return class, true
		}
	}
	return 0, false
}

func (o *order[T]) count(class Class, change int) {
	o.lines[class].length += change
	o.length += change
}

// waiting returns how many wait in one class.
func (o *order[T]) waiting(class Class) int { return o.lines[class].length }

// before returns how many of the same client and class would go before a new waiter.
func (o *order[T]) before(class Class, client string) int {
	place, known := o.lines[class].clients[client]
	if !known {
		return 0
	}
	q, _ := place.Value.(*queue)
	return q.waiters.Len()
}

// each calls f for every waiter; f may remove the waiter it is called for.
func (o *order[T]) each(f func(*ticket[T])) {
	for i := range o.lines {
		for client := o.lines[i].ring.Front(); client != nil; {
			q, _ := client.Value.(*queue)
			client = client.Next()
			for place := q.waiters.Front(); place != nil; {
				t, _ := place.Value.(*ticket[T])
				place = place.Next()
				f(t)
			}
		}
	}
}
