package ask

import (
	"context"
	"time"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// What is kept back of a query's time for storing the result and sending it: a tenth, at most this.
const (
	maxReserve   = 200 * time.Millisecond
	reserveShare = 10
)

// sendShare is the part of the reserve in which a reply is on its way.
const sendShare = 4

// ask handles one query. Whoever asked has a reply when the deadline is there; a query that takes longer is finished all the same.
func (s *Service) ask(ctx context.Context, m message, early func(answer)) answer {
	delivery := query.Delivery{Subject: m.subject, Header: m.header, Data: m.data, Number: 1, Stored: m.received}
	deadline := m.received.Add(s.Patience)
	if q, err := s.Decoder.Decode(delivery); err == nil { // What can't be read is the asker's to answer.
		deadline = s.deadline(q, m.received)
		if delay := s.Delay(q); waitsTooLong(delay, time.Until(deadline)) {
			return answer{code: Overloaded, after: delay}
		}
	}
	left := time.Until(deadline)
	late := time.AfterFunc(s.waitFor(left), func() { early(answer{code: DeadlinePassed}) })
	defer late.Stop()
	event, err := s.Asker.Ask(ctx, delivery, deadline.Add(-reserve(left)))
	return answerOf(ctx, event, err)
}

// deadline returns when a query must be answered: its own expirytime, within what any query may take.
func (s *Service) deadline(q *query.Query, received time.Time) time.Time {
	if q.Expires.IsZero() {
		return received.Add(s.Patience)
	}
	if last := received.Add(s.MaxPatience); q.Expires.After(last) {
		return last
	}
	return q.Expires
}

// waitsTooLong tells whether a query would have no time left when its turn comes. One that has none to begin with is not told to come
// later: it gets its failed result.
func waitsTooLong(delay, left time.Duration) bool { return left > 0 && delay >= left }

// waitFor returns how long the asker is waited for: until the reply must be on its way. A query that came too late is not told so by a
// refusal but gets its failed result, whether or not anybody still waits.
func (s *Service) waitFor(left time.Duration) time.Duration {
	if left <= 0 {
		return s.Patience
	}
	return left - reserve(left)/sendShare
}

// reserve returns what of the time left is kept for storing the result and sending it.
func reserve(left time.Duration) time.Duration {
	return min(max(left, 0)/reserveShare, maxReserve)
}

// answerOf turns what the asker returned into a reply.
func answerOf(ctx context.Context, event []byte, err error) answer {
	switch kind := fault.KindOf(err); {
	case err == nil && len(event) > 0:
		return answer{code: Answered, event: event}
	case err != nil && kind == fault.Malformed:
		return answer{code: Malformed}
	case err != nil && kind == fault.Expired:
		return answer{code: DeadlinePassed}
	case ctx.Err() != nil:
		return answer{code: Stopping}
	default:
		return answer{code: Unavailable}
	}
}
