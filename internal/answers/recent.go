package answers

import "discountquery.example/worker/internal/query"

// recent holds the answers that were used last, in two generations: when the younger one is full it becomes the older one, and what is
// left of the older one goes. Of at most size answers, the last used half is always there.
type recent struct {
	half       int
	young, old map[string]query.Answer
}

// newRecent returns room for size answers, at least for two.
func newRecent(size int) recent {
	return recent{half: max(size/2, 1), young: map[string]query.Answer{}, old: map[string]query.Answer{}}
}

func (r *recent) get(key string) (query.Answer, bool) {
	if answer, ok := r.young[key]; ok {
		return answer, true
	}
	answer, ok := r.old[key]
	if ok {
		delete(r.old, key)
		r.add(key, answer)
	}
	return answer, ok
}

// put keeps an answer, unless a younger one is there.
func (r *recent) put(key string, answer query.Answer) {
	if known, ok := r.get(key); ok && known.AsOf.After(answer.AsOf) {
		return
	}
	r.add(key, answer)
}

func (r *recent) add(key string, answer query.Answer) {
	if _, known := r.young[key]; !known && len(r.young) >= r.half {
		r.old, r.young = r.young, make(map[string]query.Answer, r.half)
	}
	r.young[key] = answer
}
