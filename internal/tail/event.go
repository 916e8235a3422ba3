package tail

import (
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"discountquery.example/worker/internal/fault"
	"discountquery.example/worker/internal/query"
)

// Event is one result or one dead letter.
type Event struct {
	// Stream and Sequence are its place, Stored is when the broker stored it, and Subject is under what.
	Stream   string
	Sequence uint64
	Stored   time.Time
	Subject  string
	// Live tells that it was stored after reading had begun.
	Live bool
	// What tells results from dead letters. Status is empty for a dead letter.
	What   What
	Status query.Status
	// Query is what was asked, without its secrets, and Order its correlationid.
	Query query.Asked
	Order string
	// Outcome is that of a completed query; Reason and Code say why another one failed.
	Outcome query.Outcome
	Reason  query.Reason
	Code    fault.Code
	// Took is the time from the query to its result, or to its dead letter.
	Took time.Duration
	// Attempts is how many calls were made.
	Attempts int
	// Card is how the event refers to the card, if it does.
	Card *query.CardRef
	// Best is the best applicable offer, Usage what was used of an offer. Offers is how many offers there were.
	Best   *query.Offer
	Usage  *query.Usage
	Offers int
	// Upstream is what is kept of the upstream's response.
	Upstream query.Response
	// Shared tells that the upstream was asked on behalf of another query.
	Shared bool
	// Revision counts the replays of the query.
	Revision int
	// Raw is the event as it is stored. In a dead letter it holds the sealed payload.
	Raw jsontext.Value
}

// stored is a message of a stream.
type stored struct {
	subject  string
	data     []byte
	sequence uint64
	at       time.Time
}

// tokens is how many tokens the subject of a result or a dead letter has from its key on: key, provider, client, and status or reason.
const tokens = 4

// readEvent reads a message of either stream. What is no event of its subject is Malformed.
func readEvent(what What, stream string, m stored) (Event, error) {
	e := Event{Stream: stream, Sequence: m.sequence, Stored: m.at.UTC(), Subject: m.subject, What: what, Raw: m.data}
	var envelope struct {
		Type  string         `json:"type"`
		Order string         `json:"correlationid"`
		Data  jsontext.Value `json:"data"`
	}
	if err := query.ReadStrict(m.data, &envelope); err != nil {
		return e, err
	}
	all := strings.Split(m.subject, ".")
	tail := all[max(len(all)-tokens, 0):]
	if len(tail) < tokens {
		return e, fault.New("read event", fault.Malformed, fault.BadSubject)
	}
	e.Order = envelope.Order
	if err := e.read(envelope.Type, envelope.Data); err != nil {
		return e, err
	}
	if e.Query.Key != tail[0] || e.last() != tail[3] {
		return e, fault.New("read event", fault.Malformed, fault.BadSubject)
	}
	return e, nil
}

// last returns how the event's subject must end.
func (e *Event) last() string {
	if e.What == DeadLetters {
		return string(e.Reason)
	}
	return string(e.Status)
}

// read takes the event's data.
func (e *Event) read(eventType string, data jsontext.Value) error {
	switch {
	case e.What == Results && eventType == query.TypeCompleted:
		return e.readCompleted(data)
	case e.What == Results && eventType == query.TypeFailed:
		return e.readFailed(data)
	case e.What == DeadLetters && eventType == query.TypeDead:
		return e.readDead(data)
	default:
		return fault.New("read event", fault.Malformed, fault.UnsupportedType)
	}
}

func (e *Event) readCompleted(data jsontext.Value) error {
	var d query.CompletedData
	if err := query.ReadStrict(data, &d); err != nil {
		return err
	}
	e.Status, e.Query, e.Outcome, e.Card, e.Best, e.Usage, e.Offers = query.Completed, d.Query, d.Outcome, d.Card, d.Best, d.Usage, len(d.Offers)
	e.Upstream, e.Shared, e.Attempts, e.Revision = d.Upstream, d.Shared, len(d.Attempts), revision(d.Replay)
	e.Took = time.Duration(d.Timing.TotalMS) * time.Millisecond
	return nil
}

func (e *Event) readFailed(data jsontext.Value) error {
	var d query.FailedData
	if err := query.ReadStrict(data, &d); err != nil {
		return err
	}
	e.Status, e.Query, e.Reason, e.Code, e.Card = query.Failed, d.Query, d.Reason, d.Code, d.Card
	e.Upstream, e.Attempts, e.Revision = d.Upstream, len(d.Attempts), revision(d.Replay)
	e.Took = time.Duration(d.Timing.TotalMS) * time.Millisecond
	return nil
}

func (e *Event) readDead(data jsontext.Value) error {
	var d query.DeadData
	if err := query.ReadStrict(data, &d); err != nil {
		return err
	}
	e.Query, e.Reason, e.Code, e.Upstream, e.Attempts, e.Revision = d.Query, d.Reason, d.Code, d.Upstream, len(d.Attempts), d.Revision
	e.Took = max(e.Stored.Sub(d.FirstSeen), 0)
	return nil
}

func revision(replay *query.ReplayRef) int {
	if replay == nil {
		return 0
	}
	return replay.Revision
}
